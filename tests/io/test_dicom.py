import dicoms
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pydicom = pytest.importorskip("pydicom")
pytest.importorskip("imagecodecs")

from pydicom.pixels import apply_modality_lut, apply_voi_lut  # noqa: E402

from dmlm.errors import ImageReadError, MissingDependencyError  # noqa: E402
from dmlm.io import dicom, dicom_frames, jpeg  # noqa: E402
from dmlm.io.dicom_display import display_table  # noqa: E402
from dmlm.io.images import check_image, read_grey  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")  # pydicom's, about files that are damaged on purpose


def stretched(values, low=None, high=None):
    values = values.astype(np.float64)
    low, high = values.min() if low is None else low, values.max() if high is None else high
    return np.clip(np.rint((values - low) * (255 / (high - low))), 0, 255).astype(np.uint8)


def shown(tmp_path, pixels, **kwargs):
    path = dicoms.save(dicoms.dataset(pixels, **kwargs), tmp_path / "a.dcm")
    check_image(path)
    return read_grey(path)


LOSSLESS = [
    dicoms.RAW,
    dicoms.IMPLICIT,
    dicoms.BIG,
    dicoms.RLE,
    dicoms.LOSSLESS,
    dicoms.LOSSLESS_1,
    dicoms.LS,
    dicoms.J2K_LOSSLESS,
]


@pytest.mark.parametrize("bits", [8, 10, 12, 16])
@pytest.mark.parametrize("syntax", LOSSLESS)
def test_every_lossless_format_gives_the_stored_values(tmp_path, syntax, bits):
    pixels = dicoms.picture(bits=bits)
    expected = pixels if bits == 8 else stretched(pixels)
    np.testing.assert_array_equal(shown(tmp_path, pixels, bits=bits, syntax=syntax), expected)


@pytest.mark.parametrize("syntax", [s for s in LOSSLESS if s != dicoms.LOSSLESS])
def test_signed_values_keep_their_sign(tmp_path, syntax):
    pixels = dicoms.picture(bits=12, signed=True)
    np.testing.assert_array_equal(shown(tmp_path, pixels, bits=12, syntax=syntax), stretched(pixels))


@pytest.mark.parametrize("syntax", [dicoms.BASELINE, dicoms.EXTENDED, dicoms.LS_NEAR, dicoms.J2K])
def test_lossy_formats_stay_close(tmp_path, syntax):
    bits = 8 if syntax == dicoms.BASELINE else 12
    pixels = dicoms.picture(bits=bits)
    expected = pixels if bits == 8 else stretched(pixels)
    assert np.abs(shown(tmp_path, pixels, bits=bits, syntax=syntax).astype(int) - expected).max() <= 6


@pytest.mark.parametrize("syntax", [dicoms.RAW, dicoms.RLE, dicoms.BASELINE, dicoms.EXTENDED, dicoms.J2K_LOSSLESS])
def test_values_agree_with_those_of_pydicom(syntax):
    if syntax == dicoms.EXTENDED:
        pytest.importorskip("libjpeg", reason="pydicom itself needs pylibjpeg-libjpeg for JPEG of 12 bits")
    bits = 8 if syntax == dicoms.BASELINE else 12
    ds = dicoms.dataset(dicoms.picture(bits=bits), bits=bits, syntax=syntax)
    np.testing.assert_allclose(dicom_frames.read_frame(ds).astype(int), ds.pixel_array.astype(int), atol=1)


@pytest.mark.parametrize("syntax", [dicoms.RLE, dicoms.J2K_LOSSLESS, dicoms.BASELINE])
def test_without_the_fast_decoders_the_picture_is_the_same(tmp_path, monkeypatch, syntax):
    bits = 8 if syntax == dicoms.BASELINE else 12
    path = dicoms.save(dicoms.dataset(dicoms.picture(bits=bits), bits=bits, syntax=syntax), tmp_path / "a.dcm")
    fast = read_grey(path)
    monkeypatch.setattr(dicom_frames, "_imagecodecs", lambda: None)
    monkeypatch.setattr(jpeg, "_simplejpeg", lambda: None)
    np.testing.assert_array_equal(read_grey(path), fast)


def test_a_format_without_a_decoder_names_the_extra(tmp_path, monkeypatch):
    from pydicom.pixels.decoders import JPEGLSLosslessDecoder

    path = dicoms.save(dicoms.dataset(dicoms.picture(), bits=12, syntax=dicoms.LS), tmp_path / "a.dcm")
    monkeypatch.setattr(dicom_frames, "_imagecodecs", lambda: None)
    monkeypatch.setattr(JPEGLSLosslessDecoder, "_available", {})
    with pytest.raises(ImageReadError, match=r"pip install 'dmlm\[decode\]'"):
        read_grey(path)


