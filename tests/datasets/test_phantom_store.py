"""Phantoms on disk: complete or absent, the same for everyone, and read as samples."""

from __future__ import annotations

import csv
import json
import pickle
import subprocess
import sys
import threading

import numpy as np
import pytest

from dmlm.commands import data
from dmlm.datasets.phantom import (
    LABEL_NAMES,
    UNSEEN_FINDING,
    PhantomDataset,
    film_store,
    generate_phantoms,
    phantom_folder,
    plan_phantoms,
    store,
)
from dmlm.datasets.phantom.studies import make_patient
from dmlm.errors import ConfigError, DatasetFormatError

PATIENTS = {"train": 14, "val": 6, "test": 40}
SIZE = 48


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return tmp_path_factory.mktemp("phantoms")


@pytest.fixture(scope="module")
def folder(root):
    return generate_phantoms(root, PATIENTS, SIZE, seed=1, progress=False)


def contents(folder):
    return {name: (folder / name).read_bytes() for name in store.FILES}


def test_bytes_do_not_depend_on_workers(folder, tmp_path):
    other = generate_phantoms(tmp_path, PATIENTS, SIZE, seed=1, workers=2, progress=False)
    assert other.name == folder.name
    assert contents(other) == contents(folder)


def test_more_patients_leave_the_first_ones_as_they_are(folder, tmp_path):
    larger = generate_phantoms(tmp_path, {"train": 16}, SIZE, seed=1, progress=False)
    assert larger.name != folder.name
    small, large = PhantomDataset(folder, "train", SIZE), PhantomDataset(larger, "train", SIZE)
    assert [large.records[i]["text"] for i in range(len(small))] == [record["text"] for record in small.records]
    assert all((small.read(i).image == large.read(i).image).all() for i in range(len(small)))


def test_every_parameter_has_its_own_folder(root):
    base = phantom_folder(root, PATIENTS, SIZE, 1)
    assert base == phantom_folder(root, dict(reversed(PATIENTS.items())), SIZE, 1)
    others = {phantom_folder(root, {**PATIENTS, "val": 7}, SIZE, 1), phantom_folder(root, PATIENTS, 64, 1)}
    assert base not in others | {phantom_folder(root, PATIENTS, SIZE, 2)}


def test_the_manifest_describes_the_files(folder):
    facts = json.loads((folder / "manifest.json").read_text())
    assert facts["num_patients"] == PATIENTS
    assert facts["image_size"] == SIZE
    total = sum(facts["studies"].values())
    images = np.load(folder / "images.npy", mmap_mode="r")
    assert images.shape == (total, SIZE, SIZE)
    assert len((folder / "studies.jsonl").read_text().splitlines()) == total
    assert not list(folder.parent.glob(".*"))  # nothing temporary is left


def test_a_complete_folder_is_not_made_again(folder, root, monkeypatch):
    monkeypatch.setattr(store, "patient_facts", None)
    monkeypatch.setattr(film_store, "draw_study", None)
    assert generate_phantoms(root, PATIENTS, SIZE, seed=1, progress=False) == folder


def versions(folder):
    return json.loads((folder / store.MANIFEST).read_text())["opencv"]


def test_what_another_opencv_drew_is_named(tmp_path, caplog, monkeypatch):
    arguments = (tmp_path, {"train": 3}, 32, 0)
    here = store._opencv()
    monkeypatch.setattr(store, "_opencv", lambda: "4.9.0")
    folder = plan_phantoms(*arguments, progress=False)
    monkeypatch.setattr(store, "_opencv", lambda: here)
    plan_phantoms(*arguments, progress=False)
    assert not caplog.records  # nobody drew anything yet
    assert versions(folder) == here
    store.open_films(folder).draw(0)
    monkeypatch.setattr(store, "_opencv", lambda: "4.9.0")
    total = len(store.open_films(folder))
    generate_phantoms(*arguments, progress=False)
    assert f"{folder}: 1 of {total} films were drawn with OpenCV {here}, this is 4.9.0" in caplog.text
    assert versions(folder) == f"{here}, 4.9.0"
    caplog.clear()
    monkeypatch.setattr(store, "_opencv", lambda: here)
    generate_phantoms(*arguments, progress=False)
    assert f"{total} of {total} films were drawn with OpenCV {here}, 4.9.0" in caplog.text
    assert versions(folder) == f"{here}, 4.9.0"


