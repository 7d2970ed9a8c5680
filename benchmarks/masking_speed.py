"""What drawing image masks costs, as a share of a pre-training step of the same batch.

    python -m benchmarks.masking_speed [--model NAME] [--width 384] [--layers 6] [--size 224] [--batch 16]

CPU time of this process (so that other processes do not count): the forward and backward pass of the objective, and
each strategy's call with texts that it has seen before (``warm``) and that it has not (``first``).
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np
import torch

from dmlm.datasets.transforms import TrainTransform
from dmlm.masking import (
    AppearanceMask,
    AttentionMask,
    ImageMasker,
    MAEMask,
    MaskContext,
    MeijeringMask,
    RandomMask,
    TextMasker,
)
from dmlm.models import CrossModalPredictor, HFTextEncoder, ProbabilisticEncoder, TimmImageEncoder
from dmlm.objectives import ObjectiveConfig, PretrainingObjective, Views
from dmlm.reports import TextViews, encode_facts, from_labels, load_knowledge

REPEATS = 2


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="vit_small_patch16_224")
    parser.add_argument("--width", type=int, default=384, help="width of the text tower and of the distributions")
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--batch", type=int, default=16)
    options = parser.parse_args()
    figures = measure(options.model, options.width, options.layers, options.size, options.batch)
    step = figures["masking_step_ms"]
    print(f"step of {options.batch} pairs, {options.model}, {options.size} px: {step:.0f} ms of CPU time\n")
    print("| strategy | warm, ms | share of the step | first, ms |\n|---|---|---|---|")
    for name in _STRATEGIES:
        warm, first, share = (figures[f"masking_{name}_{end}"] for end in ("warm_ms", "first_ms", "share_of_step"))
        print(f"| {name} | {warm:.2f} | {100 * share:.2f} % | {first:.2f} |")


_STRATEGIES: dict[str, Callable[[], ImageMasker]] = {
    "random": RandomMask,
    "mae": MAEMask,
    "appearance": AppearanceMask,
    "attention": AttentionMask,
    "meijering": MeijeringMask,
}


def measure(
    model: str = "vit_small_patch16_224", width: int = 384, layers: int = 6, size: int = 224, batch: int = 8
) -> dict[str, float]:
    """Return milliseconds of a step and of each strategy, and the strategy's share of the step."""
    torch.set_num_threads(1)
    encoder = build_encoder(model, width, layers, size)
    objective = PretrainingObjective(ObjectiveConfig(), encoder)
    predictor = CrossModalPredictor(width, width=width // 2, depth=2, num_heads=4)
    context, views = draw(encoder, batch, size)
    whole = cpu_time(lambda: objective(encoder, predictor, views).loss.backward())
    figures = {"masking_step_ms": 1e3 * whole}
    for name, make in _STRATEGIES.items():
        masker = make()
        first = time.process_time()
        masker(context, torch.Generator().manual_seed(0))
        first = time.process_time() - first
        warm = cpu_time(lambda masker=masker: masker(context, torch.Generator().manual_seed(0)))  # type: ignore[misc]
        figures |= {f"masking_{name}_warm_ms": 1e3 * warm, f"masking_{name}_first_ms": 1e3 * first}
        figures[f"masking_{name}_share_of_step"] = warm / whole
    return figures


def cpu_time(call: Callable[[], object]) -> float:
    """Least CPU seconds of a call over some repetitions, after one to warm up."""
    call()
    taken = []
    for _ in range(REPEATS):
        start = time.process_time()
        call()
        taken.append(time.process_time() - start)
    return min(taken)


def build_encoder(model: str, width: int, layers: int, size: int) -> ProbabilisticEncoder:
    """Both towers with random weights."""
    shape = {"model_type": "bert", "hidden_size": width, "num_hidden_layers": layers}
    shape |= {"num_attention_heads": max(width // 64, 1), "intermediate_size": 4 * width}
    text = HFTextEncoder("bert", pretrained=False, hf_config=shape, tokenizer="library", max_length=256)
    kwargs = {"output_stride": 16} if model == "test_resnet" else {}
    image = TimmImageEncoder(model, pretrained=False, image_size=size, model_kwargs=kwargs)
    return ProbabilisticEncoder(image, text, embed_dim=width, head="mlp")


def draw(encoder: ProbabilisticEncoder, batch: int, size: int) -> tuple[MaskContext, Views]:
    """Augmented images of noise and reports with random labels."""
    rng = np.random.default_rng(0)
    names = [name for name in load_knowledge() if name != "No Finding"]
    reports = [
        from_labels(str(i), dict(zip(rng.choice(names, 6), (1, 1, 0, 0, -1, 0), strict=True))) for i in range(batch)
    ]
    texts = [TextViews().sample(report, "", rng) for report in reports]
    stored = [rng.integers(0, 256, (2 * size, 2 * size), dtype=np.uint8) for _ in range(batch)]
    done = [TrainTransform(size)(image, None, rng) for image in stored]
    images = torch.from_numpy(np.stack([item.image for item in done]))[:, None]
    matrix = torch.from_numpy(np.stack([item.matrix for item in done if item.matrix is not None])).float()
    patches = encoder.image.num_patches
    context = MaskContext(
        images,
        encoder.image.patch_grid,
        texts,
        matrix,
        torch.tensor([image.shape for image in stored]),
        similarity=torch.rand(batch, patches),
        progress=0.5,
    )
    tokens = encoder.tokenize(texts)
    generator = torch.Generator().manual_seed(0)
    views = Views(
        images=images,
        tokens=tokens,
        image_mask=RandomMask()(context, generator),
        text_mask=TextMasker()(tokens, generator),
        report_facts=torch.from_numpy(np.stack([encode_facts(report.observations) for report in reports])),
        text_facts=torch.from_numpy(np.stack([encode_facts(text.statements) for text in texts])),
        text_keys=torch.arange(batch),
    )
    return context, views


if __name__ == "__main__":
    main()
