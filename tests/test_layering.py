"""The floors of the package: an import only goes down (contracts in pyproject.toml)."""

from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def test_imports_only_go_down(monkeypatch, capsys):
    cli = pytest.importorskip("importlinter.cli")
    monkeypatch.chdir(ROOT)
    status = cli.lint_imports(config_filename=str(ROOT / "pyproject.toml"), no_cache=True)
    assert status == cli.EXIT_STATUS_SUCCESS, capsys.readouterr().out
