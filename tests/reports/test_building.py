"""Building with engines that fail, wait, or are many."""

import threading
import time

import pytest

from dmlm.errors import DMLMError
from dmlm.reports.building import build_records
from dmlm.reports.provenance import Provenance, ReportRecord
from dmlm.reports.records import RecordWriter, read_records
from dmlm.reports.rules import RuleEngine
from dmlm.reports.schema import Observation, StructuredReport
from dmlm.reports.sources import RawReport

TEXTS = [RawReport(str(number), f"Report {number}.") for number in range(40)]


class SlowEngine:
    """Answers late and out of order, and says how many asked at once."""

    provenance = Provenance("slow", "1")

    def __init__(self):
        self.lock, self.now, self.most = threading.Lock(), 0, 0

    def build(self, study_id, text):
        with self.lock:
            self.now += 1
            self.most = max(self.most, self.now)
        time.sleep(0.02 if int(study_id) % 3 == 0 else 0.001)
        with self.lock:
            self.now -= 1
        said = (Observation("Edema", "present"),)
        return ReportRecord.of(StructuredReport(study_id, said), self.provenance, text)


class BrokenEngine(RuleEngine):
    def build(self, study_id, text):
        if study_id == "7":
            raise ZeroDivisionError("seven")
        return super().build(study_id, text)


class GoneEngine(RuleEngine):
    def build(self, study_id, text):
        if study_id == "7":
            raise DMLMError("the endpoint is gone")
        return super().build(study_id, text)


def build(path, engine, workers=1, use_threads=True, reports=TEXTS, **options):
    with RecordWriter(path, **options) as writer:
        return build_records(reports, writer, lambda: engine, workers, use_threads)


def test_threads_share_an_engine_and_keep_the_order(tmp_path):
    engine, path = SlowEngine(), tmp_path / "out.jsonl"
    assert build(path, engine, workers=4).written == 40
    assert engine.most > 1
    assert [record.study_id for record in read_records(path)] == [report.study_id for report in TEXTS]


def test_reports_are_not_read_far_ahead(tmp_path):
    read, behind = 0, []

    def source():
        nonlocal read
        for report in TEXTS:
            read += 1
            yield report

    with RecordWriter(tmp_path / "out.jsonl") as writer:
        build_records(source(), writer, SlowEngine, 2, True, progress=lambda _: behind.append(read - len(writer.done)))
    assert max(behind) <= 4 * 2


@pytest.mark.parametrize("use_threads", [True, False])
def test_an_engine_that_breaks_on_one_report_flags_it(tmp_path, use_threads):
    path = tmp_path / "out.jsonl"
    built = build(path, BrokenEngine(), use_threads=use_threads)
    assert built.written == 40
    assert built.flags["engine_failed"] == 1
    assert built.failure == "study '7': ZeroDivisionError: seven"
    records = {record.study_id: record for record in read_records(path)}
    assert records["7"].report.flags == ("engine_failed", "no_observations")
    assert records["7"].provenance.engine == "rules"


def test_an_engine_that_is_gone_stops_the_build_and_keeps_what_was_read(tmp_path):
    path = tmp_path / "out.jsonl"
    with pytest.raises(DMLMError, match="gone"):
        build(path, GoneEngine())
    assert not path.exists()
    built = build(path, RuleEngine(), resume=True)
    assert built.kept >= 7
    assert built.kept + built.written == 40


class OtherEngine(RuleEngine):
    def __init__(self):
        super().__init__()
        self.provenance = Provenance("rules", "another version")


def failing_source():
    raise DMLMError("no reports here")
    yield


@pytest.mark.parametrize(
    ("engine", "reports", "error"),
    [
        (OtherEngine, TEXTS, "was begun by"),
        (RuleEngine, failing_source(), "no reports"),
        (GoneEngine, TEXTS[7:], "gone"),
    ],
)
def test_a_refused_resume_leaves_the_finished_file(tmp_path, engine, reports, error):
    path = tmp_path / "out.jsonl"
    build(path, RuleEngine(), reports=TEXTS[:3])
    before = path.read_bytes()
    with pytest.raises(DMLMError, match=error):
        build(path, engine(), reports=reports, resume=True)
    assert list(tmp_path.iterdir()) == [path]
    assert path.read_bytes() == before


def test_flags_of_the_source_stay(tmp_path):
    path = tmp_path / "out.jsonl"
    build(path, RuleEngine(), reports=[RawReport("1", "", ("damaged_file",))])
    (record,) = read_records(path)
    assert record.report.flags == ("damaged_file", "empty", "no_observations")


def test_nothing_to_build_is_a_finished_file(tmp_path):
    path = tmp_path / "out.jsonl"
    assert build(path, RuleEngine(), reports=[]).written == 0
    assert path.read_bytes() == b""
