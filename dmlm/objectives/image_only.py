"""What image-only pre-training minimises, as controls for image-text objectives: SimCLR, MoCo, MAE.

Plain torch. The losses are short enough to be here: `lightly`, which has them, requires `pytorch-lightning` beside the
`lightning` that this library is built on (modules of one are none of the other), and hydra.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dmlm.distributions import Gaussian
from dmlm.errors import ConfigError
from dmlm.models.encoder import ProbabilisticEncoder, encode_images, first_element
from dmlm.models.image import visible_indices
from dmlm.models.predictor import CrossModalPredictor
from dmlm.objectives.batch import Step
from dmlm.objectives.distributed import gather, rank, world_size
from dmlm.objectives.monitors import spread
from dmlm.objectives.reconstruction import ReconstructionAnchor
from dmlm.objectives.teacher import check_momentum, follow, momentum_at

ImageObjectiveKind = Literal["simclr", "moco", "mae"]


@dataclass(frozen=True)
class ImageObjectiveConfig:
    """Which image-only objective.

    Args:
        kind: ``simclr`` (two views of an image against all other views of the batch), ``moco`` (a view against a slow
            encoder's other view and a queue of earlier ones) or ``mae`` (pixels of masked patches).
        temperature: Of the two contrastive ones.
        projection_dim: Width in which they compare.
        queue: Length of ``moco``'s queue; of a global batch that is longer the last keys are kept.
        momentum: Of ``moco``'s slow encoder, at the start and at the end of training, both in 0..1.

    Raises:
        ConfigError: If a value is out of range.
    """

    kind: ImageObjectiveKind = "simclr"
    temperature: float = 0.2
    projection_dim: int = 128
    queue: int = 1024
    momentum: tuple[float, float] = (0.99, 1.0)

    def __post_init__(self) -> None:
        if self.kind not in get_args(ImageObjectiveKind):
            msg = f"kind of image objective must be {', '.join(get_args(ImageObjectiveKind))}, got '{self.kind}'"
            raise ConfigError(msg)
        for name in ("temperature", "projection_dim", "queue"):
            if not getattr(self, name) > 0:
                msg = f"{name} of an image objective must be above 0, got {getattr(self, name)}"
                raise ConfigError(msg)
        check_momentum(self.momentum)


class ImageObjective(nn.Module):
    """One step of image-only pre-training. The text side of the encoder takes no part.

    Args:
        config: Which objective.
        encoder: The encoder whose image side will train.
    """

    queue: Tensor
    place: Tensor

    def __init__(self, config: ImageObjectiveConfig, encoder: ProbabilisticEncoder) -> None:
        super().__init__()
        self.config = config
        self.projection = self.slow = self.anchor = None
        if config.kind == "mae":
            side, (rows, columns) = encoder.image.image_size, encoder.image.patch_grid
            self.anchor = ReconstructionAnchor(encoder.embed_dim, 1, (side // rows) * (side // columns))
            self.anchor.token.requires_grad_(requires_grad=False)
        else:
            width = encoder.embed_dim
            self.projection = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.Linear(width, config.projection_dim))
        if config.kind == "moco" and self.projection is not None:
            self.slow = copy.deepcopy(self._fast(encoder)).requires_grad_(requires_grad=False).eval()
            noise = torch.randn(config.queue, config.projection_dim, generator=torch.Generator().manual_seed(0))
            self.register_buffer("queue", F.normalize(noise, dim=1))
            self.register_buffer("place", torch.zeros((), dtype=torch.long))

    def train(self, mode: bool = True) -> ImageObjective:
        """Keep the slow encoder in evaluation mode."""
        super().train(mode)
        if self.slow is not None:
            self.slow.eval()
        return self

    def forward(
        self,
        encoder: ProbabilisticEncoder,
        predictor: CrossModalPredictor | None,
        images: Tensor,
        second: Tensor | None = None,
        mask: Tensor | None = None,
    ) -> Step:
        """Compute the loss of one batch.

        Args:
            encoder: The encoder that trains.
            predictor: The predictor that trains; ``mae`` only.
            images: uint8 ``(B, 1, H, W)``; the first view for the contrastive ones.
            second: Another view of the same images; contrastive ones only.
            mask: bool ``(B, N)``, equally many True in every row; ``mae`` only.

        Raises:
            ConfigError: If what the objective needs is not given.
        """
        if self.anchor is not None:
            if predictor is None or mask is None:
                msg = "the mae objective needs a predictor and a mask"
                raise ConfigError(msg)
            elements, loss = self._reconstruct(self.anchor, encoder, predictor, images, mask)
        else:
            if second is None:
                msg = f"the {self.config.kind} objective needs two views of the images"
                raise ConfigError(msg)
            elements, loss = self._contrast(encoder, images, second)
        # variances take no part, but every process of a distributed run must see their gradient
        loss = loss + 0.0 * elements.logvar.sum()
        return Step(loss, {"loss": loss.detach(), "image_spread": spread(elements.at(0).mean)})

    @torch.no_grad()
    def update(self, encoder: ProbabilisticEncoder, progress: float) -> None:
        """Let the slow encoder follow; call it once after each optimiser step."""
        if self.slow is not None:
            follow(self.slow, self._fast(encoder), 1.0 - momentum_at(progress, *self.config.momentum))

    def _fast(self, encoder: ProbabilisticEncoder) -> nn.ModuleList:
        parts: list[Any] = [encoder.image, encoder.image_head, self.projection]
        return nn.ModuleList(parts)

    def _reconstruct(
        self,
        anchor: ReconstructionAnchor,
        encoder: ProbabilisticEncoder,
        predictor: CrossModalPredictor,
        images: Tensor,
        mask: Tensor,
    ) -> tuple[Gaussian, Tensor]:
        elements = encoder.encode_image(images, mask)
        visible, hidden = visible_indices(mask), visible_indices(~mask)
        empty = elements.mean.new_zeros(len(images), 0, encoder.embed_dim)
        nobody = torch.zeros(len(images), 0, dtype=torch.bool, device=images.device)
        grid = encoder.image.patch_grid
        predicted = predictor.predict_image(hidden, elements, visible, Gaussian(empty, empty), nobody, grid)
        every = torch.ones_like(hidden, dtype=torch.bool)
        return elements, anchor.pixel_loss(predicted.mean, images, hidden, every, grid) + 0.0 * predicted.logvar.sum()

    def _contrast(self, encoder: ProbabilisticEncoder, images: Tensor, second: Tensor) -> tuple[Gaussian, Tensor]:
        if self.slow is None:
            both = encoder.encode_image(torch.cat([images, second]))
            views: Tensor = self.projection(both.at(0).mean)  # type: ignore[misc] # contrastive kinds have one
            first, other = views.chunk(2)
            return both, nt_xent(first, other, self.config.temperature)
        elements = encoder.encode_image(images)
        asked: Tensor = self.projection(elements.at(0).mean)  # type: ignore[misc]
        with torch.no_grad():
            parts: list[Any] = [*self.slow]
            image, head, projection = parts
            # by what encodes the queries: an `attn` head reads all patches, and is another function without them
            slow = encode_images(image, head, second, index=first_element(second)).at(0)
            keys = F.normalize(projection(slow.mean).float(), dim=1)
        # a copy, because the queue changes before the gradient is taken
        loss = info_nce(asked, keys, self.queue.clone(), self.config.temperature)
        if self.training:
            self._enqueue(gather(keys))
        return elements, loss

    @torch.no_grad()
    def _enqueue(self, keys: Tensor) -> None:
        keys = keys[-len(self.queue) :]
        places = (self.place + torch.arange(len(keys), device=keys.device)) % len(self.queue)
        self.queue[places] = keys
        self.place.copy_((self.place + len(keys)) % len(self.queue))


def nt_xent(first: Tensor, second: Tensor, temperature: float) -> Tensor:
    """SimCLR's loss: each of ``2 B`` views has to be matched with its other one among all views of all processes.

    Args:
        first: First views, ``(B, P)``.
        second: Second views, ``(B, P)``.
        temperature: Divides the cosines.

    Returns:
        Scalar float32, the mean over this process's ``2 B`` views.
    """
    count, world, place = len(first), world_size(), rank()
    with torch.autocast(first.device.type, enabled=False):
        own = F.normalize(torch.cat([first, second]).float(), dim=1)
        everyone = gather(own)  # process by process: first views, then second views
        logits = own @ everyone.t() / temperature
        row = torch.arange(2 * count, device=own.device)
        start = 2 * count * place
        logits = logits.masked_fill(F.one_hot(start + row, 2 * count * world).bool(), -torch.inf)
        return F.cross_entropy(logits, start + (row + count) % (2 * count))


def info_nce(asked: Tensor, keys: Tensor, queue: Tensor, temperature: float) -> Tensor:
    """MoCo's loss: each view has to be matched with its key among the keys of a queue.

    Args:
        asked: Views, ``(B, P)``.
        keys: Their keys, unit vectors without gradient, ``(B, P)``.
        queue: Keys of other images, unit vectors, ``(Q, P)``.
        temperature: Divides the cosines.

    Returns:
        Scalar float32, the mean over this process's views.
    """
    with torch.autocast(asked.device.type, enabled=False):
        asked, keys, queue = F.normalize(asked.float(), dim=1), keys.float(), queue.float()
        logits = torch.cat([(asked * keys).sum(1, keepdim=True), asked @ queue.t()], dim=1) / temperature
        return F.cross_entropy(logits, torch.zeros(len(asked), dtype=torch.long, device=asked.device))
