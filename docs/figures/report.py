"""Draw ``report.png``: a dictated report, the structured one made from it, the film, and the mask that it guides.

Run from the repository: ``python docs/figures/report.py``. The study is a phantom, and rules structure its report.
"""

from __future__ import annotations

import tempfile
import textwrap
from pathlib import Path

import numpy as np
import torch
from diagrams import shrink
from matplotlib.axes import Axes

from dmlm.datasets.phantom import LABEL_NAMES, PhantomDataset, generate_phantoms
from dmlm.datasets.transforms import EvalTransform
from dmlm.masking import AppearanceMask, MaskContext
from dmlm.plots.figures import new_figure, save_figure
from dmlm.reports import Observation, ReportText, render, with_knowledge
from dmlm.reports.rules import structure

SIZE, GRID = 224, (14, 14)
FINDING, SIDE = "Pleural Effusion", "left"
COLOURS = {"present": "#c8571b", "absent": "#1f5a94", "uncertain": "#8a4fa3"}
HEADINGS = {
    "definition": "Definition",
    "appearance": "Radiographic characteristics",
    "observations": "Observations",
    "verdict": "Verdict",
}


def main() -> None:
    """Draw the figure."""
    with tempfile.TemporaryDirectory() as folder:
        root = generate_phantoms(folder, {"train": 80, "val": 1, "test": 1}, 256, 7, progress=False)
        data = PhantomDataset(root, "train", SIZE, with_masks=True)
        raw = next(data.read(index) for index in range(len(data)) if is_wanted(data.read(index).text))
    report = structure(raw.text, "study")
    text = render(with_knowledge(report), findings=(FINDING,))
    done = EvalTransform(SIZE)(raw.image, raw.masks, np.random.default_rng(0))
    context = MaskContext(
        torch.from_numpy(done.image)[None, None],
        GRID,
        [text],
        torch.from_numpy(done.matrix).float()[None],
        torch.tensor([raw.image.shape]),
    )
    masker = AppearanceMask()
    relevance = masker.relevance(context).reshape(GRID).numpy()
    hidden = masker(context, torch.Generator().manual_seed(3)).reshape(GRID).numpy()
    truth = done.masks[LABEL_NAMES.index(FINDING)]
    figure = new_figure(10.0, 6.6)
    grid = figure.add_gridspec(2, 3, height_ratios=[1.0, 1.05])
    dictated(figure.add_subplot(grid[0, 0]), raw.text, report.observations)
    structured(figure.add_subplot(grid[0, 1:]), text)
    titles = ("film, finding outlined", "relevance of the patches", "hidden patches (30 %)")
    for column, title in enumerate(titles):
        axes = figure.add_subplot(grid[1, column])
        axes.imshow(done.image, cmap="gray", vmin=0, vmax=255)
        if column == 1:
            axes.imshow(relevance, cmap="inferno", alpha=0.55, vmin=0, vmax=1, extent=(-0.5, 223.5, 223.5, -0.5))
        if column == 2:
            veil = np.ma.masked_equal(hidden.astype(float), 0)
            axes.imshow(veil, cmap="GnBu", alpha=0.9, vmin=0, vmax=1, extent=(-0.5, 223.5, 223.5, -0.5))
        axes.contour(truth, levels=[0.5], colors="#ffd400", linewidths=1.2)
        axes.set_title(title, fontsize=9)
        axes.axis("off")
    shrink(save_figure(figure, Path(__file__).parent / "report.png"), 160)


def is_wanted(text: str) -> bool:
    """Whether a report states the finding on the side, and two or more others as absent."""
    said = structure(text, "study").observations
    wanted = (FINDING, SIDE, "present", "moderate")
    here = any((item.finding, item.laterality, item.existence, item.severity) == wanted for item in said)
    return here and sum(item.existence == "absent" for item in said) >= 2 and len(text) < 420


def dictated(axes: Axes, text: str, said: tuple[Observation, ...]) -> None:
    """The report as written; what the rules read is coloured by what it states."""
    colour = ["#222222"] * len(text)
    for item in said:
        if item.evidence is not None:
            first, last = item.evidence
            colour[first:last] = [COLOURS[item.existence]] * (last - first)
    panel(axes, "Report as dictated")
    place = 0
    y = 0.0
    for line in textwrap.wrap(text, 46):
        place = text.find(line.split()[0], place)
        x = 0
        for word in line.split():
            place = text.find(word, place)
            axes.text(x, y, word, fontsize=7.2, family="monospace", color=colour[place], va="top")
            x += len(word) + 1
            place += len(word)
        y += 1
    for number, (name, shade) in enumerate(COLOURS.items()):
        axes.text(14 * number, max(y + 0.8, 12.5), name, fontsize=7.5, color=shade, va="top", fontweight="bold")


def structured(axes: Axes, text: ReportText) -> None:
    """The sections of the rendered report, for the finding."""
    panel(axes, f"Structured report ({FINDING} only)")
    axes.set_xlim(0, 96)
    y = 0.0
    for span in text.spans:
        heading = HEADINGS.get(span.section)
        if heading is None:
            continue
        axes.text(0, y, heading, fontsize=8, fontweight="bold", va="top")
        y += 1
        for line in textwrap.wrap(text.text[span.start : span.end], 92):
            axes.text(0, y, line, fontsize=7.2, family="monospace", va="top")
            y += 1
        y += 0.5


def panel(axes: Axes, title: str) -> None:
    """Room for 14 lines of text."""
    axes.axis("off")
    axes.set_xlim(0, 48)
    axes.set_ylim(14.5, -0.3)
    axes.set_title(title, fontsize=9, loc="left")


if __name__ == "__main__":
    main()