def test_without_pydicom_the_extra_is_named(tmp_path, monkeypatch):
    path = dicoms.save(dicoms.dataset(dicoms.picture()), tmp_path / "a.dcm")
    dicom._pydicom.cache_clear()
    monkeypatch.setitem(__import__("sys").modules, "pydicom", None)
    with pytest.raises(MissingDependencyError, match=r"dmlm\[dicom\]"):
        read_grey(path)
    dicom._pydicom.cache_clear()


def test_monochrome1_is_turned_round(tmp_path):
    pixels = dicoms.picture(bits=8)
    np.testing.assert_array_equal(shown(tmp_path, pixels, photometric="MONOCHROME1"), 255 - pixels)
    deep = dicoms.picture(bits=14)
    np.testing.assert_array_equal(
        shown(tmp_path, deep, bits=14, photometric="MONOCHROME1"), 255 - stretched(deep).astype(int)
    )


def window(ds, stored):
    """What pydicom makes of stored values, over its own output range."""
    voi = apply_voi_lut(apply_modality_lut(stored, ds), ds)
    if "VOILUTSequence" in ds:
        return voi, 0.0, 2.0 ** ds.VOILUTSequence[0].LUTDescriptor[2] - 1
    ends = (
        (-(2 ** (ds.BitsStored - 1)), 2 ** (ds.BitsStored - 1) - 1)
        if ds.PixelRepresentation
        else (0, 2**ds.BitsStored - 1)
    )
    slope, intercept = float(ds.get("RescaleSlope", 1)), float(ds.get("RescaleIntercept", 0))
    return voi, ends[0] * slope + intercept, ends[1] * slope + intercept


@pytest.mark.parametrize("function", [None, "LINEAR", "LINEAR_EXACT", "SIGMOID"])
@given(
    signed=st.booleans(),
    bits=st.integers(9, 16),
    centre=st.floats(0.2, 0.8),
    width=st.floats(0.05, 1.5),
    slope=st.sampled_from([None, 1.0, 0.5, 2.25]),
    intercept=st.sampled_from([0.0, -1024.0, 17.5]),
)
def test_windows_agree_with_pydicom(function, signed, bits, centre, width, slope, intercept):
    pixels = dicoms.picture(8, 8, bits=bits, signed=signed)
    span = 2**bits * (slope or 1.0)
    tags = {"WindowCenter": round(centre * span - signed * span / 2 + intercept * bool(slope), 2)}
    tags["WindowWidth"] = max(2.0, round(width * span, 2))
    if slope:
        tags |= {"RescaleSlope": slope, "RescaleIntercept": intercept}
    if function:
        tags["VOILUTFunction"] = function
    ds = dicoms.dataset(pixels, bits=bits, **tags)
    low, high = int(pixels.min()), int(pixels.max())
    stored = np.arange(low, high + 1, dtype=pixels.dtype)
    voi, black, white = window(ds, stored)
    table = display_table(ds, low, high)
    if table.min() < table.max():  # a window that shows nothing is not applied
        assert np.abs(table - (voi - black) / (white - black) * 255).max() <= 0.501


@pytest.mark.parametrize("signed", [False, True])
def test_lookup_tables_agree_with_pydicom(signed):
    pixels = dicoms.picture(bits=12, signed=signed)
    curve = np.rint(1023 * np.linspace(0, 1, 2000) ** 2).astype(int)
    first = -900 if signed else 1000
    ds = dicoms.dataset(pixels, bits=12, VOILUTSequence=dicoms.lut(first, curve, 10, signed))
    low, high = int(pixels.min()), int(pixels.max())
    voi, black, white = window(ds, np.arange(low, high + 1, dtype=pixels.dtype))
    np.testing.assert_allclose(display_table(ds, low, high), (voi - black) / (white - black) * 255, atol=0.501)
    modality = dicoms.dataset(pixels, bits=12, ModalityLUTSequence=dicoms.lut(first, curve, 16, signed))
    real = apply_modality_lut(np.arange(low, high + 1, dtype=pixels.dtype), modality)
    np.testing.assert_array_equal(display_table(modality, low, high), stretched(real))


