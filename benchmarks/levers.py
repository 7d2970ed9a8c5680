"""Each way of doing less work alone, against doing without it: equal results, CPU time of one thread, in turn.

``python -m benchmarks.levers`` prints the figures. Layers have the paper's widths; there are fewer of them, which
changes no ratio of layers.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from benchmarks.levers_losses import distances, loss_gathered, losses
from benchmarks.machine import best, half_is_faster, one_thread
from benchmarks.naive import _image
from benchmarks.setting import DROPOUT, draw, tokens_of_length
from dmlm.models import GaussianHead, HFTextEncoder, ProbabilisticEncoder, TimmImageEncoder
from dmlm.models.checkpointing import Checkpointing
from dmlm.models.image import visible_indices
from dmlm.models.length_groups import length_groups
from dmlm.objectives import Teacher
from dmlm.reports import TextViews

BATCH, TEXTS, WIDTH = 4, 12, 768
VIT_LAYERS, BERT_LAYERS = 2, 1


def measure(rounds: int = 2) -> dict[str, float]:
    """Return how often quicker each lever is (``lever_*_x``), and for some the ideal."""
    one_thread()
    figures: dict[str, float] = {}
    for part in (visible_only, text_groups, unique_sections, one_channel_stem, heads_where_read, loss_gathered, losses):
        figures |= part(rounds)
    return figures | distances(rounds) | optimizers(rounds) | checkpointing(rounds)


def visible_only(rounds: int) -> dict[str, float]:
    """ViT-B layers over visible patches only, against all of them with hidden ones masked out of attention."""
    encoder = _encoder()
    views = draw(encoder, BATCH)
    figures = {}
    for ratio in (0.3, 0.75):
        mask = torch.rand(BATCH, 196).argsort(1) < round(ratio * 196)

        def ours(mask: Tensor = mask) -> Tensor:
            return encoder.image(views.images, mask).patches

        def usual(mask: Tensor = mask) -> Tensor:
            # the tower of the naive step, without its head
            head, encoder.image_head = encoder.image_head, _Plain()
            try:
                return _image(encoder, views.images, mask)
            finally:
                encoder.image_head = head

        hidden = usual()[:, 1:].gather(1, visible_indices(mask)[..., None].expand(-1, -1, WIDTH))
        assert torch.allclose(ours(), hidden, atol=1e-4)
        times = best({"ours": _half(ours), "usual": _half(usual)}, rounds)
        ideal = 197 / (197 - round(ratio * 196))
        name = f"lever_visible_only_{round(100 * ratio)}"
        figures |= {
            f"{name}_x": times["usual"] / times["ours"],
            f"{name}_of_ideal": times["usual"] / times["ours"] / ideal,
        }
    return figures


def text_groups(rounds: int) -> dict[str, float]:
    """BERT layers in groups of similar length, against padding to the batch's longest and to 512; batch of 12."""
    text = _bert()
    encoder = ProbabilisticEncoder(_vit(), text, WIDTH)
    tokens = draw(encoder, TEXTS, seed=1).tokens
    padded = replace(
        tokens,
        lengths=(512,) * TEXTS,
        **{
            name: nn.functional.pad(getattr(tokens, name), (0, 512 - tokens.input_ids.shape[1]))
            for name in ("input_ids", "valid", "words", "sections")
        },
    )

    def usual(batch: object) -> Tensor:
        return text.model(input_ids=batch.input_ids, attention_mask=batch.valid.long()).last_hidden_state  # type: ignore[attr-defined,no-any-return]

    ours = text(tokens).tokens
    assert torch.allclose(ours[tokens.valid], usual(padded)[:, : ours.shape[1]][tokens.valid], atol=1e-4)
    sides = {
        "ours": lambda: text(tokens).tokens,
        "longest": lambda: usual(tokens),
        "512": lambda: usual(padded),
    }
    times = best({name: _half(work) for name, work in sides.items()}, rounds)
    groups = length_groups(tokens.lengths, text.length_groups)
    computed = sum(len(rows) * max(tokens.lengths[row] for row in rows) for rows in groups)
    return {
        "lever_text_groups_over_longest_x": times["longest"] / times["ours"],
        "lever_text_groups_over_512_x": times["512"] / times["ours"],
        "lever_text_groups_padding_share": 1.0 - sum(tokens.lengths) / computed,
    }


def unique_sections(rounds: int) -> dict[str, float]:
    """The ``sections`` layout on whole reports: equal definitions and appearances once in a batch of 12."""
    joint, sections = _bert(), _bert(layout="sections")
    whole = TextViews(statement_views=0.0, section_dropout={})
    tokens = draw(ProbabilisticEncoder(_vit(), joint, WIDTH), TEXTS, seed=2, views=whole).tokens
    sides = {"joint": lambda: joint(tokens).tokens, "sections": lambda: sections(tokens).tokens}
    times = best({name: _half(work) for name, work in sides.items()}, rounds)
    return {"lever_unique_sections_x": times["joint"] / times["sections"]}


