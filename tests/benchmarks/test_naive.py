"""The naive step is the same function as the library's, and the command of the benchmarks writes what it found."""

from __future__ import annotations

import copy
import json
import sys
from pathlib import Path

import pytest
import torch
from conftest import example_views, tiny_encoder, tiny_predictor

from benchmarks import __main__ as command
from benchmarks.naive import NaiveStep
from benchmarks.step import Naive, Ours, naive_flops
from dmlm.objectives import ObjectiveConfig, PretrainingObjective
from dmlm.planning.flops import step_flops
from dmlm.planning.shapes import Shapes


@pytest.mark.parametrize("padded", [0, 160])
def test_same_loss_and_gradients(padded: int) -> None:
    encoder, predictor = tiny_encoder(head="attn"), tiny_predictor()
    views = example_views(encoder, count=6)
    objective = PretrainingObjective(ObjectiveConfig(), encoder)
    ours = objective(encoder, predictor, views).loss
    ours.backward()
    twins = copy.deepcopy((encoder, predictor))
    for twin in twins:
        twin.zero_grad()
    naive = NaiveStep(*twins, ObjectiveConfig(), copy.deepcopy(objective.alignment), padded)(views)
    naive.backward()
    torch.testing.assert_close(ours, naive, rtol=1e-5, atol=1e-6)
    for mine, theirs in zip((encoder, predictor), twins, strict=True):
        for (name, one), other in zip(mine.named_parameters(), theirs.parameters(), strict=True):
            assert (one.grad is None) == (other.grad is None), name
            if one.grad is not None:
                torch.testing.assert_close(
                    one.grad, other.grad, rtol=1e-3, atol=1e-6, msg=lambda m, n=name: f"{n}: {m}"
                )


def test_same_losses_while_training() -> None:
    encoder, predictor = tiny_encoder(head="attn"), tiny_predictor()
    twins = copy.deepcopy((encoder, predictor))
    config = ObjectiveConfig(momentum=(0.996, 1.0))
    sides = Ours(encoder, predictor, config, half=False), Naive(*twins, config, half=False, padded=160)
    losses = [[float(side(example_views(encoder, seed=step))) for side in sides] for step in range(5)]
    assert losses[0] != losses[-1]
    for ours, naive in losses:
        assert ours == pytest.approx(naive, rel=1e-3)


def test_the_naive_step_counts_more() -> None:
    plan = Shapes()
    assert naive_flops(plan) / step_flops(plan, [512]).total == pytest.approx(1.2, abs=0.15)
    assert naive_flops(plan) > 2 * step_flops(plan, [128]).total


def test_command_writes_flat_figures_and_tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = {"step": {"step_vs_naive": 2.75, "gemm_share": 0.666}, "levers": {"lever_a_x": 1e-5}, "memory": None}
    monkeypatch.setattr(command, "run", lambda name, _: found[name])
    files = tmp_path / "b.json", tmp_path / "b.md"
    arguments = ["benchmarks", "--json", str(files[0]), "--markdown", str(files[1]), "--only"]
    monkeypatch.setattr(sys, "argv", [*arguments, "step", "levers"])
    assert command.main() == 0
    figures = json.loads(files[0].read_text())
    assert figures["step_vs_naive"] == 2.75
    assert all(isinstance(value, float) for value in figures.values())
    text = files[1].read_text()
    assert "| `step_vs_naive` | 2.75 |" in text
    assert "| `gemm_share` | 0.666 |" in text
    assert "| `lever_a_x` | 1.00e-05 |" in text
    monkeypatch.setattr(sys, "argv", [*arguments, "memory", "--update"])
    assert command.main() == 1  # a section that fails is an error, and the others stay
    assert json.loads(files[0].read_text())["step_vs_naive"] == 2.75


def test_every_section_has_its_function() -> None:
    for name in command.SECTIONS:
        source = Path(command.__file__).with_name(f"{name}.py").read_text(encoding="utf-8")
        assert "def measure(" in source, name
