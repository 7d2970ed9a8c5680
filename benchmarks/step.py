"""A pre-training step of the paper's size against the naive step of the same model, and its share of the matrix rate.

``python -m benchmarks.step [--batch 8] [--steps 1] [--figure FILE.png]``. Both start from the same weights and take
the same batches, one after the other; a probe of the matrix rate before and after every step says how fast the machine
was just then (CPU time of one thread; bf16 where the CPU multiplies faster in it, else float32). A step is forward,
backward, AdamW and the teacher's average.
"""

from __future__ import annotations

import argparse
import gc
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.machine import MatrixRate, half_is_faster, median, one_thread
from benchmarks.naive import PADDED, NaiveStep
from benchmarks.setting import BASE, Size, build, draw, shapes
from dmlm.models import CrossModalPredictor, ProbabilisticEncoder
from dmlm.objectives import ObjectiveConfig, PretrainingObjective, Views
from dmlm.planning.flops import blocks, direction, head, stem, step_flops
from dmlm.planning.shapes import Shapes

MOMENTUM = 0.996
RATE = 1e-4


class Ours:
    """The library's step without Lightning."""

    def __init__(
        self,
        encoder: ProbabilisticEncoder,
        predictor: CrossModalPredictor,
        config: ObjectiveConfig,
        half: bool = True,
    ) -> None:
        self.encoder, self.predictor, self.half = encoder, predictor, half
        self.objective = PretrainingObjective(config, encoder)
        self.optimizer = torch.optim.AdamW(trained(encoder, predictor, self.objective), lr=RATE, fused=True)

    def __call__(self, views: Views) -> Tensor:
        """One step; returns its loss."""
        with autocast(self.half):
            loss = self.objective(self.encoder, self.predictor, views).loss
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()  # lets the memory go: both sides are held at once
        self.objective.teacher.update(self.encoder, 0.0)
        return loss.detach()


class Naive:
    """The naive step with its loops over parameters."""

    def __init__(
        self,
        encoder: ProbabilisticEncoder,
        predictor: CrossModalPredictor,
        config: ObjectiveConfig,
        half: bool = True,
        padded: int = PADDED,
    ) -> None:
        self.half = half
        alignment = PretrainingObjective(ObjectiveConfig(target="online"), encoder).alignment
        self.step = NaiveStep(encoder, predictor, config, alignment, padded)
        parameters = [*encoder.parameters(), *predictor.parameters(), alignment.log_scale]
        self.optimizer = torch.optim.AdamW(parameters, lr=RATE, foreach=False)

    def __call__(self, views: Views) -> Tensor:
        """One step; returns its loss."""
        with autocast(self.half):
            loss = self.step(views)
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()  # lets the memory go: both sides are held at once
        self.step.update_teacher(MOMENTUM)
        return loss.detach()


def trained(*modules: nn.Module) -> list[nn.Parameter]:
    """Parameters of modules that take gradients."""
    return [parameter for module in modules for parameter in module.parameters() if parameter.requires_grad]


@contextmanager
def autocast(half: bool) -> Iterator[None]:
    """Mixed precision with bf16, or none."""
    with torch.autocast("cpu", torch.bfloat16, enabled=half):
        yield


def compare(
    size: Size, batch: int, steps: int, half: bool = True, padded: int = PADDED, probes: int = 2
) -> dict[str, Any]:
    """Train both for some steps from the same weights on the same batches, one after the other (for memory).

    A step with a single pair comes first; it is not counted. ``probes`` products before and after each step measure the
    matrix rate.

    Returns:
        ``ours`` and ``naive`` (CPU seconds per step), ``ours_loss`` and ``naive_loss``, ``ours_rates`` and
        ``naive_rates`` (of matrix products around each step), ``flops`` per step, ``tokens`` of the texts.
    """
    config = ObjectiveConfig(momentum=(MOMENTUM, 1.0))
    found: dict[str, Any] = {"flops": [], "tokens": []}
    matrix = MatrixRate(torch.bfloat16 if half else torch.float32)
    for name in ("ours", "naive"):
        encoder, predictor = build(size, "auto" if name == "ours" else False)
        plan = shapes(encoder, predictor, {})
        side: Callable[[Views], Tensor] = (
            Ours(encoder, predictor, config, half)
            if name == "ours"
            else Naive(encoder, predictor, config, half, padded)
        )
        side(draw(encoder, 1, seed=steps))  # allocates gradients and the optimiser's state
        losses, seconds, rates = [], [], []
        for step in range(steps):
            views = draw(encoder, batch, seed=step)
            before = matrix.sample(probes)
            start = time.process_time()
            losses.append(float(side(views)))
            seconds.append(time.process_time() - start)
            rates.append((before + matrix.sample(probes)) / 2)
            if name == "ours":
                found["tokens"] += views.tokens.lengths
                found["flops"].append(batch * step_flops(plan, views.tokens.lengths).total)
        found |= {name: seconds, f"{name}_loss": losses, f"{name}_rates": rates}
        del side, encoder, predictor
        gc.collect()
    return found


