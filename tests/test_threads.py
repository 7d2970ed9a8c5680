"""How OpenMP's threads wait when `dmlm` runs."""

from __future__ import annotations

import os

import pytest

from dmlm.__main__ import main


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ({}, ("1000", None)),
        ({"GOMP_SPINCOUNT": "7"}, ("7", None)),
        ({"OMP_WAIT_POLICY": "ACTIVE"}, (None, "ACTIVE")),
    ],
)
def test_threads_fall_asleep_unless_the_user_says_how_they_wait(
    given: dict[str, str], wanted: tuple[str | None, str | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY"):
        monkeypatch.setenv(name, "restored after the test")
        monkeypatch.delenv(name)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    assert main(["reports", "build"]) == 2  # lacks its arguments: nothing is loaded that would read the variable
    assert (os.environ.get("GOMP_SPINCOUNT"), os.environ.get("OMP_WAIT_POLICY")) == wanted
