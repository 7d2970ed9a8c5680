import numpy as np
import pytest
from sklearn import metrics

from dmlm.errors import MismatchError
from dmlm.evaluation.segmentation import MEASURES, OverlapCounts


def masks(seed, images=12, names=2, size=8):
    """Random masks with empty truth, empty answers, and both."""
    rng = np.random.default_rng(seed)
    predicted, truth = rng.random((2, images, names, size, size)) < 0.3
    truth[0:4] = False
    predicted[2:6] = False
    return predicted, truth


def by_hand(predicted, truth, score):
    """Every convention by scikit-learn, one mask."""
    each = []
    for said, real in zip(predicted, truth, strict=True):
        empty = 1.0 if not said.any() else 0.0
        each.append(score(real.ravel(), said.ravel()) if real.any() else empty)
    has = truth.any(axis=(1, 2))
    everything, background = (truth.ravel(), predicted.ravel()), (~truth.ravel(), ~predicted.ravel())
    both = (score(*everything) + score(*background)) / 2
    return [np.mean(each), np.mean(np.array(each)[has]), score(*everything), both]


@pytest.mark.parametrize("seed", range(3))
def test_all_conventions_equal_brute_force(seed):
    predicted, truth = masks(seed)
    counts = OverlapCounts(("a", "b"))
    counts.update(np.arange(12), predicted, truth)
    report = counts.report()
    for m in range(2):
        dice = by_hand(predicted[:, m], truth[:, m], metrics.f1_score)
        iou = by_hand(predicted[:, m], truth[:, m], metrics.jaccard_score)
        np.testing.assert_allclose([report.values[name][m] for name in MEASURES], dice + iou)
    assert report.positives.tolist() == [8, 8]
    flat = report.flat("test")
    assert flat["test/dice_positive"] == pytest.approx(report.values["dice_positive"].mean())
    assert flat["test/images"] == 12


def test_batches_order_processes_and_padding_change_nothing():
    predicted, truth = masks(7)
    whole = OverlapCounts(("a", "b"))
    whole.update(np.arange(12), predicted, truth)
    first, second = OverlapCounts(("a", "b")), OverlapCounts(("a", "b"))
    for rows in ([11, 3, 0], [7, 5], [1]):
        first.update(rows, predicted[rows], truth[rows])
    rows = [2, 4, 6, 8, 9, 10, 0, 1]  # the last two are padding
    second.update(rows, predicted[rows], truth[rows])
    joined = first.merge(second)
    np.testing.assert_array_equal(joined.table(), whole.table())
    assert joined.report().flat("t") == whole.report().flat("t")


def test_predicting_nothing_scores_the_share_of_negatives():
    truth = np.zeros((4, 1, 2, 2), bool)
    truth[0] = True
    counts = OverlapCounts(("a",))
    counts.update(np.arange(4), np.zeros_like(truth), truth)
    values = counts.report().values
    assert values["dice_all"] == 0.75
    assert values["dice_positive"] == 0
    assert values["dice_global"] == 0


def test_a_mask_that_no_image_has_is_nan_for_positives_only():
    counts = OverlapCounts(("a", "b"))
    truth = np.zeros((2, 2, 2, 2), bool)
    truth[:, 0] = True
    counts.update([0, 1], truth, truth)
    report = counts.report()
    assert np.isnan(report.values["dice_positive"][1])
    assert report.flat("t")["t/dice_positive"] == 1
    assert np.isnan(OverlapCounts(("a",)).report().values["dice_all"][0])


def test_other_sizes_and_names_are_refused():
    counts = OverlapCounts(("a",))
    with pytest.raises(MismatchError, match="resize"):
        counts.update([0], np.zeros((1, 1, 4, 4)), np.zeros((1, 1, 8, 8)))
    with pytest.raises(MismatchError, match="other masks"):
        counts.merge(OverlapCounts(("b",)))
