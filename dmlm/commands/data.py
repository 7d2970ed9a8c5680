"""`dmlm data`: make data sets. Starts without torch."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

from dmlm.datasets.phantom.export import export_files
from dmlm.datasets.phantom.store import generate_phantoms, read_manifest
from dmlm.datasets.phantom.studies import make_patient
from dmlm.errors import ConfigError

_SHARES = {"train": 0.7, "val": 0.1, "test": 0.2}


def run(argv: Sequence[str]) -> int:
    """Run ``dmlm data`` with the arguments after ``data``.

    Returns:
        Exit status 0.

    Raises:
        DMLMError: If what was asked for cannot be done.
        SystemExit: After ``--help``, or if an argument is wrong (argparse).
    """
    if list(argv[:1]) == ["prepare"]:
        from dmlm.commands import data_prepare

        return data_prepare.run(argv[1:])
    options = _parser().parse_args(list(argv))
    return _synthesize(options)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="dmlm data", description="Make data sets.", allow_abbrev=False)
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    verbs.add_parser("prepare", help="turn a data set into a memory-mapped store for fast training", add_help=False)
    make = verbs.add_parser(
        "synthesize",
        help="make synthetic chest X-rays with reports, masks and labels",
        description="Make synthetic chest X-rays with reports, masks and labels. The same options give the same bytes.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        allow_abbrev=False,
    )
    make.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder to write to")
    make.add_argument(
        "--patients", type=int, default=1000, metavar="N", help="patients: 70 %% train, 10 %% val, 20 %% test"
    )
    make.add_argument("--image-size", type=int, default=224, metavar="PX", help="height and width of the images")
    make.add_argument("--seed", type=int, default=0, metavar="S", help="another seed gives other patients")
    make.add_argument("--workers", type=int, default=_cores(), metavar="W", help="processes that draw")
    make.add_argument(
        "--format",
        choices=("store", "files"),
        default="store",
        help="store: arrays as the phantom data module keeps them; files: PNG and manifest.csv for the manifest module",
    )
    make.add_argument("--gallery", type=Path, metavar="FILE.png", help="also draw the first 16 training studies there")
    make.add_argument("--quiet", action="store_true", help="no progress bar")
    return parser


def _synthesize(options: argparse.Namespace) -> int:
    if options.patients < 1:
        msg = f"--patients must be at least 1, got {options.patients}"
        raise ConfigError(msg)
    counts = {"val": round(_SHARES["val"] * options.patients), "test": round(_SHARES["test"] * options.patients)}
    counts["train"] = options.patients - counts["val"] - counts["test"]
    arguments = (counts, options.image_size, options.seed, options.workers, not options.quiet)
    if options.format == "files":
        print(f"wrote {export_files(options.out, *arguments)}")
    else:
        folder = generate_phantoms(options.out, *arguments)
        studies = read_manifest(folder)["studies"]
        print(f"{folder}: {', '.join(f'{count} {split}' for split, count in studies.items())} studies")
    if options.gallery is not None:
        _draw_gallery(options.gallery, options.seed, options.image_size, min(16, counts["train"]))
        print(f"wrote {options.gallery}")
    return 0


def _draw_gallery(path: Path, seed: int, image_size: int, count: int) -> None:
    """Draw the first study of each of the first ``count`` training patients."""
    from dmlm.plots.overlays import gallery

    studies = [make_patient(seed, "train", patient, image_size)[0] for patient in range(count)]
    captions = [f"{study.study_id}, {study.view}\n{study.text}" for study in studies]
    gallery([study.image for study in studies], [study.masks for study in studies], captions, path)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
