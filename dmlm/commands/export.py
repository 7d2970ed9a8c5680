"""`dmlm export`: take the encoder out of a checkpoint, as a folder with a model card, and as ONNX."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from dmlm.commands.arguments import Arguments
from dmlm.errors import ConfigError
from dmlm.io.lock import lock, unlock

_FILES: Final = ("config.json", "model.safetensors", "tokenizer.json", "README.md", "image_encoder.onnx")
"""All that an export may hold; what an earlier one had of it, and this one has not, is taken away."""


def run(argv: Sequence[str]) -> int:
    """Run ``dmlm export`` with the arguments after ``export``.

    Returns:
        Exit status 0.

    Raises:
        DMLMError: If the checkpoint or the metrics cannot be read, or a package is missing.
        SystemExit: After ``--help``.
    """
    options = _parser().parse_args(list(argv))
    metrics = _metrics(options.metrics)
    from dmlm.models.card import ModelCard
    from dmlm.models.pretrained import from_pretrained, save_pretrained
    from dmlm.tasks.trained_alignment import read_alignment

    encoder = from_pretrained(str(options.ckpt))
    found = read_alignment(options.ckpt)
    with _replacing(options.out) as folder:
        save_pretrained(encoder, folder, source=options.ckpt.name, **({} if found is None else found._asdict()))
        ModelCard(options.data, options.license, metrics).write(folder, encoder)
        if options.onnx:
            from dmlm.models.onnx_export import export_onnx

            export_onnx(encoder, folder / "image_encoder.onnx")
        written = sorted(file.name for file in folder.iterdir())
    print(f"{options.out}: {', '.join(written)}")
    return 0


@contextmanager
def _replacing(out: Path) -> Iterator[Path]:
    """Yield a folder whose files replace an earlier export in ``out`` together, or not at all after an error.

    They change places while ``config.json`` is away: a folder that was left half way is refused by its readers.
    """
    missing = [place for place in (out, *out.parents) if not place.exists()]
    out.mkdir(parents=True, exist_ok=True)
    held = lock(out, f"{out}: another dmlm export is writing there; wait for it, or choose another --out")
    try:
        for left in out.glob(".export.*.part"):  # by one that was killed
            shutil.rmtree(left)
        # inside, because beside it may be another disk, or forbidden
        with tempfile.TemporaryDirectory(prefix=".export.", suffix=".part", dir=out) as name:
            folder = Path(name)
            with _named_as(out, folder):
                yield folder
            for old in ("config.json", *(file for file in _FILES if not (folder / file).exists())):
                (out / old).unlink(missing_ok=True)
            for new in sorted(folder.iterdir(), key=lambda file: file.name == "config.json"):
                new.replace(out / new.name)
    except BaseException:
        for place in missing:
            with suppress(OSError):  # not empty, since somebody else writes there
                place.rmdir()
        raise
    finally:
        unlock(held)


@contextmanager
def _named_as(out: Path, folder: Path) -> Iterator[None]:
    """Let errors name the files that were asked for."""
    try:
        yield
    except OSError as error:
        if error.filename is not None:
            error.filename = str(error.filename).replace(str(folder), str(out))
        raise


def _parser() -> Arguments:
    parser = Arguments(
        prog="dmlm export",
        description="Write the encoder of a checkpoint as a folder (config.json, model.safetensors, tokenizer.json and "
        "a model card) that dmlm.models.from_pretrained reads.",
    )
    parser.add_argument(
        "--ckpt", type=Path, required=True, metavar="FILE", help="checkpoint of a run, or such a folder"
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder to write")
    parser.add_argument("--onnx", action="store_true", help="also write image_encoder.onnx (pip install 'dmlm[onnx]')")
    parser.add_argument("--data", default="Not stated.", metavar="TEXT", help="for the card: what it was trained on")
    parser.add_argument("--license", default="other", metavar="NAME", help="for the card: licence of the weights")
    parser.add_argument("--metrics", type=Path, metavar="JSON", help="for the card: metrics.json of a run")
    return parser


def _metrics(path: Path | None) -> dict[str, float]:
    if path is None:
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        # null is how a run writes down a number that does not exist, such as the AUC of a finding that nobody has
        return {name: float(value) for name, value in content.items() if value is not None}
    except (OSError, ValueError, AttributeError, TypeError) as error:
        msg = f"{path}: not a metrics.json of a run ({type(error).__name__}: {error}); leave --metrics out"
        raise ConfigError(msg) from error
