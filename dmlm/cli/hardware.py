"""Refuse, before anything is built, what the GPUs of this machine cannot run; the message has the mend."""

from __future__ import annotations

import re

import torch

from dmlm.errors import ConfigError

_FIRST_BF16 = (8, 0)


def check_hardware(accelerator: object, devices: object, precision: object) -> None:
    """Check the CUDA devices that a run would use.

    Args:
        accelerator: ``trainer.accelerator``.
        devices: ``trainer.devices``; a list names devices, anything else may use any of them.
        precision: ``trainer.precision``.

    Raises:
        ConfigError: If ``bf16`` is asked of a GPU below compute capability 8.0, or this torch has no kernels for a GPU.
    """
    if accelerator not in ("auto", "gpu", "cuda") or not torch.cuda.is_available():
        return
    listed = [item for item in devices if isinstance(item, int)] if isinstance(devices, (list, tuple)) else []
    for index in listed or range(torch.cuda.device_count()):
        capability = torch.cuda.get_device_capability(index)
        name = torch.cuda.get_device_name(index)
        generation = f"sm_{capability[0]}{capability[1]}"
        if not _has_kernels(capability, torch.cuda.get_arch_list()):
            msg = (
                f"torch {torch.__version__} has no kernels for GPU {index} ({name}, {generation}); "
                f"it was built for {' '.join(torch.cuda.get_arch_list())}. Install another one, for a V100: "
                "torch below 2.15 and torchvision from PyTorch's CUDA 12.6 wheels (cu126); "
                "or run on the CPU with --trainer.accelerator cpu"
            )
            raise ConfigError(msg)
        if str(precision).startswith("bf16") and capability < _FIRST_BF16:
            msg = (
                f"GPU {index} ({name}, compute capability {capability[0]}.{capability[1]}) has no bf16: "
                "use --trainer.precision 16-mixed"
            )
            raise ConfigError(msg)


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
