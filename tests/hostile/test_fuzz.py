"""A short fuzz of every reader; ``python -m benchmarks.fuzz`` is the long one."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.fuzz import attempt, mutate
from benchmarks.fuzz_targets import Target, targets

TARGETS = {target.name: target for target in targets()}
OPTIONAL = {"dicom": "pydicom", "image": "simplejpeg"}


@pytest.mark.parametrize("name", list(TARGETS))
def test_readers_return_a_value_or_refuse_in_one_line(name, tmp_path_factory):
    if name in OPTIONAL:
        pytest.importorskip(OPTIONAL[name])
    target, folder = TARGETS[name], tmp_path_factory.mktemp(name)
    seeds = target.seeds()
    for whole in seeds:
        target.read(_written(target, whole, folder))  # a good input is read

    @settings(max_examples=20, database=None)
    @given(st.integers(0, 2**32), st.integers(0, len(seeds) - 1))
    def check(seed: int, which: int) -> None:
        damaged = mutate(seeds[which], seeds, target.words, random.Random(seed))
        assert attempt(target, damaged, folder) is None, damaged[:300]

    check()


def test_a_reader_that_breaks_its_promise_is_found(tmp_path):
    def read(path):
        if b"!" in path.read_bytes():
            raise KeyError("not ours")

    target = Target("broken", "a.txt", lambda: [b"good"], read)
    assert attempt(target, b"good", tmp_path) is None
    assert attempt(target, b"bad!", tmp_path).startswith("KeyError")


def test_a_reader_that_hangs_is_found(tmp_path, monkeypatch):
    def read(path):
        while True:
            pass

    monkeypatch.setattr("benchmarks.fuzz.SECONDS_AN_INPUT", 0.05)
    assert attempt(Target("slow", "a.txt", lambda: [b""], read), b"x", tmp_path).startswith("TooSlow")


def _written(target: Target, data: bytes, folder):
    path = folder / target.file
    path.write_bytes(data)
    return path
