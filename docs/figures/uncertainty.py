"""Draw ``risk_coverage.png`` and ``uncertainty_maps.png`` from two runs on phantoms.

Run from the repository, after

    dmlm fit --config examples/classify_phantom.yaml --model.mc_samples 16
    dmlm fit --config examples/segment_phantom.yaml

as ``python docs/figures/uncertainty.py --classify RUN --segment RUN`` with the folders of these runs.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

import numpy as np
import torch
from diagrams import shrink

from dmlm.datamodules import PhantomDataModule
from dmlm.plots.figures import new_figure, risk_coverage_figure, save_figure
from dmlm.tasks import load_finetuned

HERE = Path(__file__).parent
SHOWN = 3


def main() -> None:
    """Draw both."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--classify", type=Path, required=True, metavar="RUN")
    parser.add_argument("--segment", type=Path, required=True, metavar="RUN")
    options = parser.parse_args()
    risk_coverage(options.classify / "predictions.csv")
    maps(options.segment / "checkpoints" / "best.ckpt")


def risk_coverage(predictions: Path) -> None:
    """Error of the answers that are kept, for the uncertainties of a classification run."""
    with predictions.open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["label"] in ("0", "1")]
    columns = {name: np.array([float(row[name]) for row in rows]) for name in ("prob", "entropy", "mc_std", "variance")}
    wrong = ((columns["prob"] >= 0.5) != np.array([row["label"] == "1" for row in rows])).astype(float)
    shown = {name: columns[name] for name in ("entropy", "mc_std", "variance")}
    shrink(save_figure(risk_coverage_figure(shown, wrong), HERE / "risk_coverage.png"), width=800)


def maps(checkpoint: Path) -> None:
    """Film with outlines, probability, entropy and errors of a few test films, one row each."""
    module = load_finetuned(str(checkpoint))
    data = PhantomDataModule.load_from_checkpoint(checkpoint)
    data.setup("test")
    mask = len(module.class_names) - 1
    samples = [data.test_dataset[index] for index in range(len(data.test_dataset))]
    samples = [sample for sample in samples if sample["masks"][mask].any()][:SHOWN]
    found = module.predict_images(torch.stack([sample["image"] for sample in samples]))
    figure = new_figure(8.0, 2.15 * len(samples))
    grid = figure.subplots(len(samples), 4, squeeze=False)
    for axes, sample, prob, entropy in zip(grid, samples, found["prob"], found["entropy"], strict=True):
        film, truth = sample["image"][0].numpy(), sample["masks"][mask].numpy() > 0
        said = prob[mask].numpy() >= module.threshold
        for panel in axes:
            panel.imshow(film, cmap="gray", vmin=0, vmax=255)
            panel.axis("off")
        axes[0].contour(truth, levels=[0.5], colors="#ffd400", linewidths=1.2)
        axes[0].contour(said, levels=[0.5], colors="#2ec4ff", linewidths=1.0)
        axes[1].imshow(prob[mask].numpy(), cmap="viridis", vmin=0, vmax=1)
        axes[2].imshow(entropy[mask].numpy(), cmap="inferno", vmin=0, vmax=float(np.log(2)))
        axes[3].imshow(np.ma.masked_equal((said != truth).astype(float), 0), cmap="autumn", vmin=0, vmax=1)
    for panel, title in zip(
        grid[0], ("truth yellow, answer blue", "probability", "entropy", "wrong pixels"), strict=True
    ):
        panel.set_title(title, fontsize=9)
    shrink(save_figure(figure, HERE / "uncertainty_maps.png"), 160, 900)


if __name__ == "__main__":
    main()
