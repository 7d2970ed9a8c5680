"""`dmlm data synthesize`: phantoms as the library keeps them, or in the on-disk layout of a data set."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dmlm.commands.arguments import Arguments
from dmlm.errors import ConfigError, DMLMError

PHANTOM: Final = "phantom"
_SHARES: Final = {"train": 0.7, "val": 0.1, "test": 0.2}
_PATIENTS: Final = {PHANTOM: 1000}
_FEW: Final = 40
_SHOWN: Final = 16


def run(argv: Sequence[str]) -> int:
    """Run ``dmlm data synthesize`` with the arguments after ``synthesize``.

    Returns:
        Exit status 0.

    Raises:
        DMLMError: If what was asked for cannot be done.
        SystemExit: After ``--help``.
    """
    from dmlm.datasets.synthesize import GENERATORS

    parser = _parser()
    options = parser.parse_args(list(argv))
    if options.list:
        print("\n".join(GENERATORS))
        return 0
    out = options.out if options.out is not None else options.folder
    if out is None or (options.out is not None and options.folder is not None):
        msg = "give the folder to write to once: dmlm data synthesize DATASET OUT (or --out OUT)"
        raise ConfigError(msg)
    patients = _PATIENTS.get(options.dataset, _FEW) if options.patients is None else options.patients
    if patients < 1:
        msg = f"--patients must be at least 1, got {patients}"
        raise ConfigError(msg)
    if not 32 <= options.image_size <= 4096 or options.seed < 0:
        msg = f"--image-size must be 32 to 4096 and --seed at least 0, got {options.image_size} and {options.seed}"
        raise ConfigError(msg)
    if options.dataset == PHANTOM:
        return _phantoms(out, patients, options)
    return _layout(out, patients, options)


def _parser() -> Arguments:
    parser = Arguments(
        prog="dmlm data synthesize",
        description="Make synthetic chest X-rays with labels, masks and reports: in the on-disk layout of a data set, "
        "or ('phantom') as the phantom data module keeps them. The same options give the same pictures and tables.",
    )
    parser.add_argument(
        "dataset",
        nargs="?",
        default=PHANTOM,
        metavar="DATASET",
        help="see --list (default: phantom)",
    )
    parser.add_argument("folder", nargs="?", type=Path, metavar="OUT", help="folder to write to")
    parser.add_argument("--out", type=Path, metavar="DIR", help="the same as an option")
    parser.add_argument("--list", action="store_true", help="print the data sets whose layout can be made, one a line")
    parser.add_argument(
        "--patients", type=int, metavar="N", help=f"patients (default: 1000 phantoms, {_FEW} of a data set)"
    )
    parser.add_argument(
        "--image-size", type=int, default=224, metavar="PX", help="height and width of the images (default: 224)"
    )
    parser.add_argument(
        "--seed", type=int, default=0, metavar="S", help="another seed gives other patients (default: 0)"
    )
    parser.add_argument("--gallery", type=Path, metavar="FILE.png", help="also draw the first 16 images there")
    only = parser.add_argument_group("phantoms alone")
    only.add_argument("--workers", type=int, metavar="W", help="processes that draw (default: all cores)")
    only.add_argument(
        "--format",
        choices=("store", "files"),
        help="store: arrays as the phantom data module keeps them (default); files: PNG and manifest.csv for the "
        "manifest module",
    )
    only.add_argument("--quiet", action="store_true", help="no progress bar")
    return parser


def _layout(out: Path, patients: int, options: argparse.Namespace) -> int:
    """Write the layout of a data set."""
    from dmlm.datasets.synthesize import synthesize

    if options.workers is not None or options.format is not None or options.quiet:
        msg = f"--workers, --format and --quiet belong to phantoms, not to '{options.dataset}'; leave them out"
        raise ConfigError(msg)
    count = synthesize(options.dataset, out, patients, options.seed, options.image_size)
    print(f"{out}: {count} images of {patients} phantom patients in the layout of {options.dataset}")
    if options.gallery is not None:
        with _writing(options.gallery):
            _draw_table(options.gallery, options.dataset, out)
        print(f"wrote {options.gallery}")
    return 0


def _phantoms(out: Path, patients: int, options: argparse.Namespace) -> int:
    """Write phantoms as the phantom data module keeps them, or as PNG with a manifest."""
    from dmlm.datasets.phantom.drawing import generate_phantoms
    from dmlm.datasets.phantom.export import export_files
    from dmlm.datasets.phantom.store import read_manifest

    counts = {"val": round(_SHARES["val"] * patients), "test": round(_SHARES["test"] * patients)}
    counts["train"] = patients - counts["val"] - counts["test"]
    workers = _cores() if options.workers is None else options.workers
    arguments = (counts, options.image_size, options.seed, workers, not options.quiet)
    if options.format == "files":
        with _writing(out):
            print(f"wrote {export_files(out, *arguments)}")
    else:
        with _writing(out):
            folder = generate_phantoms(out, *arguments)
        studies = read_manifest(folder)["studies"]
        print(f"{folder}: {', '.join(f'{count} {split}' for split, count in studies.items())} studies")
    if options.gallery is not None:
        with _writing(options.gallery):
            _draw_phantoms(options.gallery, options.seed, options.image_size, min(_SHOWN, counts["train"]))
        print(f"wrote {options.gallery}")
    return 0


@contextmanager
def _writing(place: Path) -> Iterator[None]:
    """What the system refuses while something is written becomes one line that names the place."""
    try:
        yield
    except DMLMError:
        raise
    except OSError as error:
        msg = f"{place}: cannot be written ({error.strerror or error}); make room or choose another place"
        raise ConfigError(msg) from error


def _draw_phantoms(path: Path, seed: int, image_size: int, count: int) -> None:
    """Draw the first study of each of the first ``count`` training patients."""
    from dmlm.datasets.phantom.studies import make_patient
    from dmlm.plots.overlays import gallery

    studies = [make_patient(seed, "train", patient, image_size)[0] for patient in range(count)]
    captions = [f"{study.study_id}, {study.view}\n{study.text}" for study in studies]
    gallery([study.image for study in studies], [study.masks for study in studies], captions, path)


def _draw_table(path: Path, name: str, root: Path) -> None:
    """Draw the first images of a data set with their masks and labels, read as training reads them."""
    from dmlm.datasets.catalog import open_table
    from dmlm.datasets.table_dataset import TableDataset
    from dmlm.plots.overlays import gallery

    table = open_table(name, root)
    dataset = TableDataset(table, 224, with_masks=table.masks is not None)
    images: list[NDArray[np.uint8]] = []
    masks: list[dict[str, NDArray[np.bool_]]] = []
    captions: list[str] = []
    for row in range(min(_SHOWN, len(dataset))):
        sample: dict[str, Any] = dataset[row]
        images.append(sample["image"][0].numpy())
        found = sample["masks"].numpy().astype(bool) if "masks" in sample else np.zeros((0, 224, 224), bool)
        masks.append({name: mask for name, mask in zip(table.mask_names, found, strict=True) if mask.any()})
        present = [label for label, value in zip(table.label_names, table.labels[row], strict=True) if value == 1]
        text = sample["text"] or ", ".join(present) or "none of the labels"
        captions.append(f"{Path(table.images[row]).name[-36:]}\n{text}")
    gallery(images, masks, captions, path)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