def test_lookup_table_that_fills_twelve_of_sixteen_declared_bits_is_not_dark(tmp_path):
    pixels = dicoms.picture(bits=12)
    pixels.flat[:2] = 0, 4095
    sequence = dicoms.lut(0, np.arange(4096), 16)
    np.testing.assert_array_equal(shown(tmp_path, pixels, bits=12, VOILUTSequence=sequence), stretched(pixels))


def test_first_of_several_windows_counts_and_the_table_goes_before_it(tmp_path):
    pixels = dicoms.picture(bits=12)
    expected = stretched(pixels, 1000 - 0.5 - 199.5, 1000 - 0.5 + 199.5)
    several = shown(tmp_path, pixels, bits=12, WindowCenter=[1000, 5], WindowWidth=[400, 7])
    np.testing.assert_array_equal(several, expected)
    both = shown(
        tmp_path, pixels, bits=12, WindowCenter=1000, WindowWidth=400, VOILUTSequence=dicoms.lut(0, np.arange(4096), 12)
    )
    np.testing.assert_array_equal(both, stretched(pixels, 0, 4095))


@pytest.mark.parametrize(("centre", "width"), [(90000, 10), (100, 0), (100, -5)])
def test_window_that_shows_nothing_is_not_applied(tmp_path, centre, width):
    pixels = dicoms.picture(bits=12)
    np.testing.assert_array_equal(
        shown(tmp_path, pixels, bits=12, WindowCenter=centre, WindowWidth=width), stretched(pixels)
    )


def test_padding_is_black_and_does_not_count(tmp_path):
    pixels = np.clip(dicoms.picture(bits=12), 500, 3000)
    framed = pixels.copy()
    framed[:5] = 4000
    for photometric in ("MONOCHROME2", "MONOCHROME1"):
        grey = shown(tmp_path, framed, bits=12, photometric=photometric, PixelPaddingValue=4000)
        inside = stretched(pixels[5:])
        assert not grey[:5].any()
        np.testing.assert_array_equal(grey[5:], inside if photometric[-1] == "2" else 255 - inside)


def test_overlay_bits_and_high_bits_are_taken_off(tmp_path):
    pixels = dicoms.picture(bits=12)
    overlaid = pixels | (np.arange(pixels.size).reshape(pixels.shape) % 2 << 13).astype(np.uint16)
    np.testing.assert_array_equal(shown(tmp_path, overlaid, bits=12), stretched(pixels))
    np.testing.assert_array_equal(shown(tmp_path, pixels << 4, bits=12, HighBit=15), stretched(pixels))


@pytest.mark.parametrize("syntax", [dicoms.RAW, dicoms.BASELINE, dicoms.J2K_LOSSLESS])
def test_smaller_reading_keeps_the_picture(tmp_path, syntax):
    import cv2

    bits = 8 if syntax == dicoms.BASELINE else 12
    pixels = dicoms.picture(514, 403, bits=bits)
    path = dicoms.save(dicoms.dataset(pixels, bits=bits, syntax=syntax), tmp_path / "a.dcm")
    small = read_grey(path, min_size=100)
    assert small.shape == (129, 101)
    area = cv2.resize(read_grey(path), (101, 129), interpolation=cv2.INTER_AREA)
    assert np.abs(small.astype(float) - area).mean() < (
        4.0 if syntax == dicoms.J2K_LOSSLESS else 1.0
    )  # wavelets leave more of the noise


def test_file_without_preamble_or_ending_is_recognised(tmp_path):
    pixels = dicoms.picture(bits=8)
    path = dicoms.save(dicoms.dataset(pixels), tmp_path / "IM0001")
    np.testing.assert_array_equal(read_grey(path), pixels)
    bare = tmp_path / "bare.dcm"
    bare.write_bytes(path.read_bytes()[132:])
    np.testing.assert_array_equal(read_grey(bare), pixels)


REFUSED = {
    "2 frames": {"NumberOfFrames": 2},
    "in colour": {"PhotometricInterpretation": "RGB", "SamplesPerPixel": 3},
    "palette": {"PhotometricInterpretation": "PALETTE COLOR"},
    "modality is 'CT'": {"Modality": "CT"},
    "shows 'LEFT HAND'": {"BodyPartExamined": "LEFT HAND"},
    "32 of 32 bits": {"BitsAllocated": 32, "BitsStored": 32, "HighBit": 31},
    "shrink the image": {"Rows": 60000, "Columns": 60000},
    "expected 1 to": {"Rows": 0},
    "holds no image": {"PixelData": None},
    "cut off": {"PixelData": b"\0" * 100},
}


