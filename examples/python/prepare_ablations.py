"""Write the CSV of ``dmlm reproduce ABLATION --budget trial`` from a folder of real radiographs (its manifest.csv).

python examples/python/prepare_ablations.py DATA_DIR ROOT

Writes ``ROOT/ablations.csv``: the labels of prepare_real_trial.py (which says what stands where, and why), but

- the manifest's validation and test images are both test images, because RSNA's test split alone has 27. No run of an
  ablation chooses anything on them: all take the weights after their last step.
- one training patient in twelve (by a hash of its name) is validation, which chooses the strength of linear probes.
- training images with an RSNA class stand four times, so that a batch of 32 holds several of them; of the training
  images of kermany, which are most of all, every second is left out.

Images are named by absolute path. The file is made of data that must not be redistributed: do not commit it.
"""

from __future__ import annotations

import csv
import hashlib
import sys
from collections import Counter
from pathlib import Path

from prepare_real_trial import COLUMNS, NEEDED, labels_of

from dmlm.errors import DatasetFormatError, DatasetNotFoundError
from dmlm.io.atomic import atomic_path

RSNA_TRAIN_COPIES = 4


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
    source = folder.resolve() / "manifest.csv"
    if not source.is_file():
        msg = f"{source}: no such file; pass the folder that holds manifest.csv and images/"
        raise DatasetNotFoundError(msg)
    with source.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    missing = [name for name in NEEDED if not rows or name not in rows[0]]
    if missing:
        msg = f"{source}: no column {', '.join(missing)}; this script reads the manifest described in its README"
        raise DatasetFormatError(msg)
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
            line |= {"path": str(source.parent / row["path"]), "split": split_of(row)}
            counts[line["split"]] += 1
            copies = RSNA_TRAIN_COPIES if line["split"] == "train" and "Lung Opacity" in labels else 1
            writer.writerows([{**line, "text": text, **labels}] * copies)
    return counts


def main() -> None:
    if len(sys.argv) != 3:
        sys.exit("usage: python examples/python/prepare_ablations.py DATA_DIR ROOT")
    out = Path(sys.argv[2]) / "ablations.csv"
    counts = prepare(Path(sys.argv[1]), out)
    print(f"{', '.join(f'{counts[split]} {split}' for split in ('train', 'val', 'test'))} images; written to {out}")


if __name__ == "__main__":
    main()
