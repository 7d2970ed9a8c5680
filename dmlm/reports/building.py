"""A file of structured reports from reports as they lie on disk: in parallel, resumable, in constant memory."""

from __future__ import annotations

import itertools
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from multiprocessing import get_context
from typing import NamedTuple

from dmlm.errors import ConfigError, DMLMError
from dmlm.reports.engine import Engine
from dmlm.reports.provenance import ReportRecord, today
from dmlm.reports.record_json import to_json
from dmlm.reports.records import RecordWriter
from dmlm.reports.schema import StructuredReport
from dmlm.reports.sources import RawReport

_CHUNK = 64
"""Reports that a worker process gets at a time; threads get one."""

_AHEAD = 4
"""Chunks per worker that are read ahead; more would only fill memory."""


@dataclass
class Built:
    """What a build did.

    Args:
        written: Studies written in this run.
        kept: Studies that an earlier run had written.
        flags: Studies per flag among those written.
        failure: The first unexpected error and its study, ``""`` where there was none.
    """

    written: int = 0
    kept: int = 0
    flags: Counter[str] = field(default_factory=Counter)
    failure: str = ""


class _Line(NamedTuple):
    study: str
    line: str
    flags: tuple[str, ...]
    failure: str


def build_records(
    reports: Iterable[RawReport],
    writer: RecordWriter,
    make_engine: Callable[[], Engine],
    workers: int = 1,
    use_threads: bool = False,
    progress: Callable[[int], object] = lambda _: None,
) -> Built:
    """Read reports with an engine and append their records.

    Args:
        reports: Reports as written, read lazily.
        writer: Where records go; studies that it holds already are passed over. It is finished at the end.
        make_engine: Makes an engine; called once, or once in every worker process (so it must be picklable).
        workers: How many reports are read at the same time.
        use_threads: Share one engine among threads (engines that wait for a server) instead of one per process.
        progress: Called with the number of reports that were dealt with.

    Returns:
        What was done.

    Raises:
        ConfigError: If the writer holds records of another engine, version, model or prompt.
    """
    engine = make_engine()
    _check_same_reader(writer, engine)
    built = Built()
    size = 1 if use_threads else _CHUNK
    chunks = _chunks(reports, writer, built, progress, size)
    with _executor(engine, make_engine, workers, use_threads) as pool:
        for batch in _in_order(pool, chunks, _AHEAD * workers):
            for study, line, flags, failure in batch:
                writer.add_line(study, line)
                built.written += 1
                built.flags.update(flags)
                built.failure = built.failure or failure
            progress(len(batch))
    writer.finish()
    return built


def _check_same_reader(writer: RecordWriter, engine: Engine) -> None:
    old = writer.provenance()
    if old is not None and not old.same_reader(engine.provenance):
        new = engine.provenance
        msg = (
            f"{writer.path}: was begun by {_who(old.engine, old.version, old.model, old.prompt_hash)}, now it would be "
            f"continued by {_who(new.engine, new.version, new.model, new.prompt_hash)}; start again with --overwrite, "
            "or choose another file"
        )
        raise ConfigError(msg)


def _who(engine: str, version: str, model: str, prompt: str) -> str:
    return " ".join(part for part in (engine, version, model, f"(words {prompt})") if part)


def _chunks(
    reports: Iterable[RawReport],
    writer: RecordWriter,
    built: Built,
    progress: Callable[[int], object],
    size: int,
) -> Iterator[list[RawReport]]:
    def missing() -> Iterator[RawReport]:
        for report in reports:
            if report.study_id in kept:
                built.kept += 1
                progress(1)
            else:
                yield report

    kept = frozenset(writer.done)
    rest = missing()
    while chunk := list(itertools.islice(rest, size)):
        yield chunk


def _executor(engine: Engine, make_engine: Callable[[], Engine], workers: int, use_threads: bool) -> Executor:
    if use_threads or workers == 1:
        return _Threads(engine, workers)
    # spawned, not forked: a fork copies locks of libraries that run threads
    return ProcessPoolExecutor(workers, get_context("spawn"), initializer=_start, initargs=(make_engine,))


class _Threads(ThreadPoolExecutor):
    """Threads that share one engine."""

    def __init__(self, engine: Engine, workers: int) -> None:
        super().__init__(workers)
        self.engine = engine


_ENGINE: list[Engine] = []
"""The engine of this worker process."""


def _start(make_engine: Callable[[], Engine]) -> None:
    _ENGINE[:] = [make_engine()]


def _in_order(pool: Executor, chunks: Iterator[list[RawReport]], ahead: int) -> Iterator[Sequence[_Line]]:
    """Results in the order of the chunks, with at most ``ahead`` chunks under way."""
    pending: deque[Future[Sequence[_Line]]] = deque()
    engine = pool.engine if isinstance(pool, _Threads) else None
    try:
        for chunk in chunks:
            pending.append(pool.submit(_read_chunk, engine, chunk))
            if len(pending) >= ahead:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        for future in pending:
            future.cancel()


def _read_chunk(engine: Engine | None, chunk: Sequence[RawReport]) -> Sequence[_Line]:
    engine = engine or _ENGINE[0]
    return [_read(engine, report) for report in chunk]


def _read(engine: Engine, raw: RawReport) -> _Line:
    """Read one report; one that breaks the engine gives a flagged record and does not stop the others."""
    failure = ""
    try:
        record = engine.build(raw.study_id, raw.text)
    except DMLMError:
        raise  # the engine can read no report at all
    except Exception as error:
        failure = f"study '{raw.study_id}': {type(error).__name__}: {error}"
        empty = StructuredReport(raw.study_id, (), flags=("engine_failed", "no_observations"))
        record = ReportRecord.of(empty, replace(engine.provenance, date=today()), raw.text)
    if raw.flags:
        flags = tuple(dict.fromkeys((*raw.flags, *record.report.flags)))
        record = replace(record, report=replace(record.report, flags=flags))
    return _Line(raw.study_id, to_json(record), record.report.flags, failure)
