"""Image files that are damaged, absurd, or something else under the name of an image."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image

from hostile.cases import Bad, data, refuse, table

GREY = (np.add.outer(np.arange(96), np.arange(80)) % 256).astype(np.uint8)


def bad(name: str, file: str, says: str, content: bytes | Callable[[], bytes]) -> Bad:
    """A CSV with one image, prepared into a store; what was prepared so far is kept, as for any other image."""

    def make() -> None:
        data(file, content() if callable(content) else content)()
        data("m.csv", f"path\n{file}\n".encode())()

    return Bad(name, "data prepare m.csv --out s --size 32 --workers 1 --quiet", says, make, leaves=("s/*",))


def saved(kind: str, mode: str = "L", **options: object) -> bytes:
    file = io.BytesIO()
    Image.fromarray(GREY).convert(mode).save(file, kind, **options)
    return file.getvalue()


def chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def png(width: int, height: int, bits: int = 8, colour: int = 0, pixels: bytes = b"") -> bytes:
    """A PNG whose header says what we like."""
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        (chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(pixels)), chunk(b"IEND", b""))
    )


def sized(jpeg: bytes, height: int, width: int) -> bytes:
    """The JPEG with other sides in its frame header."""
    place = jpeg.index(b"\xff\xc0") + 5
    return jpeg[:place] + struct.pack(">HH", height, width) + jpeg[place + 4 :]


def cut(content: bytes, share: float) -> bytes:
    return content[: int(len(content) * share)]


def flipped(content: bytes, place: int) -> bytes:
    return content[:place] + bytes([content[place] ^ 0xFF]) + content[place + 1 :]


JPEG, PNG, TIFF, BMP, GIF = (saved(kind) for kind in ("JPEG", "PNG", "TIFF", "BMP", "GIF"))
COLOURS = {mode: saved("PNG", mode) for mode in ("P", "RGBA", "LA", "1", "RGB")}
DEEP = saved("PNG", "I;16")

PICTURES = (
    bad("nothing", "a.png", "the file is empty", b""),
    bad("nothing of a JPEG", "a.jpg", "the file is empty", b""),
    bad("noise", "a.png", "not an image", b"noise" * 100),
    bad("zeros", "a.jpg", "not an image", bytes(4096)),
    bad("a web page", "a.jpg", "HTML or XML", b"<!DOCTYPE html><html>403</html>"),
    bad("a pointer of Git LFS", "a.jpg", "git lfs pull", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n"),
    bad("a CSV", "a.png", "not an image", b"path,text\na,b\n"),
    bad("an archive", "a.png", "not an image", b"PK\x03\x04" + bytes(100)),
    bad("a pickle", "a.png", "not an image", b"\x80\x04cposix\nsystem\n(S'touch touched'\ntR."),
    bad("a PDF", "a.png", "not an image", b"%PDF-1.7\n" + bytes(200)),
    bad("vector graphics", "a.png", "HTML or XML", b"<svg xmlns='http://www.w3.org/2000/svg'/>"),
    bad(
        "a script of PostScript", "a.png", "image", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n"
    ),
    *(bad(f"JPEG cut off at {share}", "a.jpg", "a.jpg", cut(JPEG, share)) for share in (0.02, 0.3, 0.6, 0.9)),
    *(bad(f"PNG cut off at {share}", "a.png", "a.png", cut(PNG, share)) for share in (0.05, 0.3, 0.6)),
    *(bad(f"TIFF cut off at {share}", "a.tif", "a.tif", cut(TIFF, share)) for share in (0.1, 0.5, 0.9)),
    *(bad(f"BMP cut off at {share}", "a.bmp", "a.bmp", cut(BMP, share)) for share in (0.005, 0.5)),
    *(bad(f"GIF cut off at {share}", "a.gif", "a.gif", cut(GIF, share)) for share in (0.005, 0.4)),
    *(bad(f"PNG of mode {mode} cut off", "a.png", "damaged", cut(file, 0.7)) for mode, file in COLOURS.items()),
    bad("16-bit PNG cut off", "a.png", "damaged", cut(DEEP, 0.7)),
    bad("CMYK JPEG cut off", "a.jpg", "damaged", cut(saved("JPEG", "CMYK"), 0.5)),
    bad("progressive JPEG cut off", "a.jpg", "damaged", cut(saved("JPEG", progressive=True), 0.5)),
    bad("PNG with a damaged header", "a.png", "damaged", flipped(PNG, 18)),
    bad("PNG with a damaged checksum", "a.png", "damaged", flipped(PNG, 30)),
    bad("PNG without pixels", "a.png", "damaged", png(80, 96)),
    bad("PNG with too few pixels", "a.png", "damaged", png(80, 96, pixels=bytes(100))),
    bad("PNG without width", "a.png", "a.png", png(0, 96)),
    bad("PNG without height", "a.png", "a.png", png(80, 0)),
    bad("PNG of 3 bits", "a.png", "a.png", png(8, 8, bits=3, pixels=bytes(72))),
    bad("PNG of 64 bits", "a.png", "a.png", png(8, 8, bits=64, pixels=bytes(600))),
    bad("PNG of an unknown colour", "a.png", "a.png", png(8, 8, colour=9, pixels=bytes(72))),
    bad("PNG of a palette without one", "a.png", "a.png", png(8, 8, bits=3, colour=3, pixels=bytes(72))),
    bad("PNG of 4 gigapixels", "a.png", "pixels", png(65_000, 65_000, pixels=bytes(100))),
    bad("PNG of 2 billion columns", "a.png", "a.png", png(2**31 - 1, 2**31 - 1)),
    bad("PNG of 110 megapixels", "a.png", "11000 x 10000 pixels", png(11_000, 10_000, 1, 0, bytes(1376 * 10_000))),
    bad("JPEG of 4 gigapixels", "a.jpg", "pixels", sized(JPEG, 65_500, 65_500)),
    bad("JPEG without height", "a.jpg", "a.jpg", sized(JPEG, 0, 80)),
    bad("JPEG taller than its data", "a.jpg", "damaged", sized(JPEG, 9_000, 80)),
    bad("a mark of a JPEG only", "a.jpg", "damaged", b"\xff\xd8\xff"),
    bad("a JPEG without its tables", "a.jpg", "damaged", b"\xff\xd8" + JPEG[JPEG.index(b"\xff\xda") :]),
    bad("named DICOM", "a.dcm", "named as a DICOM file", b"noise" * 100),
    bad("a folder", "a.png/b.png", "a.png/b.png", b""),
)


def dicom(change: Callable[[object], object] = lambda ds: None, number: int = 0) -> Callable[[], bytes]:
    """A radiograph, raw (0), RLE (1), JPEG (2) or JPEG 2000 (3), changed."""

    def make() -> bytes:
        import pydicom

        from benchmarks.fuzz_images import dicoms

        ds = pydicom.dcmread(io.BytesIO(dicoms()[number]))
        change(ds)
        file = io.BytesIO()
        ds.save_as(file, enforce_file_format=True)
        return file.getvalue()

    return make


def tags(number: int = 0, **values: object) -> Callable[[], bytes]:
    def change(ds: object) -> None:
        for name, value in values.items():
            if value is None:
                delattr(ds, name)
            else:
                setattr(ds, name, value)

    return dicom(change, number)


DICOMS = (
    *(
        bad(
            f"{kind} DICOM cut off at {share}", "a.dcm", "DICOM", lambda n=n, share=share: cut(dicom(number=n)(), share)
        )
        for n, kind in enumerate(("raw", "RLE", "JPEG", "JPEG 2000"))
        for share in (0.1, 0.5, 0.9)
    ),
    bad("DICOM: a preamble only", "a.dcm", "DICOM", bytes(128) + b"DICM"),
    bad("DICOM: noise behind the mark", "a.dcm", "DICOM", bytes(128) + b"DICM" + b"noise" * 100),
    bad("DICOM: two frames", "a.dcm", "2 frames", tags(NumberOfFrames=2)),
    bad("DICOM: a million frames", "a.dcm", "frames", tags(NumberOfFrames=1_000_000)),
    bad("DICOM: colour", "a.dcm", "in colour", tags(PhotometricInterpretation="RGB", SamplesPerPixel=3)),
    bad("DICOM: palette", "a.dcm", "in colour (PALETTE", tags(PhotometricInterpretation="PALETTE COLOR")),
    bad("DICOM: no interpretation", "a.dcm", "DICOM", tags(PhotometricInterpretation=None)),
    bad("DICOM: CT", "a.dcm", "modality is 'CT'", tags(Modality="CT")),
    bad("DICOM: a hand", "a.dcm", "shows 'HAND'", tags(BodyPartExamined="HAND")),
    bad("DICOM: no rows", "a.dcm", "expected 1 to", tags(Rows=0)),
    bad("DICOM: no columns", "a.dcm", "expected 1 to", tags(Columns=0)),
    bad("DICOM: without rows", "a.dcm", "cut off", tags(Rows=None)),
    bad("DICOM: without columns", "a.dcm", "DICOM", tags(Columns=None)),
    bad("DICOM: 4 gigapixels", "a.dcm", "shrink the image", tags(Rows=65_535, Columns=65_535)),
    bad("DICOM: 4 gigapixels in RLE", "a.dcm", "shrink the image", tags(1, Rows=65_535, Columns=65_535)),
    bad("DICOM: more rows than pixels", "a.dcm", "cut off", tags(Rows=4_000)),
    bad("DICOM: RLE with more rows", "a.dcm", "cut off", tags(1, Rows=4_000)),
    bad("DICOM: JPEG of another size", "a.dcm", "compressed image inside", tags(2, Rows=25)),
    bad("DICOM: JPEG 2000 of another size", "a.dcm", "compressed image inside", tags(3, Columns=21)),
    bad("DICOM: 32 bits", "a.dcm", "of 32 bits", tags(BitsAllocated=32, BitsStored=32, HighBit=31)),
    bad("DICOM: 12 bits in 8", "a.dcm", "12 of 8 bits", tags(BitsStored=12)),
    bad("DICOM: no bits", "a.dcm", "0 of 8 bits", tags(BitsStored=0)),
    bad("DICOM: without bits", "a.dcm", "DICOM", tags(BitsAllocated=None)),
    bad("DICOM: an odd sign", "a.dcm", "bits a pixel", tags(PixelRepresentation=7)),
    bad("DICOM: no pixels", "a.dcm", "holds no image", tags(PixelData=None)),
    bad("DICOM: empty pixels", "a.dcm", "holds no image", tags(PixelData=b"")),
    bad("DICOM: JPEG without fragments", "a.dcm", "DICOM", tags(2, PixelData=b"\xfe\xff\x00\xe0\0\0\0\0")),
    bad("DICOM: an unknown window", "a.dcm", "VOI LUT Function 'LOG'", tags(VOILUTFunction="LOG")),
)


@table(*PICTURES, *DICOMS)
def test_one_line(bad: Bad, capsys: pytest.CaptureFixture[str]) -> None:
    if "DICOM" in bad.name:
        pytest.importorskip("pydicom")
    refuse(bad, capsys)
