"""Phantoms in the on-disk layout of each data set, so that everything runs without the data itself.

Each module has ``write(out, patients, seed, image_size)``. Phantoms are drawings: what works on them may fail on
radiographs, and no result on them says anything about patients.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from importlib import import_module
from pathlib import Path
from typing import Any, Final

from dmlm import __version__
from dmlm.datasets.catalog import open_table
from dmlm.datasets.problems import nearest
from dmlm.errors import ConfigError

GENERATORS: Final = {
    "mimic": "dmlm.datasets.synthesize.mimic",
    "chexpert": "dmlm.datasets.synthesize.chexpert",
    "openi": "dmlm.datasets.synthesize.openi",
    "edema": "dmlm.datasets.synthesize.edema",
    "rsna": "dmlm.datasets.synthesize.rsna",
    "siim": "dmlm.datasets.synthesize.siim",
    "nih": "dmlm.datasets.synthesize.nih",
    "covidx": "dmlm.datasets.synthesize.covidx",
    "covid_rural": "dmlm.datasets.synthesize.covid_rural",
}
"""Short name of each data set -> the module that writes it."""
MARKER: Final = "dmlm-synthetic.json"
"""File that says that a folder holds phantoms, and how many; ``dmlm data doctor`` compares counts with it."""


def synthesize(name: str, out: Path, patients: int, seed: int, image_size: int) -> int:
    """Write phantoms in the layout of a data set; the folder is complete or absent.

    Args:
        name: A key of :data:`GENERATORS`.
        out: Folder to make; it may exist when it is empty.
        patients: Number of patients.
        seed: Another seed gives other patients.
        image_size: Height and width of the films, in pixels.

    Returns:
        Number of images of the data set.

    Raises:
        ConfigError: If there is no such data set, or ``out`` holds something or cannot be written.
    """
    if name not in GENERATORS:
        hint = nearest(name, list(GENERATORS)) or f"; known are {', '.join(GENERATORS)}"
        msg = f"there is no generator for '{name}'{hint}"
        raise ConfigError(msg)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        msg = f"{out}: exists already and is not empty; give a new folder"
        raise ConfigError(msg)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        part = Path(tempfile.mkdtemp(prefix=f".{out.name}.", suffix=".part", dir=out.parent))
    except OSError as error:
        msg = f"{out}: cannot be written ({error.strerror}); give another folder"
        raise ConfigError(msg) from error
    try:
        import_module(GENERATORS[name]).write(part, patients, seed, image_size)
        count = len(open_table(name, part))
        facts = {"dataset": name, "patients": patients, "seed": seed, "image_size": image_size, "images": count}
        (part / MARKER).write_text(json.dumps({**facts, "dmlm": __version__}, indent=2) + "\n", encoding="utf-8")
        part.chmod(0o755)
        if out.exists():
            out.rmdir()
        part.rename(out)
    except OSError as error:
        msg = f"{out}: cannot be written ({error.strerror or error}); make room or give another folder"
        raise ConfigError(msg) from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return count


def read_marker(root: Path) -> dict[str, Any] | None:
    """Return what :func:`synthesize` noted about a folder, None if it holds no phantoms."""
    try:
        facts: dict[str, Any] = json.loads((root / MARKER).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return facts
