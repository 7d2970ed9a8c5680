import pickle

import cv2
import numpy as np
import pytest

from dmlm.datasets.transforms import AlbumentationsTransform, AugmentConfig, EvalTransform, TrainTransform
from dmlm.errors import ConfigError

STILL = AugmentConfig(scale=(1.0, 1.0), rotation=0.0, translation=0.0, brightness=0.0, contrast=0.0)


def rng(*seed):
    return np.random.default_rng(seed)


def blurred(height, width, seed=0):
    noise = rng(seed).integers(0, 256, (height, width), dtype=np.uint8)
    return cv2.GaussianBlur(noise, (0, 0), 3)


def spot(height, width, x, y, radius):
    image = np.zeros((height, width), np.uint8)
    cv2.circle(image, (x, y), radius, 255, -1)
    return image


def centre_of_mass(image):  # of what is brighter than a dark spot can become
    ys, xs = np.nonzero(image > 100)
    return np.array([xs.mean(), ys.mean()])


def test_right_size_stays_as_it_is():
    image = blurred(64, 64)
    for transform in (EvalTransform(64), TrainTransform(64, STILL)):
        done = transform(image, None, rng(0))
        np.testing.assert_array_equal(done.image, image)
        np.testing.assert_allclose(done.matrix, [[1, 0, 0], [0, 1, 0]], atol=1e-12)


def test_eval_resizes_the_short_side_and_crops_the_centre():
    image = blurred(120, 200)
    done = EvalTransform(60)(image, None)
    np.testing.assert_array_equal(done.image, cv2.resize(image, (100, 60), interpolation=cv2.INTER_AREA)[:, 20:80])


@pytest.mark.parametrize("shape", [(301, 200), (90, 97), (40, 61), (700, 520)])
def test_unvaried_training_image_is_the_evaluation_image(shape):
    image = blurred(*shape)
    train = TrainTransform(64, STILL)(image, None, rng(0)).image
    ours = EvalTransform(64)(image, None).image
    assert np.abs(train.astype(float) - ours).mean() < 2.0