def one_channel_stem(rounds: int) -> dict[str, float]:
    """Patch embedding of one grey channel, against three equal ones."""
    one, three = (nn.Conv2d(channels, WIDTH, 16, 16) for channels in (1, 3))
    with torch.no_grad():
        three.weight.copy_(one.weight.expand(-1, 3, -1, -1) / 3)
        three.bias.copy_(one.bias)  # type: ignore[union-attr,arg-type]
    grey = torch.randn(32, 1, 224, 224)
    colour = grey.repeat(1, 3, 1, 1)
    assert torch.allclose(one(grey), three(colour), atol=1e-4)
    times = best({"ours": _half(lambda: one(grey)), "usual": _half(lambda: three(colour))}, rounds)
    return {"lever_one_channel_stem_x": times["usual"] / times["ours"]}


def heads_where_read(rounds: int) -> dict[str, float]:
    """Distribution heads at the masked 30 % and at the global element, against all (forward, as the teacher)."""
    head = GaussianHead(WIDTH, WIDTH)
    features = torch.randn(BATCH, 197, WIDTH)
    masked = torch.rand(BATCH, 197).argsort(1)[:, :59]
    first = torch.zeros(BATCH, 1, dtype=torch.int64)
    assert torch.allclose(head(features, None, masked).mean, head(features).gather(masked).mean, atol=1e-4)
    sides = {
        "masked": lambda: head(features, None, masked).mean,
        "first": lambda: head(features, None, first).mean,
        "all": lambda: head(features).mean,
    }
    with torch.no_grad():
        times = best({name: _half(work, backward=False) for name, work in sides.items()}, rounds)
    return {
        "lever_heads_at_masked_x": times["all"] / times["masked"],
        "lever_heads_at_global_x": times["all"] / times["first"],
    }


def optimizers(rounds: int) -> dict[str, float]:
    """Fused AdamW and the teacher's average in one call, against loops over parameters; four ViT-B layers."""
    encoder = _encoder()
    parameters = list(encoder.parameters())
    for parameter in parameters:
        parameter.grad = torch.randn_like(parameter)
    fused, loop = (torch.optim.AdamW(parameters, **kind) for kind in ({"fused": True}, {"foreach": False}))  # type: ignore[arg-type]
    teacher = Teacher(encoder)
    assert teacher.encoder is not None
    copies = list(teacher.encoder.parameters())

    @torch.no_grad()
    def follow() -> None:
        for mine, theirs in zip(copies, parameters, strict=True):
            mine.mul_(0.996).add_(theirs, alpha=0.004)

    sides = {
        "fused": fused.step,
        "loop": loop.step,
        "teacher": lambda: teacher.update(encoder, 0.0),
        "teacher_loop": follow,
    }
    times = best(sides, rounds)
    return {
        "lever_fused_adamw_x": times["loop"] / times["fused"],
        "lever_teacher_foreach_x": times["teacher_loop"] / times["teacher"],
    }


def checkpointing(rounds: int) -> dict[str, float]:
    """What computing layers, or all of them but their matrix products, again in the backward pass costs."""
    plain, selective, saving = (_encoder(kind) for kind in (False, "selective", True))
    tokens = tokens_of_length(plain, BATCH, 128)
    images = draw(plain, BATCH).images

    def run(encoder: ProbabilisticEncoder) -> Callable[[], object]:
        return _half(lambda: encoder.image(images).patches.sum() + encoder.text(tokens).tokens.sum())

    encoders = {"plain": plain, "selective": selective, "saving": saving}
    times = best({name: run(encoder.train()) for name, encoder in encoders.items()}, rounds)
    return {
        "lever_checkpointing_time_x": times["saving"] / times["plain"],
        "lever_selective_checkpointing_time_x": times["selective"] / times["plain"],
    }


class _Plain(nn.Module):
    """Stands for a head: gives the features."""

    def forward(self, features: Tensor, _: Tensor) -> Tensor:
        return features


def _half(work: Callable[[], Tensor], backward: bool = True) -> Callable[[], object]:
    def run() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=half_is_faster()[0]):
            out = work()
        if backward:
            out.float().sum().backward()

    return run


def _vit(keeping: Checkpointing = False) -> TimmImageEncoder:
    torch.manual_seed(0)
    kwargs = {"depth": VIT_LAYERS}
    return TimmImageEncoder(
        "vit_base_patch16_224", pretrained=False, model_kwargs=kwargs, gradient_checkpointing=keeping
    )


def _bert(layout: Literal["joint", "sections"] = "joint", keeping: Checkpointing = False) -> HFTextEncoder:
    torch.manual_seed(0)
    config = {"model_type": "bert", "hidden_size": WIDTH, "num_hidden_layers": BERT_LAYERS, **DROPOUT}
    options: dict[str, Any] = {"layout": layout, "gradient_checkpointing": keeping}
    return HFTextEncoder("bert", pretrained=False, hf_config=config, tokenizer="library", **options)


def _encoder(keeping: Checkpointing = False) -> ProbabilisticEncoder:
    return ProbabilisticEncoder(_vit(keeping), _bert(keeping=keeping), WIDTH)


if __name__ == "__main__":
    print(json.dumps(measure(), indent=2))
