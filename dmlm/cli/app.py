"""`DMLMCLI`: Lightning's CLI with our base classes, ``--ckpt`` semantics, and a test after training."""

from __future__ import annotations

import argparse
import math
import sys
from pathlib import Path
from typing import Any

import lightning
from lightning.pytorch import Trainer
from lightning.pytorch.cli import ArgsType, LightningArgumentParser, LightningCLI
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn
from lightning.pytorch.utilities.model_helpers import is_overridden

from dmlm import __version__
from dmlm.cli.arguments import CommandLine
from dmlm.cli.carry_best import CarryBest
from dmlm.cli.checkpoint import CheckpointSource, adopt_alignment, class_of
from dmlm.cli.checkpoint_io import save_atomically
from dmlm.cli.hardware import check_hardware
from dmlm.cli.parser import DMLMArgumentParser, check_sections, own_error, root_error
from dmlm.cli.profiling import StepProfiler
from dmlm.cli.saving import RunRecord
from dmlm.cli.shards import check_shards
from dmlm.datamodules.base import ChestXrayDataModule
from dmlm.errors import ConfigError, DatasetNotFoundError, DMLMError
from dmlm.models.pretrained import from_pretrained
from dmlm.tasks.base import TaskModule

_VERBS = {
    "fit": "Train a model, or resume a run with --ckpt; then test the best weights.",
    "validate": "Run the validation set.",
    "test": "Run the test set.",
    "predict": "Predict, without labels.",
}
_CKPT_HELP = (
    "Checkpoint to resume (fit) or to evaluate; it also supplies the model's and the data's configuration; flags win. "
    "A new run from a pre-trained encoder is not --ckpt but --model.encoder dmlm.models.from_pretrained "
    "--model.encoder.path PATH."
)
_PROFILE_HELP = (
    "Record five training steps and write where their time goes into the run folder: profile.txt, and "
    "profile_trace.json for chrome://tracing or ui.perfetto.dev."
)


