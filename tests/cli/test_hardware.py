"""What GPUs cannot run is refused before anything is built, in one line with the mend; the devices are made up."""

from __future__ import annotations

import pytest
import torch

from dmlm.__main__ import main
from dmlm.cli.hardware import check_hardware
from dmlm.errors import ConfigError

V100, T4, A100, ADA, H100, BLACKWELL = (7, 0), (7, 5), (8, 0), (8, 9), (9, 0), (12, 0)
CU126 = ["sm_50", "sm_60", "sm_70", "sm_75", "sm_80", "sm_86", "sm_90"]
CU130 = ["sm_75", "sm_80", "sm_86", "sm_90", "sm_100", "sm_120"]


@pytest.fixture
def machine(monkeypatch):
    """Make the machine have GPUs of these capabilities and a torch that was built for these architectures."""

    def make(capabilities: list[tuple[int, int]], built_for: list[str], hip: str | None = None) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: bool(capabilities))
        monkeypatch.setattr(torch.cuda, "device_count", lambda: len(capabilities))
        monkeypatch.setattr(torch.cuda, "get_device_capability", capabilities.__getitem__)
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda index: f"GPU-{capabilities[index]}")
        monkeypatch.setattr(torch.cuda, "get_arch_list", lambda: built_for)
        monkeypatch.setattr(torch.version, "hip", hip)

    return make


@pytest.mark.parametrize(
    ("capability", "built_for", "precision", "says"),
    [
        (V100, CU130, "16-mixed", "no kernels for GPU 0 .*sm_70.*torch below 2.15 .*cu126"),
        (V100, CU126, "bf16-mixed", "has no bf16: use --trainer.precision 16-mixed"),
        (V100, CU126, "16-mixed", None),
        (V100, CU126, "32-true", None),
        (T4, CU130, "bf16-true", "compute capability 7.5. has no bf16"),
        (A100, CU130, "bf16-mixed", None),
        (ADA, ["sm_80"], "bf16-mixed", None),  # binary code of the same generation
        (BLACKWELL, ["sm_90", "compute_90"], "bf16-true", None),  # compiled from PTX when first used
        (BLACKWELL, CU126, "16-mixed", "no kernels .*see pytorch.org"),
        (H100, ["sm_80", "sm_120"], "32", "no kernels"),
    ],
)
def test_one_device(machine, capability, built_for, precision, says) -> None:
    machine([capability], built_for)
    for accelerator in ("auto", "gpu", "cuda"):
        if says is None:
            check_hardware(accelerator, "auto", precision)
        else:
            with pytest.raises(ConfigError, match=says):
                check_hardware(accelerator, "auto", precision)
    check_hardware("cpu", "auto", precision)


@pytest.mark.parametrize(
    ("devices", "fails"),
    [
        ("auto", True), (-1, True), ("-1", True), (2, True), ("2", True), ([1], True), ("0,1", True),
        (1, False), ("1", False), ([0], False), ("0,", False),
    ],
)  # fmt: skip
def test_only_the_devices_of_the_run_count(machine, devices, fails) -> None:
    machine([A100, V100], CU130)
    if fails:
        with pytest.raises(ConfigError, match="GPU 1"):
            check_hardware("gpu", devices, "16-mixed")
    else:
        check_hardware("gpu", devices, "16-mixed")


@pytest.mark.parametrize("devices", [4, "4", [0, 3], "0,3"])
def test_devices_that_do_not_exist(machine, devices) -> None:
    machine([A100, A100], CU130)
    with pytest.raises(ConfigError, match=r"this machine has 2 GPU\(s\)"):
        check_hardware("auto", devices, "bf16-mixed")


def test_other_makers_names_are_not_judged(machine) -> None:
    machine([(9, 4)], ["gfx942"], hip="7.0")
    check_hardware("auto", "auto", "bf16-mixed")


@pytest.mark.parametrize(("built_with", "says"), [("13.0", "too old for CUDA 13.0"), (None, "built without CUDA")])
def test_no_usable_gpu(machine, monkeypatch, built_with, says) -> None:
    machine([], [])
    monkeypatch.setattr(torch.version, "cuda", built_with)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    for accelerator in ("gpu", "cuda"):
        with pytest.raises(ConfigError, match=says):
            check_hardware(accelerator, 4, "16-mixed")
    check_hardware("auto", "auto", "32-true")
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    check_hardware("gpu", 1, "32-true")


def test_the_command_line_ends_with_it(machine, tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    machine([V100] * 4, CU130)
    line = ["fit", "--model", "TinyClassifier", "--model.encoder", "TinyEncoder", "--model.encoder.image", "TinyImage"]
    import doubles

    assert doubles.TinyClassifier.__name__ in line
    assert main([*line, "--data", "TinyData", "--trainer.accelerator", "gpu", "--trainer.devices", "4"]) == 2
    message = capsys.readouterr().err
    assert "cu126" in message
    assert "Traceback" not in message
    assert not list(tmp_path.iterdir())
