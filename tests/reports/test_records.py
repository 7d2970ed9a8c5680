"""Files of records: round trip, resume after a kill, reading by study."""

import json
import os
import pickle
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dmlm.errors import ConfigError, DatasetNotFoundError, ReportFormatError
from dmlm.io.lock import lock
from dmlm.reports.provenance import Provenance, ReportRecord, text_hash
from dmlm.reports.record_json import from_json, to_json
from dmlm.reports.records import RecordWriter, ReportIndex, read_records
from dmlm.reports.rules import structure
from dmlm.reports.schema import EXISTENCES, LATERALITIES, SEVERITIES, Observation, StructuredReport

MADE = Provenance("rules", "0.1.0", prompt_hash="5d0c", date="2026-11-25")
TEXT = "FINDINGS: Small left pleural effusion. No pneumothorax."


def record(study, text=TEXT):
    return ReportRecord.of(structure(text, study), MADE, text)


observations = st.builds(
    Observation,
    finding=st.sampled_from(["Pleural Effusion", "Pneumonia", 'A \u00fc "custom" finding']),
    existence=st.sampled_from(EXISTENCES),
    laterality=st.none() | st.sampled_from(LATERALITIES),
    position=st.none() | st.text(min_size=1, max_size=8),
    severity=st.none() | st.sampled_from(SEVERITIES),
    evidence=st.none() | st.tuples(st.integers(0, 9), st.integers(10, 99)),
)


@given(
    st.text(max_size=8), st.lists(observations, max_size=3), st.lists(st.sampled_from(["empty", "markup"]), max_size=2)
)
def test_round_trip(study, said, flags):
    report = StructuredReport(study, tuple(said), source="rules", flags=tuple(flags))
    line = to_json(ReportRecord(report, MADE, text_hash(TEXT)))
    assert "\n" not in line
    again = from_json(line)
    assert (again.report.observations, again.report.flags, again.study_id) == (tuple(said), tuple(flags), study)
    assert (again.provenance, again.text_hash) == (MADE, text_hash(TEXT))
    # constants were filled in from the library, and are not written again
    assert again.report.definition.keys() <= {*again.report.verdicts, "No Finding"}
    assert to_json(again) == line


def test_own_texts_are_kept():
    report = StructuredReport("1", (Observation("Oddity", "present"),), {"Oddity": "It is odd."}, {"Oddity": "Odd."})
    again = from_json(to_json(ReportRecord(report, MADE)))
    assert (again.report.definition, again.report.appearance) == ({"Oddity": "It is odd."}, {"Oddity": "Odd."})


def test_library_texts_are_filled_in():
    made = record("1")
    assert json.loads(to_json(made))["definition"] == {}
    assert from_json(to_json(made)) == made
    assert "pleural" in from_json(to_json(made)).report.definition["Pleural Effusion"]


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"observations": 3}, "observations must be a list"),
        ({"observations": [{"finding": "Edema"}]}, "observation 1"),
        ({"observations": [{"finding": "Edema", "existence": "maybe"}]}, "existence must be one of"),
        ({"observations": [{"finding": 3, "existence": "present"}]}, "observation 1"),
        ({"observations": [{"finding": "Edema", "existence": "present", "evidence": [1]}]}, "evidence"),
        ({"flags": [1]}, "flags must hold texts"),
        ({"verdict": {}}, "unknown keys verdict"),
        ({"study_id": 3}, "study_id must be text"),
    ],
)
def test_lines_that_are_no_records(change, named):
    line = json.dumps({**json.loads(to_json(record("1"))), **change})
    with pytest.raises(ReportFormatError, match=rf"file:7: .*{named}"):
        from_json(line, "file:7")


@pytest.mark.parametrize("line", ["", "{", "[]", "{}", '"text"', "\x00"])
def test_lines_that_are_no_objects(line):
    with pytest.raises(ReportFormatError, match="file:7"):
        from_json(line, "file:7")


