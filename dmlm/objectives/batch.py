"""What the objective takes and gives: views of a batch, their encodings, and a step's loss with its parts."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from dmlm.distributions import Gaussian
from dmlm.models.tokens import TokenBatch


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


class Statements(NamedTuple):
    """Further texts of the batch's reports that only alignment reads: ``E`` a report, each different text encoded once.

    Args:
        tokens: The different texts.
        rows: int64 ``(E * B,)``, row of ``tokens`` of each further text; text ``j`` belongs to report ``j mod B``.
        facts: int64 ``(E * B, K, 4)``, what each states.
        keys: int64 ``(E * B,)``, hash of each.
    """

    tokens: TokenBatch
    rows: Tensor
    facts: Tensor
    keys: Tensor


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
        statements: Further texts for alignment.
    """

    images: Tensor
    tokens: TokenBatch
    image_mask: Tensor
    text_mask: Tensor
    report_facts: Tensor
    text_facts: Tensor
    text_keys: Tensor
    targets: Encoded | None = None
    statements: Statements | None = None
