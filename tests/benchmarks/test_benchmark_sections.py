"""Parts of the benchmarks that depend on what the library refuses, measures or has installed, in a small form."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import decode, finetuning


def test_memory_of_a_test_is_measured_at_shares_of_the_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(finetuning, "TESTED", 640)
    figures = finetuning._test_memory(tmp_path)
    assert figures["finetuning_test_images"] == 640
    assert 0 < figures["finetuning_test_resident_mib_at_10_percent"] <= figures["finetuning_test_peak_mib"]


def test_decoding_leaves_out_what_the_usual_way_cannot_read(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("pydicom")

    def lacking(path: Path) -> None:
        raise decode._NotInstalledError(path.name)

    make, usual = decode._CASES["large_jpeg"]
    monkeypatch.setattr(decode, "_CASES", {"large_jpeg": (make, usual), "other": (make, lacking)})
    figures = decode.measure(rounds=1)
    assert {name for name in figures if name.endswith("_x")} == {"decode_large_jpeg_x"}
    assert "large.jpg; left out" in capsys.readouterr().err
