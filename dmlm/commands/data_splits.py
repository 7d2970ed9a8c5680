"""`dmlm data splits`: writes a split down with its hash, prints its sizes, and looks for leaks."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from dmlm.commands.arguments import Arguments
from dmlm.errors import ConfigError

_MAX_DISTANCE: Final = 40


def run(argv: Sequence[str]) -> int:
    """Run ``dmlm data splits`` with the arguments after ``splits``.

    Returns:
        Exit status: 0, or 1 where leaks were looked for and found.

    Raises:
        DMLMError: If what was asked for cannot be done.
        SystemExit: After ``--help``.
    """
    from dmlm.datasets.catalog import open_table
    from dmlm.datasets.splits import SPLITS
    from dmlm.datasets.splits_manifest import write_manifest
    from dmlm.datasets.table_splits import SplitPlan, assign_splits

    options = _parser().parse_args(list(argv))
    if not 0 <= options.max_distance < 512:
        msg = f"--max-distance must be 0 to 511 of 512 bits, got {options.max_distance}"
        raise ConfigError(msg)
    table = open_table(options.dataset, options.root)
    name = options.split or ("ratios" if table.splits is None else "official")
    if options.split_file is not None and name in ("ratios", "official"):
        msg = f"--split-file {options.split_file}: split '{name}' reads no file; add --split file to read it, or write "
        msg += "a split with --out"
        raise ConfigError(msg)
    ratios = (options.ratios[0], options.ratios[1], options.ratios[2])
    plan = SplitPlan(name, ratios, options.seed, options.split_file, options.allow_leaks)
    places = assign_splits(table, plan)
    report: dict[str, Any] = {"dataset": table.name, "root": str(table.root), "split": name}
    for split in SPLITS:
        rows = np.flatnonzero(places == split).tolist()
        positive = (table.labels[rows] == 1).sum(axis=0).tolist()
        report[split] = {
            "images": len(rows),
            "patients": len({str(table.patient_ids[row]) for row in rows}),
            "present": dict(zip(table.label_names, positive, strict=True)),
        }
    report["in no part"] = int((places == "").sum())
    if options.out is not None:
        origin: dict[str, Any] = {"split": name, "seed": options.seed, "ratios": list(ratios)}
        report["written"] = str(options.out)
        report["sha256"] = write_manifest(options.out, table, places, **origin)["sha256"]
    leaks = _leaks(options, table, places)
    print(json.dumps({**report, "leaks": leaks}, indent=2) if options.json else _text(report, leaks))
    return 1 if any(not found["clean"] for found in leaks.values()) else 0


def _leaks(options: argparse.Namespace, table: Any, places: Any) -> dict[str, dict[str, Any]]:  # noqa: ANN401
    """Return the leak reports that were asked for, by what they are about."""
    from dmlm.datasets.catalog import open_table
    from dmlm.datasets.leaks import find_leaks
    from dmlm.datasets.leaks_across import find_contamination

    reports: dict[str, dict[str, Any]] = {}
    if options.leaks or options.near_duplicates:
        reports["within"] = find_leaks(table, places, options.near_duplicates, options.max_distance).as_dict()
    if options.mapping is not None and options.against is None:
        msg = "--mapping pairs the names of two data sets; name the other one with --against ROOT"
        raise ConfigError(msg)
    if options.against is not None:
        other = open_table(options.against_dataset, options.against)
        found = find_contamination(table, other, options.near_duplicates, options.mapping, options.max_distance)
        reports[f"against {other.name}"] = found.as_dict()
    return reports


def _parser() -> Arguments:
    parser = Arguments(
        prog="dmlm data splits",
        description="Make a named split, or one drawn by patient; write it down with its hash (--out), print its "
        "sizes, look for leaks between its parts (--leaks) and into another data set (--against). A file that was "
        "written is used with data.split: file and data.split_file. Exit status 1: leaks were found.",
    )
    parser.add_argument("root", type=Path, metavar="ROOT", help="folder of the data set")
    parser.add_argument("--dataset", default="auto", metavar="NAME", help="which data set it is; auto recognises it")
    parser.add_argument("--split", metavar="NAME", help="official, ratios, file, or a published one (docs: splits)")
    parser.add_argument("--ratios", type=float, nargs=3, default=(0.8, 0.1, 0.1), metavar="R", help="train, val, test")
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="seed of the draw (default: 0)")
    parser.add_argument("--split-file", metavar="PATH", help="folder of published lists, or a file that was written")
    parser.add_argument("--allow-leaks", action="store_true", help="use a published split although it leaks")
    parser.add_argument("--out", type=Path, metavar="FILE.json", help="write the split there")
    parser.add_argument("--leaks", action="store_true", help="look for images and patients in two parts")
    parser.add_argument("--near-duplicates", action="store_true", help="also compare pictures (reads every image)")
    parser.add_argument(
        "--max-distance",
        type=int,
        default=_MAX_DISTANCE,
        metavar="BITS",
        help=f"bits of 512 in which near-duplicates differ at most (default: {_MAX_DISTANCE})",
    )
    parser.add_argument("--against", type=Path, metavar="ROOT", help="another data set, looked for in this one")
    parser.add_argument("--against-dataset", default="auto", metavar="NAME", help="which data set that is")
    parser.add_argument("--mapping", type=Path, metavar="FILE", help="CSV or JSON that pairs names of the two")
    parser.add_argument("--json", action="store_true", help="print JSON")
    return parser


def _text(report: dict[str, Any], leaks: dict[str, dict[str, Any]]) -> str:
    lines = [f"{report['dataset']} at {report['root']}, split '{report['split']}'"]
    for split in ("train", "val", "test"):
        part = report[split]
        present = ", ".join(f"{name} {count:,}" for name, count in part["present"].items())
        lines.append(f"  {split:<6}{part['images']:>9,} images  {part['patients']:>8,} patients   {present}")
    if report["in no part"]:
        lines.append(f"  {report['in no part']:,} images are in no part")
    if "written" in report:
        lines.append(f"written to {report['written']}, SHA-256 {report['sha256']}")
    for about, found in leaks.items():
        checked = ", ".join(found["checked"])
        lines.append(f"leaks {about} (looked for: {checked}): {'none' if found['clean'] else ''}".rstrip())
        lines.extend(f"  {count:,} x {what}" for what, count in found["counts"].items())
        lines.extend(f"    {leak['first']}  =  {leak['second']}  ({leak['why']})" for leak in found["examples"])
    return "\n".join(lines)
