"""What the machine does to a run: no room, no permission, two runs in one place, a clock that goes back."""

from __future__ import annotations

import errno
import os
import resource
import signal
import time
from pathlib import Path

import pytest
import torch

from dmlm.__main__ import main
from dmlm.cli.checkpoint_io import AtomicCheckpointIO
from dmlm.commands.predict_rows import RowFile
from dmlm.io.lock import lock
from dmlm.reports.records import RecordWriter

BUILD = ["reports", "build", "some", "--out", "r.jsonl", "--workers", "1", "--quiet"]


@pytest.fixture
def reports() -> None:
    Path("some").mkdir()
    for number in range(200):
        Path(f"some/{number}.txt").write_text(f"FINDINGS: No pneumothorax. Study {number}.")


@pytest.fixture
def small_files():
    """No file may grow beyond 20 KB: what a full disk or a quota does, by the system itself."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
    signal.signal(signal.SIGXFSZ, handler)


def lift() -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))


def test_a_checkpoint_that_does_not_fit_leaves_the_old_one(tmp_path, small_files):
    place = tmp_path / "last.ckpt"
    AtomicCheckpointIO().save_checkpoint({"state_dict": {"x": torch.zeros(4)}}, place)
    with pytest.raises(OSError, match="File too large") as refused:
        AtomicCheckpointIO().save_checkpoint({"state_dict": {"x": torch.zeros(40_000)}}, place)
    assert refused.value.errno == errno.EFBIG
    assert refused.value.filename == str(place)
    assert [path.name for path in tmp_path.iterdir()] == ["last.ckpt"]
    assert torch.load(place, weights_only=True)["state_dict"]["x"].shape == (4,)


def test_reports_that_do_not_fit_go_on_when_there_is_room(reports, small_files, capsys):
    assert main(BUILD) == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert "r.jsonl.part: File too large" in told
    assert not Path("r.jsonl").exists()
    lift()
    assert main([*BUILD, "--resume"]) == 0
    broken = Path("r.jsonl").read_bytes()
    assert main([*BUILD, "--overwrite"]) == 0
    assert Path("r.jsonl").read_bytes() == broken
    assert broken.count(b"\n") == 200


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EDQUOT, errno.EIO])
def test_what_the_disk_refuses_is_one_line_and_loses_nothing(reports, monkeypatch, capsys, number):
    whole = RecordWriter.add_line

    def refuse(writer, study_id, line):
        if len(writer.done) == 120:
            raise OSError(number, os.strerror(number), "r.jsonl.part")
        whole(writer, study_id, line)

    monkeypatch.setattr(RecordWriter, "add_line", refuse)
    assert main(BUILD) == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert os.strerror(number) in told
    assert not Path("r.jsonl").exists()
    monkeypatch.setattr(RecordWriter, "add_line", whole)
    assert main([*BUILD, "--resume"]) == 0
    assert Path("r.jsonl").read_bytes().count(b"\n") == 200


def test_two_runs_cannot_write_one_file_of_reports(reports, capsys):
    Path("r.jsonl.part").touch()
    held = lock(Path("r.jsonl.part"), "")
    for how in ("--resume", "--overwrite"):
        assert main([*BUILD, how]) == 2
        assert "another process is writing it" in capsys.readouterr().err
    os.close(held)
    assert main([*BUILD, "--resume"]) == 0


@pytest.mark.parametrize(("name", "letter"), [("predictions.csv", "x" * 9), ("predictions.json", "\N{WHITE SQUARE}")])
def test_rows_that_do_not_fit_name_their_file(tmp_path, small_files, name, letter):
    # as JSON a letter beyond ASCII takes six bytes instead of three
    with pytest.raises(OSError, match="File too large") as refused, RowFile(tmp_path) as rows:
        rows.write([{"image": letter * 4000}])
    assert refused.value.filename == str(tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_two_reproductions_cannot_work_in_one_folder(tmp_path, capsys):
    held = lock(tmp_path, "")
    assert main(["reproduce", "table4", "--out", str(tmp_path), "--quiet"]) == 2
    assert "another dmlm reproduce is running there" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
    os.close(held)


def test_a_clock_that_goes_back_changes_nothing(reports, monkeypatch):
    assert main(BUILD) == 0
    whole = Path("r.jsonl").read_bytes().splitlines()
    Path("r.jsonl.part").write_bytes(b"\n".join(whole[:90]) + b"\n" + whole[90][:40])  # killed in the middle of a line
    Path("r.jsonl").unlink()
    for path in Path("some").iterdir():
        os.utime(path, (2e9, 2e9))  # written in the future
    monkeypatch.setattr(time, "time", lambda: 1e9)
    assert main([*BUILD, "--resume"]) == 0
    assert Path("r.jsonl").read_bytes().splitlines() == whole
