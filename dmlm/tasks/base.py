"""`TaskModule`: what every task shares (recorded arguments, self-contained checkpoints, agreement with the data)."""

from __future__ import annotations

from abc import ABC
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, ClassVar, Literal

from lightning.pytorch import LightningDataModule, LightningModule
from torch.nn.modules.module import _IncompatibleKeys
from typing_extensions import Self

from dmlm._config import Configurable
from dmlm.errors import CheckpointError, ConfigError, DMLMError, MismatchError
from dmlm.io.checkpoints import check_format, format_stamp, one_line_mismatch, read_checkpoint
from dmlm.plots.figures import save_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

INSTANTIATOR = "lightning.pytorch.cli.instantiate_module"
"""What Lightning calls to rebuild nested arguments; one of the two that it allows."""


class TaskModule(Configurable, LightningModule, ABC):
    """Base of all tasks: a :class:`lightning.pytorch.LightningModule` that can be rebuilt from its checkpoint alone.

    A subclass calls ``super().__init__()`` first (it records the arguments), reads no files in ``__init__``, and keeps
    its encoder, if it has one, as ``self.encoder``. Overridden ``setup``, ``on_save_checkpoint``,
    ``on_load_checkpoint`` and ``check_datamodule`` call their parent's.
    """

    monitor: ClassVar[str] = "val_loss"
    """Metric by which the best checkpoint is chosen."""
    mode: ClassVar[Literal["min", "max"]] = "min"
    """Whether less or more of :attr:`monitor` is better."""
    accepts_encoder_checkpoint: ClassVar[bool] = False
    """Whether ``dmlm test --ckpt`` may take only the encoder from a checkpoint of another task."""

    def __init__(self) -> None:
        super().__init__()
        recorded = self.config
        # An explicit dict bypasses Lightning's walk over stack frames, whose result differs between CLI and Python.
        self.save_hyperparameters(
            {**recorded["init_args"], "_class_path": recorded["class_path"], "_instantiator": INSTANTIATOR},
            # config.yaml beside the results is the record; and Lightning refuses to log a name that task and data
            # module share with different values, e.g. `seed`
            logger=False,
        )

    @property
    def run_dir(self) -> Path:
        """Folder of this run: the first logger's version folder; without a logger ``trainer.default_root_dir``.

        Unlike ``trainer.log_dir`` it takes no part in a collective call, so that one process alone may ask.
        """
        for logger in self.trainer.loggers[:1]:
            folder = logger.log_dir or logger.save_dir
            if folder:
                return Path(folder)
        return Path(self.trainer.default_root_dir)

    def show_figure(self, figure: Figure, name: str) -> Path:
        """Write a figure as ``name.png`` into the run folder, and to TensorBoard where the run has it."""
        for logger in self.trainer.loggers:
            add = getattr(getattr(logger, "experiment", None), "add_figure", None)
            if add is not None:
                add(name, figure, global_step=self.global_step, close=False)
        return save_figure(figure, self.run_dir / f"{name}.png")

    def setup(self, stage: str) -> None:
        """Check that data and model agree, before any batch is read."""
        super().setup(stage)
        datamodule = getattr(self.trainer, "datamodule", None)
        if datamodule is not None:
            self.check_datamodule(datamodule)

    def on_fit_start(self) -> None:
        """Switch to training: pre-trained parts come in evaluation mode, and Lightning leaves modes as they are."""
        super().on_fit_start()
        self.train()

    def check_datamodule(self, datamodule: LightningDataModule) -> None:
        """Compare the facts of the data module with this task's; override to add facts.

        Compared are ``image_size`` (of ``self.encoder.image``), and ``task`` and ``num_classes`` where both have them.

        Raises:
            MismatchError: If they differ; the message says which option to set.
        """
        image_size = getattr(getattr(getattr(self, "encoder", None), "image", None), "image_size", None)
        self._agree(datamodule, "image_size", image_size, "data.image_size")
        for fact in ("task", "num_classes"):
            self._agree(datamodule, fact, getattr(self, fact, None), f"model.{fact}")

    def _agree(self, datamodule: LightningDataModule, fact: str, mine: object, option: str) -> None:
        theirs = getattr(datamodule, fact, None)
        if mine is None or theirs is None or mine == theirs:
            return
        wanted = mine if option.startswith("data.") else theirs
        msg = (
            f"{type(datamodule).__name__} has {fact}={theirs}, but {type(self).__name__} was built for {fact}={mine}: "
            f"set --{option} {wanted}"
        )
        raise MismatchError(msg)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Stamp the checkpoint with the format and the version that wrote it."""
        checkpoint["dmlm"] = format_stamp()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse a checkpoint of a newer format."""
        check_format(checkpoint, "this checkpoint")

    def load_state_dict(
        self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False
    ) -> _IncompatibleKeys:
        """Load weights; what does not fit is said in one line.

        Raises:
            CheckpointError: If keys or shapes differ.
        """
        try:
            return super().load_state_dict(state_dict, strict=strict, assign=assign)  # type: ignore[no-any-return]
        except CheckpointError:
            raise
        except RuntimeError as error:
            msg = f"the checkpoint's weights do not fit this {type(self).__name__}: {one_line_mismatch(error)}"
            raise CheckpointError(msg) from error

    @classmethod
    def load_from_checkpoint(  # type: ignore[override]  # Lightning's is a custom descriptor around the same signature
        cls,
        checkpoint_path: str | Path | IO[bytes],
        map_location: Any = None,  # noqa: ANN401 - whatever torch.load takes
        hparams_file: str | Path | None = None,
        strict: bool | None = None,
        weights_only: bool | None = True,
        **kwargs: Any,  # noqa: ANN401
    ) -> Self:
        """Rebuild a task, with its nested encoder, from a checkpoint.

        Works on the task's own class and on :class:`TaskModule`, which takes the class from the file.

        Args:
            checkpoint_path: A ``.ckpt`` file.
            map_location: Device for the weights, as in :func:`torch.load`.
            hparams_file: Lightning's override of the recorded arguments by a YAML file.
            strict: Whether state-dict keys must match exactly; default True.
            weights_only: Refuse everything but tensors and plain data.
            **kwargs: Constructor arguments that replace recorded ones.

        Raises:
            CheckpointError: If the file is damaged, of another task, or does not fit the class.
        """
        target: type[TaskModule] = cls
        if isinstance(checkpoint_path, (str, Path)) and "://" not in str(checkpoint_path):
            target = recorded_class(read_checkpoint(checkpoint_path), checkpoint_path, cls)
        try:
            # super() of the class found, so that Lightning sees the arguments of its constructor
            loaded = super(TaskModule, target).load_from_checkpoint(
                checkpoint_path, map_location, hparams_file, strict, weights_only, **kwargs
            )
        except DMLMError:
            raise
        except Exception as error:
            text = " ".join(str(error).split())
            msg = f"{checkpoint_path} does not fit {target.__name__}: {text[:400]}"
            raise CheckpointError(msg) from error
        return loaded  # type: ignore[return-value]