def write(path, studies, **options):
    with RecordWriter(path, **options) as writer:
        for study in studies:
            writer.add(record(study))
        writer.finish()


def test_write_and_read(tmp_path):
    path = tmp_path / "new" / "reports.jsonl"
    write(path, ["1", "2", "2"])
    assert [item.study_id for item in read_records(path)] == ["1", "2"]
    assert list(path.parent.iterdir()) == [path]


def test_nothing_appears_before_the_end_and_resume_keeps_whole_lines(tmp_path):
    path = tmp_path / "reports.jsonl"
    with RecordWriter(path) as writer:
        writer.add(record("1"))
        writer.add(record("2"))
    assert not path.exists()
    with writer.part.open("ab") as handle:
        handle.write(b'{"study_id": "3", "engi')
    with pytest.raises(ConfigError, match="--resume"):
        RecordWriter(path)
    with RecordWriter(path, resume=True) as writer:
        assert writer.done == {"1", "2"}
        assert writer.provenance() == MADE
        writer.add(record("3"))
        writer.finish()
    assert [item.study_id for item in read_records(path)] == ["1", "2", "3"]


def test_resume_of_a_finished_file_adds_to_it(tmp_path):
    path = tmp_path / "reports.jsonl"
    write(path, ["1"])
    write(path, ["1", "2"], resume=True)
    assert [item.study_id for item in read_records(path)] == ["1", "2"]


@pytest.mark.parametrize("torn", ["", '{"study_id": "2", "engi'])
def test_a_finished_file_stays_until_something_is_added(tmp_path, torn):
    path = tmp_path / "reports.jsonl"
    write(path, ["1"])
    path.write_text(path.read_text() + torn)
    before = path.read_bytes()
    for end in (RecordWriter.close, RecordWriter.finish):
        with RecordWriter(path, resume=True) as writer:
            assert (writer.done, writer.provenance()) == ({"1"}, MADE)
            writer.add(record("1"))
            with pytest.raises(ConfigError, match="another process"):
                RecordWriter(path, resume=True)
            with pytest.raises(ConfigError, match="another process"):
                RecordWriter(path, overwrite=True)
            end(writer)
        assert list(tmp_path.iterdir()) == [path]
        assert path.read_bytes() == before
    with RecordWriter(path, resume=True) as writer:
        writer.add(record("2"))
    assert list(tmp_path.iterdir()) == [writer.part]
    assert [item.study_id for item in read_records(writer.part)] == ["1", "2"]


def test_a_finished_file_of_something_else_stays(tmp_path):
    path = tmp_path / "reports.jsonl"
    path.write_text("hello\n")
    with pytest.raises(ReportFormatError, match="jsonl:1"):
        RecordWriter(path, resume=True)
    assert list(tmp_path.iterdir()) == [path]
    assert path.read_text() == "hello\n"


@pytest.mark.parametrize("size", [0, 10, 65536, 70000, 200000])
def test_a_torn_line_of_any_length_is_cut(tmp_path, size):
    path = tmp_path / "reports.jsonl"
    part = tmp_path / "reports.jsonl.part"
    part.write_text(to_json(record("1")) + "\n" + "x" * size)
    with RecordWriter(path, resume=True) as writer:
        assert writer.done == {"1"}


def test_index(tmp_path):
    path = tmp_path / "reports.jsonl"
    write(path, [str(number) for number in range(50)])
    index = ReportIndex(path)
    assert len(index) == 50
    assert index.get("7") == record("7").report
    assert index.get("none") is None
    assert "49" in index
    assert "50" not in index
    copy = pickle.loads(pickle.dumps(index))
    assert copy.get("31") == record("31").report
    assert len(pickle.dumps(index)) < 50 * 16 + 1000


def test_index_reads_lines_of_others_and_takes_the_later_of_two(tmp_path):
    path = tmp_path / "reports.jsonl"
    first, second = record("1"), record("1", "FINDINGS: Cardiomegaly.")
    data = json.loads(to_json(second))
    other = json.dumps(dict(reversed(data.items())), separators=(",", ":"))
    path.write_text(f"{to_json(first)}\n\n{other}")
    index = ReportIndex(path)
    assert index.get("1") == second.report


