import itertools

import numpy as np
import pytest

from dmlm.datasets.corruptions import CORRUPTIONS, LEVELS, corrupt
from dmlm.errors import ConfigError


def film() -> np.ndarray:
    y, x = np.mgrid[:160, :200]
    texture = np.random.default_rng(0).normal(0, 15, x.shape)
    return np.clip(128 + 60 * np.sin(x / 9) * np.cos(y / 11) + texture, 0, 255).astype(np.uint8)


@pytest.mark.parametrize("kind", CORRUPTIONS)
def test_each_level_is_further_from_the_film(kind) -> None:
    image = film()
    kept = image.copy()
    distances = []
    for level in LEVELS:
        spoilt = [corrupt(image, kind, level, np.random.default_rng([seed])) for seed in range(8)]
        assert all(part.dtype == np.uint8 and part.shape == image.shape for part in spoilt)
        distances.append(np.mean([np.abs(part.astype(float) - image).mean() for part in spoilt]))
    assert distances[0] > 0.2
    assert all(later > earlier for earlier, later in itertools.pairwise(distances)), distances
    assert (image == kept).all()


@pytest.mark.parametrize("kind", CORRUPTIONS)
def test_equal_seeds_spoil_equally(kind) -> None:
    first, again = (corrupt(film(), kind, 3, np.random.default_rng([1, 2])) for _ in range(2))
    assert (first == again).all()


def test_level_0_leaves_the_film_alone() -> None:
    assert (corrupt(film(), "noise", 0, np.random.default_rng(0)) == film()).all()


def test_the_plate_covers_its_share() -> None:
    plain = np.zeros((100, 100), np.uint8)
    for level, share in zip(LEVELS, (0.02, 0.05, 0.1, 0.2, 0.35), strict=True):
        covered = corrupt(plain, "covered", level, np.random.default_rng(level)) > 0
        assert covered.mean() == pytest.approx(share, abs=0.01)


@pytest.mark.parametrize(("kind", "level"), [("fog", 1), ("noise", 6), ("blur", -1)])
def test_what_does_not_exist_is_refused(kind, level) -> None:
    with pytest.raises(ConfigError, match="level 0 to 5"):
        corrupt(film(), kind, level, np.random.default_rng(0))
