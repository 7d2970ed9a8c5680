"""The pre-training task: draws views and masks, runs the objective, watches for collapse, evaluates zero-shot."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal, get_args

import numpy as np
import torch
from torch.optim import Optimizer
from torch.profiler import record_function

from dmlm.errors import ConfigError
from dmlm.masking import ImageMasker, MaskContext, RandomMask, TextMasker, text_patch_similarity
from dmlm.models.centering import can_tokenize, center_statements
from dmlm.models.encoder import ProbabilisticEncoder
from dmlm.models.predictor import CrossModalPredictor
from dmlm.models.zero_shot import Distance
from dmlm.objectives import CollapseMonitor, ObjectiveConfig, PretrainingObjective, Views
from dmlm.objectives.chunks import InChunks
from dmlm.objectives.distributed import mean_over_processes
from dmlm.objectives.monitors import CollapseAction
from dmlm.reports import TextViews, encode_facts
from dmlm.tasks.base import checked_seed
from dmlm.tasks.batch_checks import check_batches
from dmlm.tasks.log_steps import LogSteps
from dmlm.tasks.optim import OptimConfig, configure
from dmlm.tasks.sharding import Shardable, shard
from dmlm.tasks.statements import draw_statements, text_key
from dmlm.tasks.zero_shot import ZeroShotTask
from dmlm.tasks.zero_shot_evaluation import ZeroShotConfig

if TYPE_CHECKING:
    from torch.distributed.device_mesh import DeviceMesh

logger = logging.getLogger(__name__)

CompilePart = Literal["nothing", "losses", "all"]


class DMLMPretrainModule(Shardable, ZeroShotTask):
    """Pre-train a probabilistic encoder on images and structured reports (paper, sections 3.2 to 3.4).

    Validation and test are zero-shot classification. Views of the texts and masks are a function of ``seed``, epoch,
    batch and study, dropout of the process, too. So a run that is resumed goes on with the losses of an unbroken one,
    and without dropout several processes train as one with the whole batch.

    Args:
        encoder: What is trained.
        predictor: Cross-modal predictor; None builds one of the encoder's width with default size.
        image_masker: Image masking strategy; None is random masking of 30 %.
        text_masker: Text masking; None hides 30 % of the words.
        views: How the text of a pair is drawn from its report.
        objective: What is minimised.
        optim: Rates and schedule.
        zero_shot: How zero-shot classification is done and reported.
        collapse: What to do when representations collapse: ``warn``, ``stop`` or ``off``.
        center_statements: Whether the text side starts with its origin in the middle of all statements that the
            knowledge can make. For texts from scratch: their statements share most words and would start as nearly
            one vector. Only a bias of the text head changes, once, before the first step of a new run.
        compile: What goes through ``torch.compile`` in training: ``nothing``, the ``losses`` of masked prediction (many
            small operations on large tensors become one), or ``all``: the towers, too. The first steps then take
            seconds (losses) to minutes (all) longer; it needs a C++ compiler, or Triton on a GPU.
        chunk_size: Encode a batch in chunks of so many pairs and keep no activations: the gradient of a large
            ``data.batch_size`` exactly, in the memory of a chunk, for one more forward pass. None encodes it at once.
            This is how to accumulate gradients here: ``trainer.accumulate_grad_batches`` compares only the pairs of one
            small batch with each other.
        min_spread: Floor of the spread of images, texts and targets below which they count as collapsed.
        seed: First part of the seed of every random draw.

    Raises:
        ConfigError: If the predictor's width is not the encoder's, or an option is out of range.
    """

    monitor: ClassVar[str] = "val_auroc"
    mode: ClassVar[Literal["min", "max"]] = "max"

    def __init__(
        self,
        encoder: ProbabilisticEncoder,
        predictor: CrossModalPredictor | None = None,
        image_masker: ImageMasker | None = None,
        text_masker: TextMasker | None = None,
        views: TextViews = TextViews(),
        objective: ObjectiveConfig = ObjectiveConfig(),
        optim: OptimConfig = OptimConfig(),
        zero_shot: ZeroShotConfig = ZeroShotConfig(),
        collapse: CollapseAction = "warn",
        min_spread: float = 0.02,
        center_statements: bool = False,
        compile: CompilePart = "nothing",  # noqa: A002 - the word that torch uses
        chunk_size: int | None = None,
        seed: int = 0,
    ) -> None:
        if chunk_size is not None and chunk_size < 1:
            msg = f"model.chunk_size must be at least 1, or null for whole batches; got {chunk_size}"
            raise ConfigError(msg)
        predictor = CrossModalPredictor(encoder.embed_dim) if predictor is None else predictor
        if predictor.embed_dim != encoder.embed_dim:
            msg = f"predictor.embed_dim ({predictor.embed_dim}) must be the encoder's embed_dim ({encoder.embed_dim})"
            raise ConfigError(msg)
        if compile not in get_args(CompilePart):
            msg = f"model.compile must be {', '.join(get_args(CompilePart))}; got '{compile}'"
            raise ConfigError(msg)
        self._init_args["predictor"] = predictor  # so that a checkpoint says which predictor it holds
        super().__init__(encoder, predictor, zero_shot)
        self.image_masker = RandomMask() if image_masker is None else image_masker
        self.text_masker = TextMasker() if text_masker is None else text_masker
        self.views, self.optim_config, self.seed = views, optim, checked_seed(seed)
        self.center_statements, self.compile_part, self.chunk_size = center_statements, compile, chunk_size
        self.objective = PretrainingObjective(objective, encoder)
        if objective.masked_weight == 0:
            predictor.requires_grad_(requires_grad=False)  # DDP must not wait for gradients that never come
        floors = dict.fromkeys(("image_spread", "text_spread", "target_spread"), min_spread)
        self.collapse_monitor = CollapseMonitor(floors, action=collapse)
        self._resumed, self._saw_masks = False, False
        self._log_steps, self._total_steps = LogSteps(), float("inf")

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Note whether masked prediction has trained these weights."""
        super().on_save_checkpoint(checkpoint)
        checkpoint["dmlm"]["saw_masks"] = self._saw_masks

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Note that the weights are those of a run, whose statements are centred already."""
        super().on_load_checkpoint(checkpoint)
        self._resumed, self._saw_masks = True, bool(checkpoint.get("dmlm", {}).get("saw_masks", True))

    def on_test_start(self) -> None:
        """Say so if what is tested has never been trained by masked prediction."""
        super().on_test_start()
        if self._resumed and not self._saw_masks and self.objective.config.masked_weight > 0:
            logger.warning(
                "these weights are from before masked prediction joined in (objective.masked_start %g): what is tested "
                "is alignment alone; last.ckpt has all of the training",
                self.objective.config.masked_start,
            )

    def shard_parts(self, mesh: DeviceMesh) -> None:
        """Shard encoder, teacher, predictor and anchors (see :class:`dmlm.tasks.sharding.Shardable`).

        Raises:
            ConfigError: If an option cannot be had with it.
        """
        for option, wrong in (("chunk_size", self.chunk_size is not None), ("compile", self.compile_part != "nothing")):
            if wrong:  # chunks: processes have different numbers of texts and would wait for each other
                msg = f"model.{option} does not go with sharded training: leave it out, or train with DDP"
                raise ConfigError(msg)
        # sharded weights cannot be changed in place; a run that resumes has no tokenizer yet, and is centred already
        self._center_new(resumes=not can_tokenize(self.encoder))
        predictor: Any = self.predictor  # a pre-training has one
        shard(self.encoder, predictor, self.objective, mesh)

    def _center_new(self, *, resumes: bool) -> None:
        """Centre the statements of a run that is new, once."""
        if self.center_statements and not resumes:
            center_statements(self.encoder, self.views.knowledge)
            self.objective.teacher.copy_from(self.encoder)

    def on_fit_start(self) -> None:
        """Centre the statements of a new run, check how batches are put together, switch to training, compile."""
        # not in setup(): a resumed module has neither weights nor tokenizer there
        if not self.is_sharded:
            self._center_new(resumes=self._resumed)
        super().on_fit_start()
        self._log_steps.start()
        accumulated = 1 if self._trainer is None else self.trainer.accumulate_grad_batches
        config = self.objective.config
        contrasts = config.masked_weight < 1 and config.alignment != "attract"
        check_batches(self.encoder, self.chunk_size, accumulated, contrasts=contrasts)
        if self.compile_part != "nothing":
            self.objective.masked.compile(dynamic=True)
        if self.compile_part == "all":
            teacher = self.objective.teacher.encoder
            for encoder in (self.encoder, *(() if teacher is None else (teacher,))):
                encoder.image.compile()
                encoder.text.compile(dynamic=True)

    @property
    def zero_shot_scale(self) -> float:
        """The scale that alignment learned."""
        return float(self.objective.alignment.scale.detach())

    @property
    def training_distance(self) -> Distance:
        """The distance that alignment trains with."""
        return self.objective.alignment.distance

    @property
    def predicts_variances(self) -> bool:
        """Whether masked patches are predicted with a variance that training shapes."""
        config = self.objective.config
        return config.masked_weight > 0 and config.image_weight > 0 and config.kl_direction != "mse"

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> torch.Tensor:
        """Compute the loss of one batch."""
        entropy = [self.seed, self.current_epoch, batch_idx]
        torch.manual_seed(int(np.random.SeedSequence([*entropy, self.global_rank]).generate_state(1)[0]))  # dropout
        rngs = [np.random.default_rng([*entropy, int(index)]) for index in batch["index"]]
        with record_function("dmlm: draw views"):
            views = self.draw_views(batch, rngs)
        step = self.objective(*self._in_chunks(), views, self.progress)
        self._saw_masks |= self.objective.masks(self.progress)
        if self._log_steps.is_due(self.trainer):
            self._watch(step.parts, len(batch["image"]))
        return step.loss  # type: ignore[no-any-return]

    def _in_chunks(self) -> tuple[Any, ...]:
        parts: tuple[Any, Any] = self.encoder, self.predictor
        return parts if self.chunk_size is None else tuple(InChunks(part, self.chunk_size) for part in parts)

    def _watch(self, values: dict[str, torch.Tensor], batch_size: int) -> None:
        """Log means over all processes, and look for collapse: all processes must come to the same conclusion."""
        means = mean_over_processes(values)
        everywhere = {name: value for name, value in means.items() if name == "loss" or not value.isnan()}
        parts = {f"train_{name}": value for name, value in everywhere.items()}
        counts = self.image_masker.take_counts()
        images = max(counts.pop("images", 0), 1)
        parts |= {f"train_mask_{name}": torch.tensor(count / images) for name, count in counts.items()}
        if self.trainer.log_every_n_steps:  # type: ignore[attr-defined]
            self.log_dict(parts, batch_size=batch_size)
        self.collapse_monitor.update({name: float(value) for name, value in everywhere.items()}, self.global_step)

    def draw_views(self, batch: dict[str, Any], rngs: Sequence[np.random.Generator]) -> Views:
        """Draw text views and masks of a batch.

        Args:
            batch: A batch of a data module.
            rngs: Source of all randomness of each pair, so that views do not depend on which process draws them.

        Returns:
            Tensors on the images' device.
        """
        device = batch["image"].device
        texts = [
            self.views.sample(report, text, rng)
            for report, text, rng in zip(batch["report"], batch["text"], rngs, strict=True)
        ]
        tokens = self.encoder.tokenize(texts)
        on_device = tokens.to(device)
        generators = [torch.Generator().manual_seed(int(rng.integers(2**62))) for rng in rngs]
        context = MaskContext(
            batch["image"],
            self.encoder.image.patch_grid,
            texts,
            batch.get("matrix"),
            batch.get("stored_size"),
            batch.get("view", ()),
            progress=self.progress,
        )
        targets = None
        if self.objective.masks(self.progress) and self.image_masker.wants_similarity(self.progress):
            targets = self.objective.encode_full(self._in_chunks()[0], batch["image"], on_device)
            similarity = text_patch_similarity(targets.text, targets.image, on_device)
            context = context._replace(similarity=similarity)
        facts = [
            np.stack([encode_facts(statements) for statements in side])
            for side in ([report.observations for report in batch["report"]], [text.statements for text in texts])
        ]
        rounds = self.views.further_statements if self.objective.config.masked_weight < 1 else 0
        return Views(
            images=batch["image"],
            image_mask=self.image_masker(context, generators),
            text_mask=self.text_masker(tokens, generators).to(device),
            tokens=on_device,
            report_facts=torch.from_numpy(facts[0]).to(device),
            text_facts=torch.from_numpy(facts[1]).to(device),
            text_keys=torch.tensor([text_key(text) for text in texts], device=device),
            targets=targets,
            statements=draw_statements(self.encoder, self.views, batch, rngs, rounds),
        )

    @property
    def progress(self) -> float:
        """Share of all optimiser steps that are done, 0 to 1; 0 outside of a training."""
        if self._trainer is None:
            return 0.0
        if self.trainer.training:  # elsewhere Lightning may load training data, for which processes wait for each other
            self._total_steps = max(float(self.trainer.estimated_stepping_batches), 1.0)
        return self.global_step / self._total_steps

    def optimizer_step(
        self,
        epoch: int,
        batch_idx: int,
        optimizer: Optimizer | Any,  # noqa: ANN401 - Lightning's signature
        optimizer_closure: Any = None,  # noqa: ANN401
    ) -> None:
        """Step, then let the teacher follow; a checkpoint between the two cannot be written."""
        super().optimizer_step(epoch, batch_idx, optimizer, optimizer_closure)
        total = float(self.trainer.estimated_stepping_batches)
        with record_function("dmlm: teacher update"):
            self.objective.teacher.update(self.encoder, (self.global_step + 1) / total)

    def configure_optimizers(self) -> Any:  # noqa: ANN401 - what Lightning takes
        """AdamW with the encoder's own rate, warm-up and cosine."""
        prefixes = ("encoder.image.", "encoder.text.")
        return configure(self, prefixes, self.optim_config, float(self.trainer.estimated_stepping_batches))
