import io
import struct
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image, ImageOps

from dmlm.datasets.image_files import find_unreadable
from dmlm.errors import ImageReadError
from dmlm.io.cache import cache_dir
from dmlm.io.grey import stretch
from dmlm.io.images import MAX_PIXELS, check_image, read_grey

RAMP = np.arange(48, dtype=np.uint8).reshape(6, 8) * 5


def luma(rgb):
    return np.asarray(Image.fromarray(rgb, "RGB").convert("L"))


def colours():
    return np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8)


def test_grey_png_comes_back_bit_for_bit(tmp_path):
    Image.fromarray(RAMP).save(tmp_path / "a.png")
    grey = read_grey(tmp_path / "a.png")
    assert grey.dtype == np.uint8
    assert grey.flags["C_CONTIGUOUS"]
    np.testing.assert_array_equal(grey, RAMP)


def test_colour_becomes_luma(tmp_path):
    Image.fromarray(colours()).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_grey(tmp_path / "a.png"), luma(colours()))


def test_transparency_is_laid_on_black(tmp_path):
    alpha = np.zeros((6, 8), np.uint8)
    alpha[:, 4:] = 255
    Image.fromarray(np.dstack([colours(), alpha])).save(tmp_path / "rgba.png")
    expected = np.where(alpha == 255, luma(colours()), 0)
    np.testing.assert_array_equal(read_grey(tmp_path / "rgba.png"), expected)
    Image.merge("LA", [Image.fromarray(RAMP), Image.fromarray(alpha)]).save(tmp_path / "la.png")
    np.testing.assert_array_equal(read_grey(tmp_path / "la.png"), np.where(alpha == 255, RAMP, 0))
    Image.fromarray(RAMP).save(tmp_path / "trns.png", transparency=int(RAMP[3, 3]))
    np.testing.assert_array_equal(read_grey(tmp_path / "trns.png"), np.where(RAMP[3, 3] == RAMP, 0, RAMP))


def test_palette_bilevel_and_cmyk(tmp_path):
    palette = Image.fromarray(colours()).quantize(8)
    palette.save(tmp_path / "p.png")
    np.testing.assert_array_equal(read_grey(tmp_path / "p.png"), np.asarray(palette.convert("RGB").convert("L")))
    Image.fromarray(RAMP > 100).save(tmp_path / "1.png")
    np.testing.assert_array_equal(read_grey(tmp_path / "1.png"), np.where(RAMP > 100, 255, 0))
    Image.new("CMYK", (8, 6), (0, 0, 0, 0)).save(tmp_path / "cmyk.tif")
    np.testing.assert_array_equal(read_grey(tmp_path / "cmyk.tif"), np.full((6, 8), 255))


@pytest.mark.parametrize(("dtype", "name"), [(np.uint16, "a.png"), (np.int32, "a.tif"), (np.float32, "a.tif")])
def test_deep_grey_is_stretched_over_its_own_range(tmp_path, dtype, name):
    deep = np.linspace(1000, 5080, 48).reshape(6, 8).astype(dtype)
    Image.fromarray(deep).save(tmp_path / name)
    wide = deep.astype(float)
    expected = np.rint((wide - wide.min()) / (wide.max() - wide.min()) * 255)
    np.testing.assert_array_equal(read_grey(tmp_path / name), expected)


def test_constant_deep_grey_is_black(tmp_path):
    Image.fromarray(np.full((4, 4), 777, np.uint16)).save(tmp_path / "a.png")
    assert not read_grey(tmp_path / "a.png").any()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_agrees_with_pillow(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(RAMP).save(tmp_path / "a.png", exif=exif)
    with Image.open(tmp_path / "a.png") as image:
        expected = np.asarray(ImageOps.exif_transpose(image))
    np.testing.assert_array_equal(read_grey(tmp_path / "a.png"), expected)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_tiff_is_turned_once(tmp_path, orientation):
    Image.fromarray(RAMP).save(tmp_path / "a.tif", tiffinfo={0x0112: orientation})
    ways = (
        None,
        "FLIP_LEFT_RIGHT",
        "ROTATE_180",
        "FLIP_TOP_BOTTOM",
        "TRANSPOSE",
        "ROTATE_270",
        "TRANSVERSE",
        "ROTATE_90",
    )
    way = ways[orientation - 1]
    expected = Image.fromarray(RAMP) if way is None else Image.fromarray(RAMP).transpose(Image.Transpose[way])
    np.testing.assert_array_equal(read_grey(tmp_path / "a.tif"), np.asarray(expected))


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_deep_colour_is_not_cut_to_its_high_byte(tmp_path, name):
    deep = RAMP.astype(np.uint16) * 16  # 12 bits of 16
    cv2.imwrite(str(tmp_path / name), np.dstack([deep] * 3))
    np.testing.assert_array_equal(read_grey(tmp_path / name), stretch(deep))
    alpha = np.full_like(deep, 65535)
    alpha[0] = 0
    cv2.imwrite(str(tmp_path / "alpha.png"), np.dstack([deep, deep, deep, alpha]))
    np.testing.assert_array_equal(read_grey(tmp_path / "alpha.png"), stretch(np.where(alpha > 0, deep, 0)))


def test_deep_grey_with_transparency(tmp_path):
    deep = RAMP.astype(np.uint16) * 16
    rows = b"".join(b"\0" + np.dstack([row, np.full_like(row, 65535)]).astype(">u2").tobytes() for row in deep)
    header = struct.pack(">IIBBBBB", 8, 6, 16, 4, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    written = b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + written)
    np.testing.assert_array_equal(read_grey(tmp_path / "a.png"), stretch(deep))


@pytest.mark.parametrize("name", ["a.tif", "a.bmp", "a.gif", "a.jp2", "a.png", "a.jpg", "a.webp"])
def test_half_a_file_does_not_pass_the_check(tmp_path, name):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / name)
    check_image(tmp_path / name)
    whole = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ImageReadError):
        check_image(tmp_path / name)


