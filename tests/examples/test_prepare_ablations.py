"""The CSV of the trial's ablations: splits, copies, and what is said when the manifest is not there."""

from __future__ import annotations

import csv
import json
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dmlm.datamodules import ManifestDataModule
from dmlm.errors import DatasetFormatError, DatasetNotFoundError

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "examples" / "python"))

from prepare_ablations import RSNA_TRAIN_COPIES, prepare, prepare_masks  # noqa: E402

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


def test_masks_of_boxes_and_of_what_was_drawn(tmp_path: Path) -> None:
    drawn = np.zeros((40, 50), np.uint8)
    drawn[5:10, 5:10] = 255
    other = np.zeros_like(drawn)
    other[20:30, 20:30] = 255
    for name, picture in (("ground.png", drawn), ("cons.png", other), ("heart.png", 255 - drawn)):
        Image.fromarray(picture).save(tmp_path / name)
    both = {"Ground Glass Opacities": "ground.png", "Consolidation": "cons.png", "Cardiomediastinum": "heart.png"}
    places = {
        "box": {"source": "nih", "rsna_target": "1.0", "rsna_boxes": "[[1, 2, 4.6, 3], [0, 30, 2, 2]]"},
        "drawn": {"source": "cohen", "class_masks": json.dumps(both)},
        "heart": {"source": "cohen", "class_masks": json.dumps({"Cardiomediastinum": "heart.png"})},
        "unknown": {"source": "nih", "rsna_target": "0.0"},
    }
    rows = []
    for name, extra in places.items():
        for split in ("train", "test"):
            Image.fromarray(np.full((40, 50), 100, np.uint8)).save(tmp_path / f"{name}-{split}.png")
            who = {"path": f"{name}-{split}.png", "patient_id": f"{name}-{split}", "study_id": f"{name}-{split}"}
            rows.append({**who, "split": split, "width": "50", "height": "40", **extra})
    header = (*HEADER, "rsna_boxes", "class_masks", "width", "height")
    with (tmp_path / "manifest.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, header, restval="")
        writer.writeheader()
        writer.writerows(rows)
    root = tmp_path / "root"
    assert prepare_masks(tmp_path, root) == Counter(train=2, test=2)
    options = {"allow_outside_root": True, "mask_columns": ["mask"], "mask_names": ["Lung Opacity"]}
    data = ManifestDataModule(str(root / "ablation_masks.csv"), image_size=40, num_workers=0, **options)
    masks = {sample["study_id"]: sample["masks"][0].numpy() for sample in data.make_dataset("test", None)}
    box = np.zeros((40, 50), np.uint8)
    box[2:5, 1:6] = box[30:32, 0:2] = 1
    np.testing.assert_array_equal(masks["box-test"], box[:, 5:45])  # the centre square, as of the image
    np.testing.assert_array_equal(masks["drawn-test"], ((drawn | other) > 0)[:, 5:45])


def test_what_is_missing_is_said(tmp_path: Path) -> None:
    with pytest.raises(DatasetNotFoundError, match=r"manifest\.csv"):
        prepare(tmp_path, tmp_path / "out.csv")
    (tmp_path / "manifest.csv").write_text("path,source\na.png,nih\n")
    with pytest.raises(DatasetFormatError, match="patient_id"):
        prepare(tmp_path, tmp_path / "out.csv")