def test_index_of_nothing(tmp_path):
    with pytest.raises(DatasetNotFoundError, match="dmlm reports build"):
        ReportIndex(tmp_path / "reports.jsonl")
    (tmp_path / "reports.jsonl").touch()
    assert ReportIndex(tmp_path / "reports.jsonl").get("1") is None


def test_index_fills_in_texts_of_another_file(tmp_path):
    path, own = tmp_path / "reports.jsonl", tmp_path / "own.yaml"
    write(path, ["1"])
    own.write_text("findings: {Pleural Effusion: {definition: Water.}}")
    assert ReportIndex(path, str(own)).get("1").definition["Pleural Effusion"] == "Water."


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_forked_processes_share_an_index(tmp_path):
    path = tmp_path / "reports.jsonl"
    write(path, [str(number) for number in range(200)])
    code = (
        "import sys, multiprocessing as mp; from dmlm.reports.records import ReportIndex\n"
        f"index = ReportIndex({str(path)!r}); index.get('0')\n"
        "def read(name): return index.get(name).study_id == name\n"
        "with mp.get_context('fork').Pool(2) as pool:\n"
        "    print(all(pool.map(read, [str(n % 200) for n in range(2000)])))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "True"


def test_a_file_without_a_record_goes_away_and_does_not_count(tmp_path):
    path = tmp_path / "reports.jsonl"

    def begin(**options):
        with RecordWriter(path, **options) as writer:
            assert writer.part.exists()
            with pytest.raises(ConfigError, match="another process is writing it"):
                RecordWriter(path)
            raise KeyboardInterrupt

    for options in ({}, {"resume": True}, {"overwrite": True}):
        with pytest.raises(KeyboardInterrupt):
            begin(**options)
        assert not list(tmp_path.iterdir())
    path.with_name("reports.jsonl.part").touch()  # of a run that was killed at once
    write(path, ["1"])
    assert list(tmp_path.iterdir()) == [path]
    with pytest.raises(ConfigError, match=r"jsonl exists; continue"):
        RecordWriter(path)


def test_a_file_without_reports_is_finished(tmp_path):
    write(tmp_path / "reports.jsonl", [])
    assert (tmp_path / "reports.jsonl").read_bytes() == b""


def test_what_is_no_file_of_records_is_not_taken_away(tmp_path):
    part = tmp_path / "reports.jsonl.part"
    part.write_text("hello\n")
    with pytest.raises(ReportFormatError):
        RecordWriter(tmp_path / "reports.jsonl", resume=True)
    assert part.read_text() == "hello\n"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs locks")
def test_the_lock_is_on_the_file_that_is_written(tmp_path, monkeypatch):
    """The process that had the lock takes its empty file away in the moment between opening and locking."""
    path, part = tmp_path / "reports.jsonl", tmp_path / "reports.jsonl.part"
    part.touch()
    locked = []

    def late(place, busy):
        held = lock(place, busy)
        if not locked:
            part.unlink()
        locked.append(place)
        return held

    monkeypatch.setattr("dmlm.reports.records.lock", late)
    with RecordWriter(path), pytest.raises(ConfigError, match="another process"):
        RecordWriter(path)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs limits")
def test_a_record_of_which_a_part_fits_is_not_a_record(tmp_path):
    import resource

    path = tmp_path / "reports.jsonl"
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    with RecordWriter(path) as writer:
        writer.add_line("1", to_json(record("1")))
        resource.setrlimit(resource.RLIMIT_FSIZE, (len(to_json(record("1"))) + 9, before[1]))
        try:
            with pytest.raises(OSError, match=r"File too large.*reports\.jsonl\.part"):
                writer.add_line("2", to_json(record("2")))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        assert writer.done == {"1"}
    write(path, ["2"], resume=True)
    assert [item.study_id for item in read_records(path)] == ["1", "2"]
