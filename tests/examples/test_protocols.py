"""Every example of fine-tuning, alone and under every protocol of its kind, through the real command line."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from dmlm.__main__ import main

EXAMPLES = Path(__file__).parents[2] / "examples"
KINDS = {"classify": "ClassificationModule", "grade": "EdemaGradingModule", "segment": "SegmentationModule"}
BASES = sorted(
    path for kind in KINDS for folder in ("", "paper") for path in (EXAMPLES / folder).glob(f"{kind}_*.yaml")
)
PROTOCOLS = sorted((EXAMPLES / "protocols").glob("*.yaml"))


def resolved(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict:
    with pytest.raises(SystemExit) as end:
        main(["fit", *arguments, "--print_config"])
    assert end.value.code in (0, None)
    return yaml.safe_load(capsys.readouterr().out)


def kind_of(path: Path) -> str:
    return next(kind for kind in KINDS if kind in path.stem)


def test_the_named_protocols_are_there() -> None:
    stems = {path.stem for path in PROTOCOLS}
    names = ("paper", "prior", "mgca", "medklip", "benchx")
    assert {f"{name}_{kind}" for name in names for kind in ("classify", "segment")} | {"paper_grade"} == stems


@pytest.mark.parametrize("base", BASES, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_examples_are_accepted(base, capsys) -> None:
    found = resolved(capsys, "--config", str(base))
    assert found["model"]["class_path"] == f"dmlm.tasks.{KINDS[kind_of(base)]}"
    options = found["model"]["init_args"]
    data = found["data"]["init_args"]
    assert data["min_epoch_steps"] > 1
    monitor = found["trainer"]["callbacks"][0]["init_args"]["monitor"]
    assert monitor == ("val_dice" if kind_of(base) == "segment" else "val_auroc")
    if kind_of(base) == "segment":
        assert data["with_masks"]
    if base.parent.name == "paper":
        assert (options["optim"]["lr"], options["optim"]["encoder_lr"], options["optim"]["weight_decay"]) == (
            3e-4,
            1e-5,
            0.05,
        )
        assert options["encoder"]["class_path"] == "dmlm.models.from_pretrained"


@pytest.mark.parametrize("protocol", PROTOCOLS, ids=lambda path: path.stem)
def test_protocols_lie_over_the_examples_of_their_kind(protocol, capsys) -> None:
    kind = kind_of(protocol)
    wanted = yaml.safe_load(protocol.read_text())
    base = EXAMPLES / f"{kind}_phantom.yaml"
    found = resolved(capsys, "--config", str(base), "--config", str(protocol))
    assert found["model"]["class_path"] == f"dmlm.tasks.{KINDS[kind]}"
    for section in ("model", "data"):
        for name, value in wanted[section]["init_args"].items():
            given = found[section]["init_args"][name]
            if isinstance(value, dict):
                assert {key: given[key] for key in value} == value
            else:
                assert given == value
    for name, value in wanted["trainer"].items():
        if name != "callbacks":
            assert found["trainer"][name] == value
    monitors = [callback["init_args"].get("monitor") for callback in found["trainer"]["callbacks"]]
    assert monitors == [callback["init_args"].get("monitor") for callback in wanted["trainer"]["callbacks"]]
    assert found["data"]["init_args"]["image_size"] == 80  # what the protocol does not name stays


def test_a_protocol_trains_and_tests(tmp_path, monkeypatch, capsys) -> None:
    """MGCA's probe, with early stopping, on a few phantoms; then `dmlm test --ckpt` alone gives the same numbers."""
    import json

    monkeypatch.chdir(tmp_path)
    small = {"num_train": 24, "num_val": 8, "num_test": 10, "batch_size": 8, "num_workers": 0}
    flags = [flag for name, value in small.items() for flag in (f"--data.{name}", str(value))]
    flags += ["--trainer.max_epochs", "1", "--trainer.accelerator", "cpu", "--trainer.enable_progress_bar", "false"]
    files = [str(EXAMPLES / "classify_phantom.yaml"), str(EXAMPLES / "protocols" / "mgca_classify.yaml")]
    assert main(
        ["fit", *(flag for file in files for flag in ("--config", file)), *flags, "--model.bootstrap", "5"]
    ) in (0, None)
    run = tmp_path / "runs" / "classify_phantom" / "version_0"
    first = json.loads((run / "metrics.json").read_text())
    ckpt = str(run / "checkpoints" / "best.ckpt")
    assert main(
        ["test", "--ckpt", ckpt, "--trainer.accelerator", "cpu", "--trainer.default_root_dir", str(tmp_path)]
    ) in (0, None)
    again = next(path for path in tmp_path.rglob("metrics.json") if run not in path.parents)
    second = json.loads(again.read_text())
    assert first.keys() == second.keys()
    assert second["classify/auc_macro"] == pytest.approx(first["classify/auc_macro"], abs=1e-6)
    capsys.readouterr()
    segment = str(EXAMPLES / "segment_phantom.yaml")
    assert main(["test", "--config", segment, "--ckpt", ckpt]) == 2
    message = capsys.readouterr().err
    assert "holds a ClassificationModule" in message
    assert "--model.encoder dmlm.models.from_pretrained" in message