class DMLMCLI(LightningCLI):
    """Parse, build and run; everything happens in the constructor, as in Lightning.

    Args:
        args: The verb and its options; those of the process if None.
    """

    def __init__(self, args: ArgsType = None) -> None:
        self.lender: CheckpointSource | None = None
        self.resumed: CheckpointSource | None = None
        self.ckpt_path: str | None = None
        self.recorded_paths: tuple[str, ...] = ()
        try:
            self._parse_and_run(args)
        except DatasetNotFoundError as error:
            looked = self._where_it_looked(error)
            if looked is None:
                raise
            raise looked from error
        finally:
            for callback in getattr(getattr(self, "trainer", None), "callbacks", ()):
                if isinstance(callback, RunRecord):
                    callback.release()

    def _parse_and_run(self, args: ArgsType) -> None:
        super().__init__(
            TaskModule,
            ChestXrayDataModule,
            subclass_mode_model=True,
            subclass_mode_data=True,
            save_config_callback=RunRecord,
            save_config_kwargs={"overwrite": True},
            seed_everything_default=0,
            parser_class=DMLMArgumentParser,
            parser_kwargs={verb: {"description": text} for verb, text in _VERBS.items()},
            auto_configure_optimizers=False,
            args=args,
        )

    def _where_it_looked(self, error: DatasetNotFoundError) -> DatasetNotFoundError | None:
        """Say whence relative paths count, where one that the checkpoint recorded was not found; else None."""
        found = [path for path in self.recorded_paths if str(error).startswith(path) and not Path(path).exists()]
        if not found:
            return None
        return DatasetNotFoundError(
            f"{error}; the path is recorded in --ckpt, and relative paths count from the current folder: there is no "
            f"{Path(found[0]).absolute()}; change folders, or set the option of --data anew"
        )

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        """Verbs, with the trainer's arguments that are no options of theirs: every verb accepts the same file."""
        ours = {"model", "datamodule", "ckpt_path", "weights_only", "verbose", "return_predictions"}
        loaders = {"train_dataloaders", "val_dataloaders", "dataloaders"}
        return dict.fromkeys(_VERBS, ours | loaders)

    def init_parser(self, **kwargs: Any) -> LightningArgumentParser:  # noqa: ANN401
        """Make a parser that accepts no abbreviations: a misspelt option is an error with a hint."""
        header = [f"dmlm=={__version__}", f"lightning=={lightning.__version__}"]
        return super().init_parser(**{"prog": "dmlm", "allow_abbrev": False, "dump_header": header, **kwargs})

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add ``--ckpt``, ``--test_after_fit`` and ``--profile``."""
        parser.add_argument("--ckpt", type=str | None, default=None, metavar="PATH", help=_CKPT_HELP)
        # every verb accepts it, so that `dmlm test --config RUN/config.yaml` works with what fit wrote
        shown = (
            "After fit, test the best weights if there is a test set." if parser.description == _VERBS["fit"] else None
        )
        parser.add_argument("--test_after_fit", type=bool, default=True, help=shown or argparse.SUPPRESS)
        shown = _PROFILE_HELP if parser.description == _VERBS["fit"] else None
        parser.add_argument("--profile", action="store_true", help=shown or argparse.SUPPRESS)

    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        """Parse, with ``--ckpt`` between configuration files and flags.

        Raises:
            ConfigError: If an option is wrong.
            CheckpointError: If the checkpoint cannot be used for what is asked.
        """
        if args is not None and not isinstance(args, list):
            super().parse_arguments(parser, args)
            return
        line = CommandLine.split(sys.argv[1:] if args is None else args)
        self.config = parser.parse_args(self._with_checkpoint(parser, line))
        if self.config[line.verb].pop("ckpt", None) is not None:
            msg = "ckpt is set in a configuration file; a checkpoint is named on the command line only: --ckpt PATH"
            raise ConfigError(msg)
        _check_values(self.config[line.verb])
        if self.resumed is not None:
            optim = self.config[line.verb].get("model.init_args.optim")
            self.resumed.check_keeps_optimiser(None if optim is None else optim.as_dict())

    def _with_checkpoint(self, parser: LightningArgumentParser, line: CommandLine) -> list[str]:
        """Return the command line with the checkpoint's configuration in its place."""
        if line.ckpt is None or line.asks_for_help:
            return line.argv()
        if not CheckpointSource.is_file(line.ckpt):
            self.ckpt_path = line.ckpt
            return line.argv()
        source = CheckpointSource(line.ckpt)
        self.recorded_paths = source.data_paths
        # parsed once to see which classes are asked for, which only the parser knows
        asked = parser.parse_args(line.argv(first=[*source.low(), source.model()], printing=False))[line.verb]
        low = source.low(asked["data.class_path"])
        task = class_of(asked["model.class_path"])
        if task is source.task_class:
            self.ckpt_path = source.path
            self.resumed = source if line.verb == "fit" else None
            return line.argv(first=low, last=[source.model()])
        wanted = source.check_gives_encoder(task, line.verb)
        self.lender = source
        return line.argv(first=low, last=[source.encoder_for(wanted)])

    def before_instantiate_classes(self) -> None:
        """Check the hardware before anything is built, and let zero-shot know how its encoder was trained."""
        config = self.config[str(self.subcommand)]
        check_hardware(*(config["trainer"][name] for name in ("accelerator", "devices", "precision")))
        adopt_alignment(config["model"], self.lender)
        if self.subcommand != "fit" and self.ckpt_path is None and self.lender is None:
            encoder = config.get("model.init_args.encoder.class_path")
            # a model without an encoder of its own (UncertaintyModule) names a checkpoint among its arguments
            if encoder is not None and class_of(encoder) is not from_pretrained:
                rank_zero_warn(
                    f"dmlm {self.subcommand} without --ckpt: these are the weights that the configuration starts from; "
                    "name a checkpoint with --ckpt PATH for those that a run trained"
                )

    def instantiate_classes(self) -> None:
        """Build data, model and trainer; jsonargparse buries what constructors raise, here it comes out again."""
        try:
            super().instantiate_classes()
        except (ValueError, TypeError) as error:
            raise own_error(error) or root_error(error) from None

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:  # noqa: ANN401 - as in Lightning
        """Build the trainer, with a profiler for ``fit --profile``.

        Raises:
            ConfigError: If the configuration names another profiler, too, or the trainer refuses its options.
        """
        if self.subcommand == "fit" and self.config["fit"]["profile"]:
            if self.config["fit"]["trainer"]["profiler"] is not None:
                msg = "--profile and trainer.profiler exclude each other: leave one of them out"
                raise ConfigError(msg)
            kwargs["profiler"] = StepProfiler()
        try:
            return super().instantiate_trainer(**kwargs)
        except DMLMError:
            raise
        except (ValueError, TypeError) as error:  # what Lightning says of options that are no choice of its
            msg = f"trainer: {' '.join(str(root_error(error)).split())[:400]}"
            raise ConfigError(msg) from error

    def after_instantiate_classes(self) -> None:
        """Check shards, write checkpoints atomically, carry the best along, load the encoder of another task."""
        check_shards(self.trainer.strategy, self.model, self.resumed)
        self.resumed = None  # lets the file go
        save_atomically(self.trainer)
        self.trainer.callbacks.append(CarryBest())  # type: ignore[attr-defined] # Trainer sets it, its stub does not say so
        if self.lender is not None:
            self.lender.load_parts(self.model)
            self.lender = None  # lets the file go

    def _prepare_subcommand_kwargs(self, subcommand: str) -> dict[str, Any]:
        kwargs = super()._prepare_subcommand_kwargs(subcommand)
        kwargs.update(ckpt_path=self.ckpt_path, weights_only=True)
        if subcommand == "predict":
            kwargs["return_predictions"] = False  # tasks write files; a list of everything would fill the memory
        return kwargs

    def after_fit(self) -> None:
        """Test the best weights, or the last ones where none were kept."""
        if not self.config["fit"]["test_after_fit"] or not is_overridden("test_step", self.model):
            return
        try:
            self.datamodule.setup("test")
        except DMLMError as error:  # the training itself went well
            rank_zero_info(f"dmlm: not tested after fit: {error}")
            return
        if getattr(self.datamodule, "test_dataset", None) is None:
            return
        kept = [callback for callback in self.trainer.checkpoint_callbacks if getattr(callback, "best_model_path", "")]
        kept.sort(key=lambda callback: getattr(callback, "monitor", None) is None)  # a monitored one knows what is best
        path = getattr(kept[0], "best_model_path", None) if kept else None
        self.trainer.test(self.model, datamodule=self.datamodule, ckpt_path=path, weights_only=True)


def _check_values(config: Any) -> None:  # noqa: ANN401 - jsonargparse's namespace
    """Refuse values that the parser and the trainer accept and that break a run later, or silently do nothing.

    Raises:
        ConfigError: Naming the option.
    """
    seed = config.get("seed_everything")
    if isinstance(seed, int) and not 0 <= seed < 1 << 32:
        msg = f"seed_everything must be 0 to 4,294,967,295 (or true for one that is drawn), got {seed}"
        raise ConfigError(msg)
    least_of = {
        "accumulate_grad_batches": 1,
        "gradient_clip_val": 0,
        "log_every_n_steps": 0,
        "check_val_every_n_epoch": 1,
    }
    for name, least in least_of.items():
        value = config.get(f"trainer.{name}")
        if value is not None and not least <= value < math.inf:
            msg = f"trainer.{name} must be a finite number of at least {least}, got {value}"
            raise ConfigError(msg)
    for key in ("model", "data"):
        if config.get(f"{key}.class_path") and config.get(f"{key}.init_args"):
            check_sections(config[f"{key}.class_path"], config[f"{key}.init_args"].as_dict(), key)
