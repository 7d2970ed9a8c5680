"""Real radiographs, labels and boxes, laid out as NIH and RSNA distribute them, through the real data sets."""

import csv
import json

import numpy as np
import pytest
from PIL import Image

from dmlm.datasets.catalog import open_table, recognise
from dmlm.datasets.leaks import find_leaks
from dmlm.datasets.leaks_across import find_contamination
from dmlm.datasets.near_duplicates import hash_files, near_pairs
from dmlm.datasets.table_dataset import TableDataset
from dmlm.datasets.table_splits import SplitPlan, assign_splits

CONVERTED = 24


@pytest.fixture(scope="module")
def rows(real_data):
    with (real_data / "manifest.csv").open(encoding="utf-8") as file:
        return [row for row in csv.DictReader(file) if row["source"] == "nih"]


@pytest.fixture(scope="module")
def nih_root(real_data, rows, tmp_path_factory):
    """``images_001/images`` and so on; some as PNG (as distributed), the others linked as the JPEG that they are."""
    root = tmp_path_factory.mktemp("real") / "nih"
    lines, boxes, lists = [], [], {"train_val_list.txt": [], "test_list.txt": []}
    official = (real_data / "tables" / "nih_BBox_List_2017.csv").read_text().splitlines()
    names = set()
    for number, row in enumerate(rows):
        source = real_data / row["path"]
        folder = root / f"images_{1 + number % 3:03d}" / "images"
        folder.mkdir(parents=True, exist_ok=True)
        if number < CONVERTED:
            Image.open(source).save(folder / f"{source.stem}.png")
        else:
            (folder / source.name).symlink_to(source)
        patient = row["patient_id"].removeprefix("nih:")
        visit = int(source.stem.split("_")[1])
        cells = (f"{source.stem}.png", row["labels"], visit, int(patient), row["age"], row["sex"], row["view"])
        lines.append(",".join(map(str, cells)) + ",1024,1024,0.143,0.143")
        lists["test_list.txt" if row["split"] == "test" else "train_val_list.txt"].append(f"{source.stem}.png")
        names.add(f"{source.stem}.png")
    boxes = [line for line in official[1:] if line.split(",")[0] in names]
    header = (real_data / "fixtures" / "nih_Data_Entry_2017_v2020.csv").read_text().splitlines()[0]
    (root / "Data_Entry_2017_v2020.csv").write_text("\n".join([header, *lines]) + "\n")
    (root / "BBox_List_2017.csv").write_text("\n".join([official[0], *boxes]) + "\n")
    for name, listed in lists.items():
        (root / name).write_text("\n".join(listed) + "\n")
    return root


@pytest.fixture(scope="module")
def rsna_root(real_data, rows, tmp_path_factory):
    """RSNA's tables with real ids, classes and boxes (1024-pixel space), and converted images of those names."""
    root = tmp_path_factory.mktemp("real") / "rsna"
    (root / "stage_2_train_images").mkdir(parents=True)
    labels, classes = ["patientId,x,y,width,height,Target"], ["patientId,class"]
    for row in rows:
        if not row["rsna_id"]:
            continue
        source = real_data / row["path"]
        (root / "stage_2_train_images" / f"{row['rsna_id']}.jpg").symlink_to(source)
        factor = 1024 / int(row["width"])
        boxes = json.loads(row["rsna_boxes"] or "[]")
        for box in boxes:
            labels.append(",".join([row["rsna_id"], *(str(factor * edge) for edge in box), "1"]))
        if not boxes:
            labels.append(f"{row['rsna_id']},,,,,0")
        classes.extend([f"{row['rsna_id']},{row['rsna_class']}"] * max(1, len(boxes)))
    (root / "stage_2_train_labels.csv").write_text("\n".join(labels) + "\n")
    (root / "stage_2_detailed_class_info.csv").write_text("\n".join(classes) + "\n")
    return root


def test_nih(nih_root, rows):
    assert recognise(nih_root) == "nih"
    table = open_table("nih", nih_root)
    assert len(table) == len(rows) == 897
    column = {name: place for place, name in enumerate(table.label_names)}
    for row, place in zip(rows, range(len(table)), strict=True):
        present = {name for name, at in column.items() if table.labels[place, at] == 1}
        assert present == set(row["labels"].split("|")) - {"No Finding"}
        assert table.extra["view"][place] == row["view"]
    data = TableDataset(table, 96)
    for place in range(0, len(table), 50):
        image = data[place]["image"]
        assert image.shape == (1, 96, 96)
        assert image.float().std() > 10
    places = assign_splits(table, SplitPlan("official"))
    assert find_leaks(table, places).clean


def test_nih_boxes_lie_on_their_findings(nih_root):
    table = open_table("nih", nih_root, rows="boxes")
    data = TableDataset(table, 128, with_masks=True)
    assert len(table) > 20
    for row in range(len(table)):
        masks = data[row]["masks"]
        found = {box.finding for box in table.extra["boxes"][row]}
        assert {name for name, mask in zip(table.mask_names, masks, strict=True) if mask.any()} == found
        for box in table.extra["boxes"][row]:
            share = float(masks[table.mask_names.index(box.finding)].float().mean())
            assert share >= 0.85 * (box.x1 - box.x0) * (box.y1 - box.y0)


def test_rsna(rsna_root, rows):
    assert recognise(rsna_root) == "rsna"
    table = open_table("rsna", rsna_root)
    assert len(table) == sum(bool(row["rsna_id"]) for row in rows) == 303
    targets = {row["rsna_id"]: float(row["rsna_target"]) for row in rows if row["rsna_id"]}
    np.testing.assert_array_equal(table.labels[:, 0], [targets[name] for name in table.study_ids])
    sample = TableDataset(table, 96, with_masks=True)[int(np.flatnonzero(table.labels[:, 0])[0])]
    assert sample["masks"].any()
    assert open_table("rsna", rsna_root, labels="class").labels.sum() == 303


def test_rsna_is_found_in_nih_by_its_pictures(rsna_root, nih_root, rows):
    first, second = open_table("rsna", rsna_root), open_table("nih", nih_root)
    mapping = {row["rsna_id"]: row["path"].split("/")[-1][:-4] for row in rows if row["rsna_id"]}
    found = {}
    for name, other, _ in near_pairs(*(hash_files([t.path(row) for row in range(len(t))]) for t in (first, second))):
        found.setdefault(str(first.study_ids[name]), set()).add(str(second.study_ids[other]))
    assert all(mapping[name] in found[name] for name in mapping)
    # NIH itself has a film twice, as two visits of one patient
    assert [names - {mapping[name]} for name, names in found.items() if len(names) > 1] == [{"00002658_002"}]
    report = find_contamination(first, second, near_duplicates=True)
    assert report.counts == {"contamination, rsna / nih": 304}
