"""The pre-training step as it would ordinarily be written: the same model and loss, with work that is not needed.

Texts are padded to 512; every patch goes through the ViT in every pass, hidden ones masked out of attention; three
equal channels; heads and predictor at every position, the loss then masked; ``torch.distributions`` for the KL;
Wasserstein distances by broadcasting; a loop over parameters for the optimiser and the teacher. Each of these gives
the same numbers as what the library does instead, so that losses can be compared step by step.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor
from torch.distributions import Independent, Normal
from torch.distributions import kl_divergence as torch_kl
from torch.nn import functional as F

from dmlm.distributions import Gaussian, standard_normal_kl
from dmlm.models import CrossModalPredictor, ProbabilisticEncoder
from dmlm.models.predictor import grid_positions
from dmlm.objectives import AlignmentLoss, ObjectiveConfig, Views
from dmlm.objectives.alignment import _multi_positive, _transpose
from dmlm.objectives.positives import pair_relations

PADDED = 512


class NaiveStep:
    """Loss of the default objective.

    Args:
        encoder: Trains.
        predictor: Trains.
        config: The objective; only its default form.
        alignment: Scale of the alignment.
        padded: Length that texts are padded to; 0 pads to the longest of the batch.
    """

    def __init__(
        self,
        encoder: ProbabilisticEncoder,
        predictor: CrossModalPredictor,
        config: ObjectiveConfig,
        alignment: AlignmentLoss,
        padded: int = PADDED,
    ) -> None:
        self.encoder, self.predictor, self.config, self.alignment = encoder, predictor, config, alignment
        self.padded = padded
        self.teacher = copy.deepcopy(encoder).requires_grad_(requires_grad=False).eval()

    def __call__(self, views: Views) -> Tensor:
        """Compute the loss."""
        encoder, config = self.encoder, self.config
        ids, valid, text_mask = (
            self._padded(part) for part in (views.tokens.input_ids, views.tokens.valid, views.text_mask)
        )
        masked_ids = ids.masked_fill(text_mask, encoder.text._special["mask"])
        shown = torch.zeros_like(views.image_mask)
        image_full, image_masked = (_image(encoder, views.images, mask) for mask in (shown, views.image_mask))
        text_full, text_masked = (_text(encoder, words, valid) for words in (ids, masked_ids))
        with torch.no_grad():
            image_target, text_target = _image(self.teacher, views.images, shown), _text(self.teacher, ids, valid)
        first = torch.ones_like(views.image_mask[:, :1])
        words = self._predict_text(text_mask, text_masked, valid & ~text_mask, image_full)
        patches = self._predict_image(
            views.image_mask, image_masked, torch.cat([first, ~views.image_mask], 1), text_full, valid
        )
        text_loss = _masked_kl(words, text_target, text_mask)
        image_loss = _masked_kl(patches, Gaussian(*(part[:, 1:] for part in image_target)), views.image_mask)
        masked = config.text_weight * text_loss + config.image_weight * image_loss
        image, text = (Gaussian(*(part[:, 0] for part in side)) for side in (image_full, text_full))
        guard = (standard_normal_kl(image) + standard_normal_kl(text)).mean()
        align = self._align(image, text, views)
        return config.vib_weight * guard + config.masked_weight * masked + (1.0 - config.masked_weight) * align

    @torch.no_grad()
    def update_teacher(self, momentum: float) -> None:
        """Move the teacher, one parameter after the other."""
        for mine, theirs in zip(self.teacher.parameters(), self.encoder.parameters(), strict=True):
            mine.mul_(momentum).add_(theirs, alpha=1.0 - momentum)

    def _padded(self, part: Tensor) -> Tensor:
        return F.pad(part, (0, max(0, self.padded - part.shape[1])))

    def _predict_text(self, mask: Tensor, text: Gaussian, visible: Tensor, image: Gaussian) -> Gaussian:
        """Predict at every position; invalid queries attend to all, so valid ones see what they should."""
        every = torch.arange(mask.shape[1]).expand(len(mask), -1)
        return self.predictor.predict_text(every, mask, text, visible, image, self.encoder.image.patch_grid)

    def _predict_image(self, mask: Tensor, image: Gaussian, visible: Tensor, text: Gaussian, valid: Tensor) -> Gaussian:
        predictor, grid = self.predictor, self.encoder.image.patch_grid
        queries = predictor.image_query + predictor.type_embed[0] + grid_positions(*grid, predictor.width, mask.device)
        memory = torch.cat([predictor._image_elements(image, grid, None), predictor._text_elements(text)], dim=1)
        readable = torch.cat([visible, valid], dim=1)
        return predictor.image(queries.expand(len(mask), -1, -1), mask, memory, readable)  # type: ignore[no-any-return]

    def _align(self, image: Gaussian, text: Gaussian, views: Views) -> Tensor:
        with torch.autocast("cpu", enabled=False):
            means = (image.mean[:, None] - text.mean[None]).square().mean(-1)
            spreads = (image.std[:, None] - text.std[None]).square().mean(-1)
            logits = -self.alignment.scale * (means + spreads)
            relations = pair_relations(views.report_facts, views.text_facts)
            return 0.5 * (_multi_positive(logits, relations) + _multi_positive(logits.t(), _transpose(relations)))


def _masked_kl(predicted: Gaussian, target: Gaussian, mask: Tensor) -> Tensor:
    """Mean over masked positions of KL(target || predicted) per dimension, computed at every position."""
    left, right = (Independent(Normal(side.mean, side.std), 1) for side in (target, predicted))
    value = torch_kl(left, right) / predicted.mean.shape[-1]
    return (value * mask).sum() / mask.sum()


def _text(encoder: ProbabilisticEncoder, ids: Tensor, valid: Tensor) -> Gaussian:
    features = encoder.text.model(input_ids=ids, attention_mask=valid.long()).last_hidden_state
    return encoder.text_head(features, valid)  # type: ignore[no-any-return]


def _image(encoder: ProbabilisticEncoder, images: Tensor, mask: Tensor) -> Gaussian:
    """Every patch through every block, hidden ones are no keys; three equal channels share the stem's weights."""
    model = encoder.image.model
    pixels = encoder.image.normalise(images).expand(-1, 3, -1, -1)
    embed = model.patch_embed
    weight = embed.proj.weight.expand(-1, 3, -1, -1) / 3.0
    patches = F.conv2d(pixels, weight, embed.proj.bias, stride=embed.patch_size).flatten(2).transpose(1, 2)
    tokens = model.norm_pre(model._pos_embed(patches))
    seen = torch.cat([torch.ones_like(mask[:, :1]), ~mask], dim=1)
    for block in model.blocks:
        tokens = tokens + _attention(block.attn, block.norm1(tokens), seen)
        tokens = tokens + block.mlp(block.norm2(tokens))
    return encoder.image_head(model.norm(tokens), seen)  # type: ignore[no-any-return]


def _attention(attention: torch.nn.Module, tokens: Tensor, seen: Tensor) -> Tensor:
    batch, length, width = tokens.shape
    qkv = attention.qkv(tokens).reshape(batch, length, 3, attention.num_heads, -1).permute(2, 0, 3, 1, 4)
    mask = None if bool(seen.all()) else seen[:, None, None, :]
    mixed = F.scaled_dot_product_attention(qkv[0], qkv[1], qkv[2], attn_mask=mask)
    return attention.proj(mixed.transpose(1, 2).reshape(batch, length, width))  # type: ignore[no-any-return]
