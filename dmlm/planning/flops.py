"""Operations of a pre-training step: matrix products only, a multiplication with its addition counted as two.

These are the operations that the step cannot do without: visible patches and real tokens, heads where distributions
are read, queries at masked places. Element-wise work is left out; in a step of ViT-B and BERT-base it is below 1 %.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from dmlm.planning.shapes import Shapes, Tower

_BACKWARD = 2.0
"""The backward pass of a matrix product is two of the same size: for its input and for its weights."""


class StepFlops(NamedTuple):
    """Operations of a step per pair, forward and backward, by part.

    Args:
        image: Image tower of the student, all its passes.
        text: Text tower of the student, all its passes.
        heads: Distribution heads of the student.
        predictor: Both directions.
        teacher: Towers and heads of the teacher; forward only.
        recomputed: What gradient checkpointing computes again.
    """

    image: float
    text: float
    heads: float
    predictor: float
    teacher: float
    recomputed: float

    @property
    def total(self) -> float:
        """All parts together."""
        return sum(self)


def blocks(tower: Tower, tokens: float) -> float:
    """Forward pass of a tower's layers over a sequence: projections, attention and MLP."""
    linear = 2.0 * tokens * (4 * tower.width**2 + 2 * tower.width * tower.inner)
    return tower.depth * (linear + 4.0 * tokens**2 * tower.width)


def stem(shapes: Shapes) -> float:
    """Forward pass of the patch embedding of a whole image (one channel)."""
    return 2.0 * shapes.patches * shapes.image.width * shapes.patch_side**2


def head(kind: str, width: int, dim: int, read: float, wanted: float) -> float:
    """Forward pass of a distribution head.

    Args:
        kind: ``attn`` or ``mlp``.
        width: Features of the tower.
        dim: Width of the distributions.
        read: Elements of the sequence.
        wanted: Elements whose distributions are computed.
    """
    if kind == "mlp":
        return 2.0 * wanted * (width * dim + 2 * dim**2)
    skip = 0.0 if width == dim else 2.0 * wanted * width * dim
    keys = 2.0 * read * (width * dim + 2 * dim**2)
    # query, two halves of the output, and the MLPs of mean and log-variance
    return keys + skip + 2.0 * wanted * (dim**2 + dim**2 + 4 * dim**2) + 4.0 * read * wanted * dim


def direction(tower: Tower, dim: int, queries: float, own: float, other: float) -> float:
    """Forward pass of one direction of the predictor.

    Args:
        tower: Its shape.
        dim: Width of the distributions.
        queries: Masked elements.
        own: Elements of the same modality that go in.
        other: Elements of the other modality.
    """
    width, memory = tower.width, own + other
    linear = 2.0 * queries * (6 * width**2 + 2 * width * tower.inner) + 2.0 * memory * 2 * width**2
    attention = 4.0 * queries * (queries + memory) * width
    ends = 2.0 * memory * dim * width + 2.0 * queries * 2 * width * dim
    return tower.depth * (linear + attention) + ends


def step_flops(shapes: Shapes, lengths: Sequence[float]) -> StepFlops:
    """Count a step of one pair per entry of ``lengths``; the mean over the pairs.

    Args:
        shapes: What is trained.
        lengths: Tokens of each text.
    """
    parts = [_pair(shapes, min(float(length), shapes.max_length)) for length in lengths]
    return StepFlops(*(sum(values) / len(parts) for values in zip(*parts, strict=True)))


def _pair(shapes: Shapes, tokens: float) -> StepFlops:
    full_image = float(shapes.prefix + shapes.patches)
    hidden = float(round(shapes.image_mask * shapes.patches)) if shapes.masked else 0.0
    masked_tokens = shapes.text_mask * tokens if shapes.masked else 0.0
    image = text = heads = again = 0.0
    views = [(full_image, shapes.patches + 1.0, False)] if shapes.full_pass else []
    views += [(full_image - hidden, shapes.patches + 1.0 - hidden, True)] if shapes.masked else []
    for seen, elements, hides in views:
        image += (1 + _BACKWARD) * blocks(shapes.image, seen) + 2 * stem(shapes)  # pixels need no gradient
        text += (1 + _BACKWARD) * blocks(shapes.text, tokens)
        again += (shapes.image.keeps is True) * blocks(shapes.image, seen)
        again += (shapes.text.keeps is True) * blocks(shapes.text, tokens)
        # without masked prediction only the global elements are read
        everywhere = shapes.masked
        for tower, read in ((shapes.image, elements), (shapes.text, tokens)):
            once = _head(shapes, tower.width, read, read if everywhere else 1.0)
            heads += (1 + _BACKWARD) * once
            again += (tower.keeps is True) * once
        if hides and shapes.full_pass:  # no loss reads the variances of this view, so they take no gradient
            heads -= _BACKWARD * elements * shapes.embed_dim**2 * (2.0 if shapes.head == "mlp" else 5.0)
    predictor = 0.0
    if shapes.masked:
        for queries, own, other in _directions(shapes, tokens, hidden, masked_tokens):
            predictor += (1 + _BACKWARD) * direction(shapes.predictor, shapes.embed_dim, queries, own, other)
            inside = direction(shapes.predictor, 0, queries, own, other)
            again += (shapes.predictor.keeps is True) * inside
    teacher = 0.0
    if shapes.teacher:
        teacher = blocks(shapes.image, full_image) + stem(shapes) + blocks(shapes.text, tokens)
        teacher += _head(shapes, shapes.image.width, shapes.patches + 1.0, hidden)
        teacher += _head(shapes, shapes.text.width, tokens, masked_tokens)
    if shapes.chunk:  # the student's forward pass once more, chunk by chunk; heads of variances nobody reads count, too
        again += (image + text + heads + predictor) / (1 + _BACKWARD)
    return StepFlops(image, text, heads, predictor, teacher, again)


def _head(shapes: Shapes, width: int, read: float, wanted: float) -> float:
    return head(shapes.head, width, shapes.embed_dim, read, wanted)


def _directions(shapes: Shapes, tokens: float, hidden: float, masked_tokens: float) -> list[tuple[float, float, float]]:
    """Queries, own elements and other elements of both directions; one that has no queries does not run."""
    visible = shapes.patches + 1.0 - hidden
    image_read = shapes.patches + 1.0 if shapes.full_conditions else visible
    both = [(masked_tokens, tokens, image_read), (hidden, visible, tokens)]
    return [item for item in both if item[0] > 0]