@pytest.mark.parametrize("reason", list(REFUSED))
@pytest.mark.parametrize("reader", [read_grey, check_image])
def test_what_is_no_single_grey_chest_radiograph_is_refused(tmp_path, reason, reader):
    path = dicoms.save(dicoms.dataset(dicoms.picture(), bits=12, **REFUSED[reason]), tmp_path / "a.dcm")
    with pytest.raises(ImageReadError, match="PALETTE" if reason == "palette" else reason) as caught:
        reader(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("part", ["CHEST", "PORT CHEST", "THORAX", "CHEST ABDOMEN", "", "XR", "CHESTPA"])
def test_what_may_be_a_chest_is_read(tmp_path, part):
    pixels = dicoms.picture(bits=8)
    np.testing.assert_array_equal(shown(tmp_path, pixels, BodyPartExamined=part), pixels)


@pytest.mark.parametrize("syntax", [dicoms.BASELINE, dicoms.LOSSLESS_1, dicoms.LS, dicoms.J2K_LOSSLESS])
@pytest.mark.parametrize("reader", [read_grey, check_image])
def test_frame_of_another_size_than_the_header_is_refused(tmp_path, syntax, reader):
    bits = 8 if syntax == dicoms.BASELINE else 12
    path = dicoms.save(dicoms.dataset(dicoms.picture(bits=bits), bits=bits, syntax=syntax, Rows=63), tmp_path / "a.dcm")
    with pytest.raises(ImageReadError, match=r"63 x 48 .* 64 x 48"):
        reader(path)


@pytest.mark.parametrize("syntax", [*LOSSLESS, dicoms.BASELINE])
@pytest.mark.parametrize("share", [0.02, 0.3, 0.6, 0.9])
def test_truncated_files_are_refused_or_said_to_be_damaged(tmp_path, syntax, share):
    bits = 8 if syntax == dicoms.BASELINE else 12
    path = dicoms.save(
        dicoms.dataset(dicoms.picture(256, 256, bits=bits), bits=bits, syntax=syntax), tmp_path / "a.dcm"
    )
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(ImageReadError) as caught:
        read_grey(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("syntax", [dicoms.RAW, dicoms.RLE, dicoms.BASELINE, dicoms.LOSSLESS_1, dicoms.J2K_LOSSLESS])
def test_damaged_bytes_never_raise_anything_else(tmp_path, syntax):
    bits = 8 if syntax == dicoms.BASELINE else 12
    path = dicoms.save(dicoms.dataset(dicoms.picture(bits=bits), bits=bits, syntax=syntax), tmp_path / "a.dcm")
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    for _ in range(40):
        broken = bytearray(whole)
        for place in rng.integers(132, len(whole), 3):
            broken[place] = int(rng.integers(256))
        path.write_bytes(bytes(broken))
        try:
            grey = read_grey(path)
        except ImageReadError:
            continue
        assert grey.dtype == np.uint8
        assert grey.ndim == 2


@pytest.mark.parametrize(
    "header", [(1, 64), (2, 64, 10**9), (2, 900, 100), (3, 64, 65, 66), (2, 0, 64), (2**32 - 1, 64)]
)
def test_run_length_header_that_lies_is_refused(tmp_path, header):
    from pydicom.encaps import encapsulate, get_frame

    ds = dicoms.dataset(dicoms.picture(), bits=12, syntax=dicoms.RLE)
    frame = get_frame(ds.PixelData, 0, number_of_frames=1)
    table = np.zeros(16, "<u4")
    table[: len(header)] = header
    ds.PixelData = encapsulate([table.tobytes() + frame[64:]])
    with pytest.raises(ImageReadError, match="run-length header is damaged"):
        read_grey(dicoms.save(ds, tmp_path / "a.dcm"))


def test_deflated_is_refused_before_it_is_inflated(tmp_path):
    path = dicoms.save(dicoms.dataset(dicoms.picture(), bits=12, syntax=dicoms.DEFLATED), tmp_path / "a.dcm")
    with pytest.raises(ImageReadError, match="inflate it first"):
        read_grey(path)


def test_real_radiographs_are_read_right(real_data):
    folder = real_data / "full" / "dicom"
    plain = read_grey(folder / "1.2.276.0.7230010.3.1.4.8323329.6904.1517875201.850819.dcm")
    assert plain.shape == (1024, 1024)
    ds = pydicom.dcmread(folder / "1.2.276.0.7230010.3.1.4.8323329.6904.1517875201.850819.dcm")
    assert np.abs(plain.astype(int) - ds.pixel_array).max() <= 1
    np.testing.assert_array_equal(read_grey(folder / "Fake_MONOHR1.dcm"), 255 - plain)
