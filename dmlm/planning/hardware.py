"""GPUs by their data sheets."""

from __future__ import annotations

import re
from typing import NamedTuple

from dmlm.errors import ConfigError


class Gpu(NamedTuple):
    """One kind of GPU.

    Args:
        name: How it is called here.
        half: Peak of dense matrix products in fp16 or bf16, operations a second.
        single: Peak in float32, operations a second. Not TF32, which torch and this library leave off.
        memory: Bytes.
        bandwidth: Of its memory, bytes a second.
        link: All-reduce between GPUs of a node, bytes a second (bus bandwidth).
        has_bf16: Whether bf16 has matrix units.
    """

    name: str
    half: float
    single: float
    memory: float
    bandwidth: float
    link: float
    has_bf16: bool


_NVLINK2, _NVLINK3, _NVLINK4, _PCIE3, _PCIE4 = 125e9, 220e9, 360e9, 11e9, 22e9
GPUS = {
    gpu.name: gpu
    for gpu in (
        Gpu("V100", 125e12, 15.7e12, 16e9, 900e9, _NVLINK2, False),
        Gpu("V100-32GB", 125e12, 15.7e12, 32e9, 900e9, _NVLINK2, False),
        Gpu("V100-PCIE", 112e12, 14e12, 16e9, 900e9, _PCIE3, False),
        Gpu("A100", 312e12, 19.5e12, 40e9, 1555e9, _NVLINK3, True),
        Gpu("A100-80GB", 312e12, 19.5e12, 80e9, 2039e9, _NVLINK3, True),
        Gpu("H100", 989e12, 66.9e12, 80e9, 3350e9, _NVLINK4, True),
        Gpu("RTX3090", 71e12, 35.6e12, 24e9, 936e9, _PCIE4, True),
        Gpu("RTX4090", 165e12, 82.6e12, 24e9, 1008e9, _PCIE4, True),
        Gpu("T4", 65e12, 8.1e12, 16e9, 320e9, _PCIE3, False),
        Gpu("L4", 121e12, 30.3e12, 24e9, 300e9, _PCIE4, True),
    )
}


class Cluster(NamedTuple):
    """GPUs in equal nodes.

    Args:
        gpu: Which.
        per_node: How many in a node.
        nodes: How many nodes.
    """

    gpu: Gpu
    per_node: int
    nodes: int

    @property
    def total(self) -> int:
        """All GPUs."""
        return self.per_node * self.nodes


def parse_cluster(text: str) -> Cluster:
    """Read ``4xV100`` (one node) or ``2x8xA100`` (two nodes of eight).

    Raises:
        ConfigError: If it is neither, or the GPU is not known here.
    """
    known = {name.lower(): gpu for name, gpu in GPUS.items()}
    found = re.fullmatch(r"(?:(\d+)x)?(?:(\d+)x)?([A-Za-z][\w-]*)", text.strip())
    gpu = known.get(found[3].lower()) if found else None
    numbers = [int(number) for number in (found[1], found[2]) if number] if found else []
    if found is None or gpu is None or 0 in numbers:
        msg = f"--gpus takes 4xV100, or 2x8xA100 for two nodes; known are {', '.join(GPUS)}; got '{text}'"
        raise ConfigError(msg)
    nodes, per_node = ([1, 1, *numbers])[-2:]
    return Cluster(gpu, per_node, nodes)
