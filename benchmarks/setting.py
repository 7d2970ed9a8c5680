"""What the benchmarks of a step share: encoders with random weights, and batches of synthetic films with reports."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from dmlm.masking import MaskContext, RandomMask, TextMasker
from dmlm.models import CrossModalPredictor, HFTextEncoder, ProbabilisticEncoder, TimmImageEncoder
from dmlm.models.checkpointing import Checkpointing
from dmlm.models.tokens import TokenBatch
from dmlm.objectives import Views
from dmlm.planning.shapes import Shapes, shapes_of
from dmlm.reports import TextViews, encode_facts, from_labels, load_knowledge

DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
"""None, so that two ways of computing the same step can be compared."""


@dataclass(frozen=True)
class Size:
    """A size of the model: ViT, BERT, widths, depths."""

    vit: str = "vit_base_patch16_224"
    vit_layers: int = 12
    bert_width: int = 768
    bert_layers: int = 12
    embed_dim: int = 768
    predictor_width: int = 384
    predictor_depth: int = 4


BASE = Size()
SMALL = Size("vit_tiny_patch16_224", 12, 192, 4, 192, 96, 2)


def build(size: Size = BASE, checkpointing: Checkpointing = "auto") -> tuple[ProbabilisticEncoder, CrossModalPredictor]:
    """Both towers, heads and predictor with random weights, always the same."""
    torch.manual_seed(0)
    shape: dict[str, Any] = {"model_type": "bert", "hidden_size": size.bert_width, **DROPOUT}
    shape |= {"num_hidden_layers": size.bert_layers, "num_attention_heads": size.bert_width // 64}
    shape |= {"intermediate_size": 4 * size.bert_width}
    text = HFTextEncoder(
        "bert", pretrained=False, hf_config=shape, tokenizer="library", gradient_checkpointing=checkpointing
    )
    image = TimmImageEncoder(
        size.vit, pretrained=False, model_kwargs={"depth": size.vit_layers}, gradient_checkpointing=checkpointing
    )
    heads = max(2, size.embed_dim // 64 // 2 * 2)
    encoder = ProbabilisticEncoder(image, text, size.embed_dim, "attn", heads)
    predictor = CrossModalPredictor(
        size.embed_dim,
        size.predictor_width,
        size.predictor_depth,
        size.predictor_width // 32 if size.predictor_width < 384 else 6,
        gradient_checkpointing=checkpointing,
    )
    return encoder, predictor


def shapes(encoder: ProbabilisticEncoder, predictor: CrossModalPredictor, objective: dict[str, Any]) -> Shapes:
    """Shapes of real modules, as ``dmlm plan`` reads them from a configuration."""
    model = {"encoder": encoder.config, "predictor": predictor.config, "objective": objective}
    return shapes_of({"model": {"class_path": "DMLMPretrainModule", "init_args": model}})


def draw(
    encoder: ProbabilisticEncoder, batch: int, seed: int = 0, mask: float = 0.3, views: TextViews | None = None
) -> Views:
    """A batch: reports of six observations, texts drawn as in training, films that show what the reports say."""
    rng = np.random.default_rng([7, seed])
    names = [name for name in load_knowledge() if name != "No Finding"]
    chosen = [sorted(int(k) for k in rng.choice(len(names), 6, replace=False)) for _ in range(batch)]
    states = [rng.permutation([1, 1, 0, 0, -1, 0]) for _ in range(batch)]
    reports = [
        from_labels(f"{seed}-{i}", {names[k]: float(s) for k, s in zip(chosen[i], states[i], strict=True)})
        for i in range(batch)
    ]
    texts = [(views or TextViews()).sample(report, "", rng) for report in reports]
    side = encoder.image.image_size
    films = rng.integers(90, 110, (batch, 1, side, side), dtype=np.uint8)
    cell = side // 6
    for i in range(batch):
        for k, state in zip(chosen[i], states[i], strict=True):
            y, x = cell * (k % 36 // 6), cell * (k % 6)
            films[i, 0, y : y + cell, x : x + cell] += np.uint8(70 * (state == 1))
    generator = torch.Generator().manual_seed(seed)
    images, tokens = torch.from_numpy(films), encoder.tokenize(texts)
    return Views(
        images=images,
        tokens=tokens,
        image_mask=RandomMask(mask)(MaskContext(images, encoder.image.patch_grid), generator),
        text_mask=TextMasker(0.3)(tokens, generator),
        report_facts=torch.from_numpy(np.stack([encode_facts(report.observations) for report in reports])),
        text_facts=torch.from_numpy(np.stack([encode_facts(text.statements) for text in texts])),
        text_keys=torch.arange(batch),
    )


def tokens_of_length(encoder: ProbabilisticEncoder, batch: int, length: int) -> TokenBatch:
    """Texts of exactly ``length`` tokens."""
    return encoder.tokenize([" ".join(["edema"] * (length - 2))] * batch)
