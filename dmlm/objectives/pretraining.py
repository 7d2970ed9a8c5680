"""One pre-training step: encode the views, predict what was masked, align, and add it up (paper, Eq. 3 to 5).

This is plain torch, so that it can be tested, profiled and used in another training loop. Drawing views and masks,
logging and the optimiser belong to :class:`dmlm.tasks.DMLMPretrainModule`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from dmlm.distributions import Gaussian, Reduce, standard_normal_kl
from dmlm.errors import ConfigError
from dmlm.models.encoder import ProbabilisticEncoder
from dmlm.models.image import visible_indices
from dmlm.models.predictor import CrossModalPredictor
from dmlm.models.tokens import TokenBatch
from dmlm.objectives.alignment import AlignmentKind, AlignmentLoss, Positives
from dmlm.objectives.masked_prediction import Direction, MaskedPredictionLoss
from dmlm.objectives.monitors import spread
from dmlm.objectives.reconstruction import ReconstructionAnchor
from dmlm.objectives.teacher import TargetKind, Teacher


@dataclass(frozen=True)
class ObjectiveConfig:
    """What is minimised. The paper's letter is ``examples/paper/letter.yaml``; these defaults do not collapse.

    Args:
        masked_weight: Lambda of Eq. 5: weight of masked prediction; alignment has the rest. 0 skips the masked passes,
            1 skips alignment.
        kl_direction: ``pred_target`` (the paper's), ``target_pred`` (its variance means error), ``symmetric``, ``mse``.
        reduce_dims: ``mean`` or ``sum`` over the width inside the KL.
        beta_nll: Tempers the KL where target variances become small; 0 is the plain KL.
        text_weight: Weight of masked tokens inside masked prediction.
        image_weight: Weight of masked patches.
        target: Where true distributions come from: ``ema``, ``frozen``, ``online``, ``shared``.
        momentum: EMA momentum at the start and at the end of training.
        conditioning: ``cross_full`` reads the full view of the other modality, ``joint`` its masked view.
        alignment: ``contrastive``, ``csd_bce`` or ``attract`` (the letter of Eq. 4; collapses).
        positives: ``findings``, ``same_text`` or ``identity``.
        align_view: Align ``full`` or ``masked`` views. ``masked`` with ``joint`` needs no full student pass.
        scale_init: Alignment scale at the start.
        scale_max: Largest alignment scale.
        vib_weight: Weight of KL(global element || N(0, I)), which guards the variances; without alignment it acts on
            variances only, as nothing would hold the means away from 0.
        token_anchor: Weight of the masked tokens' cross-entropy.
        pixel_anchor: Weight of the masked patches' pixel error.

    Raises:
        ConfigError: If a value is out of range or a combination cannot learn.
    """

    masked_weight: float = 0.2
    kl_direction: Direction = "pred_target"
    reduce_dims: Reduce = "mean"
    beta_nll: float = 0.0
    text_weight: float = 1.0
    image_weight: float = 1.0
    target: TargetKind = "ema"
    momentum: tuple[float, float] = (0.996, 1.0)
    conditioning: Literal["cross_full", "joint"] = "cross_full"
    alignment: AlignmentKind = "contrastive"
    positives: Positives = "findings"
    align_view: Literal["full", "masked"] = "full"
    scale_init: float = 7.14
    scale_max: float = 50.0
    vib_weight: float = 1e-4
    token_anchor: float = 0.0
    pixel_anchor: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.masked_weight <= 1:
            msg = f"masked_weight (lambda of Eq. 5) must lie in 0..1, got {self.masked_weight}"
            raise ConfigError(msg)
        for name, allowed in (("conditioning", ("cross_full", "joint")), ("align_view", ("full", "masked"))):
            if getattr(self, name) not in allowed:
                msg = f"{name} must be {' or '.join(allowed)}, got '{getattr(self, name)}'"
                raise ConfigError(msg)
        if self.target == "online" and (self.masked_weight == 1 or self.alignment == "attract"):
            msg = (
                "target=online collapses without a contrastive alignment: use target=ema, or alignment=contrastive or "
                "csd_bce with masked_weight below 1 (target=shared is there to watch the collapse)"
            )
            raise ConfigError(msg)


class Step(NamedTuple):
    """What one step gives.

    Args:
        loss: Scalar to minimise.
        parts: Detached scalars by name: losses, and quantities that show collapse or the state of the variances.
    """

    loss: Tensor
    parts: dict[str, Tensor]


class Encoded(NamedTuple):
    """Both modalities of a batch, encoded.

    Args:
        image: Images and their patches, ``(B, 1 + K, D)``.
        text: Tokens of the texts, ``(B, L, D)``.
    """

    image: Gaussian
    text: Gaussian


class Views(NamedTuple):
    """A batch as the objective needs it, on the encoder's device.

    Args:
        images: uint8 ``(B, 1, H, W)``.
        tokens: Tokenised text views.
        image_mask: bool ``(B, N)``, equally many True in every row.
        text_mask: bool ``(B, L)``.
        report_facts: int64 ``(B, K, 4)``, what each whole report states.
        text_facts: int64 ``(B, K, 4)``, what each text view states.
        text_keys: int64 ``(B,)``, hash of each text view.
        targets: The teacher's encoding of the full views, where drawing the masks needed it already.
    """

    images: Tensor
    tokens: TokenBatch
    image_mask: Tensor
    text_mask: Tensor
    report_facts: Tensor
    text_facts: Tensor
    text_keys: Tensor
    targets: Encoded | None = None


class PretrainingObjective(nn.Module):
    """The total loss: ``lambda * (KL_text + KL_image) + (1 - lambda) * alignment + guards`` (paper, Eq. 5).

    Args:
        config: What is minimised.
        encoder: The encoder that will train; the teacher starts as its copy.
    """

    def __init__(self, config: ObjectiveConfig, encoder: ProbabilisticEncoder) -> None:
        super().__init__()
        self.config = config
        self.masked = MaskedPredictionLoss(config.kl_direction, config.reduce_dims, config.beta_nll)
        self.alignment = AlignmentLoss(config.alignment, config.positives, config.scale_init, config.scale_max)
        if config.masked_weight == 1:
            self.alignment.requires_grad_(requires_grad=False)  # DDP must not wait for gradients that never come
        self.teacher = Teacher(encoder, config.target if config.masked_weight > 0 else "online", config.momentum)
        self.anchor: ReconstructionAnchor | None = None
        if config.token_anchor or config.pixel_anchor:
            side = encoder.image.image_size
            rows, columns = encoder.image.patch_grid
            self.anchor = ReconstructionAnchor(
                encoder.embed_dim, encoder.text.vocab_size, (side // rows) * (side // columns)
            )

    def forward(self, encoder: ProbabilisticEncoder, predictor: CrossModalPredictor, views: Views) -> Step:
        """Compute the loss of one batch.

        Args:
            encoder: The encoder that trains.
            predictor: The predictor that trains.
            views: The batch.
        """
        config = self.config
        masks = config.masked_weight > 0
        needs_full = not masks or "full" in (config.align_view, config.conditioning.removeprefix("cross_"))
        needs_full = needs_full or config.target in ("online", "shared")
        full, masked = self._encode(encoder, views, needs_full, masks)
        parts: dict[str, Tensor] = {}
        seen = masked if full is None or (masks and config.align_view == "masked") else full
        if seen is None:
            msg = "nothing to align: no view was encoded"
            raise ConfigError(msg)
        image, text = seen.image.at(0), seen.text.at(0)
        loss = config.vib_weight * self._guard(image, text)
        if masks and masked is not None:
            loss = loss + config.masked_weight * self._masked_loss(encoder, predictor, views, full, masked, parts)
        if config.masked_weight < 1:
            align = self.alignment(image, text, views.report_facts, views.text_facts, views.text_keys)
            loss = loss + (1.0 - config.masked_weight) * align
            parts |= {"align": align, "scale": self.alignment.scale}
        parts |= {
            "image_spread": spread(image.mean),
            "text_spread": spread(text.mean),
            "image_variance": image.variance.mean(),
            "text_variance": text.variance.mean(),
        }
        return Step(loss, {"loss": loss.detach(), **{name: value.detach() for name, value in parts.items()}})

    def _encode(
        self, encoder: ProbabilisticEncoder, views: Views, full: bool, masked: bool
    ) -> tuple[Encoded | None, Encoded | None]:
        """Encode the views that are needed; both views of the texts go through the tower as one batch."""
        tokens, mask = views.tokens, views.text_mask
        image_full = encoder.encode_image(views.images) if full else None
        image_masked = encoder.encode_image(views.images, views.image_mask) if masked else None
        if full and masked:
            both = encoder.encode_text(_doubled(tokens), torch.cat([torch.zeros_like(mask), mask]))
            halves = [
                Gaussian(*(part[half] for part in both)) for half in (slice(len(tokens)), slice(len(tokens), None))
            ]
            text_full, text_masked = halves[0], halves[1]
        elif full:
            text_full = encoder.encode_text(tokens)
        else:
            text_masked = encoder.encode_text(tokens, mask)
        return (
            Encoded(image_full, text_full) if image_full is not None else None,
            Encoded(image_masked, text_masked) if image_masked is not None else None,
        )

    def _masked_loss(
        self,
        encoder: ProbabilisticEncoder,
        predictor: CrossModalPredictor,
        views: Views,
        full: Encoded | None,
        masked: Encoded,
        parts: dict[str, Tensor],
    ) -> Tensor:
        config, grid = self.config, encoder.image.patch_grid
        target = self._targets(views, full)
        valid = views.tokens.valid
        text_query, text_query_valid = positions_of(views.text_mask)
        visible, hidden = visible_indices(views.image_mask), visible_indices(~views.image_mask)
        text_visible = valid & ~views.text_mask
        cross = config.conditioning == "cross_full" and full is not None
        other = full if cross and full is not None else masked
        loss = masked.image.mean.new_zeros(())
        if text_query.shape[1]:
            predicted = predictor.predict_text(
                text_query, text_query_valid, masked.text, text_visible, other.image, grid, None if cross else visible
            )
            parts["kl_text"] = self.masked(predicted, target.text.gather(text_query), text_query_valid)
            loss = loss + config.text_weight * parts["kl_text"]
            parts["predicted_variance"] = predicted.variance.mean()
            if self.anchor is not None and config.token_anchor:
                ids = views.tokens.input_ids.gather(1, text_query)
                parts["token_anchor"] = self.anchor.token_loss(predicted.mean, ids, text_query_valid)
                loss = loss + config.token_anchor * parts["token_anchor"]
        if hidden.shape[1]:
            text_read = valid if cross else text_visible
            predicted = predictor.predict_image(hidden, masked.image, visible, other.text, text_read, grid)
            wanted = target.image.gather(hidden + 1)
            parts["kl_image"] = self.masked(predicted, wanted, torch.ones_like(hidden, dtype=torch.bool))
            loss = loss + config.image_weight * parts["kl_image"]
            parts["target_spread"] = spread(wanted.mean.flatten(0, 1))
            if self.anchor is not None and config.pixel_anchor:
                parts["pixel_anchor"] = self.anchor.pixel_loss(predicted.mean, views.images, hidden, grid)
                loss = loss + config.pixel_anchor * parts["pixel_anchor"]
        return loss

    @torch.no_grad()
    def encode_full(self, encoder: ProbabilisticEncoder, images: Tensor, tokens: TokenBatch) -> Encoded:
        """Encode full views without gradient, by the teacher where it has weights of its own, else by ``encoder``."""
        reader = encoder if self.teacher.encoder is None else self.teacher.encoder
        return Encoded(reader.encode_image(images), reader.encode_text(tokens))

    def _targets(self, views: Views, full: Encoded | None) -> Encoded:
        if self.teacher.encoder is not None:
            if views.targets is not None:
                return views.targets
            return self.encode_full(self.teacher.encoder, views.images, views.tokens)
        if full is None:
            msg = f"target={self.config.target} needs the full view, which was not encoded"
            raise ConfigError(msg)
        if self.config.target == "shared":
            return full
        return Encoded(full.image.detach(), full.text.detach())

    def _guard(self, image: Gaussian, text: Gaussian) -> Tensor:
        variance_only = self.config.masked_weight == 1
        return (standard_normal_kl(image, variance_only) + standard_normal_kl(text, variance_only)).mean()


def positions_of(mask: Tensor) -> tuple[Tensor, Tensor]:
    """Positions of the True entries of each row, padded to the longest row.

    Args:
        mask: bool ``(B, L)``.

    Returns:
        int64 ``(B, Q)`` positions and bool ``(B, Q)``, False at padding.
    """
    counts = mask.sum(1)
    width = int(counts.max()) if len(mask) else 0
    order = mask.to(torch.uint8).argsort(dim=1, descending=True, stable=True)[:, :width]
    return order, torch.arange(width, device=mask.device)[None] < counts[:, None]


def _doubled(tokens: TokenBatch) -> TokenBatch:
    twice = {name: torch.cat([getattr(tokens, name)] * 2) for name in ("input_ids", "valid", "words", "sections")}
    return replace(tokens, lengths=tokens.lengths * 2, **twice)