def cost(found: dict[str, Any], side: str) -> float:
    """What the steps cost, in multiplications that the machine could do meanwhile."""
    return sum(taken * rate for taken, rate in zip(found[side], found[f"{side}_rates"], strict=True))


def measure(batch: int = 8, steps: int = 1, figure: Path | None = None) -> dict[str, float]:
    """Return the ratio of the steps, the share of the matrix rate, and how far the losses are apart."""
    one_thread()
    half, half_over_single = half_is_faster()
    found = compare(BASE, batch, steps, half)
    ours, naive = cost(found, "ours"), cost(found, "naive")
    apart = max(abs(a - b) / abs(b) for a, b in zip(found["ours_loss"], found["naive_loss"], strict=True))
    if figure is not None:
        draw_curves(figure, f"ViT-B/16 + BERT-base, batch {batch}, {'bf16' if half else 'float32'}", found)
    return {
        "step_vs_naive": naive / ours,
        "gemm_share": sum(found["flops"]) / ours,
        "step_vs_naive_plain_cpu_time": sum(found["naive"]) / sum(found["ours"]),
        "step_batch": float(batch),
        "step_in_bf16": float(half),
        "step_machine_bf16_over_float32": half_over_single,
        "step_cpu_seconds": sum(found["ours"]) / steps,
        "step_naive_cpu_seconds": sum(found["naive"]) / steps,
        "step_gflop": 1e-9 * sum(found["flops"]) / steps,
        "step_matrix_gflop_per_second": 1e-9 * median(found["ours_rates"]),
        "step_loss_first": found["ours_loss"][0],
        "step_loss_last": found["ours_loss"][-1],
        "step_loss_largest_relative_difference": apart,
        "step_text_tokens_mean": sum(found["tokens"]) / len(found["tokens"]),
        **counted_ratios(),
    }


def naive_flops(plan: Shapes, padded: float = PADDED) -> float:
    """Matrix operations of the naive step per pair, forward and backward."""
    whole = plan.patches + float(plan.prefix)
    towers = blocks(plan.image, whole) + blocks(plan.text, padded) + 3 * stem(plan)
    heads = sum(
        head(plan.head, width, plan.embed_dim, read, read)
        for width, read in ((plan.image.width, whole), (plan.text.width, padded))
    )
    both = sum(
        direction(plan.predictor, plan.embed_dim, queries, own, other)
        for queries, own, other in ((padded, padded, whole), (plan.patches, whole, padded))
    )
    return 3 * (2 * (towers + heads) + both) + towers + heads


def counted_ratios() -> dict[str, float]:
    """Operations of the naive step over ours for whole reports: as long as the authors' texts are, or 256 tokens."""
    plan = Shapes()
    lengths = {"authors_texts": [334, 380, 426, 470, 512], "256_tokens": [256]}
    one_pass = {"full_pass": False, "full_conditions": False}
    figures = {}
    for name, tokens in lengths.items():
        figures[f"step_flop_naive_over_ours_{name}"] = naive_flops(plan) / step_flops(plan, tokens).total
        joint = step_flops(replace(plan, **one_pass), tokens).total
        figures[f"step_flop_naive_over_one_pass_{name}"] = naive_flops(plan) / joint
    return figures


def draw_curves(path: Path, title: str, found: dict[str, Any]) -> None:
    """Draw the losses of both steps over each other, and below them their difference."""
    import matplotlib.pyplot as plt

    figure, (upper, lower) = plt.subplots(2, 1, figsize=(6, 5), sharex=True, height_ratios=[3, 1])
    steps = range(1, len(found["ours_loss"]) + 1)
    upper.plot(steps, found["naive_loss"], color="#d95f02", linewidth=6, alpha=0.4, label="naive step")
    upper.plot(steps, found["ours_loss"], color="#1b3a5c", linewidth=1.5, marker=".", label="dmlm")
    upper.set_title(title)
    upper.set_ylabel("loss")
    upper.legend(frameon=False)
    lower.axhline(0.0, color="0.7", linewidth=1)
    difference = [a - b for a, b in zip(found["ours_loss"], found["naive_loss"], strict=True)]
    lower.plot(steps, difference, color="#1b3a5c", marker=".")
    lower.set_ylabel("difference")
    lower.set_xlabel("step")
    for axis in (upper, lower):
        axis.spines[["top", "right"]].set_visible(False)
        axis.xaxis.get_major_locator().set_params(integer=True)
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--steps", type=int, default=1)
    parser.add_argument("--figure", type=Path)
    options = parser.parse_args()
    print(json.dumps(measure(options.batch, options.steps, options.figure), indent=2))


if __name__ == "__main__":
    main()
