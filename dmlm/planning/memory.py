"""Parameters, and the memory of one process, from shapes and measured bytes per element."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

from dmlm.planning.shapes import Shapes, Tower

# Bytes that a layer keeps for its backward pass, per token and unit of width, under bf16 or fp16 autocast. Measured
# with torch's saved-tensor hooks on the real layers (benchmarks/memory.py): attention without stored weights (SDPA), an
# MLP of four times the width, no dropout.
VIT_LAYER, BERT_LAYER, HEAD = 36.0, 40.0, 44.0
QUERY, CONTEXT = 64.0, 14.0  # of a predictor block: its queries, and the elements that they read
CHECKPOINT = 4.0  # the input of a layer, in float32
PRODUCTS, QUERY_PRODUCTS, CONTEXT_PRODUCTS = 24.0, 30.0, 4.0  # with selective checkpointing: input, products, attention
HEAD_PRODUCTS, HEAD_CHECKPOINT = 34.0, 12.0  # of a head: input, mean and log-variance in float32, and its products
DISTRIBUTION = 8.0  # mean and log-variance in float32, which outlive their chunk
_OVERHEAD = 0.8e9
"""Context of CUDA, libraries, workspaces; bytes. An assumption."""


class Memory(NamedTuple):
    """Bytes of one process.

    Args:
        weights: Parameters in float32, and the half-precision copies that autocast makes of them.
        gradients: In float32.
        optimizer: Two moments in float32.
        teacher: Its parameters in float32.
        activations: What the backward pass needs of one batch.
        overhead: Context and workspaces.
    """

    weights: float
    gradients: float
    optimizer: float
    teacher: float
    activations: float
    overhead: float

    @property
    def total(self) -> float:
        """All of it."""
        return sum(self)


def parameters(shapes: Shapes) -> dict[str, int]:
    """Count the parameters of image tower, text tower, heads and predictor."""
    image, text, dim = shapes.image, shapes.text, shapes.embed_dim
    sequence = shapes.patches + shapes.prefix
    towers = {
        "image": _layers(image)
        + image.width * (shapes.patch_side**2 + 1)
        + image.width * (sequence + shapes.prefix)
        + 2 * image.width,
        "text": _layers(text) + text.width * (shapes.vocabulary + shapes.positions + 2 + 2),
    }
    heads = sum(_head(shapes.head, width, dim) for width in (image.width, text.width))
    return {**towers, "heads": heads, "predictor": _predictor(shapes)}


def _layers(tower: Tower) -> int:
    width, inner = tower.width, tower.inner
    return tower.depth * (4 * width * (width + 1) + width * inner + inner + inner * width + width + 4 * width)


def _head(kind: str, width: int, dim: int) -> int:
    square = dim * (dim + 1)
    if kind == "mlp":
        return 2 * width + width * dim + dim + 2 * square
    skip = 0 if width == dim else width * dim + dim
    halves = 2 * (dim // 2 * dim + dim)
    return width * dim + dim + 2 * dim + skip + 3 * square + halves + 2 * (2 * dim + 2 * square)


def _predictor(shapes: Shapes) -> int:
    width, inner, dim = shapes.predictor.width, shapes.predictor.inner, shapes.embed_dim
    attention = width * (width + 1) * 4
    block = 2 * attention + 4 * 2 * width + width * inner + inner + inner * width + width
    one = shapes.predictor.depth * block + 2 * width + 2 * (width * dim + dim)
    return (1 if shapes.shared_predictor else 2) * one + 2 * (dim * width + width) + 3 * width


def activations(shapes: Shapes, tokens: float) -> float:
    """Bytes per pair that the backward pass needs, for texts of ``tokens`` tokens."""
    tokens = min(tokens, shapes.max_length)
    hidden = round(shapes.image_mask * shapes.patches) if shapes.masked else 0
    read = _elements(shapes, tokens)
    images, texts = read[: len(read) // 2], read[len(read) // 2 :]
    image, text = _layer_keeps(shapes.image, VIT_LAYER), _layer_keeps(shapes.text, BERT_LAYER)
    size = shapes.image.depth * shapes.image.width * image * sum(images)
    size += shapes.text.depth * shapes.text.width * text * sum(texts)
    size += shapes.embed_dim * (_head_keeps(shapes.image) * sum(images) + _head_keeps(shapes.text) * sum(texts))
    if shapes.masked:
        queries = hidden + shapes.text_mask * tokens
        context = 2 * (shapes.patches + tokens)
        per_query, per_context = _predictor_keeps(shapes.predictor)
        per_block = per_query * queries + per_context * context
        size += shapes.predictor.width * (shapes.predictor.depth * per_block + CONTEXT * context)
    # layers are computed again one at a time: those of the images view by view, those of the texts for all views
    return size + max(
        (VIT_LAYER - image) * shapes.image.width * max(images), (BERT_LAYER - text) * shapes.text.width * sum(texts)
    )


def batch_activations(shapes: Shapes, tokens: float, pairs: float) -> float:
    """Bytes that the backward pass needs of ``pairs`` pairs: beyond a chunk, only their distributions are held."""
    held = min(pairs, shapes.chunk) if shapes.chunk else pairs
    return held * activations(_of_chunk(shapes), tokens) + (pairs - held) * _distributions(shapes, tokens)


def pairs_that_fit(shapes: Shapes, tokens: float, room: float) -> int:
    """Most pairs whose activations fit into ``room`` bytes, 0 if none."""
    one = activations(_of_chunk(shapes), tokens)
    if not shapes.chunk or room < shapes.chunk * one:
        return max(0, int(room / one))
    return shapes.chunk + int((room - shapes.chunk * one) / _distributions(shapes, tokens))


def _of_chunk(shapes: Shapes) -> Shapes:
    """A chunk is computed again as a whole, so that its layers keep everything instead of their products."""
    towers = {name: getattr(shapes, name) for name in ("image", "text", "predictor")}
    changed = {name: replace(tower, checkpointing=False) for name, tower in towers.items() if tower.keeps is not True}
    return replace(shapes, **changed) if shapes.chunk else shapes


def _distributions(shapes: Shapes, tokens: float) -> float:
    return DISTRIBUTION * shapes.embed_dim * sum(_elements(shapes, min(tokens, shapes.max_length)))


def _elements(shapes: Shapes, tokens: float) -> list[float]:
    """Elements of every view that the student encodes."""
    hidden = round(shapes.image_mask * shapes.patches) if shapes.masked else 0
    seen = [shapes.patches + shapes.prefix] if shapes.full_pass else []
    seen += [shapes.patches + shapes.prefix - hidden] if shapes.masked else []
    return [*map(float, seen), *[tokens] * len(seen)]


def _layer_keeps(tower: Tower, per_layer: float) -> float:
    """Bytes that a layer of a tower keeps per element and unit of width, of ``per_layer`` that it needs."""
    if not tower.keeps:
        return per_layer
    return PRODUCTS if tower.keeps == "selective" else CHECKPOINT


def _head_keeps(tower: Tower) -> float:
    """Bytes that the head of a tower keeps per element and unit of width."""
    if not tower.keeps:
        return HEAD
    return HEAD_PRODUCTS if tower.keeps == "selective" else HEAD_CHECKPOINT


def _predictor_keeps(predictor: Tower) -> tuple[float, float]:
    """Bytes that a block keeps per query and per element that it reads, and unit of width."""
    if predictor.keeps == "selective":
        return QUERY_PRODUCTS, CONTEXT_PRODUCTS
    return (2 * CHECKPOINT, 0.0) if predictor.keeps else (QUERY, CONTEXT)


def process_memory(shapes: Shapes, tokens: float, pairs: int, half: bool) -> Memory:
    """Memory of a process that trains on ``pairs`` pairs a step.

    Args:
        shapes: What is trained.
        tokens: Mean tokens of a text.
        pairs: Pairs per process and step.
        half: Whether under bf16 or fp16 autocast; in float32 activations count twice.
    """
    counts = parameters(shapes)
    trained, encoder = sum(counts.values()), sum(counts.values()) - counts["predictor"]
    kept = batch_activations(shapes, tokens, pairs) * (1 if half else 2)
    weights = (6.0 if half else 4.0) * trained
    return Memory(weights, 4.0 * trained, 8.0 * trained, 4.0 * encoder * shapes.teacher, kept, _OVERHEAD)
