"""Encoders that leave the house: ONNX, hub, card, `dmlm export`."""

from __future__ import annotations

import json
import shutil
import types
from pathlib import Path

import pytest
import torch
from conftest import tiny_encoder

from benchmarks.onnx_parity import differences, encoder_with
from dmlm.__main__ import main
from dmlm.errors import CheckpointError, ConfigError
from dmlm.models import ModelCard, from_hub, from_pretrained, push_to_hub, save_pretrained
from dmlm.models.onnx_export import OLDEST_TORCH, export_onnx


def pictures(encoder, count: int) -> torch.Tensor:
    side = encoder.image.image_size
    return torch.randint(0, 256, (count, 1, side, side), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


needs_exporter = pytest.mark.skipif(torch.__version__ < OLDEST_TORCH, reason="ONNX export needs torch 2.9")


@needs_exporter
@pytest.mark.parametrize("head", ["mlp", "attn"])
@pytest.mark.parametrize("tower", ["vit", "cnn"])
def test_onnx_equals_torch(tower: str, head: str, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    encoder = tiny_encoder(head=head) if tower == "vit" else encoder_with("test_resnet", head)
    encoder.train()
    worst = differences(encoder, tmp_path, batches=(1, 3))
    assert max(worst) < 1e-4


@needs_exporter
def test_a_tower_that_fixes_the_batch_size_is_not_exported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("onnxscript")
    encoder = tiny_encoder()
    forward = encoder.image.forward

    def by_number(images: torch.Tensor, *arguments: object, **options: object) -> object:
        return forward(images.reshape(len(images), *images.shape[1:]), *arguments, **options)

    monkeypatch.setattr(encoder.image, "forward", by_number)
    with pytest.raises(ConfigError, match=r"batches of 2 only.*x\.shape\[0\]"):
        export_onnx(encoder, tmp_path / "encoder.onnx")
    assert not list(tmp_path.iterdir())


def test_an_older_torch_is_refused_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("onnxscript")
    monkeypatch.setattr("torch.__version__", type(torch.__version__)("2.8.0"))
    with pytest.raises(ConfigError, match=r"torch 2\.9 or newer, this is 2\.8\.0; pip install"):
        export_onnx(tiny_encoder(), tmp_path / "encoder.onnx")


@needs_exporter
def test_exporting_leaves_the_encoder_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("onnxscript")

    def fail(*_: object, **__: object) -> None:
        raise RuntimeError

    monkeypatch.setattr("torch.onnx.export", fail)
    encoder = tiny_encoder().train()
    encoder.text.eval()
    with pytest.raises(RuntimeError):
        export_onnx(encoder, tmp_path / "encoder.onnx")
    assert (encoder.training, encoder.image.training, encoder.text.training) == (True, True, False)
    assert not list(tmp_path.iterdir())


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A hub that is a folder; only the transport is replaced."""
    place = tmp_path / "hub"

    class Api:
        def create_repo(self, repo_id: str, private: bool, exist_ok: bool) -> None:
            (place / repo_id).mkdir(parents=True, exist_ok=exist_ok)
            (place / repo_id / ".private").write_text(str(private))

        def upload_folder(self, repo_id: str, folder_path: str, revision: str | None, commit_message: str) -> str:
            shutil.copytree(folder_path, place / repo_id, dirs_exist_ok=True)
            return f"hub/{repo_id}/commit"

    def snapshot_download(repo_id: str, revision: str | None, allow_patterns: list[str]) -> str:
        if not (place / repo_id).is_dir():
            raise OSError(f"404: {repo_id}")
        target = tmp_path / "cache" / repo_id
        target.mkdir(parents=True)
        for name in allow_patterns:
            shutil.copy(place / repo_id / name, target)
        return str(target)

    module = types.SimpleNamespace(HfApi=Api, snapshot_download=snapshot_download)
    monkeypatch.setattr("dmlm.models.hub._hub", lambda: module)
    return place


def test_hub_round_trip(hub: Path) -> None:
    encoder = tiny_encoder().eval()
    card = ModelCard("Synthetic radiographs.", "apache-2.0", {"zero_shot/auc_macro": 0.5})
    assert push_to_hub(encoder, "someone/encoder", card) == "hub/someone/encoder/commit"
    assert (hub / "someone/encoder/.private").read_text() == "True", "credentialed data are the rule in this field"
    text = (hub / "someone/encoder/README.md").read_text()
    assert "Synthetic radiographs." in text
    assert "zero_shot/auc_macro" in text
    again = from_hub("someone/encoder")
    images = pictures(encoder, 2)
    with torch.no_grad():
        torch.testing.assert_close(again.encode_image(images).mean, encoder.encode_image(images).mean)
    with pytest.raises(CheckpointError, match="nobody/nothing"):
        from_hub("nobody/nothing")


def test_export_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    encoder = tiny_encoder().eval()
    save_pretrained(encoder, tmp_path / "folder")
    (tmp_path / "metrics.json").write_text(json.dumps({"zero_shot/auc_macro": 0.875}))
    arguments = ["export", "--ckpt", str(tmp_path / "folder"), "--out", str(tmp_path / "out")]
    assert main([*arguments, "--metrics", str(tmp_path / "metrics.json"), "--data", "Phantoms."]) == 0
    assert "model.safetensors" in capsys.readouterr().out
    assert "0.8750" in (tmp_path / "out" / "README.md").read_text()
    again = from_pretrained(str(tmp_path / "out"))
    assert all(
        torch.equal(a, b) for a, b in zip(again.state_dict().values(), encoder.state_dict().values(), strict=True)
    )


def test_export_refuses_metrics_that_are_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "metrics.json").write_text("[1]")
    status = main(["export", "--ckpt", "x", "--out", str(tmp_path / "o"), "--metrics", str(tmp_path / "metrics.json")])
    assert status == 2
    assert "metrics.json" in capsys.readouterr().err
    assert not (tmp_path / "o").exists()
