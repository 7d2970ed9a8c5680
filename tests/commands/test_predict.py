"""`dmlm predict --images` on checkpoints of real (tiny) runs."""

import csv
import json
import shutil

import numpy as np
import pytest
from PIL import Image

from dmlm.__main__ import main
from dmlm.commands.predict import find_images
from dmlm.errors import DatasetNotFoundError
from dmlm.reproduce.scale import Scale

PHANTOMS = {"num_train": 12, "num_val": 6, "num_test": 8, "image_size": 32, "batch_size": 4, "num_workers": 0}
MODELS = {
    "classify": ("ClassificationModule", {"num_classes": 9, "bootstrap": 0, "mc_samples": 4}, {}),
    "grade": ("EdemaGradingModule", {"bootstrap": 0}, {"target": "edema"}),
    "segment": ("SegmentationModule", {"width": 16}, {"with_masks": True, "mask_of": ["Consolidation"]}),
    "zero_shot": ("ZeroShotModule", {}, {}),
}


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    """One checkpoint per task, each of a run of one epoch (zero-shot: of a test)."""
    place = tmp_path_factory.mktemp("runs")
    found = {}
    for name, (task, options, data) in MODELS.items():
        encoder = Scale("smoke").encoder("Scratch")
        encoder["init_args"]["image"]["init_args"]["image_size"] = 32
        folder = place / name
        keep = {"dirpath": str(folder / "checkpoints"), "filename": "best"}
        config = {
            "trainer": {
                "accelerator": "cpu",
                "max_epochs": 1,
                "enable_progress_bar": False,
                "enable_model_summary": False,
                "num_sanity_val_steps": 0,
                "logger": False,
                "default_root_dir": str(folder),
                "callbacks": [{"class_path": "lightning.pytorch.callbacks.ModelCheckpoint", "init_args": keep}],
            },
            "model": {"class_path": task, "init_args": {"encoder": encoder, **options}},
            "data": {
                "class_path": "PhantomDataModule",
                "init_args": {**PHANTOMS, "cache": str(place / "data"), **data},
            },
        }
        folder.mkdir()
        (folder / "c.yaml").write_text(json.dumps(config))
        if task == "ZeroShotModule":
            found[name] = _save_zero_shot(config, folder)
            continue
        assert main(["fit", "--config", str(folder / "c.yaml")]) is None
        found[name] = folder / "checkpoints" / "best.ckpt"
    return found


def _save_zero_shot(config, folder):
    """A zero-shot task is not trained: its checkpoint is saved as a run would, with thresholds beside it."""
    from lightning.pytorch import Trainer

    from dmlm._config import build
    from dmlm.models import ProbabilisticEncoder
    from dmlm.tasks import ZeroShotModule

    encoder = build(_full(config["model"]["init_args"]["encoder"]), ProbabilisticEncoder, "test")
    task = ZeroShotModule(encoder)
    trainer = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
    trainer.strategy.connect(task)
    path = folder / "checkpoints" / "best.ckpt"
    trainer.save_checkpoint(path)
    metrics = {"zero_shot/threshold/Edema@best_f1_val": 1.0, "zero_shot/threshold/Pneumothorax@best_f1_val": -1.0}
    (folder / "metrics.json").write_text(json.dumps(metrics))
    return path


def _full(config):
    """Class paths written out, as a checkpoint records them."""
    if isinstance(config, dict):
        full = {key: _full(value) for key, value in config.items()}
        if "class_path" in full and "." not in full["class_path"]:
            full["class_path"] = f"dmlm.models.{full['class_path']}"
        return full
    return config


