"""The five layouts in which SIIM-ACR Pneumothorax circulates: which one a folder has, and its images, labels and masks.

A: ``dicom-images-train/STUDY/SERIES/IMAGE.dcm`` and ``train-rle.csv`` (stage 1; also converted images of these names).
B: ``stage_2_images/ID_xxxxxxxxx.dcm`` and ``stage_2_train.csv``.
C: ``png_images/0_train_1_.png``, ``png_masks`` of the same names, ``stage_1_train_images.csv``.
D: ``processed_images/IMAGE.png`` and ``segmentation_masks/IMAGE.gif``; ``train.csv``, ``validation.csv``, ``test.csv``.
E: ``images/training/*.png`` and ``annotations/training/*.png`` (also ``validation``, ``test``).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from dmlm.datasets.csv_columns import check_unique, find_table, read_columns
from dmlm.datasets.image_index import MissingImages, index_images, settle_missing, subfolders
from dmlm.datasets.mask_files import MaskFiles, any_pixel
from dmlm.datasets.rle import decode_rle, parse_runs
from dmlm.errors import DatasetFormatError, DatasetNotFoundError

Layout = Literal["A", "B", "C", "D", "E"]
HOW_TO_GET: Final = (
    "download it from Kaggle (siim-acr-pneumothorax-segmentation, seesee/siim-train-test, or "
    "vbookshelf/pneumothorax-chest-xray-images-and-masks)"
)
STAGE_1: Final = "train-rle.csv"
STAGE_2: Final = "stage_2_train.csv"

_SIDE: Final = 1024
_PARTS: Final = {"training": "train", "train": "train", "validation": "val", "val": "val", "test": "test"}
_C_NAME: Final = re.compile(r"\d+_(train|test)_([01])_$")


@dataclass(frozen=True)
class Films:
    """What a layout says about its images, row by row.

    Args:
        images: Path relative to the root.
        ids: ``ImageId``, or the file's stem where the layout has lost it.
        positive: float32 ``[N]``, 1 where there is a pneumothorax.
        masks: From row to uint8 ``[1, h, w]``.
        splits: Part of each image, where the layout has parts.
        lines: Lines of the csv that speak of each image; empty for layouts without one.
    """

    images: list[str]
    ids: list[str]
    positive: NDArray[np.float32]
    masks: Callable[[int], NDArray[np.uint8]]
    splits: list[str] | None
    lines: list[tuple[int, ...]]


class RunLengthMasks:
    """Run-length masks: a picklable function from row to uint8 ``[1, 1024, 1024]``; codes of one image are united.

    Args:
        codes: Codes of each row.
    """

    def __init__(self, codes: list[tuple[str, ...]]) -> None:
        self.codes = codes

    def __call__(self, row: int) -> NDArray[np.uint8]:
        """Return the mask of one row."""
        mask = np.zeros((_SIDE, _SIDE), np.uint8)
        for code in self.codes[row]:
            mask |= decode_rle(code, _SIDE, _SIDE)
        return mask[None]


def find_layout(root: Path) -> tuple[Layout, Path] | None:
    """Return the layout of a folder and where it starts (the folder or one in it), None if there is none."""
    for folder in subfolders(root):
        if (folder / "png_images").is_dir() and (folder / "png_masks").is_dir():
            return "C", folder
        if (folder / "processed_images").is_dir() and (folder / "segmentation_masks").is_dir():
            return "D", folder
        if any((folder / "images" / part).is_dir() and (folder / "annotations" / part).is_dir() for part in _PARTS):
            return "E", folder
        if find_table([folder], STAGE_1) is not None:
            return "A", folder
        if find_table([folder], STAGE_2) is not None:
            return "B", folder
    return None


def read_layout(layout: Layout, folder: Path, missing_images: MissingImages) -> Films:
    """Read a layout; paths are relative to ``folder``.

    Raises:
        DatasetNotFoundError: If images or masks are missing.
        DatasetFormatError: If a table says something impossible.
    """
    if layout in ("A", "B"):
        return _coded(folder, STAGE_1 if layout == "A" else STAGE_2, missing_images)
    if layout == "C":
        return _numbered(folder, missing_images)
    return _processed(folder) if layout == "D" else _in_parts(folder)


def _coded(folder: Path, name: str, missing_images: MissingImages) -> Films:
    """A and B: a csv of run-length codes, one or more rows an image."""
    path = find_table([folder], name)
    if path is None:
        msg = f"{folder}: has no {name}; {HOW_TO_GET}"
        raise DatasetNotFoundError(msg)
    columns = read_columns(path, ("ImageId", "EncodedPixels"))  # the header's leading space is stripped there
    lines: dict[str, list[int]] = {}
    codes: dict[str, list[str]] = {}
    for line, (image, code) in enumerate(zip(columns["ImageId"], columns["EncodedPixels"], strict=True), start=2):
        try:
            empty = not len(parse_runs(code, _SIDE * _SIDE))
        except DatasetFormatError as error:
            msg = f"{path}, line {line}: image '{image}': {error}; download the file again"
            raise DatasetFormatError(msg) from error
        if image in codes and (empty or not codes[image]):
            msg = f"{path}, line {line}: image '{image}' is listed before, and one of its rows says -1 (no mask)"
            raise DatasetFormatError(msg)
        lines.setdefault(image, []).append(line)
        codes.setdefault(image, []).extend([] if empty else [code])
    files = index_images(folder, 4, ("dicom-images-train", "dicom-images-test", "stage_2_images"))
    missing = [image for image in codes if image not in files]
    settle_missing(folder, path.name, missing, len(codes), missing_images, HOW_TO_GET)
    ids = [image for image in codes if image in files]
    images = [files[image] for image in ids]
    parts = ["test" if "images-test" in image.split("/")[0] else "train" for image in images]
    return Films(
        images=images,
        ids=ids,
        positive=np.array([bool(codes[image]) for image in ids], np.float32),
        masks=RunLengthMasks([tuple(codes[image]) for image in ids]),
        splits=parts if "test" in parts else None,
        lines=[tuple(lines[image]) for image in ids],
    )


def _numbered(folder: Path, missing_images: MissingImages) -> Films:
    """C: numbered PNG with the label in the name, and tables that know the ImageId."""
    named: dict[str, str] = {}
    for part in ("train", "test"):
        path = find_table([folder, folder.parent], f"stage_1_{part}_images.csv")
        if path is None:
            continue
        columns = read_columns(path, ("new_filename", "ImageId", "has_pneumo"))
        check_unique(path, "new_filename", columns["new_filename"])
        for line, (file, image, label) in enumerate(zip(*columns.values(), strict=True), start=2):
            match = _C_NAME.fullmatch(file.rpartition(".")[0])
            if match is None or match[2] != label:
                msg = f"{path}, line {line}: has_pneumo '{label}' does not fit the file name '{file}'"
                raise DatasetFormatError(msg)
            named[file] = image
    there = index_images(folder / "png_images", 0, by_stem=False)
    missing = [file for file in named if file not in there]
    settle_missing(folder, "stage_1_*_images.csv", missing, max(1, len(named)), missing_images, HOW_TO_GET)
    files = sorted(there)
    matches = [(file, _C_NAME.fullmatch(file.rpartition(".")[0])) for file in files]
    odd = next((file for file, match in matches if match is None), None)
    if odd is not None or not files:
        msg = f"{folder / 'png_images'}: expected files such as 0_train_1_.png, found {odd or 'none'}; {HOW_TO_GET}"
        raise DatasetFormatError(msg)
    found = [match for _, match in matches if match is not None]
    masks = [folder / "png_masks" / file for file in files]
    _all_there(masks)
    return Films(
        images=[f"png_images/{file}" for file in files],
        ids=[named.get(file, file.rpartition(".")[0]) for file in files],
        positive=np.array([match[2] == "1" for match in found], np.float32),
        masks=MaskFiles(masks),
        splits=[match[1] for match in found],
        lines=[()] * len(files),
    )


def _processed(folder: Path) -> Films:
    """D: PNG and GIF named by ImageId; the three csv, where present, are the parts."""
    files = index_images(folder / "processed_images", 0)
    ids = sorted(files)
    known = index_images(folder / "segmentation_masks", 0)
    masks = [folder / "segmentation_masks" / known.get(image, f"{image}.gif") for image in ids]
    parts: dict[str, str] = {}
    for stem in ("train", "validation", "test"):
        path = find_table([folder], f"{stem}.csv")
        if path is not None:
            parts |= dict.fromkeys(read_columns(path, ("ID",))["ID"], _PARTS[stem])
    return Films(
        images=[f"processed_images/{files[image]}" for image in ids],
        ids=ids,
        positive=any_pixel(masks).astype(np.float32),
        masks=MaskFiles(masks),
        splits=[parts.get(image, "") for image in ids] if parts else None,
        lines=[()] * len(ids),
    )


def _in_parts(folder: Path) -> Films:
    """E: images and annotations in folders of their part."""
    images: list[str] = []
    masks: list[Path] = []
    splits: list[str] = []
    for part in [part for part in _PARTS if (folder / "images" / part).is_dir()]:
        files = index_images(folder / "images" / part, 0)
        known = index_images(folder / "annotations" / part, 0)
        for image, file in sorted(files.items()):
            images.append(f"images/{part}/{file}")
            masks.append(folder / "annotations" / part / known.get(image, f"{image}.png"))
            splits.append(_PARTS[part])
    return Films(
        images=images,
        ids=[Path(image).stem for image in images],
        positive=any_pixel(masks).astype(np.float32),
        masks=MaskFiles(masks),
        splits=splits,
        lines=[()] * len(images),
    )


def _all_there(masks: list[Path]) -> None:
    gone = [path for path in masks if not path.is_file()]
    if gone:
        msg = f"{gone[0]}: the mask of an image is not there ({len(gone):,} of {len(masks):,}); copy the masks again"
        raise DatasetNotFoundError(msg)