def test_scaled_jpeg_keeps_the_wanted_size_and_the_picture(tmp_path):
    import cv2

    y, x = np.mgrid[0:800, 0:600]
    smooth = (127 + 60 * np.sin(x / 60) + 60 * np.cos(y / 80)).astype(np.uint8)
    Image.fromarray(smooth).save(tmp_path / "a.jpg", quality=95)
    assert read_grey(tmp_path / "a.jpg").shape == (800, 600)
    small = read_grey(tmp_path / "a.jpg", min_size=128)
    assert small.shape == (200, 150)
    area = cv2.resize(smooth, (150, 200), interpolation=cv2.INTER_AREA)
    assert np.abs(small.astype(float) - area).mean() < 1.0


def test_what_could_not_be_read_once_is_looked_at_again(tmp_path, monkeypatch):
    Image.fromarray(RAMP).save(tmp_path / "a.png")
    opened = Image.open
    monkeypatch.setattr(Image, "open", lambda *_: (_ for _ in ()).throw(OSError(5, "Input/output error")))
    assert list(find_unreadable([str(tmp_path / "a.png")])) == [str(tmp_path / "a.png")]
    monkeypatch.setattr(Image, "open", opened)
    assert find_unreadable([str(tmp_path / "a.png")]) == {}


def damaged(tmp_path):
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64), dtype=np.uint8)).save(buffer, "JPEG")
    jpeg = buffer.getvalue()
    buffer = io.BytesIO()
    Image.fromarray(RAMP).save(buffer, "PNG")
    png = buffer.getvalue()
    return {
        "empty.png": (b"", "empty"),
        "cut.jpg": (jpeg[: len(jpeg) // 2], "damaged or cut off"),
        "cut.png": (png[:-30], "damaged or cut off"),
        "text.png": (b"hello, I am no image", "not an image"),
        "page.jpg": (b"<html>404</html>", "HTML"),
        "lfs.png": (b"version https://git-lfs.github.com/spec/v1\noid", "git lfs pull"),
        "scan.dcm": (b"\0" * 128 + b"DICM", "DICOM"),
        "scan.png": (b"\0" * 128 + b"DICM", "DICOM"),
    }


@pytest.mark.parametrize("name", list(damaged(None)))
@pytest.mark.parametrize("reader", [read_grey, check_image])
def test_what_is_no_image_is_said_in_one_line(tmp_path, name, reader):
    content, expected = damaged(tmp_path)[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ImageReadError, match=expected) as caught:
        reader(tmp_path / name)
    assert str(tmp_path / name) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_file_and_folder(tmp_path):
    with pytest.raises(ImageReadError, match="no such file"):
        read_grey(tmp_path / "none.png")
    with pytest.raises(ImageReadError, match="folder"):
        read_grey(tmp_path)


def test_decompression_bomb_is_refused(tmp_path):
    side = int(MAX_PIXELS**0.5) + 1
    Image.new("1", (side, side)).save(tmp_path / "bomb.png")
    with pytest.warns(Image.DecompressionBombWarning), pytest.raises(ImageReadError, match="shrink"):
        read_grey(tmp_path / "bomb.png")


def test_whole_images_pass_the_check(tmp_path):
    Image.fromarray(RAMP).save(tmp_path / "a.png")
    Image.fromarray(RAMP).save(tmp_path / "a.jpg")
    (tmp_path / "padded.jpg").write_bytes((tmp_path / "a.jpg").read_bytes() + b"\0" * 9000)
    for name in ("a.png", "a.jpg", "padded.jpg"):
        check_image(tmp_path / name)


def test_cache_dir_follows_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("DMLM_CACHE", str(tmp_path / "own"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_dir() == tmp_path / "own"
    monkeypatch.setenv("DMLM_CACHE", "")
    assert cache_dir() == tmp_path / "xdg" / "dmlm"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_dir() == tmp_path / ".cache" / "dmlm"
