"""`dmlm reports`: build files of structured reports, look at them, count them, compare them. Starts without torch."""

from __future__ import annotations

import argparse
import os
import random
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

from dmlm.commands import reports_llm
from dmlm.commands.arguments import Arguments
from dmlm.errors import ConfigError, DatasetFormatError
from dmlm.reports.engine import Engine
from dmlm.reports.knowledge import load_knowledge
from dmlm.reports.llm.engine import LLMEngine
from dmlm.reports.llm.options import add_llm_options, refuse_llm_options
from dmlm.reports.rules import RuleEngine
from dmlm.reports.sources import RawReport, ReportFolder

_ENGINES = ("rules", *reports_llm.ENGINES)


def run(argv: Sequence[str]) -> int:
    """Run ``dmlm reports`` with the arguments after ``reports``.

    Returns:
        Exit status 0.

    Raises:
        DMLMError: If what was asked for cannot be done.
        SystemExit: After ``--help``.
    """
    options = _parser().parse_args(list(argv))
    action: Callable[[argparse.Namespace], None] = options.action
    action(options)
    return 0


def _parser() -> Arguments:
    parser = Arguments(
        prog="dmlm reports",
        description="Structured reports from free text, offline.",
    )
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    build = _verb(verbs, "build", "read reports and write structured ones", _build)
    _add_source(build)
    build.add_argument("--out", type=Path, required=True, metavar="FILE.jsonl", help="file to write")
    build.add_argument(
        "--workers",
        type=int,
        metavar="N",
        help="reports that are read at once (rules: one per core; endpoint: 4; transformers: 1)",
    )
    again = build.add_mutually_exclusive_group()
    again.add_argument("--resume", action="store_true", help="keep what an earlier run wrote and add what is missing")
    again.add_argument("--overwrite", action="store_true", help="replace what an earlier run wrote")
    build.add_argument("--quiet", action="store_true", help="no progress bar")
    build.add_argument("--estimate-only", action="store_true", help="print what a language model would cost and stop")

    show = _verb(verbs, "show", "show reports before and after, with the words that were used marked", _show)
    _add_source(show)
    show.add_argument("--study", action="append", default=[], metavar="ID", help="this study (may be repeated)")
    show.add_argument("--sample", type=int, default=1, metavar="N", help="without --study: this many, drawn at random")
    show.add_argument("--seed", type=int, default=0, metavar="S", help="another seed draws others")
    show.add_argument("--reports", type=Path, metavar="FILE.jsonl", help="show these records instead of reading anew")
    show.add_argument("--colour", choices=("auto", "always", "never"), default="auto", help="colours or brackets")

    stats = _verb(verbs, "stats", "count studies, flags, findings and tokens of a file of structured reports", _stats)
    stats.add_argument("file", type=Path, metavar="FILE.jsonl", help="file of structured reports")
    stats.add_argument(
        "--tokenizer", metavar="T", help="also count tokens: library, a tokenizer.json or a vocab.txt (slower)"
    )
    stats.add_argument("--max-length", type=int, default=512, metavar="L", help="tokens that the text encoder reads")
    stats.add_argument("--knowledge", metavar="FILE", help="definitions and appearances of your own (.yaml)")

    check = _verb(verbs, "check", "compare structured reports with labels (CheXpert's or NegBio's)", _check)
    check.add_argument("file", type=Path, metavar="FILE.jsonl", help="file of structured reports")
    check.add_argument("--labels", type=Path, required=True, metavar="CSV", help="study_id and columns of findings")
    check.add_argument("--out", type=Path, metavar="CSV", help="write every present-absent conflict there")
    define = _verb(verbs, "define", "let a language model write definitions and appearances", reports_llm.define)
    reports_llm.add_define_options(define)
    return parser


