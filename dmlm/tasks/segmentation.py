"""`SegmentationModule`: masks of findings or organs from the image side (paper, Table 5)."""

from __future__ import annotations

from typing import Any, ClassVar, Literal, get_args

import numpy as np
import torch
from lightning.pytorch import LightningDataModule

from dmlm.errors import ConfigError, DatasetFormatError, MismatchError
from dmlm.evaluation import OverlapCounts
from dmlm.models.encoder import ProbabilisticEncoder
from dmlm.models.segmenter import MapSource, freeze_untouched, make_decoder, sampled_masks, segment
from dmlm.models.segmenter_decoders import DecoderName
from dmlm.tasks.finetune import FineTuneModule
from dmlm.tasks.gathering import Columns
from dmlm.tasks.optim import OptimConfig
from dmlm.tasks.segmentation_loss import SegmentationLoss, mask_loss
from dmlm.tasks.segmentation_results import segmentation_results, write_mask_predictions
from dmlm.tasks.training_metrics import taken, training_dice


class SegmentationModule(FineTuneModule):
    """Segment images: one or more masks, which may overlap.

    Overlap is reported under every convention of the field (``dmlm.evaluation.segmentation``), at the resolution of
    the network. The best checkpoint is that of the highest ``val_dice``, the Dice of all pixels of the validation split
    together, which unlike the mean over positive images also sees false alarms in negative ones.

    Args:
        encoder: The encoder; see :class:`dmlm.tasks.ClassificationModule`.
        num_masks: Number of masks of the data.
        decoder: ``unet``, ``dpt``, ``upernet`` or ``setr``.
        features: What the decoder sees: maps of the image tower (``backbone``), or the means of the patches'
            distributions (``mean``, for ``setr`` only).
        width: Channels inside the decoder.
        freeze_encoder: Train the decoder only.
        loss: ``dice_bce``, ``bce``, ``focal`` or ``focal_dice`` (:func:`dmlm.tasks.segmentation_loss.mask_loss`).
        threshold: A pixel is answered where its probability is at least this.
        mc_samples: With features ``mean``: samples of the patches' distributions over which probabilities are averaged
            in evaluation; 0 takes the means.
        bootstrap: Resamples of patients for the 95 % intervals of Dice; 0 gives none.
        optim: Rates and schedule.

    Raises:
        ConfigError: If options are out of range or do not fit each other.
    """

    monitor: ClassVar[str] = "val_dice"
    mode: ClassVar[Literal["min", "max"]] = "max"
    prefix: ClassVar[str] = "segment"

    def __init__(
        self,
        encoder: ProbabilisticEncoder,
        num_masks: int = 1,
        decoder: DecoderName = "unet",
        features: MapSource = "backbone",
        width: int = 128,
        freeze_encoder: bool = False,
        loss: SegmentationLoss = "dice_bce",
        threshold: float = 0.5,
        mc_samples: int = 0,
        bootstrap: int = 1000,
        optim: OptimConfig = OptimConfig(warmup_fraction=0.1),
    ) -> None:
        super().__init__(encoder, optim, freeze_encoder)
        if loss not in get_args(SegmentationLoss):
            msg = f"loss must be one of {', '.join(get_args(SegmentationLoss))}, got '{loss}'"
            raise ConfigError(msg)
        if not 0 < threshold < 1 or min(mc_samples, bootstrap) < 0 or (mc_samples and features != "mean"):
            got = f"threshold {threshold}, mc_samples {mc_samples}, bootstrap {bootstrap}, features {features}"
            msg = f"threshold must be inside (0, 1), mc_samples (with features mean) and bootstrap 0 or more, got {got}"
            raise ConfigError(msg)
        self.num_masks, self.features, self.loss_kind = num_masks, features, loss
        self.threshold, self.mc_samples, self.bootstrap = threshold, mc_samples, bootstrap
        self.decoder = make_decoder(encoder, num_masks, decoder, features, width)
        freeze_untouched(encoder, self.decoder, features, freeze_encoder)
        self.train_dice = training_dice()

    def check_datamodule(self, datamodule: LightningDataModule) -> None:
        """Check that batches hold the masks that this was built for."""
        names, label = self.names_of(datamodule), type(datamodule).__name__
        if not names:
            msg = f"{label} gives no masks: set --data.with_masks true, or use a data set that has masks"
            raise MismatchError(msg)
        if len(names) != self.num_masks:
            msg = (
                f"{label} gives {len(names)} masks ({', '.join(names)}), but {type(self).__name__} was built for "
                f"{self.num_masks}: set --model.num_masks {len(names)}"
            )
            raise MismatchError(msg)
        super().check_datamodule(datamodule)

    def names_of(self, datamodule: LightningDataModule) -> tuple[str, ...]:
        """Names of the masks."""
        return tuple(getattr(datamodule, "mask_names", ()))

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> torch.Tensor:  # noqa: ARG002
        """Compute the loss of one batch."""
        masks = self._masks(batch)
        logits = segment(self.encoder, self.decoder, batch["image"], self.features)
        loss = mask_loss(logits, masks, self.loss_kind)
        self.log("train_loss", loss.detach().mean(), batch_size=len(masks))
        self.train_dice.update(torch.sigmoid(logits.detach().float()), masks)
        return loss.mean()

    def on_train_epoch_end(self) -> None:
        """Log the Dice of all pixels of the training batches."""
        self.log("train_dice", taken(self.train_dice))

    @torch.no_grad()
    def predict_images(self, images: torch.Tensor, seeds: list[int] | None = None) -> dict[str, torch.Tensor]:
        """Predict images outside a trainer.

        Args:
            images: uint8 ``(B, 1, H, W)`` of the encoder's size, on its device.
            seeds: One per image for Monte-Carlo samples; their positions by default.

        Returns:
            float32 ``(B, M, H, W)`` each: ``prob``, ``entropy`` of ``prob`` in nats, and with ``mc_samples``
            ``mc_std``, its standard deviation over the samples.
        """
        if self.mc_samples:
            drawn = sampled_masks(
                self.encoder, self.decoder, images, self.mc_samples, seeds or list(range(len(images)))
            )
            found = {"prob": drawn[0], "mc_std": drawn[1]}
        else:
            found = {"prob": torch.sigmoid(segment(self.encoder, self.decoder, images, self.features).float())}
        prob = found["prob"]
        return {**found, "entropy": torch.special.entr(prob) + torch.special.entr(1 - prob)}

    def evaluate_batch(self, batch: dict[str, Any]) -> Columns:
        """Return the rows of a batch: counts of pixels, not the pixels."""
        images = batch["image"]
        found = self.predict_images(images, batch["index"].tolist())
        prob, known = found["prob"], "masks" in batch
        masks = (
            self._masks(batch) if known or not self.trainer.predicting else torch.zeros_like(prob, dtype=torch.uint8)
        )
        counts = OverlapCounts(tuple(map(str, range(self.num_masks))))
        order = np.arange(len(images))
        counts.update(order, (prob >= self.threshold).cpu().numpy(), masks.cpu().numpy())
        loss = mask_loss(torch.logit(prob, eps=1e-6), masks, self.loss_kind)
        rows = {
            "index": batch["index"].cpu().numpy(),
            "counts": counts.table()[:, 1:],
            "entropy": found["entropy"].mean((2, 3)).double().cpu().numpy(),
            "peak": prob.amax((2, 3)).double().cpu().numpy(),
            "has_truth": np.full(len(images), known),
            "loss_sum": loss.double().cpu().numpy(),
            "loss_weight": np.ones(len(images)),
            "study_id": list(batch["study_id"]),
            "patient_id": list(batch["patient_id"]),
        }
        if "mc_std" in found:
            rows["mc_std"] = found["mc_std"].mean((2, 3)).double().cpu().numpy()
        return rows

    def validation_metrics(self, rows: Columns) -> dict[str, float]:
        """Dice of all pixels (``val_dice``) and of the images that have a mask (``val_dice_positive``)."""
        flat = self.overlap(rows).report().flat("v")
        return {"val_dice": flat["v/dice_global"], "val_dice_positive": flat["v/dice_positive"]}

    def overlap(self, rows: Columns) -> OverlapCounts:
        """Counts of pixels of gathered rows."""
        return OverlapCounts(self.class_names, [np.concatenate([rows["index"][:, None], rows["counts"]], axis=1)])

    def write_results(self, rows: Columns) -> dict[str, float]:
        """Evaluate and, on the first process, write predictions and figures."""
        return segmentation_results(self, rows, self.overlap(rows).report())

    def write_predictions(self, rows: Columns) -> None:
        """Write ``predictions.csv``."""
        write_mask_predictions(self.run_dir / "predictions.csv", rows, self.class_names, self.threshold)

    def _masks(self, batch: dict[str, Any]) -> torch.Tensor:
        """The masks of a batch, checked.

        Raises:
            MismatchError: If there are none, or they are of another number or size.
            DatasetFormatError: If they hold anything but 0 and 1.
        """
        masks = batch.get("masks")
        if not isinstance(masks, torch.Tensor):
            msg = "the batch has no masks: set --data.with_masks true; every study of a segmentation needs its masks"
            raise MismatchError(msg)
        expected = (len(batch["image"]), self.num_masks, *batch["image"].shape[-2:])
        if tuple(masks.shape) != expected:
            msg = f"masks have shape {list(masks.shape)}, expected {list(expected)} (images, masks, height, width)"
            raise MismatchError(msg)
        if int(masks.max()) > 1:
            msg = f"masks must hold 0 and 1, study {batch['study_id'][0]} or one of its batch has {int(masks.max())}"
            raise DatasetFormatError(msg)
        return masks
