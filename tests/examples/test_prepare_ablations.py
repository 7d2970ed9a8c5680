"""The CSV of the trial's ablations: splits, copies, and what is said when the manifest is not there."""

from __future__ import annotations

import csv
import sys
from collections import Counter
from pathlib import Path

import pytest

from dmlm.errors import DatasetFormatError, DatasetNotFoundError

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "examples" / "python"))

from prepare_ablations import RSNA_TRAIN_COPIES, prepare  # noqa: E402

HEADER = ("path", "source", "patient_id", "study_id", "labels", "text_findings", "rsna_target", "split")


def write_manifest(folder: Path, rows: list[dict[str, str]]) -> None:
    with (folder / "manifest.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, HEADER, restval="")
        writer.writeheader()
        writer.writerows(rows)


def test_splits_and_copies(tmp_path: Path) -> None:
    rows = []
    for n in range(60):
        for source, extra in (("nih", {"rsna_target": "1"}), ("kermany", {"labels": "Normal"})):
            split = ("train", "train", "val", "test")[n % 4]
            name = f"{source}{n}"
            rows.append(
                {"path": f"{name}.png", "source": source, "patient_id": name, "study_id": name, "split": split, **extra}
            )
    rows.append({"path": "x.png", "source": "hannover", "patient_id": "x", "study_id": "x", "split": "train"})
    write_manifest(tmp_path, rows)
    counts = prepare(tmp_path, tmp_path / "root" / "ablations.csv")
    with (tmp_path / "root" / "ablations.csv").open() as file:
        written = list(csv.DictReader(file))
    by_split = {split: {row["path"] for row in written if row["split"] == split} for split in ("train", "val", "test")}
    assert counts == Counter({split: len(paths) for split, paths in by_split.items()})
    assert len(by_split["test"]) == 60, "the manifest's validation and test images"
    assert not any("x.png" in row["path"] for row in written), "nothing is known of it"
    assert all(Path(path).is_absolute() for paths in by_split.values() for path in paths)
    copies = Counter(row["path"] for row in written)
    opacity = {row["path"] for row in written if row["Lung Opacity"]}
    assert {copies[path] for path in by_split["train"] & opacity} == {RSNA_TRAIN_COPIES}
    assert {copies[path] for path in by_split["train"] - opacity} == {1}
    assert 5 < len({path for path in by_split["train"] | by_split["val"] if "kermany" in path}) < 25, "every second"
    patients = [{row["patient_id"] for row in written if row["split"] == split} for split in by_split]
    assert sum(map(len, patients)) == len(set().union(*patients))


def test_what_is_missing_is_said(tmp_path: Path) -> None:
    with pytest.raises(DatasetNotFoundError, match=r"manifest\.csv"):
        prepare(tmp_path, tmp_path / "out.csv")
    (tmp_path / "manifest.csv").write_text("path,source\na.png,nih\n")
    with pytest.raises(DatasetFormatError, match="patient_id"):
        prepare(tmp_path, tmp_path / "out.csv")