def _verb(
    verbs: argparse._SubParsersAction[Arguments],
    name: str,
    text: str,
    action: Callable[[argparse.Namespace], None],
) -> Arguments:
    parser = verbs.add_parser(
        name,
        help=text,
        description=f"{text[0].upper()}{text[1:]}.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.set_defaults(action=action)
    return parser


def _add_source(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "root", type=Path, metavar="ROOT", help="reports: Open-i or MIMIC folder or archive, .txt files, or a CSV"
    )
    parser.add_argument("--engine", choices=_ENGINES, default="rules", help="what reads the reports")
    parser.add_argument("--knowledge", metavar="FILE", help="findings of your own, read besides the library's (.yaml)")
    parser.add_argument("--text-column", action="append", default=[], metavar="NAME", help="CSV: text; may be repeated")
    parser.add_argument("--id-column", metavar="NAME", help="CSV: the study")
    add_llm_options(parser)


def _rules(knowledge: str | None) -> Engine:
    return RuleEngine(load_knowledge(knowledge))


def _language_model(options: argparse.Namespace, source: ReportFolder, stack: ExitStack) -> LLMEngine | None:
    """Open the language model that was asked for; None where the rules read."""
    if options.engine in reports_llm.ENGINES:
        return stack.enter_context(reports_llm.opened_engine(options, source))
    refuse_llm_options(options)
    return None


def _source(options: argparse.Namespace) -> ReportFolder:
    return ReportFolder(options.root, options.text_column, options.id_column)


def _build(options: argparse.Namespace) -> None:
    from tqdm import tqdm

    from dmlm.reports.building import build_records
    from dmlm.reports.records import RecordWriter

    if options.workers is not None and options.workers < 1:
        msg = f"--workers must be at least 1, got {options.workers}"
        raise ConfigError(msg)
    source = _source(options)
    load_knowledge(options.knowledge)  # a fault in the user's file is told before anything is written
    with ExitStack() as stack:
        model = _language_model(options, source, stack)
        if options.estimate_only:
            if model is None:
                msg = f"--estimate-only is for language models; the rules cost nothing ({' or '.join(_ENGINES[1:])})"
                raise ConfigError(msg)
            reports_llm.estimate_run(options, model, source)
            return
        writer = stack.enter_context(RecordWriter(options.out, resume=options.resume, overwrite=options.overwrite))
        make: Callable[[], Engine] = partial(_rules, options.knowledge)
        workers = options.workers or _cores()
        if model is not None:
            make, workers = (lambda: model), reports_llm.workers_of(options)
            reports_llm.estimate_run(options, model, source, writer)
        total = None if options.quiet else source.count()
        with tqdm(total=total, unit=" reports", disable=options.quiet, file=sys.stderr) as bar:
            built = build_records(source, writer, make, workers, use_threads=model is not None, progress=bar.update)
        if model is not None:
            print(reports_llm.summary(options, model))
    kept = f", {built.kept} kept from before" if built.kept else ""
    print(f"{options.out}: {built.written} studies written{kept}")
    if built.flags:
        print("flags: " + ", ".join(f"{flag} {number}" for flag, number in built.flags.most_common()))
    if built.failure:
        print(f"dmlm: warning: flagged engine_failed; the first: {built.failure}", file=sys.stderr)


def _show(options: argparse.Namespace) -> None:
    from dmlm.reports.display import before_and_after
    from dmlm.reports.provenance import text_hash
    from dmlm.reports.records import ReportIndex

    use_colour = options.colour == "always" or (
        options.colour == "auto" and sys.stdout.isatty() and "NO_COLOR" not in os.environ
    )
    index = None if options.reports is None else ReportIndex(options.reports, options.knowledge)
    blocks = []
    source = _source(options)
    with ExitStack() as stack:
        engine: Engine | None = None
        if index is None:
            engine = _language_model(options, source, stack) or _rules(options.knowledge)
        for raw in _chosen(source, options):
            record = (
                engine.build(raw.study_id, raw.text) if engine is not None else index and index.record(raw.study_id)
            )
            if not record:
                msg = f"{options.reports}: has no study '{raw.study_id}'; build it again with --resume"
                raise DatasetFormatError(msg)
            if record.text_hash != text_hash(raw.text):
                msg = f"{options.reports}: study '{raw.study_id}' was built from another text; build it again"
                raise DatasetFormatError(msg)
            blocks.append(before_and_after(record.report, raw.text, use_colour))
    print(f"\n\n{'-' * 100}\n\n".join(blocks))


def _chosen(source: ReportFolder, options: argparse.Namespace) -> list[RawReport]:
    """Return the studies that were named, or a sample drawn without holding the others in memory."""
    if options.study:
        found = {raw.study_id: raw for raw in source if raw.study_id in options.study}
        missing = [study for study in options.study if study not in found]
        if missing:
            msg = f"{options.root}: no study '{missing[0]}'; names look like '{next(iter(source)).study_id}'"
            raise DatasetFormatError(msg)
        return [found[study] for study in options.study]
    if options.sample < 1:
        msg = f"--sample must be at least 1, got {options.sample}"
        raise ConfigError(msg)
    draw, kept = random.Random(options.seed), list[RawReport]()
    for number, raw in enumerate(source):
        place = number if number < options.sample else draw.randrange(number + 1)
        if place < options.sample:
            kept[place : place + 1] = [raw]
    return kept


def _stats(options: argparse.Namespace) -> None:
    from dmlm.reports.records import read_records
    from dmlm.reports.statistics import as_text, gather

    counter = None if options.tokenizer is None else _token_counter(options.tokenizer)
    records = read_records(options.file, load_knowledge(options.knowledge))
    print(as_text(gather(records, counter), options.max_length))


def _token_counter(which: str) -> Callable[[list[str]], list[int]]:
    """Return a function that counts the tokens of texts, special ones included."""
    from dmlm.models.tokenizers import own_tokenizer

    tokenizer = _bert_tokenizer(Path(which)) if which.endswith(".txt") else own_tokenizer(which)[0]
    return lambda texts: [len(row.ids) for row in tokenizer.encode_batch(texts)]


def _bert_tokenizer(path: Path) -> Any:  # noqa: ANN401 - tokenizers exports no type for it
    """Return the tokenizer of a BERT vocabulary; one with capital letters is a cased one."""
    from tokenizers import implementations

    if not path.is_file():
        msg = f"--tokenizer: no file '{path}'; give library, a tokenizer.json or a vocab.txt"
        raise ConfigError(msg)
    try:
        words = path.read_text(encoding="utf-8").split("\n")
    except UnicodeDecodeError as error:
        msg = f"--tokenizer: {path} is no text in UTF-8 ({error.reason}); download it again"
        raise ConfigError(msg) from error
    absent = [word for word in ("[UNK]", "[SEP]", "[CLS]") if word not in words]
    if absent:
        msg = f"--tokenizer: {path} has no line '{absent[0]}'; expected the vocab.txt of a BERT model"
        raise ConfigError(msg)
    is_cased = any(word.isalpha() and word != word.lower() for word in words)
    return implementations.BertWordPieceTokenizer(str(path), lowercase=not is_cased)  # type: ignore[attr-defined]


def _check(options: argparse.Namespace) -> None:
    import csv

    from dmlm.io.atomic import atomic_path
    from dmlm.reports.disagreement import as_text, compare
    from dmlm.reports.records import ReportIndex

    result = compare(ReportIndex(options.file).get, options.labels)
    print(as_text(result))
    if options.out is not None:
        with atomic_path(options.out) as path, path.open("w", encoding="utf-8", newline="") as handle:
            csv.writer(handle).writerows([("study_id", "label", "reports", "labels"), *result.conflicts])
        print(f"\nwrote {options.out}: {len(result.conflicts)} conflicts")


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
