"""`dmlm data prepare`: a data set as downloaded to a store of raw grey values that training reads at full speed."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, Final

from dmlm.commands.arguments import Arguments
from dmlm.errors import ConfigError, DatasetFormatError, DatasetNotFoundError, ImageReadError

_DECODERS: Final = ("pillow", "opencv-python-headless", "simplejpeg", "imagecodecs", "pydicom")
_SHOWN: Final = 20


def run(argv: Sequence[str]) -> int:
    """Run ``dmlm data prepare`` with the arguments after ``prepare``.

    Returns:
        Exit status 0.

    Raises:
        ImageReadError: If images had to be skipped and ``--allow-skipped`` was not given.
        DMLMError: If what was asked for cannot be done.
        SystemExit: After ``--help``.
    """
    options = _parser().parse_args(list(argv))
    if not 16 <= options.size <= 4096:
        msg = f"--size must be 16 to 4096 pixels, got {options.size}"
        raise ConfigError(msg)
    if options.workers < 1:
        msg = f"--workers must be at least 1, got {options.workers}"
        raise ConfigError(msg)
    root, name, images = _images(options.root, options.dataset, options.image_column, options.allow_skipped)
    if not images:
        msg = f"{options.root}: no images to prepare"
        raise DatasetFormatError(msg)
    return _prepare(options, root, name, images)


def _parser() -> Arguments:
    parser = Arguments(
        prog="dmlm data prepare",
        description="Decode every image of a data set once and write small grey copies into a store that is read "
        "without decoding. It may be stopped at any moment: the same command goes on.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("root", type=Path, metavar="ROOT", help="folder of the data set, or a manifest CSV")
    parser.add_argument("--out", type=Path, required=True, metavar="STORE", help="folder to write")
    parser.add_argument("--dataset", default="auto", metavar="NAME", help="which data set it is; auto recognises it")
    parser.add_argument("--size", type=int, default=256, metavar="PX", help="shorter side of the stored images")
    parser.add_argument("--workers", type=int, default=_cores(), metavar="N", help="processes that decode")
    parser.add_argument(
        "--allow-skipped", action="store_true", help="finish even where images are missing or cannot be read"
    )
    parser.add_argument(
        "--format",
        choices=("store", "litdata"),
        default="store",
        help="store: raw files for a local disk; litdata: also chunks for streaming from object storage, in "
        "STORE/litdata",
    )
    parser.add_argument("--image-column", default="path", metavar="NAME", help="column of images in a manifest CSV")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    return parser


def _prepare(options: argparse.Namespace, root: Path, name: str, images: list[str]) -> int:
    from tqdm import tqdm

    from dmlm.datasets.store_prepare import prepare_store, store_bytes

    with tqdm(total=len(images), unit="img", desc=f"preparing {name}", disable=options.quiet, smoothing=0.05) as bar:

        def advance(done: int, total: int, skipped: int) -> None:  # noqa: ARG001
            if bar.n == 0 and done:  # what an earlier run did must not count in the rate of this one
                bar.initial = bar.n = bar.last_print_n = done
            bar.update(done - bar.n)
            if skipped:
                bar.set_postfix(skipped=skipped)

        result = prepare_store(
            images, root, options.out, options.size, _provenance(name), options.workers, options.allow_skipped, advance
        )
    for image, problem in result.skipped[:_SHOWN]:
        print(f"skipped {image}: {problem}", file=sys.stderr)
    if len(result.skipped) > _SHOWN:
        rest = len(result.skipped) - _SHOWN
        print(f"and {rest:,} more; all are in {options.out / 'index.csv'}", file=sys.stderr)
    if result.skipped and not options.allow_skipped:
        first = result.skipped[0]
        msg = (
            f"{len(result.skipped):,} of {result.total:,} images were skipped (the first: {first[0]}: {first[1]}); "
            "mend them and run the same command again, or finish without them: --allow-skipped"
        )
        raise ImageReadError(msg)
    kept = result.total - len(result.skipped)
    print(
        f"{options.out}: {kept:,} images of '{name}' at {options.size} px, {store_bytes(options.out) / 1e6:,.1f} MB"
        + (f", {len(result.skipped):,} skipped" if result.skipped else "")
    )
    if options.format == "litdata":
        from dmlm.datasets.store_litdata import write_litdata

        folder = write_litdata(options.out, options.out / "litdata")
        print(f"{folder}: the same images for litdata.StreamingDataset")
    return 0


def _images(root: Path, dataset: str, column: str, allow_skipped: bool) -> tuple[Path, str, list[str]]:
    """Return the folder, the name of the data set and the images in it."""
    root = root.expanduser()
    if dataset == "manifest" or (dataset == "auto" and root.suffix.lower() == ".csv"):
        return root.parent, "manifest", _manifest_images(root, column)
    from dmlm.datasets.catalog import open_table

    try:
        table = open_table(dataset, root, **({"missing_images": "drop"} if allow_skipped else {}))
    except DatasetNotFoundError as error:
        if allow_skipped or "missing_images" not in str(error):
            raise
        msg = f"{error} (here: --allow-skipped)"
        raise DatasetNotFoundError(msg) from error
    return table.root, table.name, [str(image) for image in table.images]


def _manifest_images(path: Path, column: str) -> list[str]:
    """Return the images of a CSV, each once, in its order."""
    from dmlm.datasets.manifest_csv import other_separator, read_rows

    rows = read_rows(path)
    _, header = next(rows)
    if column not in header:
        mark = other_separator(header)
        why = f"; its columns are separated by {mark}, save it with commas" if mark else "; see --image-column"
        msg = f"{path}: no column '{column}' (found {', '.join(header)}){why}"
        raise DatasetFormatError(msg)
    place = header.index(column)
    return list(dict.fromkeys(row[place].strip() for _, row in rows if len(row) > place and row[place].strip()))


def _provenance(name: str) -> dict[str, Any]:
    """Return what made the pixels: the same data set, decoders and rules give the same bytes."""
    installed = {found.name.lower(): found.version for found in metadata.distributions()}
    versions = {package: installed.get(package, "not installed") for package in _DECODERS}
    return {"dataset": name, "resize": "area, whole field, never enlarged", "decoders": versions}


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
