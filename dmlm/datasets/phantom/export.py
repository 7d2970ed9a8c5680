"""Phantoms as ordinary files: PNG images and masks with a CSV, as any other data set would come."""

from __future__ import annotations

import csv
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dmlm.datasets.phantom.drawing import generate_phantoms
from dmlm.datasets.phantom.findings import LABEL_NAMES
from dmlm.datasets.phantom.store import open_films, read_records
from dmlm.errors import ConfigError
from dmlm.io.atomic import atomic_path

COLUMNS = ("path", "text", "split", "patient_id", "study_id", "view")


def export_files(
    out: str | os.PathLike[str],
    num_patients: Mapping[str, int],
    image_size: int,
    seed: int,
    workers: int = 1,
    progress: bool = True,
) -> Path:
    """Write ``images/STUDY.png``, ``masks/STUDY__finding.png`` (0 or 255) and, last, ``manifest.csv``.

    The CSV has the columns ``path``, ``text``, ``split``, ``patient_id``, ``study_id``, ``view`` and one per label (1
    or 0), which :class:`dmlm.datamodules.ManifestDataModule` reads with ``label_columns``.

    Args:
        out: Folder; made where absent, and refused where it already holds images.
        num_patients: Patients per split.
        image_size: Height and width of the films in pixels.
        seed: Seed.
        workers: Processes that draw.
        progress: Whether to show a progress bar.

    Returns:
        Path of the CSV.

    Raises:
        ConfigError: If ``out`` already holds ``images`` or ``masks``.
    """
    from tqdm import tqdm  # type: ignore[import-untyped]

    folder = Path(out)
    for name in ("images", "masks", "manifest.csv"):
        if (folder / name).exists():
            msg = f"{folder / name}: exists already; give --out an empty folder"
            raise ConfigError(msg)
    folder.mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(prefix=".phantoms.", suffix=".part", dir=folder))
    try:
        store = generate_phantoms(part, num_patients, image_size, seed, workers, progress)
        records = read_records(store)
        films = open_films(store, records)
        (part / "images").mkdir()
        (part / "masks").mkdir()
        with atomic_path(folder / "manifest.csv") as target:
            with target.open("w", encoding="utf-8", newline="") as file:
                writer = csv.writer(file)
                writer.writerow([*COLUMNS, *LABEL_NAMES])
                for number, study in enumerate(tqdm(records, desc="PNG", unit="film", disable=not progress)):
                    path = f"images/{study['study_id']}.png"
                    _write_png(part / path, films.image(number))
                    for name, mask in films.masks(number).items():
                        place = f"{study['study_id']}__{name.lower().replace(' ', '_')}.png"
                        _write_png(part / "masks" / place, mask * np.uint8(255))
                    facts = [study[name] for name in ("text", "split", "patient_id", "study_id", "view")]
                    writer.writerow([path, *facts, *study["labels"]])
            for name in ("images", "masks"):
                (part / name).rename(folder / name)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return folder / "manifest.csv"


def _write_png(path: Path, pixels: NDArray[np.uint8]) -> None:
    from PIL import Image

    Image.fromarray(pixels).save(path, compress_level=3)
