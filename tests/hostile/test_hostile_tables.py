"""Tables of the data sets, damaged in every way that a download, a spreadsheet or a script does it."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from hostile.cases import Bad, edit, edit_bytes, line, refuse, remove, swap, table, the

FILES = (
    # data set, file, a column that it needs
    ("rsna", "stage_2_train_labels.csv", "Target"),
    ("rsna", "stage_2_detailed_class_info.csv", "class"),
    ("nih", "Data_Entry_2017_v2020.csv", "Finding Labels"),
    ("chexpert", "CheXpert-v1.0-small/train.csv", "Edema"),
    ("siim", "train-rle.csv", "ImageId"),
    ("mimic", "mimic-cxr-jpg/2.1.0/mimic-cxr-2.0.0-split.csv", "split"),
    ("mimic", "mimic-cxr-jpg/2.1.0/mimic-cxr-2.0.0-metadata.csv.gz", "dicom_id"),
    ("mimic", "mimic-cxr-jpg/2.1.0/mimic-cxr-2.0.0-chexpert.csv.gz", "Edema"),
    ("edema", "regex_report_edema_severity.csv", "edema_severity"),
)


def rewrite(name: str, change: Callable[[bytes], bytes]) -> Callable[[], object]:
    """Change the bytes of a table, inside the gzip where it is one."""

    def run() -> None:
        path = the(name)
        packed = path.suffix == ".gz"
        old = gzip.decompress(path.read_bytes()) if packed else path.read_bytes()
        path.write_bytes(gzip.compress(change(old)) if packed else change(old))

    return run


def lines(change: Callable[[list[bytes]], list[bytes]]) -> Callable[[bytes], bytes]:
    return lambda old: b"\n".join(change(old.split(b"\n")))


def faults(dataset: str, name: str, column: str) -> list[Bad]:
    """What can be wrong with any CSV."""
    word, short = column.encode(), Path(name).name
    made: list[tuple[str, Callable[[], object], str]] = [
        ("is empty", rewrite(name, lambda old: b""), short),
        ("has no such column", rewrite(name, lambda old: old.replace(word, b"something", 1)), f"'{column}'"),
        ("has its column twice", rewrite(name, lines(lambda old: [old[0].rstrip() + b"," + word, *old[1:]])), short),
        ("has a short row", rewrite(name, lines(lambda old: [*old[:2], b"x", *old[3:]])), "line 3"),
        ("has a long row", rewrite(name, lines(lambda old: [*old[:2], old[2] + b",,,,,,,,,", *old[3:]])), "line 3"),
        ("is in Latin-1", rewrite(name, lambda old: old.replace(b"\n", b"\n\xe9", 2)), "UTF-8"),
        ("is UTF-16", rewrite(name, lambda old: old.decode().encode("utf-16")), short),
        ("is noise", rewrite(name, lambda old: bytes(range(256)) * 8), short),
        ("has an open quote", rewrite(name, lines(lambda old: [*old[:2], b'"' + old[2], *old[3:]])), short),
        ("has one endless field", rewrite(name, lines(lambda old: [*old[:2], b"9" * 200_000, *old[3:]])), short),
        ("is a web page", rewrite(name, lambda old: b"<html><body>403 Forbidden</body></html>"), short),
        ("is a pointer of Git LFS", rewrite(name, lambda old: b"version https://git-lfs.github.com/spec/v1\n"), short),
    ]
    if name.endswith(".gz"):
        made += [
            ("is a damaged gzip", edit_bytes(name, lambda old: old[:30] + b"\0" * 40 + old[70:]), "damaged or cut off"),
            ("is a gzip cut off", edit_bytes(name, lambda old: old[: len(old) // 2]), "damaged or cut off"),
            ("is no gzip", edit_bytes(name, gzip.decompress), "damaged or cut off"),
        ]
    # the header of NIH's table has commas inside its names, so that only its first columns count
    passed = ("has its column twice", "has a long row") if dataset == "nih" else ()
    made = [fault for fault in made if fault[0] not in passed]
    return [Bad(f"{short} {what}", "data splits .", says, make, dataset) for what, make, says in made]


RLE = "1.2.276.0.7230010.3.1.4.8323329.1.15178752,"
NIH = "Data_Entry_2017_v2020.csv"
BOXES = "BBox_List_2017.csv"
LABELS = "stage_2_train_labels.csv"


def rle(code: str) -> Callable[[], object]:
    return edit("train-rle.csv", line(2, RLE + code))


def nih(place: int, cell: str) -> Callable[[], object]:
    def change(old: str) -> str:
        rows = old.split("\n")
        cells = rows[1].split(",")
        cells[place] = cell
        return "\n".join([rows[0], ",".join(cells), *rows[2:]])

    return edit(NIH, change)


SPECIAL = (
    Bad("RLE is blank", "data splits .", "line 2", rle(""), "siim"),
    Bad("RLE has an odd number", "data splits .", "odd number", rle("1 2 3"), "siim"),
    Bad("RLE is a word", "data splits .", "whole numbers", rle("1 two"), "siim"),
    Bad("RLE is a fraction", "data splits .", "whole numbers", rle("1.5 2"), "siim"),
    Bad("RLE has a negative gap", "data splits .", "negative gap", rle("-5 3"), "siim"),
    Bad("RLE has an empty run", "data splits .", "run without pixels", rle("5 0"), "siim"),
    Bad("RLE leads past the end", "data splits .", "past the end", rle("1048570 100"), "siim"),
    Bad("RLE overflows", "data splits .", "RLE", rle("9223372036854775807 9223372036854775807"), "siim"),
    Bad("RLE overflows twice", "data splits .", "RLE", rle("9223372036854775807 5 9223372036854775807 5"), "siim"),
    Bad("RLE overflows after a run", "data splits .", "past the end", rle("1 5 " + "9223372036854775807 " * 2), "siim"),
    Bad("RLE has endless numbers", "data splits .", "whole numbers", rle("9" * 5000 + " 1"), "siim"),
    Bad("RLE beside the empty mark", "data splits .", "RLE", rle("-1 5"), "siim"),
    Bad("SIIM: no image of a row", "data splits .", "nowhere", edit("train-rle.csv", line(2, "nowhere,-1")), "siim"),
    Bad("SIIM: no images", "data splits .", "image", remove("dicom-images-train"), "siim"),
    Bad("RSNA: target is 2", "data splits .", "line 2", edit(LABELS, swap(",,,,0", ",,,,2")), "rsna"),
    Bad("RSNA: target is a word", "data splits .", "line 2", edit(LABELS, swap(",,,,0", ",,,,yes")), "rsna"),
    Bad("RSNA: a box without numbers", "data splits .", "line", edit(LABELS, swap("192.0,", "left,")), "rsna"),
    Bad("RSNA: a box is infinite", "data splits .", "line", edit(LABELS, swap("192.0,", "inf,")), "rsna"),
    Bad("RSNA: a box is nan", "data splits .", "line", edit(LABELS, swap("192.0,", "nan,")), "rsna"),
    Bad("RSNA: a box is negative", "data splits .", "line", edit(LABELS, swap(",128.0,", ",-128.0,")), "rsna"),
    Bad("RSNA: a box outside", "data splits .", "line", edit(LABELS, swap("192.0,", "99999.0,")), "rsna"),
    Bad("RSNA: no images", "data splits .", "stage_2_train_images", remove("stage_2_train_images"), "rsna"),
    Bad("RSNA: one image is gone", "data splits .", "1", remove("stage_2_train_images/b*.dcm"), "rsna"),
    Bad(
        "RSNA: unknown class",
        "data splits .",
        "Weird",
        edit("stage_2_detailed_class_info.csv", swap("Normal", "Weird")),
        "rsna",
    ),
    Bad("NIH: unknown finding", "data splits .", "Influenza", nih(1, "Influenza"), "nih"),
    Bad("NIH: finding beside none", "data splits .", "No Finding", nih(1, "No Finding|Mass"), "nih"),
    Bad("NIH: patient is a word", "data splits .", "line 2", nih(3, "Smith"), "nih"),
    Bad("NIH: patient is endless", "data splits .", "line 2", nih(3, "9" * 30), "nih"),
    Bad("NIH: patient is a superscript", "data splits .", "line 2", nih(3, "\u00b2"), "nih"),
    Bad("NIH: image leads out", "data splits .", "passwd", nih(0, "../../../etc/passwd"), "nih"),
    Bad("NIH: image twice", "data splits .", "00000001_001.png", nih(0, "00000001_001.png"), "nih"),
    Bad(
        "NIH: image in both lists",
        "data splits .",
        "other list",
        lambda: Path("test_list.txt").write_bytes(Path("train_val_list.txt").read_bytes()),
        "nih",
    ),
    Bad("NIH: no images", "data splits .", "image", remove("images_00*"), "nih"),
    Bad("NIH: box without numbers", "data splits .", BOXES, edit(BOXES, swap("192.000000", "left")), "nih"),
    Bad("NIH: box of no finding", "data splits .", "Flu", edit(BOXES, swap("Infiltrate", "Flu")), "nih"),
    Bad(
        "NIH: list is noise",
        "data splits .",
        "train_val_list.txt",
        edit_bytes("train_val_list.txt", lambda old: b"\xff\xfe" + old),
        "nih",
    ),
    Bad(
        "CheXpert: label is 2",
        "data splits .",
        "line 2",
        edit("*/train.csv", swap("PA,1.0", "PA,2.0")),
        "chexpert",
    ),
    Bad(
        "CheXpert: label is a word",
        "data splits .",
        "line 2",
        edit("*/train.csv", swap("PA,1.0", "PA,yes")),
        "chexpert",
    ),
    Bad(
        "CheXpert: path leads out",
        "data splits .",
        "line 2",
        edit("*/train.csv", swap("CheXpert-v1.0-small/train/patient00001/study1", "../../../etc")),
        "chexpert",
    ),
    Bad(
        "CheXpert: path is absolute",
        "data splits .",
        "line 2",
        edit("*/train.csv", swap("CheXpert-v1.0-small/train/patient00001/study1", "/etc")),
        "chexpert",
    ),
    Bad("CheXpert: no images", "data splits .", "train", remove("*/train"), "chexpert"),
    Bad("CheXpert: no table", "data splits . --dataset chexpert", "train.csv", remove("*/*.csv"), "chexpert"),
    Bad("COVIDx: line of one word", "data splits .", "train.txt", edit("train.txt", line(1, "x")), "covidx"),
    Bad("COVIDx: unknown class", "data splits .", "maybe", edit("train.txt", swap("negative", "maybe")), "covidx"),
    Bad(
        "COVIDx: image is not there",
        "data splits .",
        "gone.png",
        edit("train.txt", swap("train-000000-1.png", "gone.png")),
        "covidx",
    ),
    Bad(
        "COVIDx: image leads out",
        "data splits .",
        "passwd",
        edit("train.txt", swap("train-000000-1.png", "../../../etc/passwd")),
        "covidx",
    ),
    Bad(
        "COVIDx: list is noise",
        "data splits .",
        "train.txt",
        edit_bytes("train.txt", lambda old: b"\xff" + old),
        "covidx",
    ),
    Bad(
        "COVIDx: list is empty",
        "data splits . --dataset covidx",
        "train.txt",
        edit("train.txt", lambda old: ""),
        "covidx",
    ),
    Bad(
        "COVID-Rural: no masks", "data splits . --dataset covid_rural", "mask", remove("*/*/pngs_masks"), "covid_rural"
    ),
    Bad("COVID-Rural: no images", "data splits . --dataset covid_rural", "image", remove("*/*/jpgs"), "covid_rural"),
    Bad("Open-i: no images", "data splits . --dataset openi", "image", remove("NLMCXR_png"), "openi"),
    Bad(
        "edema: grade is 4",
        "data splits .",
        "line 2",
        edit("regex_report_edema_severity.csv", lambda old: old.replace(",0\n", ",4\n", 1)),
        "edema",
    ),
    Bad(
        "edema: grade is a word",
        "data splits .",
        "line 2",
        edit("regex_report_edema_severity.csv", lambda old: old.replace(",0\n", ",bad\n", 1)),
        "edema",
    ),
    Bad("edema: no MIMIC-CXR", "data splits .", "MIMIC-CXR", remove("mimic"), "edema"),
    Bad(
        "MIMIC: unknown part",
        "data splits .",
        "line 2",
        edit("*/*/mimic-cxr-2.0.0-split.csv", swap(",train", ",training")),
        "mimic",
    ),
    Bad(
        "MIMIC: image in no metadata",
        "data splits .",
        "split.csv",
        edit("*/*/mimic-cxr-2.0.0-split.csv", line(2, "a-b,1,2,train")),
        "mimic",
    ),
    Bad("MIMIC: no images", "data splits .", "image", remove("mimic-cxr-jpg/2.1.0/files"), "mimic"),
)


CASES = [
    case if "--dataset" in case.command else replace(case, command=f"{case.command} --dataset {case.base}")
    for case in (*(case for spec in FILES for case in faults(*spec)), *SPECIAL)
]


@table(*CASES)
def test_one_line(bad: Bad, bases, capsys: pytest.CaptureFixture[str]) -> None:
    refuse(bad, capsys, bases(bad.base))
