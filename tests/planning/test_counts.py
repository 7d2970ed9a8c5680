"""Operations and parameters from shapes equal torch's own count of the real modules, and figures computed by hand."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from conftest import example_views, tiny_encoder
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from dmlm.models import CrossModalPredictor
from dmlm.objectives import ObjectiveConfig, PretrainingObjective
from dmlm.objectives.pretraining import positions_of
from dmlm.planning.flops import blocks, stem, step_flops
from dmlm.planning.memory import parameters
from dmlm.planning.shapes import Shapes, Tower, shapes_of


def plan_of(encoder, predictor, objective: ObjectiveConfig) -> Shapes:
    """Shapes from the recorded configuration of real modules, as a run's config.yaml has it."""
    model = {"encoder": encoder.config, "predictor": predictor.config, "objective": dataclasses.asdict(objective)}
    shapes = shapes_of({"model": {"class_path": "DMLMPretrainModule", "init_args": model}})
    return dataclasses.replace(shapes, vocabulary=encoder.text.vocab_size)


def test_by_hand() -> None:
    """ViT-B/16: 12 layers of 24 T d^2 + 4 T^2 d; 35.1 and 45.9 GFLOP are the figures of performance.md."""
    vit = blocks(Tower(), 197) + 3 * stem(Shapes())
    assert vit == 12 * (24 * 197 * 768**2 + 4 * 197**2 * 768) + 2 * 196 * 768 * 768
    assert vit == pytest.approx(35.1e9, rel=0.005)
    assert blocks(Tower(), 256) == pytest.approx(45.9e9, rel=0.005)
    assert blocks(Tower(), 512) == pytest.approx(96.6e9, rel=0.005)
    counts = parameters(Shapes())
    uncased = parameters(dataclasses.replace(Shapes(), vocabulary=30_522))
    assert uncased["text"] == 109_482_240 - 768 * 769  # bert-base-uncased without its pooler
    assert (
        counts["image"] == 85_798_656 - 2 * 256 * 768
    )  # ViT-B/16 without its classifier, one channel instead of three


@pytest.mark.parametrize("head", ["attn", "mlp"])
@pytest.mark.parametrize(
    "objective",
    [
        ObjectiveConfig(),
        ObjectiveConfig(masked_weight=0.0),
        ObjectiveConfig(conditioning="joint", align_view="masked"),
        ObjectiveConfig(target="online"),
    ],
    ids=["default", "alignment", "one_pass", "online"],
)
def test_counts_equal_those_of_torch(head: str, objective: ObjectiveConfig) -> None:
    encoder = tiny_encoder(head=head)
    predictor = CrossModalPredictor(24, width=32, depth=2, num_heads=4)
    shapes = plan_of(encoder, predictor, objective)
    counts = parameters(shapes)
    assert counts["image"] + counts["text"] + counts["heads"] == sum(p.numel() for p in encoder.parameters())
    assert counts["predictor"] == sum(p.numel() for p in predictor.parameters())

    views = example_views(encoder, count=3)
    same = example_views(encoder, count=1).tokens  # three texts of one length: no padding in what is counted
    tokens = dataclasses.replace(
        same,
        lengths=same.lengths * 3,
        **{n: getattr(same, n).repeat(3, 1) for n in ("input_ids", "valid", "words", "sections")},
    )
    length = same.lengths[0]
    text_mask = (torch.arange(length) % 4 == 1).repeat(3, 1)
    views = views._replace(tokens=tokens, text_mask=text_mask)
    shapes = dataclasses.replace(shapes, text_mask=float(text_mask.float().mean()))
    counter = FlopCounterMode(display=False)
    whole = PretrainingObjective(objective, encoder)
    with counter, sdpa_kernel(SDPBackend.MATH):
        whole(encoder, predictor, views).loss.backward()
    counted = 3 * step_flops(shapes, [length] * 3).total
    pairwise = 3 * 2 * 3 * (3 * 48)  # the distances of alignment, [mean, std] against each other
    assert positions_of(text_mask)[0].shape[1] == int(text_mask[0].sum())
    assert counted + pairwise == pytest.approx(counter.get_total_flops(), rel=1e-6)


def test_checkpointing_counts_one_more_forward_pass() -> None:
    plain, again = Shapes(), Shapes(image=Tower(checkpointing=True), text=Tower(checkpointing=True))
    first, second = step_flops(plain, [256]), step_flops(again, [256])
    towers = (first.image + first.text) / 3
    # heads of both views; nobody reads the variances of one, so its backward pass is shorter than twice the forward
    assert first.heads / 3 < second.recomputed - towers < first.heads / 2.5
    assert second.total == first.total + second.recomputed


def test_the_mean_over_lengths_is_that_of_the_pairs() -> None:
    both = step_flops(Shapes(), [100, 900])
    each = [step_flops(Shapes(), [length]).total for length in (100, 512)]  # cut to max_length
    assert both.total == pytest.approx(sum(each) / 2)
