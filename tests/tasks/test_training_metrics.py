"""Metrics of training batches agree with the exact ones."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from dmlm.evaluation import auroc
from dmlm.tasks.training_metrics import auroc_target, taken, training_auroc, training_dice


@pytest.mark.parametrize("exclusive", [False, True])
def test_auroc_over_batches_is_near_the_exact_one_without_unknown_labels(exclusive: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    if exclusive:
        labels = torch.nn.functional.one_hot(torch.randint(0, 3, (400,), generator=generator), 3).float()
        labels[:20] = torch.nan
    else:
        labels = (torch.rand(400, 3, generator=generator) < 0.4).float()
        labels[torch.rand(400, 3, generator=generator) < 0.1] = torch.nan
        labels[:10, 0] = -1
    prob = (0.3 * torch.nan_to_num(labels).clamp_min(0) + torch.rand(400, 3, generator=generator)) / 1.3
    metric = training_auroc(3, exclusive)
    for part in torch.arange(400).split(32):
        metric.update(prob[part], auroc_target(labels[part], exclusive))
    known = ((labels == 0) | (labels == 1)).numpy()
    exact = [auroc(prob[known[:, c], c].numpy(), labels[known[:, c], c].numpy()) for c in range(3)]
    assert float(taken(metric)) == pytest.approx(np.mean(exact), abs=0.005)
    metric.update(prob[20:], auroc_target(labels[20:], exclusive))
    assert not metric.update_count > 1, "an epoch starts from nothing"


def test_dice_is_that_of_all_pixels() -> None:
    generator = torch.Generator().manual_seed(1)
    prob, masks = torch.rand(6, 2, 8, 8, generator=generator), torch.rand(6, 2, 8, 8, generator=generator) < 0.3
    metric = training_dice()
    for k in range(0, 6, 2):
        metric.update(prob[k : k + 2], masks[k : k + 2].to(torch.uint8))
    said = prob > 0.5
    wanted = 2 * (said & masks).sum() / (said.sum() + masks.sum())
    assert float(taken(metric)) == pytest.approx(float(wanted), abs=1e-6)
