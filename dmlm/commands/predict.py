"""`dmlm predict --images`: rows and overlays for image files of any kind, with any trained task."""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dmlm.commands.arguments import Arguments
from dmlm.commands.predict_rows import RowFile, label_rows, mask_rows
from dmlm.errors import ConfigError, DatasetNotFoundError, ImageReadError

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from dmlm.tasks.inference import LabelAnswers, LabelPredictor, MaskPredictor

_IMAGES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".dcm", ".dicom")


def run(argv: Sequence[str]) -> int:
    """Run ``dmlm predict`` with the arguments after ``predict``.

    Returns:
        Exit status: 0, or 1 if some of the images could not be read (they are named, the others are done).

    Raises:
        DMLMError: If there is nothing to predict, or nothing to predict with.
        SystemExit: After ``--help``.
    """
    options = _parser().parse_args(list(argv))
    for name, least in (("batch_size", 1), ("overlays", 0), ("workers", 1)):
        if getattr(options, name) < least:
            msg = f"--{name.replace('_', '-')} must be at least {least}, got {getattr(options, name)}"
            raise ConfigError(msg)
    files = find_images(options.images, options.out)
    from dmlm.tasks.inference import load_predictor

    predictor = load_predictor(str(options.ckpt), _once(options.findings), _device(options.device))
    unreadable = _predict(predictor, files, options)
    done = len(files) - len(unreadable)
    if not done:
        msg = f"none of the {len(files)} images could be read; the first: {unreadable[0]}"
        raise ImageReadError(msg)
    print(f"{done} of {len(files)} images predicted; written to {options.out}")
    for line in unreadable:
        print(f"dmlm: not read: {line}", file=sys.stderr)
    return 1 if unreadable else 0


def find_images(place: Path, out: Path | None = None) -> list[Path]:
    """Image files of a folder and its folders, by name; files of any name count if they are DICOM.

    Args:
        place: A folder, or one file.
        out: Where results go: inside ``place``, its files are overlays of an earlier run and no images.

    Raises:
        DatasetNotFoundError: If there is no such place, or no image in it.
    """
    from dmlm.io.dicom import looks_like_dicom

    if place.is_file():
        return [place]
    if not place.is_dir():
        msg = f"--images {place}: there is no such file or folder"
        raise DatasetNotFoundError(msg)
    files = [path for path in sorted(place.rglob("*")) if path.is_file() and not path.name.startswith(".")]
    drawn = None if out is None else overlay_path(out.resolve(), "").parent
    if drawn is not None and place.resolve() in drawn.parents:
        drawn = place / drawn.relative_to(place.resolve())
        files = [path for path in files if not path.is_relative_to(drawn)]
    found = [path for path in files if path.suffix.lower() in _IMAGES or _is_dicom(path, looks_like_dicom)]
    if not found:
        msg = f"--images {place}: no image among {len(files)} files; expected {', '.join(_IMAGES)} or DICOM files"
        raise DatasetNotFoundError(msg)
    return found


def _is_dicom(path: Path, looks_like_dicom: Any) -> bool:  # noqa: ANN401
    return path.name.upper() != "DICOMDIR" and bool(looks_like_dicom(path))


