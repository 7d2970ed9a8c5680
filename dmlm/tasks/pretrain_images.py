"""Image-only pre-training: the controls SimCLR, MoCo and MAE, evaluated like image-text pre-training."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch.optim import Optimizer

from dmlm.errors import ConfigError
from dmlm.masking import ImageMasker, MAEMask, MaskContext
from dmlm.models.encoder import ProbabilisticEncoder
from dmlm.models.predictor import CrossModalPredictor
from dmlm.objectives.image_only import ImageObjective, ImageObjectiveConfig
from dmlm.objectives.image_views import random_view
from dmlm.tasks.base import checked_seed
from dmlm.tasks.batch_checks import warn_accumulated
from dmlm.tasks.optim import OptimConfig, configure
from dmlm.tasks.zero_shot import ZeroShotTask
from dmlm.tasks.zero_shot_evaluation import ZeroShotConfig


class ImagePretrainModule(ZeroShotTask):
    """Pre-train the image side of an encoder on images alone.

    What comes out is an encoder like any other: it can be probed, fine-tuned and compared. Its text side is untouched,
    so its zero-shot numbers, which validation and test report as for every pre-training, are those of chance.

    Args:
        encoder: What is trained; the text side stays as it is.
        predictor: Decoder of the ``mae`` objective; None builds one of the encoder's width with default size.
        image_masker: Masking strategy of the ``mae`` objective; None hides 75 % at random.
        image_objective: Which objective. (Not `objective`: a configuration of image-text pre-training may lie beneath.)
        optim: Rates and schedule.
        zero_shot: How zero-shot classification is done and reported.
        seed: First part of the seed of every random draw.

    Raises:
        ConfigError: If the predictor's width is not the encoder's, or the seed is negative.
    """

    monitor: ClassVar[str] = "val_auroc"
    mode: ClassVar[Literal["min", "max"]] = "max"

    def __init__(
        self,
        encoder: ProbabilisticEncoder,
        predictor: CrossModalPredictor | None = None,
        image_masker: ImageMasker | None = None,
        image_objective: ImageObjectiveConfig = ImageObjectiveConfig(),
        optim: OptimConfig = OptimConfig(),
        zero_shot: ZeroShotConfig = ZeroShotConfig(),
        seed: int = 0,
    ) -> None:
        decodes = image_objective.kind == "mae"
        if decodes and predictor is None:
            predictor = CrossModalPredictor(encoder.embed_dim)
        if predictor is not None and predictor.embed_dim != encoder.embed_dim:
            msg = f"predictor.embed_dim ({predictor.embed_dim}) must be the encoder's embed_dim ({encoder.embed_dim})"
            raise ConfigError(msg)
        self._init_args["predictor"] = predictor  # so that a checkpoint says which predictor it holds
        super().__init__(encoder, predictor, zero_shot)
        self.image_masker = MAEMask() if image_masker is None else image_masker
        self.optim_config, self.seed = optim, checked_seed(seed)
        self.objective = ImageObjective(image_objective, encoder)
        idle: list[torch.nn.Module] = [encoder.text, encoder.text_head]
        if predictor is not None:
            idle += [predictor.text_in] if decodes else [predictor]
            if predictor.text is not predictor.image:  # which `share_directions` makes one
                idle.append(predictor.text)
        for part in idle:
            part.requires_grad_(requires_grad=False)

    def on_fit_start(self) -> None:
        """Say what accumulating gradients means, and switch to training."""
        super().on_fit_start()
        if self.objective.config.kind == "simclr":  # MoCo compares with a queue, MAE with nothing
            warn_accumulated(self.trainer.accumulate_grad_batches, "views", "raise data.batch_size instead")

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> torch.Tensor:
        """Compute the loss of one batch."""
        entropy = [self.seed, self.current_epoch, batch_idx, self.global_rank]
        rng = np.random.default_rng(entropy)
        torch.manual_seed(int(np.random.SeedSequence(entropy).generate_state(1)[0]))  # dropout
        generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
        images = batch["image"]
        if self.objective.config.kind == "mae":
            mask = self.image_masker(MaskContext(images, self.encoder.image.patch_grid), generator)
            step = self.objective(self.encoder, self.predictor, images, mask=mask)
        else:
            first, second = random_view(images, generator), random_view(images, generator)
            step = self.objective(self.encoder, None, first, second)
        self.log_dict({f"train_{name}": value for name, value in step.parts.items()}, batch_size=len(images))
        return step.loss  # type: ignore[no-any-return]

    def optimizer_step(
        self,
        epoch: int,
        batch_idx: int,
        optimizer: Optimizer | Any,  # noqa: ANN401 - Lightning's signature
        optimizer_closure: Any = None,  # noqa: ANN401
    ) -> None:
        """Step, then let the slow encoder follow; a checkpoint between the two cannot be written."""
        super().optimizer_step(epoch, batch_idx, optimizer, optimizer_closure)
        total = float(self.trainer.estimated_stepping_batches)
        self.objective.update(self.encoder, (self.global_step + 1) / total)

    def configure_optimizers(self) -> Any:  # noqa: ANN401 - what Lightning takes
        """AdamW with the encoder's own rate, warm-up and cosine."""
        prefixes = ("encoder.image.", "encoder.text.")
        return configure(self, prefixes, self.optim_config, float(self.trainer.estimated_stepping_batches))