def checked_seed(seed: int) -> int:
    """Return the seed of a task.

    Raises:
        ConfigError: If it is negative, which numpy's generators do not take.
    """
    if seed < 0:
        msg = f"model.seed must be 0 or more, got {seed}"
        raise ConfigError(msg)
    return seed


def recorded_class(
    checkpoint: dict[str, Any], source: str | Path, base: type[TaskModule] = TaskModule
) -> type[TaskModule]:
    """Return the task class that wrote a checkpoint.

    Args:
        checkpoint: What :func:`dmlm.io.checkpoints.read_checkpoint` returned.
        source: Its path, for messages.
        base: What the class must be, or derive from.

    Raises:
        CheckpointError: If no class was recorded, it cannot be imported, or it is not a ``base``.
    """
    hyper_parameters = checkpoint.get("hyper_parameters")
    path = hyper_parameters.get("_class_path") if isinstance(hyper_parameters, dict) else None
    if not isinstance(path, str):
        msg = f"{source} was not written by a dmlm task: it does not say which class it holds"
        raise CheckpointError(msg)
    module_name, _, name = path.rpartition(".")
    try:
        found = getattr(import_module(module_name), name)
    except (ImportError, AttributeError, ValueError, TypeError) as error:  # TypeError: a relative path
        msg = f"{source} holds a {path}, which cannot be imported ({error}): install the package that defines it"
        raise CheckpointError(msg) from error
    if not (isinstance(found, type) and issubclass(found, TaskModule)):
        msg = f"{source} names {path} as its class, which is not a dmlm task"
        raise CheckpointError(msg)
    if not issubclass(found, base):
        msg = (
            f"{source} holds a {found.__name__}, not a {base.__name__}; "
            f"dmlm.models.from_pretrained('{source}') gives its encoder"
        )
        raise CheckpointError(msg)
    return found
