import numpy as np
import pytest
from PIL import Image

from dmlm.errors import ConfigError, MismatchError
from dmlm.plots.confusion import confusion_figure
from dmlm.plots.predictions import PREDICTED, TRUTH, Case, case_panels, map_overlay, mask_overlay, prediction_grid


@pytest.fixture
def film():
    return np.full((40, 40), 100, np.uint8)


def square(low, high):
    mask = np.zeros((40, 40), bool)
    mask[low:high, low:high] = True
    return mask


def test_outlines_have_their_colours_and_leave_the_rest(film):
    picture = mask_overlay(film, [square(5, 15)], [square(20, 35)])
    assert tuple(picture[5, 10]) == TRUTH
    assert tuple(picture[20, 25]) == PREDICTED
    assert tuple(picture[2, 2]) == (100, 100, 100)
    assert tuple(picture[10, 10]) == (100, 100, 100)  # inside of the truth is not tinted
    assert picture[27, 27, 0] > 100 > picture[27, 27, 2]  # inside of the prediction is
    assert (film == 100).all()


def test_map_is_dark_at_its_lowest_and_yellow_at_its_highest(film):
    values = np.array([[0.0, 0.0], [0.0, 1.0]])
    picture = map_overlay(film, values).astype(int)
    low, high = picture[0, 0], picture[39, 39]
    assert high[0] > low[0] + 50
    assert high[1] > low[1] + 50
    np.testing.assert_array_equal(map_overlay(film, values, 0, 2)[0, 0], low)
    assert (map_overlay(film, np.ones((3, 3))) == low).all()


def test_a_case_shows_only_what_it_has(film):
    titles = [title for title, _ in case_panels(Case(film, "", {"a": square(1, 3)}, {}, {"entropy": np.eye(4)}))]
    assert titles == ["film", "true", "entropy"]
    assert [title for title, _ in case_panels(Case(film))] == ["film"]


def test_maps_of_a_grid_share_their_colours(film, tmp_path):
    """A film without doubt is dark beside one with, and also alone where the range is known."""

    def yellow(cases):
        prediction_grid(cases, tmp_path / "grid.png", columns=1, size=40)
        with Image.open(tmp_path / "grid.png") as page:
            pixels = np.asarray(page.convert("RGB")).astype(int)
        parts = np.array_split(pixels[:, 50:92], len(cases))  # the second panel of each row
        return [int((part[..., 0] - part[..., 2] > 60).sum()) for part in parts]

    doubtful, sure = ({"entropy": scale * np.eye(4)} for scale in (0.69, 0.01))
    assert yellow([Case(film, maps=doubtful), Case(film, maps=sure)])[1] == 0
    assert yellow([Case(film, maps=sure)])[0] > 0
    assert yellow([Case(film, maps=sure, ranges={"entropy": (0.0, 0.69)})])[0] == 0
    assert yellow([Case(film, maps=doubtful, ranges={"entropy": (0.0, 0.69)})])[0] > 0


def test_grid_holds_every_case(film, tmp_path):
    cases = [
        Case(film, f"study {i}\nedema 0.3", {"a": square(5, 15)}, {"a": square(6, 18)}, {"entropy": np.eye(6)})
        for i in range(5)
    ]
    prediction_grid(cases, tmp_path / "grid.png", columns=2, size=40)
    with Image.open(tmp_path / "grid.png") as page:
        width, height = page.size
        pixels = np.asarray(page)
    assert width >= 2 * 3 * 40
    assert height >= 3 * 40
    assert (pixels[: height // 3] == TRUTH).all(axis=-1).any()
    with pytest.raises(ConfigError, match="at least one case"):
        prediction_grid([], tmp_path / "none.png")


def test_masks_and_maps_of_another_kind_are_refused(film):
    with pytest.raises(MismatchError, match="resize it first"):
        mask_overlay(film, [np.ones((20, 20))], [])
    with pytest.raises(MismatchError, match="finite"):
        map_overlay(film, np.array([[np.nan]]))


def test_confusion_figure_shows_counts_and_shares():
    figure = confusion_figure([[8, 2, 0], [1, 3, 0], [0, 0, 0]], ["none", "edema", "a very long name of a finding"])
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert texts[:2] == ["8\n80 %", "2\n20 %"]
    assert texts[-1] == "0"
    with pytest.raises(MismatchError, match="2 classes"):
        confusion_figure([[1]], ["a", "b"])