@pytest.mark.parametrize("damage", ["no manifest", "short images", "empty folder"])
def test_interrupted_or_damaged_data_are_made_again(folder, tmp_path, damage):
    small = {"train": 3}
    first = generate_phantoms(tmp_path, small, SIZE, seed=1, progress=False)
    good = contents(first)
    if damage == "no manifest":
        (first / "manifest.json").unlink()
    elif damage == "short images":
        (first / "images.npy").write_bytes(good["images.npy"][:-100])
    else:
        for file in first.iterdir():
            file.unlink()
    with pytest.raises(DatasetFormatError, match="make it again"):
        PhantomDataset(first, "train", SIZE)
    assert contents(generate_phantoms(tmp_path, small, SIZE, seed=1, progress=False)) == good
    assert [path.name for path in tmp_path.iterdir()] == [first.name]


def stop(*arguments):
    raise KeyboardInterrupt


def test_a_run_that_fails_before_the_studies_are_written_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(store, "patient_facts", stop)
    with pytest.raises(KeyboardInterrupt):
        generate_phantoms(tmp_path, {"train": 2}, SIZE, seed=1, progress=False)
    assert not list(tmp_path.iterdir())


def test_what_was_planned_is_drawn_when_it_is_read(folder, tmp_path):
    planned = plan_phantoms(tmp_path, PATIENTS, SIZE, seed=1, progress=False)
    films = store.open_films(planned)
    assert (films.num_drawn, films.image_size) == (0, SIZE)
    whole = PhantomDataset(folder, "val", SIZE, with_masks=True)
    lazy = PhantomDataset(planned, "val", SIZE, with_masks=True)
    other = PhantomDataset(planned, "val", SIZE, with_masks=True)
    for index in (3, 0):
        np.testing.assert_array_equal(lazy.read(index).image, whole.read(index).image)
        np.testing.assert_array_equal(lazy.masks(index), whole.masks(index))
    assert films.num_drawn == 2
    film_store_draws = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(film_store, "draw_study", film_store_draws.append)
        np.testing.assert_array_equal(other.masks(3), whole.masks(3))  # what one drew, all have
    assert not film_store_draws
    assert generate_phantoms(tmp_path, PATIENTS, SIZE, seed=1, progress=False) == planned
    assert contents(planned) == contents(folder)


def test_what_was_planned_is_what_is_drawn():
    """Records are written before the films: a mask for each finding that they name, and no other."""
    for patient in range(12):
        for study in make_patient(3, "test", patient, SIZE):
            assert set(study.masks) == set(study.severity)
            assert set(study.severity) - {UNSEEN_FINDING} == {
                name for name, there in zip(LABEL_NAMES, study.labels, strict=True) if there
            }


def test_an_interrupted_drawing_goes_on(folder, tmp_path, monkeypatch):
    drawn = []

    def third(*arguments):
        drawn.append(arguments)
        if len(drawn) == 3:
            raise KeyboardInterrupt
        return make_study(*arguments)

    make_study = film_store.draw_study
    monkeypatch.setattr(film_store, "draw_study", third)
    with pytest.raises(KeyboardInterrupt):
        generate_phantoms(tmp_path, PATIENTS, SIZE, seed=1, progress=False)
    again = generate_phantoms(tmp_path, PATIENTS, SIZE, seed=1, progress=False)
    assert contents(again) == contents(folder)
    total = len((folder / "studies.jsonl").read_text().splitlines())
    assert len(drawn) == total + 1


def test_films_that_decayed_are_drawn_again(folder, tmp_path):
    damaged = generate_phantoms(tmp_path, PATIENTS, SIZE, seed=1, progress=False)
    for name in ("images.npy", "masks.npy"):
        array = np.load(damaged / name, mmap_mode="r+")
        array[5, 3] ^= 1
        array.flush()
    films, good = store.open_films(damaged), store.open_films(folder)
    for row in range(len(films)):
        np.testing.assert_array_equal(films.image(row), good.image(row))
        for name, mask in good.masks(row).items():
            np.testing.assert_array_equal(films.masks(row)[name], mask)
    assert contents(damaged) == contents(folder)


def test_two_at_once_agree(tmp_path):
    results = []

    def work():
        results.append(generate_phantoms(tmp_path, {"train": 4}, SIZE, seed=1, progress=False))

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(results)) == 1
    assert len(results) == 3
    assert store.is_complete(results[0])
    assert [path.name for path in tmp_path.iterdir()] == [results[0].name]


def test_splits_share_no_patient_and_the_unseen_finding_is_in_test_only(folder):
    splits = {name: PhantomDataset(folder, name, SIZE) for name in PATIENTS}
    patients = [set(dataset.patient_ids) for dataset in splits.values()]
    assert [len(group) for group in patients] == list(PATIENTS.values())
    assert len(set.union(*patients)) == sum(PATIENTS.values())
    assert not splits["train"].unseen.any()
    assert not splits["val"].unseen.any()
    assert 0 < splits["test"].unseen.mean() < 0.4
    for name in ("train", "val"):
        assert not any("hernia" in record["text"].lower() for record in splits[name].records)
        assert not any(UNSEEN_FINDING in record["severity"] for record in splits[name].records)