@pytest.fixture
def films(tmp_path):
    """Three films of different sizes in two folders, one damaged file, and files that are no images."""
    rng = np.random.default_rng(0)
    folder = tmp_path / "films"
    (folder / "deep").mkdir(parents=True)
    for name, shape in (("a.png", (50, 40)), ("deep/b.jpg", (64, 64)), ("deep/c.png", (33, 70))):
        Image.fromarray(rng.integers(0, 255, shape, dtype=np.uint8)).save(folder / name)
    (folder / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    (folder / "notes.txt").write_text("no image")
    return folder


def rows_of(out):
    with (out / "predictions.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(json.loads((out / "predictions.json").read_text()))
    return rows


def predict(checkpoint, films, out, *options):
    return main(["predict", "--ckpt", str(checkpoint), "--images", str(films), "--out", str(out), "--quiet", *options])


def test_findings_of_a_folder_with_one_damaged_file(checkpoints, films, tmp_path, capsys):
    assert predict(checkpoints["classify"], films, tmp_path / "out", "--overlays", "1") == 1
    said = capsys.readouterr()
    assert "3 of 4 images predicted" in said.out
    assert "broken.png" in said.err
    rows = rows_of(tmp_path / "out")
    assert len(rows) == 3 * 9
    assert {row["image"] for row in rows} == {"a.png", "deep/b.jpg", "deep/c.png"}
    for row in rows:
        chance = float(row["probability"])
        assert 0 <= chance <= 1
        assert int(row["positive"]) == (chance >= float(row["threshold"]))
        assert row["threshold_rule"] == "best_f1_val"
        assert 0 <= float(row["uncertainty"]) <= np.log(2) + 1e-6
        assert float(row["mc_std"]) >= 0
    assert [path.name for path in (tmp_path / "out" / "overlays").iterdir()] == ["a.png.png"]


def test_answers_do_not_depend_on_batch_or_company(checkpoints, films, tmp_path):
    (films / "broken.png").unlink()
    for name in ("classify", "zero_shot"):
        assert predict(checkpoints[name], films, tmp_path / name, "--overlays", "0", "--batch-size", "3") == 0
        single = films / "deep" / "c.png"
        assert predict(checkpoints[name], single, tmp_path / f"{name}1", "--overlays", "0") == 0
        together = [row for row in rows_of(tmp_path / name) if row["image"] == "deep/c.png"]
        for alone, row in zip(rows_of(tmp_path / f"{name}1"), together, strict=True):
            for key in ("probability", "mc_std", "image_variance"):
                assert float(alone[key]) == pytest.approx(float(row[key]), abs=1e-5)


def test_grades_sum_to_one_and_one_wins(checkpoints, films, tmp_path):
    predict(checkpoints["grade"], films, tmp_path / "out", "--overlays", "0")
    rows = [row for row in rows_of(tmp_path / "out") if row["image"] == "a.png"]
    assert len(rows) == 4
    assert sum(float(row["probability"]) for row in rows) == pytest.approx(1, abs=1e-5)
    assert sum(int(row["positive"]) for row in rows) == 1
    assert rows[0]["threshold_rule"] == "argmax"
    assert rows[0]["threshold"] == ""


def test_masks_have_an_area_and_an_overlay(checkpoints, films, tmp_path):
    predict(checkpoints["segment"], films, tmp_path / "out")
    rows = rows_of(tmp_path / "out")
    assert [row["finding"] for row in rows] == ["Consolidation"] * 3
    assert all(0 <= float(row["area"]) <= 1 for row in rows)
    names = sorted(path.name for path in (tmp_path / "out" / "overlays").iterdir())
    assert names == ["a.png.png", "deep__b.jpg.png", "deep__c.png.png"]


def test_zero_shot_takes_findings_and_thresholds_of_its_run(checkpoints, films, tmp_path):
    predict(checkpoints["zero_shot"], films, tmp_path / "out", "--overlays", "0")
    rows = [row for row in rows_of(tmp_path / "out") if row["image"] == "a.png"]
    assert [row["finding"] for row in rows] == ["Edema", "Pneumothorax"]
    assert float(rows[0]["threshold"]) == pytest.approx(1 / (1 + np.exp(-1)), abs=1e-5)
    predict(checkpoints["zero_shot"], films, tmp_path / "asked", "--overlays", "0", "--findings", "Nodule")
    twice = ["edema", "Pleural effusion", "edema", "Pleural_Effusion", "Edema"]
    predict(checkpoints["zero_shot"], films, tmp_path / "twice", "--overlays", "0", "--findings", *twice)
    rows = [row for row in rows_of(tmp_path / "twice") if row["image"] == "a.png"]
    assert [row["finding"] for row in rows] == ["edema", "Pleural effusion"]
    row = rows_of(tmp_path / "asked")[0]
    assert (row["finding"], row["threshold"], row["threshold_rule"]) == ("Nodule", "0.5", "fixed_0.5")


def test_thresholds_of_another_checkpoint_are_not_taken(checkpoints, films, tmp_path, caplog):
    """A run tests its best checkpoint: its thresholds are not those of the last one."""
    run = tmp_path / "run"
    shutil.copytree(checkpoints["zero_shot"].parents[1], run)
    shutil.copy(run / "checkpoints" / "best.ckpt", run / "checkpoints" / "last.ckpt")
    (run / "tested.json").write_text('{"checkpoint": "best.ckpt"}')
    for name, rule in (("best", "best_f1_val"), ("last", "fixed_0.5")):
        caplog.clear()
        predict(run / "checkpoints" / f"{name}.ckpt", films, tmp_path / name, "--overlays", "0")
        rows = rows_of(tmp_path / name)
        assert {row["finding"] for row in rows} == {"Edema", "Pneumothorax"}
        assert {row["threshold_rule"] for row in rows} == {rule}
        assert ("thresholds of its folder are those of best.ckpt" in caplog.text) == (name == "last")


def test_dicom_files_without_an_extension_are_found(checkpoints, tmp_path):
    pydicom = pytest.importorskip("pydicom")
    from pydicom.dataset import FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian

    dataset = pydicom.Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.1.1"
    dataset.file_meta.MediaStorageSOPInstanceUID = "1.2.3"
    dataset.Rows, dataset.Columns = 48, 40
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 12, 11, 0
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.PixelData = np.random.default_rng(0).integers(0, 4095, (48, 40), dtype=np.uint16).tobytes()
    folder = tmp_path / "series"
    folder.mkdir()
    dataset.save_as(folder / "IM0001", enforce_file_format=True)
    (folder / "README").write_text("not DICOM")
    assert predict(checkpoints["classify"], folder, tmp_path / "out", "--overlays", "0") == 0
    assert {row["image"] for row in rows_of(tmp_path / "out")} == {"IM0001"}


def test_nothing_to_predict_is_one_clear_line(checkpoints, films, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    assert predict(checkpoints["classify"], tmp_path / "empty", tmp_path / "out") == 2
    assert "no image among 0 files" in capsys.readouterr().err
    assert predict(checkpoints["classify"], films / "broken.png", tmp_path / "out") == 2
    assert "none of the 1 images could be read" in capsys.readouterr().err
    assert not list((tmp_path / "out").glob("predictions*"))
    assert predict(checkpoints["classify"], films, tmp_path / "out", "--findings", "Edema") == 2
    assert "--findings is for zero-shot tasks" in capsys.readouterr().err
    assert predict(tmp_path / "no.ckpt", films, tmp_path / "out") == 2
    capsys.readouterr()
    run = checkpoints["classify"].parent.parent
    assert predict(run, films, tmp_path / "out") == 2
    assert f"name the file: {checkpoints['classify']}" in capsys.readouterr().err
    assert main(["export", "--ckpt", str(checkpoints["classify"]), "--out", str(tmp_path / "encoder")]) == 0
    assert predict(tmp_path / "encoder", films, tmp_path / "out") == 2
    assert "is an exported encoder, not a checkpoint: name the .ckpt of a run" in capsys.readouterr().err
    with pytest.raises(DatasetNotFoundError, match="no such file or folder"):
        find_images(tmp_path / "nowhere")


def test_without_images_predict_stays_a_trainer_verb(capsys):
    assert main(["predict"]) == 2
    assert "--model" in capsys.readouterr().err


def test_overlays_of_an_earlier_run_are_no_images(films):
    images = find_images(films)
    for out in (films, films / "deep" / "out"):
        drawn = out / "overlays" / "a.png.png"
        drawn.parent.mkdir(parents=True)
        Image.new("L", (8, 8)).save(drawn)
        assert find_images(films, out) == images
        assert drawn in find_images(films, films.parent / "elsewhere")
        drawn.unlink()
