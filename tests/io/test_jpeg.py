import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from dmlm.errors import ImageReadError
from dmlm.io import grey, jpeg
from dmlm.io.images import read_grey


def picture(height=117, width=90, colours=1, seed=0):
    y, x = np.mgrid[0:height, 0:width]
    waves = [127 + 100 * np.sin(x / (9 + k) + k) * np.cos(y / 13) for k in range(colours)]
    noisy = np.stack(waves, axis=-1) + np.random.default_rng(seed).normal(0, 3, (height, width, colours))
    return np.clip(noisy, 0, 255).astype(np.uint8).squeeze()


def stream(pixels, **options):
    buffer = io.BytesIO()
    (pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)).save(buffer, "JPEG", **options)
    return buffer.getvalue()


@pytest.mark.parametrize("min_size", [None, 80, 40, 20, 11, 1])
@pytest.mark.parametrize("colours", [1, 3])
@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"quality": 95, "subsampling": 0}])
def test_simplejpeg_and_pillow_give_the_same_picture(monkeypatch, min_size, colours, options):
    pytest.importorskip("simplejpeg")
    data = stream(picture(colours=colours), **options)
    fast = jpeg.decode_jpeg(data, min_size)
    monkeypatch.setattr(jpeg, "_simplejpeg", lambda: None)
    slow = jpeg.decode_jpeg(data, min_size)
    assert fast.shape == slow.shape
    np.testing.assert_array_equal(fast, slow)


@given(height=st.integers(1, 300), width=st.integers(1, 300), min_size=st.integers(1, 200))
def test_scaled_side_is_rounded_up_and_never_below_what_is_wanted(height, width, min_size):
    scale = jpeg.scale_for(height, width, min_size)
    small = jpeg.decode_jpeg(stream(np.zeros((height, width), np.uint8)), min_size)
    assert small.shape == (-(-height // scale), -(-width // scale))
    assert min(small.shape) >= min(min_size, height, width)
    assert scale == 8 or min(height, width) // (2 * scale) < min_size


def test_cmyk_is_read_by_its_colours(tmp_path):
    Image.new("CMYK", (40, 30), (0, 0, 0, 255)).save(tmp_path / "black.jpg")
    assert read_grey(tmp_path / "black.jpg").max() <= 2
    Image.new("CMYK", (40, 30), (0, 0, 0, 0)).save(tmp_path / "white.jpg")
    white = read_grey(tmp_path / "white.jpg", min_size=8)
    assert white.min() >= 253


def test_rotated_jpeg_is_turned_upright(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(picture()).save(tmp_path / "a.jpg", exif=exif, quality=95)
    plain = jpeg.decode_jpeg((tmp_path / "a.jpg").read_bytes())
    np.testing.assert_array_equal(read_grey(tmp_path / "a.jpg"), np.rot90(plain, -1))


@pytest.mark.parametrize("fast", [True, False])
@pytest.mark.parametrize("share", [0.05, 0.4, 0.9])
def test_cut_off_stream_is_refused(tmp_path, monkeypatch, fast, share):
    if not fast:
        monkeypatch.setattr(jpeg, "_simplejpeg", lambda: None)
    data = stream(picture(400, 400))
    (tmp_path / "a.jpg").write_bytes(data[: int(share * len(data))])
    with pytest.raises(ImageReadError, match="damaged or cut off"):
        read_grey(tmp_path / "a.jpg")


def test_size_that_lies_is_refused(tmp_path):
    data = bytearray(stream(picture(64, 64)))
    start = data.index(b"\xff\xc0")
    data[start + 5 : start + 7] = (6000).to_bytes(2, "big")
    (tmp_path / "tall.jpg").write_bytes(data)
    with pytest.raises(ImageReadError, match="damaged or cut off"):
        read_grey(tmp_path / "tall.jpg")
    data[start + 5 : start + 9] = b"\xff\xff\xff\xff"
    (tmp_path / "bomb.jpg").write_bytes(data)
    with pytest.raises(ImageReadError, match=r"shrink the image|exceeds limit"):
        read_grey(tmp_path / "bomb.jpg")


@pytest.mark.parametrize("tail", [b"\0" * 7, b"\0" * 9000, b"<html>"])
def test_bytes_behind_the_end_do_not_matter(tmp_path, tail):
    data = stream(picture())
    (tmp_path / "a.jpg").write_bytes(data + tail)
    np.testing.assert_array_equal(read_grey(tmp_path / "a.jpg"), jpeg.decode_jpeg(data))


def test_frame_header_of_every_kind():
    codecs = pytest.importorskip("imagecodecs")
    deep = (picture().astype(np.uint16) << 4) | 5
    assert jpeg.frame_header(stream(picture(colours=3))) == (117, 90, 8, 3, "baseline")
    assert jpeg.frame_header(bytes(codecs.ljpeg_encode(deep, bitspersample=12))) == (117, 90, 12, 1, "lossless")
    assert jpeg.frame_header(bytes(codecs.jpegls_encode(deep)))[2:] == (16, 1, "ls")
    plain = bytes(codecs.jpeg2k_encode(deep, codecformat="j2k", bitspersample=12, reversible=True))
    assert jpeg.frame_header(plain) == (117, 90, 12, 1, "2000")
    with pytest.raises(ValueError, match="no JPEG frame header"):
        jpeg.frame_header(b"\xff\xd8 nothing")


@given(
    dtype=st.sampled_from(["u2", ">u2", "i2", "i4", "u4", "f4", "f8"]),
    low=st.integers(-30000, 30000),
    span=st.integers(1, 200000),
)
def test_stretch_is_the_formula_for_every_type(dtype, low, span):
    info = np.iinfo(dtype) if np.dtype(dtype).kind in "iu" else None
    wide = np.clip(np.linspace(low, low + span, 99), *((info.min, info.max) if info else (-1e9, 1e9))).astype(dtype)
    values = wide.astype(np.float64)
    if values.min() == values.max():
        assert not grey.stretch(wide).any()
        return
    expected = np.rint((values - values.min()) * (255 / (values.max() - values.min())))
    np.testing.assert_array_equal(grey.stretch(wide), expected)


def test_stretch_counts_what_is_not_finite_as_zero():
    values = np.array([[np.nan, np.inf, -np.inf, 0.0, 10.0]], np.float32)
    np.testing.assert_array_equal(grey.stretch(values), [[0, 0, 0, 0, 255]])
