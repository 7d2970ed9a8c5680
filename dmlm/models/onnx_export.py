"""The image side of an encoder as an ONNX file: grey values in, Gaussians out."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn

from dmlm.errors import ConfigError, MissingDependencyError
from dmlm.io.atomic import atomic_path
from dmlm.models.encoder import ProbabilisticEncoder

OPSET = 18
OLDEST_TORCH = "2.9"
"""Older exporters fail at batch normalisation, or fix the batch size."""


class ImageSide(nn.Module):
    """What is exported: normalisation, tower and Gaussian head, without masks.

    Args:
        encoder: Whose image side it is.
    """

    def __init__(self, encoder: ProbabilisticEncoder) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Encode images.

        Args:
            images: uint8 ``(B, 1, H, W)``.

        Returns:
            ``mean`` and ``logvar``, float32 ``(B, 1 + N, D)``; element 0 stands for the whole image.
        """
        mean, logvar = self.encoder.encode_image(images)
        return mean, logvar


def export_onnx(encoder: ProbabilisticEncoder, path: str | os.PathLike[str]) -> Path:
    """Write the image side of an encoder as ONNX (opset 18), for any batch size.

    Input ``images`` uint8 ``(batch, 1, H, W)``; outputs ``element_mean`` and ``element_logvar`` float32
    ``(batch, 1 + N, D)``. Texts stay in Python: prompts are encoded once, and scores are distances of vectors.

    Args:
        encoder: What to export; left as it was.
        path: File to write.

    Returns:
        The file.

    Raises:
        MissingDependencyError: If onnx or onnxscript is not installed.
        ConfigError: If torch is older than 2.9, or the graph came out for one batch size only, because a tower of your
            own asks for it as a number.
    """
    try:
        import onnx
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise MissingDependencyError(error.name or "onnx", "onnx") from error
    if torch.__version__ < OLDEST_TORCH:
        msg = f"ONNX export needs torch 2.9 or newer, this is {torch.__version__}; pip install 'dmlm[onnx]'"
        raise ConfigError(msg)
    side = encoder.image.image_size
    example = torch.zeros(2, 1, side, side, dtype=torch.uint8, device=encoder.device)
    modes = {module: module.training for module in encoder.modules()}
    encoder.eval()
    try:
        with _quiet(), torch.no_grad():
            program = torch.onnx.export(
                ImageSide(encoder),
                (example,),
                input_names=["images"],
                output_names=["element_mean", "element_logvar"],
                dynamic_shapes=({0: torch.export.Dim("batch")},),
                opset_version=OPSET,
                dynamo=True,
                verbose=False,
            )
    finally:
        for module, mode in modes.items():
            module.training = mode
    target = Path(path)
    batch = program.model_proto.graph.input[0].type.tensor_type.shape.dim[0]  # type: ignore[union-attr]
    if not batch.dim_param:
        msg = (
            f"{target}: not written, since it would take batches of {batch.dim_value} only: the image tower uses the "
            "batch size as a number; in its forward write x.shape[0] instead of len(x)"
        )
        raise ConfigError(msg)
    with atomic_path(target) as temporary:
        onnx.save_model(program.model_proto, str(temporary))  # type: ignore[union-attr]
    return target


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter's remarks about its own internals to itself."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
