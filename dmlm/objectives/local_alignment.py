"""Local alignment: every word looks for its patches, and a text is as far from an image as its words are from theirs.

After GLoRIA (Huang et al., ICCV 2021), with Gaussians: what a word finds is the 2-Wasserstein barycentre of the patches
under its attention, which for diagonal Gaussians is the weighted mean of their means and of their standard deviations.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from dmlm.distributions import Gaussian

SHARPNESS = 10.0
"""Factor on the cosine of word and patch inside the attention's softmax."""


def local_distances(patches: Gaussian, tokens: Gaussian, words: Tensor, cosine: bool = False) -> Tensor:
    """Distance of every image to every text: the mean over the text's words of word to barycentre.

    Neither the ``(T, B, L, D)`` barycentres nor differences are formed: with ``z`` = [mean, std], the squared distance
    is ``|z_t|^2 - 2 a . (Z z_t) + a' Z Z' a`` for attention ``a`` over the patches ``Z``.

    Args:
        patches: ``(B, N, D)``.
        tokens: ``(T, L, D)``.
        words: bool ``(T, L)``, tokens that count. A text without any is at distance 0 of everything.
        cosine: Take ``2 - 2 cos`` of the means instead of ``W2^2 / D``.

    Returns:
        float32 ``(B, T)``. Memory grows with ``B * T * N`` times the most words of a text.
    """
    with torch.autocast(patches.mean.device.type, enabled=False):
        counts = words.sum(1)
        width = int(counts.max())
        order = words.to(torch.uint8).argsort(dim=1, descending=True, stable=True)[:, :width]
        tokens = tokens.gather(order).float()
        kept = torch.arange(width, device=words.device)[None] < counts[:, None]
        attention = torch.einsum(
            "tld,bnd->tbln", F.normalize(tokens.mean, dim=-1), F.normalize(patches.mean.float(), dim=-1)
        )
        attention = (SHARPNESS * attention).softmax(-1)
        if cosine:
            places, asked = patches.mean.float(), tokens.mean
        else:
            places = torch.cat([patches.mean.float(), patches.std], dim=-1)
            asked = torch.cat([tokens.mean, tokens.std], dim=-1)
        product = (torch.einsum("tld,bnd->tbln", asked, places) * attention).sum(-1)
        found = ((attention @ (places @ places.transpose(1, 2))) * attention).sum(-1)
        own = asked.square().sum(-1)[:, None]
        if cosine:
            apart = 2.0 - 2.0 * product / (own * found).clamp_min(1e-12).sqrt()
        else:
            apart = (own - 2.0 * product + found).clamp_min(0.0) / tokens.mean.shape[-1]
        share = kept / counts.clamp_min(1)[:, None]
        return (apart * share[:, None]).sum(-1).t()
