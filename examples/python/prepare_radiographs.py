"""Write the CSV files of ``dmlm reproduce radiographs`` from a folder of real radiographs (its manifest.csv).

python examples/python/prepare_radiographs.py DATA_DIR ROOT

docs/results/real_trial.md says where the radiographs come from and what the columns of manifest.csv hold.

ROOT then holds one CSV per task and the masks that had to be made:

- ``pretrain.csv``: as prepare_real_trial.py, but without the kermany images. Pre-training reads labels as reports; with
  them in it, an encoder that is then fine-tuned on "1 % of kermany's labels" would have read all of them.
- ``kermany.csv``: normal, bacterial or viral pneumonia (paediatric).
- ``unseen.csv``: normal or bacterial pneumonia; viral pneumonia is in the test split alone, where ``unseen`` is 1.
- ``nih.csv``: the 14 text-mined labels of ChestX-ray14.
- ``rsna.csv``: opacity, by RSNA's radiologists.
- ``geographic.csv``, ``opacity.csv``: COVID-19 severity in four grades, cut at quarters of its scale: extent 0-8 at 2,
  4 and 6; density 0-6 at 1.5, 3 and 4.5.
- ``lung.csv``: lung masks. Undecided pixels count as not lung; images with more than 1 % of them are left out.
- ``ground_glass.csv``: ground-glass masks; an image whose structures were drawn, but no ground glass, has an empty one.

The split is the manifest's: by patient, near-duplicates together. Images stay where they are; the files name them by
absolute path, and are made of data that must not be redistributed: do not commit them.
"""

from __future__ import annotations

import csv
import json
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image
from prepare_real_trial import LABELS, prepare

from dmlm.errors import DatasetFormatError
from dmlm.io.atomic import atomic_path

Row = dict[str, str]

KERMANY = {
    "Normal": "Normal",
    "Pneumonia|Bacterial pneumonia": "Bacterial pneumonia",
    "Pneumonia|Viral pneumonia": "Viral pneumonia",
}
SHARED = ("path", "patient_id", "study_id", "split")
MORE = ("severity_geographic", "severity_opacity", "lung_mask", "class_masks")
GROUND_GLASS = "Ground Glass Opacities"
MOST_UNDECIDED = 0.01


def grade(value: str, top: float) -> str:
    """Grade 0 to 3 of a severity: quarters of its scale; readings above the scale are of the highest grade."""
    return f"grade {min(3, int(float(value) / (top / 4)))}" if value else ""


def prepare_all(folder: Path, root: Path) -> dict[str, Counter[str]]:
    """Write all files.

    Args:
        folder: Folder with ``manifest.csv`` and the images.
        root: Where to; made if missing.

    Returns:
        Images by split, per file.

    Raises:
        DatasetNotFoundError: If there is no ``manifest.csv``.
        DatasetFormatError: If it lacks a column.
    """
    folder = folder.resolve()
    prepare(folder, root / "pretrain.csv", without=("kermany",), absolute=True)
    with (folder / "manifest.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    missing = [name for name in MORE if name not in rows[0]]
    if missing:
        msg = f"{folder / 'manifest.csv'}: no column {', '.join(missing)}; docs/results/real_trial.md lists the columns"
        raise DatasetFormatError(msg)
    targets: dict[str, tuple[str, Callable[[Row], str]]] = {
        "kermany": ("class", lambda row: KERMANY.get(row["labels"], "") if row["source"] == "kermany" else ""),
        "nih": ("labels", lambda row: row["labels"] if row["source"] == "nih" else ""),
        "rsna": ("Lung Opacity", lambda row: row["rsna_target"]),
        "geographic": ("grade", lambda row: grade(row["severity_geographic"], 8)),
        "opacity": ("grade", lambda row: grade(row["severity_opacity"], 6)),
        "lung": ("mask", lambda row: lung(row, folder, root)),
        "ground_glass": ("mask", lambda row: ground_glass(row, folder, root)),
    }
    counts: dict[str, Counter[str]] = {"unseen": write_csv(root / "unseen.csv", unseen(rows, folder))}
    for name, (column, target) in targets.items():
        lines = [{**{key: row[key] for key in SHARED}, column: target(row)} for row in rows]
        lines = [{**line, "path": str(folder / line["path"])} for line in lines if line[column]]
        counts[name] = write_csv(root / f"{name}.csv", lines)
    return counts


def write_csv(path: Path, lines: list[Row]) -> Counter[str]:
    """Write rows; return how many there are by split."""
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, tuple(lines[0]) if lines else SHARED)
        writer.writeheader()
        writer.writerows(lines)
    return Counter(line["split"] for line in lines)


def unseen(rows: list[Row], folder: Path) -> list[Row]:
    """Rows of Kermany with pneumonia or none; those with viral pneumonia stay in the test split alone, marked."""
    lines = []
    for row in rows:
        kind = KERMANY.get(row["labels"], "") if row["source"] == "kermany" else ""
        viral = kind == "Viral pneumonia"
        if not kind or (viral and row["split"] != "test"):
            continue
        marks = {"Pneumonia": "0" if kind == "Normal" else "1", "unseen": "1" if viral else "0"}
        lines.append({**{key: row[key] for key in SHARED}, "path": str(folder / row["path"]), **marks})
    return lines


def lung(row: Row, folder: Path, root: Path) -> str:
    """Write the lung mask of a row as 0 and 255; return its path below ``root``, ``""`` where there is none to use."""
    if not row["lung_mask"]:
        return ""
    with Image.open(folder / row["lung_mask"]) as image:
        values = np.asarray(image)
    undecided = (values != 0) & (values != 255)
    if undecided.mean() > MOST_UNDECIDED:
        return ""
    return write_mask((values == 255).astype(np.uint8) * 255, f"masks/lung/{Path(row['path']).stem}.png", root)


def ground_glass(row: Row, folder: Path, root: Path) -> str:
    """Path of the ground-glass mask of a row, a black one where structures were drawn without it, ``""`` elsewhere."""
    if not row["class_masks"]:
        return ""
    found = json.loads(row["class_masks"]).get(GROUND_GLASS)
    if found:
        return str(folder / found)
    with Image.open(folder / row["path"]) as image:
        empty = np.zeros((image.height, image.width), np.uint8)
    return write_mask(empty, f"masks/ground_glass/{Path(row['path']).stem}.png", root)


def write_mask(mask: np.ndarray, name: str, root: Path) -> str:
    with atomic_path(root / name) as temporary:
        Image.fromarray(mask).save(temporary, format="PNG")
    return name


def main() -> None:
    if len(sys.argv) != 3:
        sys.exit("usage: python examples/python/prepare_radiographs.py DATA_DIR ROOT")
    counts = prepare_all(Path(sys.argv[1]), Path(sys.argv[2]))
    print(f"pretrain.csv: reports of {', '.join(LABELS)}, without kermany")
    for name, splits in counts.items():
        print(f"{name + '.csv':18}", *(f"{split} {splits[split]}" for split in ("train", "val", "test")))


if __name__ == "__main__":
    main()
