"""Write the manifest of examples/real_trial.yaml from a folder of real radiographs (its manifest.csv).

python examples/python/prepare_real_trial.py DATA_DIR OUT.csv

docs/results/real_trial.md says where the radiographs come from and what the columns of manifest.csv hold.

A label stands only where somebody looked for that finding; everything else is blank (unknown):

- Lung Opacity: the class that RSNA's radiologists gave to part of the NIH images.
- Infiltration, Atelectasis, Edema, Pleural Effusion, Consolidation: NIH's text-mined labels, and only within the images
  that NIH calls "Pneumonia". In this selection these and the "No Finding" images come from different ranges of patients
  and differ in view, so a contrast between the two teaches the source. For the same reason NIH's "Pneumonia" and
  "No Finding" are not used. Rarer labels are left out: too few images to learn from.
- Pneumonia, Bacterial Pneumonia, Viral Pneumonia: the paediatric kermany images only.
- COVID-19: all of hannover; of cohen where the cause is named. For training; as a test it would compare sources.

The text is what a note says of the image (cohen). Rows that say nothing are left out. The manifest is made of data that
must not be redistributed: do not commit it.
"""

from __future__ import annotations

import csv
import sys
from collections import Counter
from pathlib import Path

from dmlm.errors import DatasetFormatError, DatasetNotFoundError
from dmlm.io.atomic import atomic_path

NIH_LABELS = {
    "Infiltration": "Infiltration",
    "Atelectasis": "Atelectasis",
    "Edema": "Edema",
    "Effusion": "Pleural Effusion",
    "Consolidation": "Consolidation",
}
LABELS = (
    "Lung Opacity",
    "Pneumonia",
    "Bacterial Pneumonia",
    "Viral Pneumonia",
    "COVID-19",
    *NIH_LABELS.values(),
)
COLUMNS = ("path", "text", "patient_id", "study_id", "split", "source", *LABELS)
NEEDED = ("path", "source", "patient_id", "study_id", "labels", "text_findings", "rsna_target", "split")
UNKNOWN_CAUSE = {"Pneumonia", "ARDS"}
RSNA_TRAIN_COPIES = 6
"""Times that a training image with an RSNA class is written. One in fourteen training images has one; a batch of 32
would hold two of them, and contrast needs both kinds of image in a batch; so it holds eleven."""


def labels_of(row: dict[str, str]) -> dict[str, int]:
    """Return 1 (present) or 0 (absent) for the findings that the row's source speaks of."""
    given = {name.strip() for name in row["labels"].split("|")} - {""}
    found: dict[str, int] = {}
    if row["source"] == "nih":
        if row["rsna_target"]:
            found["Lung Opacity"] = int(float(row["rsna_target"]))
        if "Pneumonia" in given:
            found |= {ours: int(theirs in given) for theirs, ours in NIH_LABELS.items()}
    elif row["source"] == "kermany":
        found["Pneumonia"] = int("Pneumonia" in given)
        found["Bacterial Pneumonia"] = int("Bacterial pneumonia" in given)
        found["Viral Pneumonia"] = int("Viral pneumonia" in given)
    elif row["source"] in ("cohen", "hannover"):
        if "COVID-19" in given:
            found["COVID-19"] = 1
        elif given - UNKNOWN_CAUSE:
            found["COVID-19"] = 0
    return found


def prepare(folder: Path, out: Path, without: tuple[str, ...] = (), absolute: bool = False) -> Counter[str]:
    """Write the manifest.

    Args:
        folder: Folder with ``manifest.csv`` and the images.
        out: CSV file to write.
        without: Sources that are left out.
        absolute: Write whole paths of the images, so that the manifest may lie anywhere.

    Returns:
        Number of different images per label and state, e.g. ``"Lung Opacity=1"``, and ``"left out"``.

    Raises:
        DatasetNotFoundError: If there is no ``manifest.csv``.
        DatasetFormatError: If it lacks a column.
    """
    source = folder / "manifest.csv"
    if not source.is_file():
        msg = f"{source}: no such file; pass the folder of docs/results/real_trial.md, which holds manifest.csv"
        raise DatasetNotFoundError(msg)
    counts: Counter[str] = Counter()
    with (
        source.open(encoding="utf-8", newline="") as file,
        atomic_path(out) as temporary,
        temporary.open("w", encoding="utf-8", newline="") as result,
    ):
        reader, writer = csv.DictReader(file), csv.DictWriter(result, COLUMNS, restval="")
        missing = [name for name in NEEDED if name not in (reader.fieldnames or ())]
        if missing:
            msg = f"{source}: no column {', '.join(missing)}; docs/results/real_trial.md lists the columns"
            raise DatasetFormatError(msg)
        writer.writeheader()
        for row in reader:
            labels, text = labels_of(row), " ".join(row["text_findings"].split())
            if row["source"] in without or (not labels and not text):
                counts["left out"] += 1
                continue
            counts.update(f"{name}={value}" for name, value in labels.items())
            line = {name: row[name] for name in ("path", "patient_id", "study_id", "split", "source")}
            line["path"] = str(folder.resolve() / row["path"]) if absolute else row["path"]
            repeated = row["split"] == "train" and "Lung Opacity" in labels
            writer.writerows([{**line, "text": text, **labels}] * (RSNA_TRAIN_COPIES if repeated else 1))
    return counts


def main() -> None:
    if len(sys.argv) != 3:
        sys.exit("usage: python examples/python/prepare_real_trial.py DATA_DIR OUT.csv")
    counts = prepare(Path(sys.argv[1]), Path(sys.argv[2]))
    for name in LABELS:
        print(f"{name:20} {counts[f'{name}=1']:5} present {counts[f'{name}=0']:5} absent")
    print(f"{counts['left out']} images without a usable label or text left out; written to {sys.argv[2]}")


if __name__ == "__main__":
    main()
