"""Run-length code against a naive decoder written from the format's description, and its errors."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from dmlm.datasets.rle import decode_rle, encode_rle, parse_runs
from dmlm.datasets.siim_layouts import RunLengthMasks
from dmlm.errors import DatasetFormatError


def naive(code: str, height: int, width: int) -> np.ndarray:
    """Walk over the pixels column by column."""
    mask, place, numbers = np.zeros((height, width), np.uint8), 0, [int(word) for word in code.split()]
    if numbers == [-1]:
        return mask
    for gap, length in zip(numbers[::2], numbers[1::2], strict=True):
        place += gap
        for _ in range(length):
            mask[place % height, place // height] = 1
            place += 1
    return mask


@given(hnp.arrays(np.bool_, st.tuples(st.integers(1, 12), st.integers(1, 12))))
def test_encode_and_decode_are_inverse(mask):
    code = encode_rle(mask)
    np.testing.assert_array_equal(decode_rle(code, *mask.shape), mask)
    np.testing.assert_array_equal(naive(code, *mask.shape), mask)
    assert encode_rle(decode_rle(code, *mask.shape)) == code


def test_known_code():
    # 3 x 4 image: pixels 1-2 of the first column, then, 4 pixels on, the first pixel of the third column
    np.testing.assert_array_equal(decode_rle("1 2 3 1", 3, 4), [[0, 0, 1, 0], [1, 0, 0, 0], [1, 0, 0, 0]])


@pytest.mark.parametrize("code", ["-1", " -1", "-1 "])
def test_minus_one_is_empty(code):
    assert not decode_rle(code, 4, 4).any()
    assert encode_rle(np.zeros((4, 4))) == "-1"


def test_full_size_random_blobs():
    rng = np.random.default_rng(0)
    mask = rng.random((1024, 1024)) > 0.999
    mask[200:400, 300:500] = True
    np.testing.assert_array_equal(decode_rle(encode_rle(mask)), mask)


def test_rows_of_one_image_are_united_where_they_overlap():
    one, two = np.zeros((2, 1024, 1024), np.uint8)
    one[100:300, 100:300], two[200:400, 200:400] = 1, 1
    masks = RunLengthMasks([(encode_rle(one), encode_rle(two)), ()])
    np.testing.assert_array_equal(masks(0)[0], one | two)
    assert masks(0).max() == 1
    assert not masks(1).any()


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("1 2 3", "odd number of integers (3)"),
        ("", "blank"),
        ("1 2 x 4", "something other than whole numbers"),
        ("10 7", "past the end of an image of 16 pixels"),
        ("1 2 -3 4", "negative gap"),
        ("1 0", "without pixels"),
        ("9223372036854775807 9223372036854775807", "past the end"),
        ("99999999999999999999 1", "other than whole numbers"),
    ],
)
def test_impossible_codes_are_refused_in_one_line(code, said):
    with pytest.raises(DatasetFormatError) as caught:
        parse_runs(code, 16)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
