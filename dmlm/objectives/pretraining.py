"""One pre-training step: encode the views, predict what was masked, align, and add it up (paper, Eq. 3 to 5).

This is plain torch, so that it can be tested, profiled and used in another training loop. Drawing views and masks,
logging and the optimiser belong to :class:`dmlm.tasks.DMLMPretrainModule`.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.profiler import record_function

from dmlm.distributions import Gaussian, standard_normal_kl
from dmlm.errors import ConfigError
from dmlm.models.encoder import ProbabilisticEncoder
from dmlm.models.image import visible_indices
from dmlm.models.predictor import CrossModalPredictor
from dmlm.models.tokens import TokenBatch
from dmlm.objectives.alignment import AlignmentLoss
from dmlm.objectives.batch import Encoded, Step, Views
from dmlm.objectives.chunks import chunked_like
from dmlm.objectives.config import ObjectiveConfig
from dmlm.objectives.distributed import idle
from dmlm.objectives.masked_prediction import MaskedPredictionLoss
from dmlm.objectives.monitors import spread
from dmlm.objectives.reconstruction import ReconstructionAnchor
from dmlm.objectives.teacher import Teacher


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

    def masks(self, progress: float) -> bool:
        """Whether masked prediction takes part at ``progress`` (0..1) of the training."""
        return self.config.masked_weight > 0 and progress >= self.config.masked_start

    def forward(
        self, encoder: ProbabilisticEncoder, predictor: CrossModalPredictor, views: Views, progress: float = 1.0
    ) -> Step:
        """Compute the loss of one batch.

        Args:
            encoder: The encoder that trains.
            predictor: The predictor that trains.
            views: The batch.
            progress: Share of all optimiser steps that are done, 0..1.
        """
        config = self.config
        masks = self.masks(progress)
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
        elif config.masked_weight > 0:  # not yet: the same graph at every step, which DDP counts on
            loss = loss + idle(predictor, *(() if self.anchor is None else (self.anchor,)))
        if config.masked_weight < 1:
            log_scale = self.alignment.bounded_log_scale()  # one for both parts of the loss
            align = self._align(encoder, image, text, views, log_scale)
            parts |= {"align": align, "scale": self.alignment.scale}
            if config.local_weight:
                parts["align_local"] = self._align_local(seen, views, log_scale)
                align = align + config.local_weight * parts["align_local"]
            loss = loss + (1.0 - config.masked_weight) * align
        parts |= {
            "image_spread": spread(image.mean),
            "text_spread": spread(text.mean),
            "image_variance": image.variance.mean(),
            "text_variance": text.variance.mean(),
        }
        return Step(loss, {"loss": loss.detach(), **{name: value.detach() for name, value in parts.items()}})

    def _align(
        self, encoder: ProbabilisticEncoder, image: Gaussian, text: Gaussian, views: Views, log_scale: Tensor
    ) -> Tensor:
        """Align images with their text views and further statements."""
        facts, keys = views.text_facts, views.text_keys
        if views.statements is not None:
            with record_function("dmlm: encode text"):
                further = encoder.text_global(views.statements.tokens)
            text = Gaussian(*(torch.cat([a, b[views.statements.rows]]) for a, b in zip(text, further, strict=True)))
            facts = torch.cat([facts, views.statements.facts])
            keys = torch.cat([keys, views.statements.keys])
        with record_function("dmlm: losses"):
            loss: Tensor = self.alignment(image, text, views.report_facts, facts, keys, log_scale)
        return loss

    def _align_local(self, seen: Encoded, views: Views, log_scale: Tensor) -> Tensor:
        """Align the words of the text views with the patches of the images."""
        facts = (views.report_facts, views.text_facts, views.text_keys)
        patches, words = seen.image.at(slice(1, None)), views.tokens.words >= 0
        return self.alignment.local(patches, seen.text, words, *facts, log_scale)

    def _encode(
        self, encoder: ProbabilisticEncoder, views: Views, full: bool, masked: bool
    ) -> tuple[Encoded | None, Encoded | None]:
        """Encode the views that are needed; both views of the texts go through the tower as one batch.

        Without masked prediction and local alignment only the global elements are read, so only they are computed.
        """
        tokens, mask = views.tokens, views.text_mask
        everything = masked or self.config.local_weight
        first = None if everything else torch.zeros(len(tokens), 1, dtype=torch.int64, device=mask.device)
        with record_function("dmlm: encode image"):
            image_full = encoder.encode_image(views.images, index=first) if full else None
            image_masked = encoder.encode_image(views.images, views.image_mask) if masked else None
        with record_function("dmlm: encode text"):
            if full and masked:
                both = encoder.encode_text(_doubled(tokens), torch.cat([torch.zeros_like(mask), mask]))
                halves = [
                    Gaussian(*(part[half] for part in both)) for half in (slice(len(tokens)), slice(len(tokens), None))
                ]
                text_full, text_masked = halves[0], halves[1]
            elif full:
                text_full = encoder.encode_text(tokens, index=first)
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
        valid = views.tokens.valid
        text_query, text_hidden = positions_of(views.text_mask)
        query, hidden = positions_of(views.image_mask)
        visible = visible_indices(views.image_mask)
        with record_function("dmlm: teacher"):
            target = self._targets(encoder, views, full, query + 1, text_query)
        text_visible = valid & ~views.text_mask
        cross = config.conditioning == "cross_full" and full is not None
        other = full if cross and full is not None else masked
        with record_function("dmlm: predictor"):
            places = None if cross else visible
            text = predictor.predict_text(text_query, text_hidden, masked.text, text_visible, other.image, grid, places)
            read = valid if cross else text_visible
            image = predictor.predict_image(query, masked.image, visible, other.text, read, grid)
        with record_function("dmlm: losses"):
            parts["kl_text"] = self.masked(text, target.text, text_hidden)
            parts["kl_image"] = self.masked(image, target.image, hidden)
        parts["predicted_variance"] = text.variance.mean()
        targets = target.image.mean.flatten(0, 1)
        parts["target_spread"] = torch.where(hidden.any(), spread(targets), torch.nan)  # of nothing hidden: no number
        loss = config.text_weight * parts["kl_text"] + config.image_weight * parts["kl_image"]
        if self.anchor is None:
            return loss
        if config.token_anchor:
            ids = views.tokens.input_ids.gather(1, text_query)
            parts["token_anchor"] = self.anchor.token_loss(text.mean, ids, text_hidden)
            loss = loss + config.token_anchor * parts["token_anchor"]
        if config.pixel_anchor:
            parts["pixel_anchor"] = self.anchor.pixel_loss(image.mean, views.images, query, hidden, grid)
            loss = loss + config.pixel_anchor * parts["pixel_anchor"]
        if not (config.token_anchor and config.pixel_anchor):
            loss = loss + idle(self.anchor.pixel if config.token_anchor else self.anchor.token)
        return loss

    @torch.no_grad()
    def predict_patches(
        self, encoder: ProbabilisticEncoder, predictor: CrossModalPredictor, views: Views
    ) -> tuple[Gaussian, Gaussian]:
        """Predict the masked patches of a batch as training does, for evaluation.

        Returns:
            Predicted and true distributions, ``(B, Q, D)`` each.
        """
        full, masked = self._encode(encoder, views, full=True, masked=True)
        if full is None or masked is None:
            msg = "both views are needed to compare predictions with targets"
            raise ConfigError(msg)
        visible, hidden = visible_indices(views.image_mask), visible_indices(~views.image_mask)
        cross, valid = self.config.conditioning == "cross_full", views.tokens.valid
        text, read = (full.text, valid) if cross else (masked.text, valid & ~views.text_mask)
        grid = encoder.image.patch_grid
        predicted = predictor.predict_image(hidden, masked.image, visible, text, read, grid)
        target = self._targets(encoder, views, full, hidden + 1, positions_of(views.text_mask)[0])
        return predicted, target.image

    @torch.no_grad()
    def encode_full(self, encoder: ProbabilisticEncoder, images: Tensor, tokens: TokenBatch) -> Encoded:
        """Encode full views without gradient, by the teacher where it has weights of its own, else by ``encoder``.

        Where ``encoder`` computes in chunks, so does the teacher.
        """
        reader = encoder if self.teacher.encoder is None else chunked_like(encoder, self.teacher.encoder)
        return Encoded(reader.encode_image(images), reader.encode_text(tokens))

    def _targets(
        self,
        encoder: ProbabilisticEncoder,
        views: Views,
        full: Encoded | None,
        image_index: Tensor,
        text_index: Tensor,
    ) -> Encoded:
        """True distributions of the masked elements; a teacher's heads compute no others."""
        teacher = self.teacher.encoder
        if teacher is not None and views.targets is None:
            teacher = chunked_like(encoder, teacher)
            with torch.no_grad():
                return Encoded(
                    teacher.encode_image(views.images, index=image_index),
                    teacher.encode_text(views.tokens, index=text_index),
                )
        every = full if teacher is None else views.targets
        if every is None:
            msg = f"target={self.config.target} needs the full view, which was not encoded"
            raise ConfigError(msg)
        wanted = Encoded(every.image.gather(image_index), every.text.gather(text_index))
        if self.config.target == "shared":
            return wanted
        return Encoded(wanted.image.detach(), wanted.text.detach())

    def _guard(self, image: Gaussian, text: Gaussian) -> Tensor:
        variance_only = self.config.masked_weight == 1
        return (standard_normal_kl(image, variance_only) + standard_normal_kl(text, variance_only)).mean()


def positions_of(mask: Tensor) -> tuple[Tensor, Tensor]:
    """Positions of the True entries of each row, padded to the longest row and to at least one.

    At least one, because processes that train together must all do the same, also those whose part of the batch hides
    nothing (studies without a report).

    Args:
        mask: bool ``(B, L)``.

    Returns:
        int64 ``(B, Q)`` positions and bool ``(B, Q)``, False at padding.
    """
    counts = mask.sum(1)
    width = max(1, int(counts.max())) if len(mask) else 0
    order = mask.to(torch.uint8).argsort(dim=1, descending=True, stable=True)[:, :width]
    return order, torch.arange(width, device=mask.device)[None] < counts[:, None]


def _doubled(tokens: TokenBatch) -> TokenBatch:
    twice = {name: torch.cat([getattr(tokens, name)] * 2) for name in ("input_ids", "valid", "words", "sections")}
    return replace(tokens, lengths=tokens.lengths * 2, **twice)
