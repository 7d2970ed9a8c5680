"""`dmlm export`: take the encoder out of a checkpoint, as a folder with a model card, and as ONNX."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from dmlm.commands.arguments import Arguments
from dmlm.errors import ConfigError


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
    save_pretrained(encoder, options.out, source=options.ckpt.name, **({} if found is None else found._asdict()))
    ModelCard(options.data, options.license, metrics).write(options.out, encoder)
    if options.onnx:
        from dmlm.models.onnx_export import export_onnx

        export_onnx(encoder, options.out / "image_encoder.onnx")
    print(f"{options.out}: {', '.join(sorted(file.name for file in options.out.iterdir()))}")
    return 0


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
