"""`dmlm data`: synthesize, doctor and splits as a user calls them."""

import errno
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from dmlm.__main__ import main
from dmlm.datasets.catalog import open_table
from dmlm.datasets.synthesize import GENERATORS, MARKER

MINE = ("rsna", "siim", "nih", "covidx", "covid_rural")


@pytest.fixture(scope="module")
def roots(tmp_path_factory):
    """One folder per data set, written by the command."""
    out = tmp_path_factory.mktemp("layouts")
    for name in MINE:
        assert main(["data", "synthesize", name, str(out / name), "--patients", "7", "--image-size", "64"]) == 0
    return out


def test_list_names_one_a_line(capsys):
    assert main(["data", "synthesize", "--list"]) == 0
    listed = capsys.readouterr().out.split()
    assert listed == list(GENERATORS)
    examples = Path(__file__).parents[2] / "examples" / "datasets"  # each can be made, examined and trained on
    assert sorted(listed) == sorted(path.stem for path in examples.glob("*.yaml"))


@pytest.mark.parametrize("name", MINE)
def test_doctor_finds_what_synthesize_wrote_well(roots, name, capsys):
    assert main(["data", "doctor", str(roots / name), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["well"] is True
    assert found["dataset"] == name
    assert found["synthetic"] is True
    assert found["layout"]
    assert found["counts"]["images"] == found["expected"]["images"] == found["checked_images"]
    assert main(["data", "doctor", str(roots / name)]) == 0
    assert capsys.readouterr().out.rstrip().endswith("all is well")


def test_the_same_options_give_the_same_bytes(roots, tmp_path, capsys):
    out = tmp_path / "again"
    assert main(["data", "synthesize", "siim", str(out), "--patients", "7", "--image-size", "64"]) == 0
    files = sorted(path.relative_to(out) for path in out.rglob("*") if path.is_file())
    assert files == sorted(path.relative_to(roots / "siim") for path in (roots / "siim").rglob("*") if path.is_file())
    for path in files:
        assert (out / path).read_bytes() == (roots / "siim" / path).read_bytes(), path


def test_doctor_without_the_marker_compares_with_the_real_totals(roots, tmp_path, capsys):
    root = shutil.copytree(roots / "nih", tmp_path / "nih")
    (root / MARKER).unlink()
    assert main(["data", "doctor", str(root), "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert found["expected"]["images"] == 112_120
    assert any(line.startswith("images: ") and "112,120" in line for line in found["problems"])


def test_doctor_names_what_is_missing_and_what_is_corrupt(roots, tmp_path, capsys):
    root = shutil.copytree(roots / "rsna", tmp_path / "rsna")
    table = open_table("rsna", root)
    table.path(0).unlink()
    table.path(4).write_bytes(table.path(4).read_bytes()[:900])
    (root / "stage_2_detailed_class_info.csv").unlink()
    assert main(["data", "doctor", str(root), "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert any("1 of" in line and "are not there" in line for line in found["problems"])
    assert list(found["corrupt"]) == [str(table.path(4))]
    assert found["absent"] == {"stage_2_detailed_class_info.csv": "the three classes"}
    assert "kaggle" in found["how_to_get"].lower()
    assert main(["data", "doctor", str(root)]) == 1
    said = capsys.readouterr().out
    assert "not well: 2 problems, 1 corrupt files" in said
    assert "to get it" in said


def test_doctor_names_bad_masks(roots, tmp_path, capsys):
    from PIL import Image

    root = shutil.copytree(roots / "covid_rural", tmp_path / "rural")
    masks = sorted(root.rglob("pngs_masks/*.png"))
    Image.fromarray(np.zeros((64, 10), np.uint8)).save(masks[0])
    Image.fromarray(np.full((64, 64), 9, np.uint8)).save(masks[1])
    assert main(["data", "doctor", str(root), "--json"]) == 1
    corrupt = json.loads(capsys.readouterr().out)["corrupt"]
    assert len(corrupt) == 2
    assert any("not the form of its image" in why for why in corrupt.values())


def test_doctor_refuses_a_folder_that_it_does_not_know(tmp_path, capsys):
    assert main(["data", "doctor", str(tmp_path)]) == 2
    assert "holds no data set that dmlm knows" in capsys.readouterr().err
    assert main(["data", "doctor", str(tmp_path / "nothing")]) == 2
    assert "no such folder" in capsys.readouterr().err
    assert main(["data", "doctor", str(tmp_path), "--dataset", "rnsa"]) == 2
    assert "did you mean 'rsna'" in capsys.readouterr().err


def test_doctor_reports_a_table_that_cannot_be_read(roots, tmp_path, capsys):
    root = shutil.copytree(roots / "rsna", tmp_path / "rsna")
    (root / "stage_2_train_labels.csv").write_text("patientId,x\n")
    assert main(["data", "doctor", str(root), "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert any("has no column 'y'" in line for line in found["problems"])
    assert found["counts"] == {}


def test_splits_writes_what_training_reads(roots, tmp_path, capsys):
    out = tmp_path / "split.json"
    assert main(["data", "splits", str(roots / "nih"), "--out", str(out), "--leaks", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["split"] == "official"
    assert said["leaks"]["within"]["clean"] is True
    written = json.loads(out.read_text())
    assert said["sha256"] == written["sha256"]
    assert written["sizes"] == {part: said[part]["images"] for part in ("train", "val", "test")}
    from dmlm.datamodules import NIHChestXray14DataModule

    data = NIHChestXray14DataModule(
        str(roots / "nih"), image_size=32, batch_size=2, num_workers=0, split="file", split_file=str(out)
    )
    data.setup()
    assert len(data.train_dataset) == written["sizes"]["train"]
    assert len(data.test_dataset) == written["sizes"]["test"]
    batch = next(iter(data.train_dataloader()))
    assert batch["image"].shape == (2, 1, 32, 32)
    assert batch["labels"].shape == (2, 14)


def test_splits_finds_contamination_and_says_so_in_its_status(roots, capsys):
    arguments = ["data", "splits", str(roots / "rsna"), "--split", "mgca", "--against", str(roots / "nih")]
    assert main([*arguments, "--near-duplicates"]) == 1
    said = capsys.readouterr().out
    assert "contamination, rsna / nih" in said
    assert main(arguments) == 0  # names alone do not tell


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["splits", "{siim}", "--split", "gloria"], "leaks: it draws rows of the csv"),
        (["splits", "{rsna}", "--split", "lovt"], "set split_file to it"),
        (["splits", "{rsna}", "--split", "offical"], "has no split 'offical'"),
        (
            ["prepare", "{rsna}", "--out", "{rsna}/stage_2_train_labels.csv", "--quiet"],
            "cannot be written (File exists)",
        ),
        (
            ["prepare", "{rsna}", "--out", "{rsna}/stage_2_train_labels.csv/x", "--quiet"],
            "cannot be written (Not a directory)",
        ),
        (["doctor", "{rsna}/stage_2_train_labels.csv"], "is a file; give the folder"),
        (["doctor", "{rsna}/stage_2_train_labels.csv"], "by dmlm fit with --data ManifestDataModule"),
        (["splits", "{rsna}", "--mapping", "m.csv"], "name the other one with --against"),
        (["synthesize", "rsan", "{new}"], "did you mean 'rsna'"),
        (["synthesize", "rsna", "{rsna}"], "exists already and is not empty"),
        (["synthesize", "rsna"], "give the folder to write to once"),
        (["synthesize", "rsna", "{new}", "--patients", "2"], "at least 3"),
        (["synthesize", "rsna", "{new}", "--workers", "2"], "belong to phantoms"),
        (["synthesize", "rsna", "{new}", "--image-size", "8"], "--image-size must be 32 to 4096"),
        (["docter", "{rsna}"], "did you mean 'doctor'"),
    ],
)
def test_errors_are_one_line_and_leave_nothing(roots, tmp_path, arguments, said, capsys):
    places = {name: str(roots / name) for name in MINE} | {"new": str(tmp_path / "new")}
    assert main(["data", *(word.format(**places) for word in arguments)]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_lists_that_are_no_text_are_one_line(roots, tmp_path, capsys):
    lists = tmp_path / "lists"
    lists.mkdir()
    for part in ("train", "val", "test"):
        (lists / f"{part}.txt").write_bytes(b"\xff\xfe\x00")
    assert main(["data", "splits", str(roots / "rsna"), "--split", "lovt", "--split-file", str(lists)]) == 2
    assert "train.txt: cannot be read as a text (not UTF-8" in capsys.readouterr().err
    for name, path in (("nih", "test_list.txt"), ("covidx", "train.txt")):
        root = shutil.copytree(roots / name, tmp_path / name)
        (root / MARKER).unlink()
        (root / path).write_bytes(b"\xff\xfe\x00")
        assert main(["data", "doctor", str(root), "--dataset", name, "--json"]) == 1
        problems = json.loads(capsys.readouterr().out)["problems"]
        assert any(f"{path}: cannot be read as a text (not UTF-8" in line for line in problems)
        assert len(problems) == len(set(problems))


def test_doctor_counts_reports_and_says_when_there_are_none(tmp_path, capsys):
    assert main(["data", "synthesize", "mimic", str(tmp_path / "m"), "--patients", "5", "--image-size", "64"]) == 0
    capsys.readouterr()
    assert main(["data", "doctor", str(tmp_path / "m"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert 0 < found["counts"]["studies with report"] <= found["counts"]["studies"]
    assert not found["absent"]
    next((tmp_path / "m").rglob("mimic-cxr-reports.zip")).unlink()
    next((tmp_path / "m").rglob("*negbio.csv.gz")).unlink()
    assert main(["data", "doctor", str(tmp_path / "m"), "--json"]) == 0
    assert list(json.loads(capsys.readouterr().out)["absent"]) == [
        "mimic-cxr-reports.zip",
        "mimic-cxr-2.0.0-negbio.csv",
    ]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EACCES])
def test_what_the_system_refuses_is_one_line(roots, monkeypatch, capsys, number):
    def refuse(*_):
        raise OSError(number, os.strerror(number), "some/file")

    monkeypatch.setattr("dmlm.datasets.doctor.examine", refuse)
    assert main(["data", "doctor", str(roots / "rsna")]) == 2
    told = capsys.readouterr().err
    assert told.startswith(f"dmlm: error: some/file: {os.strerror(number)}; ")
    assert told.count("\n") == 1
    monkeypatch.setenv("DMLM_DEBUG", "1")
    with pytest.raises(OSError, match=os.strerror(number)):
        main(["data", "doctor", str(roots / "rsna")])


def test_a_generator_that_fails_leaves_nothing(tmp_path, monkeypatch, capsys):
    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("dmlm.datasets.synthesize.nih._write_lines", fail)
    assert main(["data", "synthesize", "nih", str(tmp_path / "out"), "--patients", "3", "--image-size", "64"]) == 2
    assert "No space left" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_the_phantom_form_still_works(tmp_path, capsys):
    arguments = ["--patients", "3", "--image-size", "32", "--workers", "1", "--quiet"]
    assert main(["data", "synthesize", "--out", str(tmp_path / "a"), *arguments]) == 0
    assert main(["data", "synthesize", "phantom", str(tmp_path / "b"), *arguments, "--format", "files"]) == 0
    assert (tmp_path / "b" / "manifest.csv").is_file()
    assert next((tmp_path / "a").iterdir()).name.startswith("phantom-32px-")


def test_a_split_file_that_would_not_be_read_is_refused(roots, tmp_path, capsys):
    for name in ([], ["--split", "ratios"]):
        command = ["data", "splits", str(roots / "nih"), *name, "--split-file", str(tmp_path / "mine.json")]
        assert main(command) == 2
        error = capsys.readouterr().err
        assert "reads no file; add --split file to read it, or write a split with --out" in error
    assert not (tmp_path / "mine.json").exists()
