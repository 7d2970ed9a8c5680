"""How far the ONNX file of an image side is from torch: largest differences per tower and head.

python -m benchmarks.onnx_parity
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

from dmlm.models import HFTextEncoder, ProbabilisticEncoder, TimmImageEncoder
from dmlm.models.onnx_export import export_onnx

TOWERS: dict[str, tuple[int, dict[str, Any]]] = {
    "vit_tiny_patch16_224": (112, {}),
    "test_resnet": (80, {"output_stride": 16}),
    "efficientnet_lite0": (96, {}),
}
"""timm name: image size in pixels, arguments of the model."""

HEADS = ("mlp", "attn")
BATCHES = (1, 2, 5)


class Differences(NamedTuple):
    """Largest absolute differences over all elements, dimensions and batch sizes."""

    mean: float
    logvar: float


def encoder_with(tower: str, head: str) -> ProbabilisticEncoder:
    """Build an encoder whose weights and statistics are those of no fresh network: nothing is zero or one by design."""
    torch.manual_seed(0)
    side, arguments = TOWERS[tower]
    image = TimmImageEncoder(tower, pretrained=False, image_size=side, model_kwargs=arguments)
    bert = {"model_type": "bert", "hidden_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2}
    text = HFTextEncoder("bert", pretrained=False, hf_config=bert, tokenizer="library", max_length=32)
    encoder = ProbabilisticEncoder(image, text, embed_dim=64, head=head, num_heads=4)  # type: ignore[arg-type]
    with torch.no_grad():
        for weight in encoder.image_head.parameters():
            weight.add_(0.05 * torch.randn_like(weight))
        encoder.train().encode_image(pictures(encoder, 8))  # moves the running statistics of batch norms
    return encoder.eval()


def pictures(encoder: ProbabilisticEncoder, count: int) -> torch.Tensor:
    """Random grey values in the size of the encoder, uint8 ``(count, 1, H, W)``."""
    side = encoder.image.image_size
    return torch.randint(0, 256, (count, 1, side, side), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def differences(encoder: ProbabilisticEncoder, folder: Path, batches: Sequence[int] = BATCHES) -> Differences:
    """Export once, and run every batch size in onnxruntime and in torch."""
    import onnxruntime

    path = export_onnx(encoder, folder / "image_encoder.onnx")
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    worst = Differences(0.0, 0.0)
    for count in batches:
        images = pictures(encoder, count)
        with torch.no_grad():
            wanted = encoder.eval().encode_image(images)
        found = session.run(["element_mean", "element_logvar"], {"images": images.numpy()})
        gaps = (float((torch.from_numpy(a) - b).abs().max()) for a, b in zip(found, wanted, strict=True))
        worst = Differences(*map(max, worst, gaps))
    return worst


def main() -> None:
    """Print the table of docs/export.md."""
    print("| image tower | image | head | elements | mean | log-variance |\n|:--|--:|:--|--:|--:|--:|")
    for tower, (side, _) in TOWERS.items():
        for head in HEADS:
            encoder = encoder_with(tower, head)
            with tempfile.TemporaryDirectory() as folder:
                worst = differences(encoder, Path(folder))
            rows, columns = encoder.image.patch_grid
            size = f"{side} | {head} | {1 + rows * columns}"
            print(f"| {tower} | {size} | {worst.mean:.1e} | {worst.logvar:.1e} |", flush=True)


if __name__ == "__main__":
    main()
