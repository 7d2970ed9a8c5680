"""Folders that bad inputs are made from, once per session."""

from __future__ import annotations

from pathlib import Path

import pytest

from dmlm.__main__ import main


@pytest.fixture(scope="session")
def bases(tmp_path_factory: pytest.TempPathFactory):
    """Return a function from the name of a data set to a folder that holds its phantoms."""
    made: dict[str, Path] = {}

    def base(name: str) -> Path | None:
        if name and name not in made:
            made[name] = tmp_path_factory.mktemp("base") / name
            assert main(["data", "synthesize", name, str(made[name]), "--patients", "3", "--image-size", "32"]) == 0
        return made.get(name)

    return base