def _parser() -> Arguments:
    parser = Arguments(
        prog="dmlm predict",
        description="Predict for image files (PNG, JPEG, TIFF, BMP, DICOM) with the checkpoint of any task: rows with "
        "probability, uncertainty and threshold, and overlays. Without --images, dmlm predict is a Trainer verb.",
    )
    parser.add_argument("--ckpt", type=Path, required=True, metavar="PATH", help="checkpoint of a dmlm run")
    parser.add_argument("--images", type=Path, required=True, metavar="PATH", help="folder (searched deep) or one file")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="where to write")
    parser.add_argument(
        "--findings", nargs="+", metavar="NAME", help="zero-shot tasks: what to ask for (default: as evaluated)"
    )
    parser.add_argument("--batch-size", type=int, default=16, metavar="N", help="images at a time (16)")
    parser.add_argument(
        "--overlays", type=int, default=20, metavar="N", help="images that get an overlay PNG (20; 0 for none)"
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, ... (auto)")
    parser.add_argument("--workers", type=int, default=2, metavar="N", help="threads that read files (2)")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    return parser


def _once(findings: Sequence[str] | None) -> list[str] | None:
    """Findings in their order, each once, whatever name of it is used; the first name counts."""
    if findings is None:
        return None
    from dmlm.reports.knowledge import canonical_name

    first: dict[str, str] = {}
    for name in findings:
        first.setdefault(canonical_name(name).lower(), name)
    return list(first.values())


def _device(name: str) -> str:
    import torch

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.zeros(1, device=name)
    except (RuntimeError, AssertionError) as error:
        msg = f"--device {name} cannot be used here: {str(error).splitlines()[0][:120]}"
        raise ConfigError(msg) from error
    return name


def _predict(predictor: LabelPredictor | MaskPredictor, files: list[Path], options: argparse.Namespace) -> list[str]:
    """Predict all files; return a line for each that could not be read."""
    import torch

    from dmlm.tasks.inference import MaskPredictor

    unreadable: list[str] = []
    drawn = 0
    base = options.images if options.images.is_dir() else options.images.parent
    with RowFile(options.out) as rows:
        for batch in _batches(files, predictor.image_size, options, unreadable):
            names = [path.relative_to(base).as_posix() for path, _ in batch]
            images = torch.from_numpy(np.stack([pixels for _, pixels in batch]))[:, None]
            if isinstance(predictor, MaskPredictor):
                found = predictor(images)
                rows.write(mask_rows(names, predictor, found))
                drawn += _draw_masks(predictor, names, images, found, options, drawn)
            else:
                answers = predictor(images)
                rows.write(label_rows(names, predictor, answers))
                drawn += _draw_labels(predictor, names, images, answers, options, drawn)
        if len(unreadable) == len(files):
            rows.discard()
    return unreadable


def _batches(
    files: list[Path], size: int, options: argparse.Namespace, unreadable: list[str]
) -> Iterator[list[tuple[Path, NDArray[np.uint8]]]]:
    """Read batches of ``size`` pixels; what cannot be read goes to ``unreadable`` and the rest goes on."""
    from tqdm import tqdm

    from dmlm.datasets.transforms import EvalTransform
    from dmlm.io.images import read_grey

    transform = EvalTransform(size)

    def read(path: Path) -> NDArray[np.uint8] | str:
        try:
            return transform(read_grey(path, size), None).image
        except ImageReadError as error:
            return " ".join(str(error).split())

    with (
        ThreadPoolExecutor(options.workers) as pool,
        tqdm(total=len(files), unit="image", disable=options.quiet, file=sys.stderr) as bar,
    ):
        for start in range(0, len(files), options.batch_size):
            part = files[start : start + options.batch_size]
            read_in = list(zip(part, pool.map(read, part), strict=True))
            unreadable += [pixels for _, pixels in read_in if isinstance(pixels, str)]
            good = [(path, pixels) for path, pixels in read_in if not isinstance(pixels, str)]
            if good:
                yield good
            bar.update(len(part))


def _draw_labels(
    predictor: LabelPredictor,
    names: list[str],
    images: Tensor,
    answers: LabelAnswers,
    options: argparse.Namespace,
    drawn: int,
) -> int:
    """Draw where the most probable answer comes from; return how many were drawn."""
    from dmlm.plots.predictions import Case, prediction_grid
    from dmlm.tasks.occlusion import occlusion_map

    count = max(0, min(len(names), int(options.overlays) - drawn))
    for row in range(count):
        best = np.argsort(-answers.probability[row])[:4]
        lines = [f"{predictor.names[c]} {answers.probability[row, c]:.2f}" for c in best]
        heat = occlusion_map(lambda part: predictor(part).probability, images[row], int(best[0]))
        shown = f"covering lowers {predictor.names[best[0]]}"[:34]
        case = Case(images[row, 0].numpy(), f"{names[row]}\n{', '.join(lines)}", maps={shown: heat})
        prediction_grid([case], overlay_path(options.out, names[row]), columns=1, size=320)
    return count


def _draw_masks(
    predictor: MaskPredictor,
    names: list[str],
    images: Tensor,
    found: dict[str, NDArray[np.float32]],
    options: argparse.Namespace,
    drawn: int,
) -> int:
    """Draw predicted masks and the uncertainty of their pixels; return how many were drawn."""
    from dmlm.plots.predictions import Case, prediction_grid

    count = max(0, min(len(names), int(options.overlays) - drawn))
    for row in range(count):
        masks = {name: found["prob"][row, m] >= predictor.threshold for m, name in enumerate(predictor.names)}
        lines = [f"{name} {100 * mask.mean():.1f} % of the image" for name, mask in masks.items()]
        case = Case(
            images[row, 0].numpy(),
            f"{names[row]}\n{', '.join(lines)}",
            predicted=masks,
            maps={"entropy": found["entropy"][row].max(axis=0)},
            ranges={"entropy": (0.0, math.log(2.0))},  # of a pixel that is as likely within the mask as not
        )
        prediction_grid([case], overlay_path(options.out, names[row]), columns=1, size=320)
    return count


def overlay_path(out: Path, name: str) -> Path:
    """File of an image's overlay; folders of its name become part of the file's."""
    return out / "overlays" / f"{name.replace('/', '__')}.png"
