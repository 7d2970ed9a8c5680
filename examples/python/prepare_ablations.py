"""Write the CSV of ``dmlm reproduce ABLATION --budget trial`` from a folder of real radiographs (its manifest.csv).

python examples/python/prepare_ablations.py DATA_DIR ROOT

docs/results/real_trial.md says where the radiographs come from and what the columns of manifest.csv hold.

Writes ``ROOT/ablations.csv``: the labels of prepare_real_trial.py (which says what stands where, and why), but

- the manifest's validation and test images are both test images, because RSNA's test split alone has 27. No run of an
  ablation chooses anything on them: all take the weights after their last step.
- one training patient in twelve (by a hash of its name) is validation, which chooses the strength of linear probes.
- training images with an RSNA class stand four times, so that a batch of 32 holds several of them; of the training
  images of kermany, which are most of all, every second is left out.

and ``ROOT/ablation_masks.csv``: images of the same splits that show Lung Opacity, each with its mask in ``ROOT/masks``:
RSNA's boxes, or what was drawn on Cohen's images as ground glass or consolidation (the other images of Cohen are left
out). A box covers more than the opacity in it.

Images are named by absolute path. The files are made of data that must not be redistributed: do not commit them.
"""

from __future__ import annotations

import csv
import hashlib
import json
import sys
from collections import Counter
from pathlib import Path

import numpy as np
from PIL import Image
from prepare_radiographs import write_csv, write_mask
from prepare_real_trial import COLUMNS, NEEDED, labels_of

from dmlm.errors import DatasetFormatError, DatasetNotFoundError
from dmlm.io.atomic import atomic_path

RSNA_TRAIN_COPIES = 4
PLACES = ("rsna_boxes", "class_masks", "width", "height")
DRAWN = ("Ground Glass Opacities", "Consolidation")


def split_of(row: dict[str, str]) -> str:
    """Return the split of a row of the manifest in an ablation."""
    if row["split"] != "train":
        return "test"
    return "val" if _hash(row["patient_id"]) % 12 == 0 else "train"


def _is_spare(row: dict[str, str]) -> bool:
    return row["source"] == "kermany" and row["split"] == "train" and _hash(row["path"]) % 2 == 1


def _hash(name: str) -> int:
    return hashlib.sha256(name.encode()).digest()[0]


def prepare(folder: Path, out: Path) -> Counter[str]:
    """Write the CSV.

    Args:
        folder: Folder with ``manifest.csv`` and the images.
        out: CSV file to write.

    Returns:
        Number of different images per split.

    Raises:
        DatasetNotFoundError: If there is no ``manifest.csv``.
        DatasetFormatError: If it lacks a column.
    """
    rows = _read(folder, NEEDED)
    out.parent.mkdir(parents=True, exist_ok=True)
    counts: Counter[str] = Counter()
    with atomic_path(out) as temporary, temporary.open("w", encoding="utf-8", newline="") as result:
        writer = csv.DictWriter(result, COLUMNS, restval="")
        writer.writeheader()
        for row in rows:
            labels, text = labels_of(row), " ".join(row["text_findings"].split())
            if (not labels and not text) or _is_spare(row):
                continue
            line = {name: row[name] for name in ("patient_id", "study_id", "source")}
            line |= {"path": str(folder.resolve() / row["path"]), "split": split_of(row)}
            counts[line["split"]] += 1
            copies = RSNA_TRAIN_COPIES if line["split"] == "train" and "Lung Opacity" in labels else 1
            writer.writerows([{**line, "text": text, **labels}] * copies)
    return counts


def prepare_masks(folder: Path, root: Path) -> Counter[str]:
    """Write ``ablation_masks.csv`` and the masks it names.

    Args:
        folder: Folder with ``manifest.csv``, the images and the drawn masks.
        root: Folder to write to.

    Returns:
        Number of images per split.

    Raises:
        DatasetNotFoundError: If there is no ``manifest.csv``.
        DatasetFormatError: If it lacks a column.
    """
    folder, lines = folder.resolve(), []
    for row in _read(folder, (*NEEDED, *PLACES)):
        mask = opacity(row, folder)
        if mask is None or not mask.any():
            continue
        name = write_mask(mask * np.uint8(255), f"masks/opacity/{Path(row['path']).stem}.png", root)
        split = "test" if split_of(row) == "test" else "train"  # nothing is chosen on masks
        line = {"path": str(folder / row["path"]), "mask": name, "split": split}
        lines.append({**line, "patient_id": row["patient_id"], "study_id": row["study_id"]})
    return write_csv(root / "ablation_masks.csv", lines)


def opacity(row: dict[str, str], folder: Path) -> np.ndarray | None:
    """Where a row's opacities are, uint8 0 or 1 in the size of its image; None where nobody said."""
    mask = np.zeros((int(row["height"]), int(row["width"])), np.uint8)
    if row["rsna_boxes"]:
        for x, y, width, height in json.loads(row["rsna_boxes"]):
            mask[round(y) : round(y + height), round(x) : round(x + width)] = 1
        return mask
    drawn = json.loads(row["class_masks"] or "{}")
    for name in DRAWN:
        if name in drawn:
            with Image.open(folder / drawn[name]) as image:
                mask |= np.asarray(image) > 127
    return mask if drawn else None


def _read(folder: Path, needed: tuple[str, ...]) -> list[dict[str, str]]:
    source = folder.resolve() / "manifest.csv"
    if not source.is_file():
        msg = f"{source}: no such file; pass the folder of docs/results/real_trial.md, which holds manifest.csv"
        raise DatasetNotFoundError(msg)
    with source.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    missing = [name for name in needed if not rows or name not in rows[0]]
    if missing:
        msg = f"{source}: no column {', '.join(missing)}; docs/results/real_trial.md lists the columns"
        raise DatasetFormatError(msg)
    return rows


def main() -> None:
    if len(sys.argv) != 3:
        sys.exit("usage: python examples/python/prepare_ablations.py DATA_DIR ROOT")
    folder, root = Path(sys.argv[1]), Path(sys.argv[2])
    counts = prepare(folder, root / "ablations.csv")
    masked = prepare_masks(folder, root)
    print(f"{', '.join(f'{counts[split]} {split}' for split in ('train', 'val', 'test'))} images")
    print(f"{masked['train']} train, {masked['test']} test images with masks; written to {root}")


if __name__ == "__main__":
    main()
