"""The teacher's average: right, and in one call for all weights."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from dmlm.objectives import teacher


def pair() -> tuple[nn.Module, nn.Module]:
    torch.manual_seed(0)
    return tuple(nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2)) for _ in range(2))


def test_a_copy_moves_by_a_part_of_the_way() -> None:
    own, leader = pair()
    leader(torch.randn(8, 3))  # its running statistics move
    before = [weight.clone() for weight in own.parameters()]
    teacher.follow(own, leader, 0.25)
    for old, new, theirs in zip(before, own.parameters(), leader.parameters(), strict=True):
        torch.testing.assert_close(new.detach(), 0.75 * old + 0.25 * theirs.detach())
    for mine, theirs in zip(own.buffers(), leader.buffers(), strict=True):
        assert torch.equal(mine, theirs)


def test_all_weights_move_in_one_call(monkeypatch: pytest.MonkeyPatch) -> None:
    own, leader = pair()
    calls = []
    once = torch._foreach_lerp_
    monkeypatch.setattr(torch, "_foreach_lerp_", lambda *args: (calls.append(len(args[0])), once(*args)))
    teacher.follow(own, leader, 0.5)
    assert calls == [len(list(own.parameters()))]
