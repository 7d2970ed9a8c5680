"""`dmlm data doctor`: says which data set a folder holds, what is missing and how to get it, what is corrupt."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from dmlm.commands.arguments import Arguments
from dmlm.errors import DatasetNotFoundError

_SHOWN: Final = 10


def run(argv: Sequence[str]) -> int:
    """Run ``dmlm data doctor`` with the arguments after ``doctor``.

    Returns:
        Exit status: 0 where all is well, 1 where something is missing or damaged.

    Raises:
        DMLMError: If the folder holds no known data set.
        SystemExit: After ``--help``.
    """
    from dmlm.datasets.doctor import examine

    options = _parser().parse_args(list(argv))
    if options.root.is_file() and ".csv" in [suffix.lower() for suffix in options.root.suffixes]:
        msg = (
            f"{options.root}: is a file; give the folder of a data set as it was downloaded; a manifest (CSV) is "
            "checked, and trained on for one step, by dmlm fit with --data ManifestDataModule --data.path FILE and "
            "--trainer.fast_dev_run 1"
        )
        raise DatasetNotFoundError(msg)
    found = examine(options.root.expanduser(), options.dataset, options.quick)
    print(json.dumps(found.as_dict(), indent=2) if options.json else _text(found.as_dict()))
    return 0 if found.well else 1


def _parser() -> Arguments:
    parser = Arguments(
        prog="dmlm data doctor",
        description="Say which data set and layout a folder holds, compare its counts with those of a complete copy, "
        "and read its files. Exit status 0: all is well; 1: something is missing or damaged.",
    )
    parser.add_argument("root", type=Path, metavar="ROOT", help="folder of the data set")
    parser.add_argument("--dataset", default="auto", metavar="NAME", help="which data set it is; auto recognises it")
    parser.add_argument("--quick", action="store_true", help="read 256 images instead of all")
    parser.add_argument("--json", action="store_true", help="print JSON")
    return parser


def _text(found: dict[str, object]) -> str:
    """Lay out an examination for people."""
    counts, expected = _numbers(found["counts"]), _numbers(found["expected"])
    rows = [("data set", str(found["dataset"])), ("folder", str(found["root"]))]
    if found["layout"]:
        rows.append(("layout", str(found["layout"])))
    if found["synthetic"]:
        rows.append(("phantoms", "made by dmlm data synthesize; they are drawings"))
    for name, count in counts.items():
        total = f" of {expected[name]:,}" if name in expected else ""
        rows.append((name, f"{count:,}{total}"))
    rows.append(("read", f"{found['checked_images']:,} images"))
    rows.extend(("not there", f"{name} ({purpose})") for name, purpose in _texts(found["absent"]).items())
    rows.extend(("overlap", f"{name}: {how}") for name, how in _texts(found["overlaps"]).items())
    problems = [str(line) for line in found["problems"]] if isinstance(found["problems"], list) else []
    rows.extend(("wrong", line) for line in problems)
    corrupt = _texts(found["corrupt"])
    rows.extend(("corrupt", f"{name}: {why}") for name, why in list(corrupt.items())[:_SHOWN])
    if len(corrupt) > _SHOWN:
        rows.append(("corrupt", f"and {len(corrupt) - _SHOWN:,} more (--json lists all)"))
    if problems:
        rows.append(("to get it", str(found["how_to_get"])))
    width = max(len(name) for name, _ in rows) + 2
    verdict = "all is well" if found["well"] else f"not well: {len(problems)} problems, {len(corrupt)} corrupt files"
    return "\n".join([*(f"{name:<{width}}{value}" for name, value in rows), verdict])


def _numbers(value: object) -> dict[str, int]:
    return {str(key): int(item) for key, item in value.items()} if isinstance(value, dict) else {}


def _texts(value: object) -> dict[str, str]:
    return {str(key): str(item) for key, item in value.items()} if isinstance(value, dict) else {}