@pytest.mark.parametrize("make", [EvalTransform, TrainTransform])
@pytest.mark.parametrize("shape", [(400, 300), (100, 140), (50, 60)])
def test_matrix_tells_where_a_point_goes_and_masks_follow(make, shape):
    height, width = shape
    x, y = width // 2 + height // 12, height // 2 - height // 10
    image = spot(height, width, x, y, max(3, height // 16))
    masks = (image[None] > 0).astype(np.uint8)
    for seed in range(5):
        done = make(96)(image, masks, rng(seed))
        expected = done.matrix @ [x, y, 1.0]
        np.testing.assert_allclose(centre_of_mass(done.image), expected, atol=1.0)
        np.testing.assert_allclose(centre_of_mass(done.masks[0] * 255), expected, atol=1.0)
        assert set(np.unique(done.masks)) <= {0, 1}
        assert done.masks.shape == (1, 96, 96)


@pytest.mark.parametrize("make", [EvalTransform, lambda size: TrainTransform(size, STILL)])
def test_shrinking_does_not_alias(make):
    stripes = np.zeros((512, 512), np.uint8)
    stripes[:, ::2] = 255  # finer than any pixel that comes out: must become even grey
    out = make(64)(stripes, None, rng(0)).image
    assert out[:, 2:-2].std() < 3.0
    assert abs(out.mean() - 127.5) < 3.0


def test_augmentation_is_a_function_of_its_seed():
    image, transform = blurred(112, 112), TrainTransform(96)
    first = transform(image, None, rng(0, 1, 2)).image
    np.testing.assert_array_equal(first, transform(image, None, rng(0, 1, 2)).image)
    for other in ((1, 1, 2), (0, 2, 2), (0, 1, 3)):
        assert (first != transform(image, None, rng(*other)).image).any()


def test_left_stays_left_unless_flipping_is_asked_for():
    image = spot(112, 112, 30, 56, 8)
    sides = [centre_of_mass(TrainTransform(96)(image, None, rng(s)).image)[0] < 48 for s in range(60)]
    assert all(sides)
    flipping = TrainTransform(96, AugmentConfig(horizontal_flip=True))
    sides = [centre_of_mass(flipping(image, None, rng(s)).image)[0] < 48 for s in range(60)]
    assert 15 < sum(sides) < 45


def test_augmentation_stays_within_its_limits():
    transform = TrainTransform(96, AugmentConfig(scale=(0.8, 1.0), rotation=10.0, translation=0.05))
    zooms, angles = [], []
    for seed in range(200):
        matrix = transform(np.zeros((112, 112), np.uint8), None, rng(seed)).matrix
        zooms.append(np.hypot(*matrix[0, :2]) * 112 / 96)
        angles.append(np.degrees(np.arctan2(matrix[0, 1], matrix[0, 0])))
    assert min(zooms) >= 1.0 - 1e-9
    assert max(zooms) <= 1.25 + 1e-9
    assert np.ptp(zooms) > 0.2
    assert np.abs(angles).max() <= 10.0
    assert np.ptp(angles) > 15.0


@pytest.mark.parametrize("seed", range(8))
def test_brightness_and_contrast_formula(seed):
    config = AugmentConfig(scale=(1.0, 1.0), rotation=0.0, translation=0.0, brightness=0.5, contrast=0.5)
    ramp = np.tile(np.arange(256, dtype=np.uint8), (256, 1))
    draws = rng(seed).uniform(-1, 1, 7)
    expected = (ramp * (1 + 0.5 * draws[4]) - 127.5) * (1 + 0.5 * draws[5]) + 127.5
    out = TrainTransform(256, config)(ramp, None, rng(seed)).image
    away = np.abs(out - np.clip(expected, 0, 255))
    assert away.max() <= 0.5 + 1e-4  # rounded once, in float32
    assert {np.sign(rng(k).uniform(-1, 1, 7)[5]) for k in range(8)} == {-1, 1}  # darks that go below 0, and that do not


@pytest.mark.parametrize("make", [EvalTransform, TrainTransform])
def test_an_image_can_be_written_where_it_belongs(make):
    image, masks = blurred(112, 120), np.ones((2, 112, 120), np.uint8)
    batch = np.full((3, 48, 48), 7, np.uint8)
    done = make(48).into(batch[1], image, masks, rng(3))
    wanted = make(48)(image, masks, rng(3))
    np.testing.assert_array_equal(batch[1], wanted.image)
    np.testing.assert_array_equal(done.masks, wanted.masks)
    np.testing.assert_array_equal(done.matrix, wanted.matrix)
    assert (batch[[0, 2]] == 7).all()


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [({"scale": (0.0, 1.0)}, "scale"), ({"scale": (1.0, 0.5)}, "scale"), ({"scale": (0.9,)}, "scale"),
     ({"rotation": 200.0}, "rotation"),
     ({"brightness": 1.5}, "brightness"), ({"translation": -0.1}, "translation")],
)  # fmt: skip
def test_impossible_augmentation_is_refused(arguments, expected):
    with pytest.raises(ConfigError, match=expected):
        AugmentConfig(**arguments)


def test_albumentations_pipeline_is_deterministic_and_pickles():
    steps = [
        {"class_path": "albumentations.Rotate", "init_args": {"limit": 20, "p": 1.0}},
        {
            "class_path": "albumentations.OneOf",
            "init_args": {
                "p": 1.0,
                "transforms": [{"class_path": "albumentations.RandomGamma"}, {"class_path": "albumentations.CLAHE"}],
            },
        },
    ]
    transform = AlbumentationsTransform(48, steps)
    image, masks = blurred(112, 120), np.ones((3, 112, 120), np.uint8)
    first = transform(image, masks, rng(0, 0, 1))
    assert first.image.shape == (48, 48)
    assert first.masks.shape == (3, 48, 48)
    assert first.matrix is None
    np.testing.assert_array_equal(first.image, transform(image, masks, rng(0, 0, 1)).image)
    copy = pickle.loads(pickle.dumps(transform))
    np.testing.assert_array_equal(first.image, copy(image, masks, rng(0, 0, 1)).image)
    assert (first.image != transform(image, masks, rng(0, 0, 2)).image).any()


@pytest.mark.parametrize(
    ("step", "expected"),
    [({"class_path": "albumentations.NoSuch"}, "cannot import"), ({"class_path": "os.system"}, "not an albumentations"),
     ({"class_path": "albumentations.Normalize"}, "leave out")],
)  # fmt: skip
def test_bad_pipeline_is_refused(step, expected):
    with pytest.raises(ConfigError, match=expected):
        AlbumentationsTransform(48, [step])(blurred(64, 64), None, rng(0))


@pytest.mark.parametrize(("shape", "size"), [((256, 256), 224), ((93, 120), 80), ((310, 256), 160)])
def test_the_warp_gives_the_grey_levels_of_one_in_bytes(shape, size):
    """It computes in float32, in memory that it uses again: a later image leaves an earlier one as it is."""
    train = TrainTransform(size, AugmentConfig(brightness=0.0, contrast=0.0))
    images = [rng(k).integers(0, 256, shape, dtype=np.uint8) for k in range(12)]
    given = [train(image, None, rng(k)) for k, image in enumerate(images)]
    for image, found in zip(images, given, strict=True):
        wanted = cv2.warpAffine(image, found.matrix, (size, size), flags=cv2.INTER_LINEAR)
        apart = np.abs(found.image.astype(int) - wanted)
        assert apart.max() <= (0 if int(cv2.__version__.split(".")[0]) >= 5 else 1)
        assert (apart > 0).mean() < 0.01
