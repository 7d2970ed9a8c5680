"""Make small DICOM radiographs in every pixel format; the pictures are numpy arrays that the tests know."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np

RAW, BIG, DEFLATED = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2", "1.2.840.10008.1.2.1.99"
IMPLICIT, RLE = "1.2.840.10008.1.2", "1.2.840.10008.1.2.5"
BASELINE, EXTENDED = "1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.51"
LOSSLESS, LOSSLESS_1 = "1.2.840.10008.1.2.4.57", "1.2.840.10008.1.2.4.70"
LS, LS_NEAR, J2K_LOSSLESS, J2K = (f"1.2.840.10008.1.2.4.{n}" for n in (80, 81, 90, 91))


def picture(height=64, width=48, bits=12, signed=False, seed=0):
    """A smooth field with some noise over the whole range of the bits."""
    y, x = np.mgrid[0:height, 0:width]
    wave = 0.5 + 0.45 * np.sin(x / width * 3.0) * np.cos(y / height * 4.0)
    noisy = np.clip(wave + np.random.default_rng(seed).normal(0.0, 0.01, wave.shape), 0.0, 1.0)
    values = np.rint(noisy * (2**bits - 1)).astype(np.int64)
    if signed:
        return (values - 2 ** (bits - 1)).astype(np.int8 if bits <= 8 else np.int16)
    return values.astype(np.uint8 if bits <= 8 else np.uint16)


def compress(pixels, syntax, bits):
    """Encode an array in the format of a transfer syntax."""
    import imagecodecs
    from PIL import Image

    if syntax == BASELINE:
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "JPEG", quality=95)
        return buffer.getvalue()
    unsigned = pixels.view(f"u{pixels.dtype.itemsize}")
    unsigned = unsigned & np.array((1 << bits) - 1, unsigned.dtype)
    if syntax == EXTENDED:
        return bytes(imagecodecs.jpeg8_encode(unsigned, bitspersample=12))
    if syntax == LOSSLESS:
        return bytes(imagecodecs.jpeg8_encode(unsigned, lossless=True, predictor=6, bitspersample=bits))
    if syntax == LOSSLESS_1:
        return bytes(imagecodecs.ljpeg_encode(unsigned, bitspersample=bits))
    if syntax in (LS, LS_NEAR):
        return bytes(imagecodecs.jpegls_encode(unsigned, level=0 if syntax == LS else 2))
    source = pixels if pixels.dtype.kind == "i" else unsigned
    return bytes(imagecodecs.jpeg2k_encode(source, codecformat="j2k", reversible=True, bitspersample=bits))


def dataset(pixels, bits=None, syntax=RAW, photometric="MONOCHROME2", **tags):
    """A ``pydicom.Dataset`` of a radiograph; ``tags`` overwrite anything, None removes it."""
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.encaps import encapsulate
    from pydicom.uid import UID, generate_uid

    bits = bits or 8 * pixels.dtype.itemsize
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = UID(syntax)
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID = UID("1.2.840.10008.5.1.4.1.1.1")
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID = generate_uid(entropy_srcs=["dmlm"])
    ds.Modality, ds.BodyPartExamined = "DX", "CHEST"
    ds.Rows, ds.Columns = pixels.shape[:2]
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, photometric
    ds.BitsAllocated, ds.BitsStored, ds.HighBit = 8 * pixels.dtype.itemsize, bits, bits - 1
    ds.PixelRepresentation = int(pixels.dtype.kind == "i")
    if syntax in (RAW, IMPLICIT, DEFLATED):
        ds.PixelData = pixels.astype(pixels.dtype.newbyteorder("<")).tobytes()
    elif syntax == BIG:
        ds.PixelData = pixels.astype(pixels.dtype.newbyteorder(">")).tobytes()
    elif syntax == RLE:
        ds.compress(UID(RLE), pixels.astype(pixels.dtype.newbyteorder("<")), generate_instance_uid=False)
    else:
        ds.PixelData = encapsulate([compress(pixels, syntax, bits)])
    ds["PixelData"].VR = "OB" if pixels.dtype.itemsize == 1 or syntax not in (RAW, IMPLICIT, BIG, DEFLATED) else "OW"
    for name, value in tags.items():
        if value is None:
            delattr(ds, name)
        else:
            setattr(ds, name, value)
    return ds


def lut(first, entries, bits, signed=False):
    """A sequence with one lookup table."""
    from pydicom.dataset import Dataset
    from pydicom.sequence import Sequence

    item = Dataset()
    item.add_new("LUTDescriptor", "SS" if signed else "US", [len(entries) % 65536, first, bits])
    item.add_new("LUTData", "US", [int(entry) for entry in entries])
    return Sequence([item])


def save(ds, path: Path) -> Path:
    """Write a data set as a file."""
    ds.save_as(path, enforce_file_format=True)
    return path