def test_samples(folder):
    dataset = PhantomDataset(folder, "test", 32, with_masks=True)
    assert dataset.label_names == LABEL_NAMES
    assert UNSEEN_FINDING not in LABEL_NAMES
    assert dataset.labels.shape == (len(dataset), len(LABEL_NAMES))
    assert set(np.unique(dataset.labels)) <= {0.0, 1.0}
    assert dataset.edema_grades.max() == 3
    sample = dataset[2]
    assert sample["image"].shape == (1, 32, 32)
    assert sample["masks"].shape == (len(LABEL_NAMES), 32, 32)
    assert sample["report"].source == "phantom"
    assert sample["report"].study_id == sample["study_id"]
    assert sample["text"].startswith(("INDICATION", "FINDINGS", "IMPRESSION"))
    stored = np.stack([dataset.masks(index).any(axis=(1, 2)) for index in range(len(dataset))])
    assert (stored == (dataset.labels == 1)).all()
    assert "masks" not in PhantomDataset(folder, "test", 32)[0]


def test_a_pickled_dataset_carries_no_pixels(folder):
    dataset = PhantomDataset(folder, "test", SIZE)
    packed = pickle.dumps(dataset)
    plain = pickle.dumps((dataset.records, dataset._reports))
    assert len(packed) - len(plain) < len(dataset) * 300 < len(dataset) * SIZE * SIZE
    assert (pickle.loads(packed).read(1).image == dataset.read(1).image).all()


def test_wrong_parameters_are_named(tmp_path, folder):
    with pytest.raises(ConfigError, match="at least 32"):
        generate_phantoms(tmp_path, PATIENTS, 16, 0)
    with pytest.raises(ConfigError, match="num_patients"):
        generate_phantoms(tmp_path, {"training": 3}, SIZE, 0)
    with pytest.raises(ConfigError, match="at least one"):
        generate_phantoms(tmp_path, {}, SIZE, 0)
    with pytest.raises(ConfigError, match="workers"):
        generate_phantoms(tmp_path, {"train": 1}, SIZE, 0, workers=0)
    with pytest.raises(ConfigError, match="split must be"):
        PhantomDataset(folder, "dev", SIZE)
    only = generate_phantoms(tmp_path, {"train": 1}, SIZE, 0, progress=False)
    with pytest.raises(DatasetFormatError, match="no studies"):
        PhantomDataset(only, "test", SIZE)


def test_command_writes_files_that_the_manifest_module_reads(tmp_path, capsys):
    out, picture = tmp_path / "files", tmp_path / "gallery.png"
    common = ["--patients", "10", "--image-size", "48", "--seed", "4", "--workers", "1", "--quiet"]
    assert data.run(["synthesize", "--out", str(out), "--format", "files", "--gallery", str(picture), *common]) == 0
    assert "manifest.csv" in capsys.readouterr().out
    with (out / "manifest.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert {"path", "text", "split", "patient_id", "study_id", *LABEL_NAMES} <= set(rows[0])

    from dmlm.datamodules import ManifestDataModule

    module = ManifestDataModule(str(out / "manifest.csv"), 32, 2, label_columns=list(LABEL_NAMES), num_workers=0)
    module.setup()
    assert module.label_names == LABEL_NAMES
    sizes = [len(getattr(module, f"{split}_dataset")) for split in ("train", "val", "test")]
    assert sum(sizes) == len(rows)
    positives = sum(row[name] == "1" for row in rows for name in LABEL_NAMES)
    # masks of the unseen finding have no label column
    masks = [path for path in (out / "masks").iterdir() if "hernia" not in path.name]
    assert len(masks) == positives

    from PIL import Image

    with Image.open(picture) as image:
        assert image.width > 4 * 2 * 48
    with pytest.raises(ConfigError, match="empty folder"):
        data.run(["synthesize", "--out", str(out), "--format", "files", *common])


def test_command_writes_a_store(tmp_path, capsys):
    arguments = [
        "synthesize",
        "--out",
        str(tmp_path),
        "--patients",
        "10",
        "--image-size",
        "32",
        "--workers",
        "1",
        "--quiet",
    ]
    assert data.run(arguments) == 0
    folder = phantom_folder(tmp_path, {"train": 7, "val": 1, "test": 2}, 32, 0)
    assert str(folder) in capsys.readouterr().out
    assert store.is_complete(folder)
    with pytest.raises(ConfigError, match="patients"):
        data.run(["synthesize", "--out", str(tmp_path), "--patients", "0"])


def test_the_command_starts_without_torch():
    code = "import sys, dmlm.commands.data, dmlm.plots.overlays; assert not {'torch', 'cv2'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
