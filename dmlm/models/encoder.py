"""The probabilistic encoder: an image tower and a text tower whose elements are diagonal Gaussians."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from dmlm._config import Configurable
from dmlm.distributions import Gaussian
from dmlm.models.heads import GaussianHead, HeadKind
from dmlm.models.image import ImageEncoder
from dmlm.models.text import TextEncoder
from dmlm.models.tokens import TokenBatch
from dmlm.reports.schema import ReportText


class ProbabilisticEncoder(Configurable, nn.Module):
    """Encode images and texts as sequences of Gaussians (paper, section 3.3, Eq. 1).

    Element 0 of either sequence is the global one (class token or pooled feature; ``[CLS]``); patches or tokens follow.
    A head keeps as much for its backward pass as the layers of its tower do (``gradient_checkpointing``).

    Args:
        image: Image tower.
        text: Text tower.
        embed_dim: Width ``D`` of the distributions.
        head: Kind of distribution head: ``"attn"`` (MAP's, default) or ``"mlp"``.
        num_heads: Attention heads of an ``"attn"`` head; even, dividing ``embed_dim``.
        logvar_init: Log-variance at the start of training.
        logvar_range: Bounds of the log-variance.
        norm_mean: Layer-normalise means (no affine part).
    """

    def __init__(
        self,
        image: ImageEncoder,
        text: TextEncoder,
        embed_dim: int = 768,
        head: HeadKind = "attn",
        num_heads: int = 12,
        logvar_init: float = -3.0,
        logvar_range: tuple[float, float] = (-6.0, 2.0),
        norm_mean: bool = True,
    ) -> None:
        super().__init__()
        self.image, self.text, self.embed_dim = image, text, embed_dim
        low, high = logvar_range
        self.image_head, self.text_head = (
            GaussianHead(
                tower.feature_dim,
                embed_dim,
                head,
                num_heads,
                logvar_init,
                (low, high),
                norm_mean,
                getattr(tower, "gradient_checkpointing", "auto"),  # a tower of one's own may know nothing of it
            )
            for tower in (image, text)
        )

    def encode_image(self, images: Tensor, mask: Tensor | None = None, index: Tensor | None = None) -> Gaussian:
        """Encode images.

        Args:
            images: uint8 ``(B, 1, H, W)``.
            mask: bool ``(B, N)``, True where a patch is hidden, equally many in every row; None shows all.
            index: int64 ``(B, Q)``, elements whose distributions are wanted (0 is the image, patches follow); None
                means all. The tower reads everything, the head computes what is wanted.

        Returns:
            Gaussian of float32 ``(B, 1 + K, D)`` over the image and its ``K`` visible patches in row-major order, or
            ``(B, Q, D)``.
        """
        return encode_images(self.image, self.image_head, images, mask, index)

    def encode_text(
        self,
        texts: TokenBatch | Sequence[ReportText | str],
        mask: Tensor | None = None,
        index: Tensor | None = None,
    ) -> Gaussian:
        """Encode texts.

        Args:
            texts: Tokens on the encoder's device, or texts to tokenise.
            mask: bool ``(B, L)``, True where the mask token replaces the token; only with tokens.
            index: int64 ``(B, Q)``, positions whose distributions are wanted (0 is the text); None means all.

        Returns:
            Gaussian of float32 ``(B, L, D)``, or ``(B, Q, D)``; what stands at padding has no meaning.
        """
        tokens = texts if isinstance(texts, TokenBatch) else self.tokenize(texts).to(self.device)
        features = self.text(tokens, mask)
        return self.text_head(features.tokens, tokens.valid, index)  # type: ignore[no-any-return]

    def image_global(self, images: Tensor) -> Gaussian:
        """Distributions of whole images, ``(B, D)``: element 0 of :meth:`encode_image` without computing the others."""
        return self.encode_image(images, index=first_element(images)).at(0)

    def text_global(self, texts: TokenBatch | Sequence[ReportText | str]) -> Gaussian:
        """Distributions of whole texts, ``(B, D)``: element 0 of :meth:`encode_text` without computing the others."""
        tokens = texts if isinstance(texts, TokenBatch) else self.tokenize(texts).to(self.device)
        return self.encode_text(tokens, index=first_element(tokens.input_ids)).at(0)

    def tokenize(self, texts: Sequence[ReportText | str]) -> TokenBatch:
        """Turn texts into tokens on the CPU."""
        return self.text.tokenize(texts)

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return next(self.parameters()).device


def encode_images(
    tower: ImageEncoder, head: GaussianHead, images: Tensor, mask: Tensor | None = None, index: Tensor | None = None
) -> Gaussian:
    """Encode images by a tower and its head, for whoever holds these two without an encoder.

    Arguments and result are those of :meth:`ProbabilisticEncoder.encode_image`.
    """
    features = tower(images, mask)
    sequence = torch.cat([features.pooled.unsqueeze(1), features.patches], dim=1)
    return head(sequence, index=index)  # type: ignore[no-any-return]


def first_element(batch: Tensor) -> Tensor:
    """``index`` that asks for element 0 of each of ``B`` sequences only: int64 ``(B, 1)``."""
    return torch.zeros(len(batch), 1, dtype=torch.int64, device=batch.device)
