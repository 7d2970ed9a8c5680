"""Phantoms in the five layouts of SIIM-ACR Pneumothorax."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from dmlm.datasets.phantom.studies import make_patient
from dmlm.datasets.rle import EMPTY, encode_rle
from dmlm.datasets.siim_layouts import Layout
from dmlm.datasets.splits import Split
from dmlm.datasets.synthesize.films import phantom_patients, write_csv
from dmlm.datasets.synthesize.kaggle_dicom import write_kaggle_dicom

_SIDE: Final = 1024
_UID: Final = "1.2.276.0.7230010.3.1"
_FOLDERS: Final[dict[Split, str]] = {"train": "training", "val": "validation", "test": "test"}


@dataclass(frozen=True)
class WrittenFilm:
    """One image as it was written: its name, part, grey values, view and (1024-pixel) mask, bool ``[1024, 1024]``."""

    name: str
    split: Split
    image: NDArray[np.uint8]
    view: str
    mask: NDArray[np.bool_]


def write(out: Path, patients: int, seed: int, image_size: int) -> None:
    """Write layout A, the one of stage 1: nested DICOM folders and ``train-rle.csv``.

    Args:
        out: Folder to write to.
        patients: Patients, at least 3.
        seed: Another seed gives other patients.
        image_size: Height and width of the films, in pixels (1024 in the challenge).
    """
    write_layout(out, "A", patients, seed, image_size)


def write_layout(out: Path, layout: Layout, patients: int, seed: int, image_size: int) -> list[WrittenFilm]:
    """Write one of the layouts of :mod:`dmlm.datasets.siim_layouts`.

    Among the edge cases of A and B: negatives as ``-1`` and `` -1``, an image whose two rows overlap, one whose two
    rows do not, a header with (A) and without (B) a space, a DICOM that no row speaks of.

    Returns:
        What was written.
    """
    films: list[WrittenFilm] = []
    for split, studies in phantom_patients(patients, seed, image_size):
        for study in studies:
            number = len(films)
            name = (
                f"ID_{number * 7919 + 10**8:09x}"[:12] if layout == "B" else f"{_UID}.4.8323329.{number + 1}.15178752"
            )
            mask = study.masks.get("Pneumothorax", np.zeros((image_size, image_size), bool))
            films.append(WrittenFilm(name, split, study.image, study.view, _enlarged(mask)))
    if layout in ("A", "B"):
        _write_coded(out, layout, films)
        if layout == "A":  # as in stage 1: more DICOM files than rows
            extra = make_patient(seed, "train", 10_000, image_size)[0]
            place = out / "dicom-images-train" / f"{_UID}.2.0" / f"{_UID}.3.0" / f"{_UID}.4.0.dcm"
            write_kaggle_dicom(place, extra.image, "unlisted", extra.view)
    elif layout == "C":
        _write_numbered(out / "siim-acr-pneumothorax", films)
    elif layout == "D":
        for film in films:
            _write_pixels(out / "processed_images" / f"{film.name}.png", film.image)
            _write_pixels(out / "segmentation_masks" / f"{film.name}.gif", film.mask.astype(np.uint8) * np.uint8(255))
        for split, stem in (("train", "train"), ("val", "validation"), ("test", "test")):
            write_csv(out / f"{stem}.csv", ("ID",), [(film.name,) for film in films if film.split == split])
    else:
        for film in films:
            part = _FOLDERS[film.split]
            _write_pixels(out / "siim" / "images" / part / f"{film.name}.png", film.image)
            _write_pixels(out / "siim" / "annotations" / part / f"{film.name}.png", film.mask.astype(np.uint8))
    return films


def _write_coded(out: Path, layout: Layout, films: list[WrittenFilm]) -> None:
    rows: list[tuple[str, str]] = []
    positives = 0
    for number, film in enumerate(films):
        if layout == "B":
            path = out / "stage_2_images" / f"{film.name}.dcm"
        else:
            folder = "dicom-images-test" if film.split == "test" else "dicom-images-train"
            study, series = film.name.replace(f"{_UID}.4", f"{_UID}.2"), film.name.replace(f"{_UID}.4", f"{_UID}.3")
            path = out / folder / study / series / f"{film.name}.dcm"
        write_kaggle_dicom(path, film.image, f"patient-{number}", film.view)
        if not film.mask.any():
            rows.append((film.name, EMPTY if number % 2 else f" {EMPTY}"))
            continue
        rows.extend((film.name, encode_rle(part)) for part in _parts(film.mask, positives))
        positives += 1
    header = ("ImageId", " EncodedPixels") if layout == "A" else ("ImageId", "EncodedPixels")
    write_csv(out / ("train-rle.csv" if layout == "A" else "stage_2_train.csv"), header, rows)


def _parts(mask: NDArray[np.bool_], number: int) -> list[NDArray[np.bool_]]:
    """Cut the first mask into two parts that overlap, the second into two that do not, and leave the others whole."""
    rows = np.flatnonzero(mask.any(axis=1))
    if number > 1 or len(rows) < 4:
        return [mask]
    upper, lower = mask.copy(), mask.copy()
    middle, more = int(rows[len(rows) // 2]), len(rows) // 4 if number == 0 else 0
    upper[middle + more :] = False
    lower[:middle] = False
    return [upper, lower]


def _write_numbered(folder: Path, films: list[WrittenFilm]) -> None:
    """Write layout C; it knows no validation part."""
    rows: dict[str, list[tuple[str, str, int]]] = {"train": [], "test": []}
    for film in films:
        part = "test" if film.split == "test" else "train"
        label = int(film.mask.any())
        name = f"{len(rows[part])}_{part}_{label}_.png"
        rows[part].append((name, film.name, label))
        _write_pixels(folder / "png_images" / name, film.image)
        _write_pixels(folder / "png_masks" / name, film.mask.astype(np.uint8) * np.uint8(255))
    for part, listed in rows.items():
        write_csv(folder / f"stage_1_{part}_images.csv", ("new_filename", "ImageId", "has_pneumo"), listed)


def _write_pixels(path: Path, pixels: NDArray[np.uint8]) -> None:
    from PIL import Image

    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def _enlarged(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    import cv2

    big = cv2.resize(mask.astype(np.uint8), (_SIDE, _SIDE), interpolation=cv2.INTER_NEAREST)
    return np.asarray(big > 0)
