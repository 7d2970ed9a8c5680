"""`dmlm export`: what of a run's metrics gets into the model card."""

from __future__ import annotations

import errno
import os
import resource
from pathlib import Path

import lightning
import pytest
import torch
from conftest import tiny_encoder

from dmlm.__main__ import main
from dmlm.errors import CheckpointError
from dmlm.io.atomic import write_json
from dmlm.io.lock import lock
from dmlm.models import from_pretrained, save_pretrained
from dmlm.tasks import ZeroShotModule


def test_numbers_that_do_not_exist_are_left_out_of_the_card(tmp_path: Path) -> None:
    """A run writes NaN as null, e.g. the AUC of a finding that no test image has."""
    task = ZeroShotModule(tiny_encoder())
    content = {"state_dict": task.state_dict(), "hyper_parameters": dict(task.hparams), "dmlm": {"format": 1}}
    torch.save({**content, "pytorch-lightning_version": lightning.__version__}, tmp_path / "run.ckpt")
    metrics = {"zero_shot/auc_macro": 0.75, "zero_shot/auc/Nodule": float("nan"), "studies": 12}
    write_json(tmp_path / "metrics.json", metrics)
    command = ["export", "--ckpt", str(tmp_path / "run.ckpt"), "--out", str(tmp_path / "out")]
    assert main([*command, "--metrics", str(tmp_path / "metrics.json")]) == 0
    card = (tmp_path / "out" / "README.md").read_text()
    assert "| `zero_shot/auc_macro` | 0.7500 |" in card
    assert "| `studies` | 12.0000 |" in card
    assert "Nodule" not in card


def export(tmp_path: Path, seed: int, *options: str) -> int:
    torch.manual_seed(seed)
    save_pretrained(tiny_encoder(), tmp_path / f"encoder{seed}")
    return main(["export", "--ckpt", str(tmp_path / f"encoder{seed}"), "--out", str(tmp_path / "out"), *options])


def weights(folder: Path) -> bytes:
    return (folder / "model.safetensors").read_bytes()


@pytest.fixture
def quick_onnx(monkeypatch: pytest.MonkeyPatch) -> None:
    """Write a file of that name without the exporter, which the name is not about."""
    monkeypatch.setattr("dmlm.models.onnx_export.export_onnx", lambda _, path: path.write_text("graph"))


def test_an_export_replaces_the_whole_earlier_one(tmp_path, capsys, quick_onnx):
    assert export(tmp_path, 1, "--onnx") == 0
    assert "image_encoder.onnx" in capsys.readouterr().out
    (tmp_path / "out" / "notes.txt").write_text("mine")
    (tmp_path / "out" / ".export.killed.part").mkdir()
    assert export(tmp_path, 2) == 0
    said = capsys.readouterr().out
    assert said == f"{tmp_path / 'out'}: README.md, config.json, model.safetensors, tokenizer.json\n"
    left = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert left == ["README.md", "config.json", "model.safetensors", "notes.txt", "tokenizer.json"]
    assert weights(tmp_path / "out") == weights(tmp_path / "encoder2")


def test_an_export_that_fails_leaves_the_earlier_one(tmp_path, monkeypatch, quick_onnx):
    assert export(tmp_path, 1, "--onnx") == 0

    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    before = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    monkeypatch.setattr("dmlm.models.onnx_export.export_onnx", fail)
    assert export(tmp_path, 2, "--onnx") == 2
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == before


def test_an_export_that_stops_while_files_change_places_is_refused_by_readers(tmp_path, monkeypatch, quick_onnx):
    assert export(tmp_path, 1, "--onnx") == 0
    replace = Path.replace

    def stop(path: Path, target: Path) -> Path:
        if path.parent.name.startswith(".export.") and path.name == "tokenizer.json":
            raise OSError(errno.EIO, os.strerror(errno.EIO), str(path))
        return replace(path, target)

    monkeypatch.setattr(Path, "replace", stop)
    assert export(tmp_path, 2) == 2
    with pytest.raises(CheckpointError, match=r"config\.json is missing"):
        from_pretrained(str(tmp_path / "out"))
    assert not (tmp_path / "out" / "image_encoder.onnx").exists()
    monkeypatch.setattr(Path, "replace", replace)
    assert export(tmp_path, 2) == 0
    from_pretrained(str(tmp_path / "out"))


def test_weights_that_do_not_fit_are_one_line_and_leave_nothing(tmp_path, capfd, monkeypatch):
    torch.manual_seed(0)
    save_pretrained(tiny_encoder(), tmp_path / "encoder")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
    try:
        status = main(["export", "--ckpt", str(tmp_path / "encoder"), "--out", str(tmp_path / "new" / "out")])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    said = capfd.readouterr().err
    assert status == 2
    assert said.startswith(f"dmlm: error: {tmp_path / 'new' / 'out' / 'model.safetensors'}: File too large; ")
    assert said.count("\n") == 1
    assert not (tmp_path / "new").exists()


def test_two_exports_cannot_write_one_folder(tmp_path, capsys):
    (tmp_path / "out").mkdir()
    held = lock(tmp_path / "out", "")
    assert export(tmp_path, 1) == 2
    assert "another dmlm export is writing there" in capsys.readouterr().err
    os.close(held)
    assert export(tmp_path, 1) == 0


def test_a_run_folder_is_no_encoder(tmp_path, capsys):
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    (tmp_path / "run" / "checkpoints" / "best.ckpt").touch()
    assert main(["export", "--ckpt", str(tmp_path / "run"), "--out", str(tmp_path / "out")]) == 2
    assert f"name the file: {tmp_path / 'run' / 'checkpoints' / 'best.ckpt'}" in capsys.readouterr().err
