"""Optional anchors to the input itself: the masked tokens' ids and the masked patches' pixels."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from dmlm.objectives.distributed import masked_mean


class ReconstructionAnchor(nn.Module):
    """Read token ids and normalised pixels out of predicted means; a rescue where latent targets degenerate.

    Args:
        embed_dim: Width ``D`` of the predicted means.
        vocab_size: Number of token ids.
        patch_pixels: Pixels of one patch.
    """

    def __init__(self, embed_dim: int, vocab_size: int, patch_pixels: int) -> None:
        super().__init__()
        self.token = nn.Linear(embed_dim, vocab_size)
        self.pixel = nn.Linear(embed_dim, patch_pixels)

    def token_loss(self, predicted: Tensor, ids: Tensor, valid: Tensor) -> Tensor:
        """Cross-entropy of masked tokens.

        Args:
            predicted: Means, ``(B, Q, D)``.
            ids: int64 ``(B, Q)``, what stood there.
            valid: bool ``(B, Q)``.
        """
        logits = self.token(predicted).float()
        return masked_mean(F.cross_entropy(logits.flatten(0, 1), ids.flatten(), reduction="none"), valid.flatten())

    def pixel_loss(
        self, predicted: Tensor, images: Tensor, query: Tensor, valid: Tensor, grid: tuple[int, int]
    ) -> Tensor:
        """Mean squared error of masked patches, each normalised by its own mean and variance (as MAE does).

        Args:
            predicted: Means, ``(B, Q, D)``.
            images: uint8 ``(B, 1, H, W)``.
            query: int64 ``(B, Q)`` patch positions.
            valid: bool ``(B, Q)``.
            grid: Rows and columns of patches; they divide ``H`` and ``W``.
        """
        height, width = images.shape[-2] // grid[0], images.shape[-1] // grid[1]
        patches = F.unfold(images.float() / 255.0, (height, width), stride=(height, width)).transpose(1, 2)
        wanted = patches.gather(1, query.unsqueeze(-1).expand(-1, -1, patches.shape[-1]))
        wanted = (wanted - wanted.mean(-1, keepdim=True)) / (wanted.var(-1, keepdim=True) + 1e-6).sqrt()
        error = (self.pixel(predicted).float() - wanted).square().mean(-1)
        return masked_mean(error, valid)
