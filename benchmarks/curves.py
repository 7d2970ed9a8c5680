"""Losses of the library's step and of the naive step over a training of a small model: the same curve.

``python -m benchmarks.curves [--figure FILE.png]`` trains both from the same weights on the same batches.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path

from benchmarks.machine import half_is_faster, one_thread
from benchmarks.setting import SMALL
from benchmarks.step import compare, draw_curves

SIZE = replace(SMALL, vit_layers=4, bert_layers=2)


def measure(steps: int = 8, figure: Path | None = None) -> dict[str, float]:
    """Return the ratio of the steps, first and last losses, and how far the curves are apart."""
    one_thread()
    half, _ = half_is_faster()
    found = compare(SIZE, 8, steps, half, probes=1)
    ours, naive = found["ours_loss"], found["naive_loss"]
    if figure is not None:
        draw_curves(figure, f"4-layer ViT-Ti/16 + 2-layer BERT, batch 8, {'bf16' if half else 'float32'}", found)
    return {
        "curves_step_vs_naive": sum(found["naive"]) / sum(found["ours"]),
        "curves_loss_first": ours[0],
        "curves_loss_last": ours[-1],
        "curves_loss_naive_last": naive[-1],
        "curves_loss_largest_relative_difference": max(abs(a - b) / b for a, b in zip(ours, naive, strict=True)),
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--figure", type=Path)
    print(json.dumps(measure(figure=parser.parse_args().figure), indent=2))
