"""Refuse, before anything is built, what the GPUs of this machine cannot run; the message has the mend."""

from __future__ import annotations

import re

import torch

from dmlm.errors import ConfigError

_FIRST_BF16 = (8, 0)
_LAST_WITH_VOLTA = "torch below 2.15 and torchvision from PyTorch's CUDA 12.6 wheels (cu126)"


def check_hardware(accelerator: object, devices: object, precision: object) -> None:
    """Check the CUDA devices that a run would use.

    Args:
        accelerator: ``trainer.accelerator``.
        devices: ``trainer.devices``: how many, which ones (a list, or ``"0,2"``), or all of them.
        precision: ``trainer.precision``.

    Raises:
        ConfigError: If a GPU is asked for and torch can use none, a device does not exist, this torch has no kernels
            for a GPU, or ``bf16`` is asked of a GPU below compute capability 8.0.
    """
    if accelerator not in ("auto", "gpu", "cuda"):
        return
    if not torch.cuda.is_available():
        if accelerator == "cuda" or (accelerator == "gpu" and not torch.backends.mps.is_available()):
            raise ConfigError(_no_gpu(str(accelerator)))
        return
    chosen = _chosen(devices, torch.cuda.device_count())
    if torch.version.hip is not None:
        return  # AMD's names of architectures and rules for bf16 are others
    for index in chosen:
        capability = torch.cuda.get_device_capability(index)
        name = torch.cuda.get_device_name(index)
        generation = f"sm_{capability[0]}{capability[1]}"
        if not _has_kernels(capability, torch.cuda.get_arch_list()):
            other = f"for a V100: {_LAST_WITH_VOLTA}" if capability == (7, 0) else "see pytorch.org/get-started"
            msg = (
                f"torch {torch.__version__} has no kernels for GPU {index} ({name}, {generation}); "
                f"it was built for {' '.join(torch.cuda.get_arch_list())}. Install another one, {other}; "
                "or run on the CPU with --trainer.accelerator cpu"
            )
            raise ConfigError(msg)
        if str(precision).startswith("bf16") and capability < _FIRST_BF16:
            msg = (
                f"GPU {index} ({name}, compute capability {capability[0]}.{capability[1]}) has no bf16: "
                "use --trainer.precision 16-mixed"
            )
            raise ConfigError(msg)


def _no_gpu(accelerator: str) -> str:
    start = f"trainer.accelerator={accelerator}, but torch {torch.__version__} finds no GPU that it can use: "
    if torch.version.cuda is None and torch.version.hip is None:
        return f"{start}it was built without CUDA. Install a CUDA build, or use --trainer.accelerator cpu"
    return (
        f"{start}look at nvidia-smi and CUDA_VISIBLE_DEVICES; a driver that is too old for CUDA {torch.version.cuda} "
        f"looks the same (for a V100 use {_LAST_WITH_VOLTA}). Or use --trainer.accelerator cpu"
    )


def _chosen(devices: object, count: int) -> list[int]:
    """Return the numbers of the GPUs that Lightning would take for ``trainer.devices``.

    Raises:
        ConfigError: If there are fewer.
    """
    text = devices.strip() if isinstance(devices, str) else devices
    if isinstance(text, str) and "," in text:
        listed = [int(part) for part in text.split(",") if part.strip().isdigit()]
    elif isinstance(text, (list, tuple)):
        listed = [item for item in text if isinstance(item, int)]
    else:
        number = int(text) if isinstance(text, str) and text.isdigit() else text
        asked = number if isinstance(number, int) and number >= 0 else count  # auto and -1 mean all of them
        listed = list(range(asked))
    missing = [index for index in listed if index >= count]
    if missing:
        msg = f"trainer.devices={devices}, but this machine has {count} GPU(s) that torch can use"
        raise ConfigError(msg)
    return listed


def _has_kernels(capability: tuple[int, int], built_for: list[str]) -> bool:
    """Whether binary code of the same generation, or PTX of an older or equal one, is in this build."""
    for entry in built_for:
        match = re.fullmatch(r"(sm|compute)_(\d+)(\d)[a-z]?", entry)
        if match is None:
            continue
        major, minor = int(match[2]), int(match[3])
        if match[1] == "sm" and major == capability[0] and minor <= capability[1]:
            return True
        if match[1] == "compute" and (major, minor) <= capability:
            return True
    return not built_for
