"""Measures on a grid of cells, against the same things done pixel by pixel on a map in the image's size."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import f1_score, roc_auc_score

from dmlm.evaluation.grounding import cell_pixels, cell_points, mask_auroc, mask_dice, pointing

SIZE, GRID = (30, 20), (6, 4)


def enlarged(values):
    """A map ``(N,)`` as pixels ``(H, W)``: every pixel has its cell's value."""
    return np.kron(np.asarray(values).reshape(GRID), np.ones((SIZE[0] // GRID[0], SIZE[1] // GRID[1])))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 30))
def test_measures_equal_those_over_pixels(seed, levels):
    rng = np.random.default_rng(seed)
    mask = (rng.random(SIZE) < rng.uniform(0.05, 0.9)).astype(np.uint8)
    scores = rng.integers(0, levels, GRID[0] * GRID[1]).astype(float)
    inside, total = cell_pixels(mask, GRID)
    assert inside.sum() == mask.sum()
    assert (total == 25).all()
    pixels = enlarged(scores).reshape(-1)
    assert mask_auroc(scores, inside, total) == pytest.approx(roc_auc_score(mask.reshape(-1), pixels))
    said = scores > levels / 2
    expected = f1_score(mask.reshape(-1), enlarged(said).reshape(-1) > 0)  # F1 of pixels is Dice
    assert mask_dice(said, inside, total) == pytest.approx(expected)
    hit = cell_points(mask, GRID)
    middle = [mask[5 * r + 2, 5 * c + 2] for r in range(GRID[0]) for c in range(GRID[1])]
    np.testing.assert_array_equal(hit, np.array(middle) > 0)
    best = [bool(middle[cell]) for cell in range(len(scores)) if scores[cell] == scores.max()]
    assert pointing(scores, hit) == pytest.approx(np.mean(best))


def test_cells_of_a_size_that_does_not_divide():
    """Every pixel belongs to one cell, also where cells are of different sizes."""
    inside, total = cell_pixels(np.ones((2, 3, 7, 5)), (3, 2))
    assert inside.shape == (2, 3, 6)
    assert total.sum() == 35
    np.testing.assert_array_equal(inside[1, 2], total)
    np.testing.assert_array_equal(total, np.outer([3, 2, 2], [3, 2]).reshape(-1))


def test_points_are_row_by_row():
    mask = np.zeros((4, 4))
    mask[1, 2] = 1
    np.testing.assert_array_equal(cell_points(mask, (2, 2), (0.75, 0.25)), [False, True, False, False])
    assert not cell_points(mask, (2, 2), (0.25, 0.25)).any()


def test_maps_that_say_nothing_or_everything():
    mask = np.zeros((8, 8))
    mask[:4, :4] = 1
    inside, total = cell_pixels(mask, (4, 4))
    hit = cell_points(mask, (4, 4))
    assert mask_auroc(np.zeros(16), inside, total) == 0.5
    assert pointing(np.zeros(16), hit) == 0.25
    assert mask_auroc(inside, inside, total) == 1.0
    assert mask_dice(inside > 0, inside, total) == 1.0
    assert mask_dice(np.zeros(16), inside, total) == 0.0
    assert np.isnan(mask_auroc(np.arange(16), np.zeros(16), total))
    assert np.isnan(mask_auroc(np.arange(16), total, total))
    assert np.isnan(mask_dice(np.zeros(16), np.zeros(16), total))
