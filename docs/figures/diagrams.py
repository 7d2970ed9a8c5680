"""Draw ``architecture.png`` and ``data_flow.png``: boxes and arrows, no data needed.

Run from the repository: ``python docs/figures/diagrams.py``.
"""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch
from PIL import Image

from dmlm.plots.figures import new_figure, save_figure

HERE = Path(__file__).parent
IMAGE, TEXT, BOTH, LOSS, PLAIN = "#d6e6f5", "#e2efd9", "#f3e6f7", "#fbe3cf", "#f0f0f0"


def main() -> None:
    """Draw both."""
    shrink(architecture(HERE / "architecture.png"))
    shrink(data_flow(HERE / "data_flow.png"))


def canvas(width: float, height: float) -> tuple[object, Axes]:
    """An empty figure with coordinates in inches."""
    figure = new_figure(width, height)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_xlim(0, width)
    axes.set_ylim(0, height)
    axes.axis("off")
    return figure, axes


def box(axes: Axes, x: float, y: float, text: str, colour: str, width: float = 1.75, height: float = 0.66) -> None:
    """A rounded box centred at ``(x, y)``; the first line is bold."""
    shape = FancyBboxPatch(
        (x - width / 2, y - height / 2),
        width,
        height,
        boxstyle="round,pad=0,rounding_size=0.08",
        facecolor=colour,
        edgecolor="#444444",
        linewidth=0.9,
    )
    axes.add_patch(shape)
    first, _, rest = text.partition("\n")
    lines = rest.count("\n") + 1 if rest else 0
    axes.text(x, y + 0.085 * lines, first, ha="center", va="center", fontsize=9, fontweight="bold")
    if rest:
        axes.text(x, y - 0.085, rest, ha="center", va="center", fontsize=8, linespacing=1.15)


def arrow(
    axes: Axes, start: tuple[float, float], end: tuple[float, float], text: str = "", bend: float = 0.0, **style: object
) -> None:
    """An arrow with a word beside its middle."""
    options = {"color": "#444444", "linewidth": 1.1, **style}
    axes.add_patch(
        FancyArrowPatch(
            start, end, arrowstyle="-|>", mutation_scale=10, connectionstyle=f"arc3,rad={bend}", shrinkA=0, shrinkB=0,
            **options,
        )
    )  # fmt: skip
    if text:
        middle = ((start[0] + end[0]) / 2, (start[1] + end[1]) / 2)
        axes.text(
            *middle, text, fontsize=7.5, ha="center", va="center", color="#333333",
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 1},
        )  # fmt: skip


def architecture(path: Path) -> Path:
    """What a step of pre-training computes."""
    figure, axes = canvas(10.0, 4.9)
    top, low, middle = 4.1, 0.95, 2.52
    box(axes, 0.98, top, "Radiograph\ngrey, 0 to 255", IMAGE)
    box(axes, 0.98, low, "Structured report\nor one statement of it", TEXT)
    box(axes, 3.2, top, "Image tower\nany timm ViT or CNN", IMAGE)
    box(axes, 3.2, low, "Text tower\nany BERT-like model", TEXT)
    box(axes, 5.42, top, "Gaussian head\nimage + patches, Eq. 1", IMAGE)
    box(axes, 5.42, low, "Gaussian head\ntext + words, Eq. 1", TEXT)
    box(
        axes,
        5.42,
        middle,
        "Predictor\nhidden elements from what is\nvisible and the other side, Eq. 2",
        BOTH,
        2.2,
        0.86,
    )
    box(axes, 2.1, middle, "Teacher\nmoving average of the encoder,\nsees everything, no gradient", PLAIN, 2.1, 0.86)
    box(axes, 7.7, middle, "Masked prediction\nKL to the teacher's\nGaussians, Eq. 3", LOSS, 1.5, 0.86)
    box(axes, 9.2, middle, "Alignment\ncontrastive over\nW2, Eq. 4", LOSS, 1.3, 0.86)
    for y in (top, low):
        arrow(axes, (1.86, y), (2.32, y))
        arrow(axes, (4.08, y), (4.54, y))
    axes.text(2.09, top + 0.47, "some patches hidden", fontsize=7.5, ha="center", color="#333333")
    axes.text(2.09, low - 0.47, "some words hidden", fontsize=7.5, ha="center", color="#333333")
    arrow(axes, (5.42, top - 0.33), (5.42, middle + 0.43))
    arrow(axes, (5.42, low + 0.33), (5.42, middle - 0.43))
    arrow(axes, (6.52, middle), (6.95, middle))
    arrow(axes, (3.15, middle - 0.3), (7.2, middle - 0.43), bend=0.13, linestyle="--")
    axes.text(3.75, middle - 0.72, "true distributions", fontsize=7.5, ha="center", color="#333333")
    for y, side, text in ((top, 0.43, "whole image, nothing hidden"), (low, -0.43, "whole text, nothing hidden")):
        axes.plot([6.3, 9.2], [y, y], color="#444444", linewidth=1.1)
        arrow(axes, (9.2, y), (9.2, middle + side))
        axes.text(7.75, y + 0.13, text, fontsize=7.5, ha="center", color="#333333")
    total = r"loss (Eq. 5):  $\lambda\,\mathrm{KL} + (1-\lambda)\,\mathcal{L}_\mathrm{align}$"
    axes.text(7.75, 3.3, total, ha="center", va="center", fontsize=9)
    axes.text(
        7.75, 0.38, "zero-shot: distance to the prompts “... is present” and “... is absent”", ha="center", fontsize=8
    )
    return save_figure(figure, path)


def data_flow(path: Path) -> Path:
    """From files to findings, and the command of each step."""
    figure, axes = canvas(10.0, 3.7)
    row = 2.75
    steps = (
        (0.98, "Data set\nas downloaded, or a CSV", PLAIN, "dmlm data doctor"),
        (3.0, "Store\nsmall images, optional", IMAGE, "dmlm data prepare"),
        (5.02, "Batch\nimage, report, labels", BOTH, "data module"),
        (7.04, "Pre-training\nencoder of Gaussians", BOTH, "dmlm fit"),
        (9.06, "Findings\nzero-shot, no labels", LOSS, "dmlm test"),
    )
    for x, text, colour, command in steps:
        box(axes, x, row, text, colour, 1.66)
        axes.text(x, row + 0.5, command, ha="center", fontsize=8, family="monospace", color="#1f5fa8")
    for (first, *_), (second, *_) in pairwise(steps):
        arrow(axes, (first + 0.83, row), (second - 0.83, row))
    box(axes, 3.0, 1.35, "Structured reports\nby rules or a language model", TEXT, 2.0)
    axes.text(3.0, 0.83, "dmlm reports build", ha="center", fontsize=8, family="monospace", color="#1f5fa8")
    arrow(axes, (1.3, row - 0.33), (2.0, 1.45))
    arrow(axes, (4.0, 1.45), (4.7, row - 0.33))
    box(axes, 7.04, 1.35, "Fine-tuning\nclasses, grades, masks", LOSS, 1.66)
    axes.text(7.04, 0.83, "dmlm fit  --model.encoder ...", ha="center", fontsize=8, family="monospace", color="#1f5fa8")
    box(axes, 9.06, 1.35, "Results\nmetrics, predictions", PLAIN, 1.66)
    axes.text(9.06, 0.83, "dmlm predict, export", ha="center", fontsize=8, family="monospace", color="#1f5fa8")
    arrow(axes, (7.04, row - 0.33), (7.04, 1.68))
    arrow(axes, (7.87, 1.35), (8.23, 1.35))
    arrow(axes, (9.06, row - 0.33), (9.06, 1.68))
    axes.text(
        0.15, 0.3, "Splits go by patient, and every number is computed once per study.", fontsize=8, color="#333333"
    )
    return save_figure(figure, path)


def shrink(path: Path, colours: int = 32, width: int = 1200) -> None:
    """Few colours are enough, and a repository should stay small."""
    with Image.open(path) as drawn:
        small = drawn.convert("RGB").resize(
            (width, round(width * drawn.height / drawn.width)), Image.Resampling.LANCZOS
        )
    small.quantize(colours, dither=Image.Dither.NONE).save(path, optimize=True)


if __name__ == "__main__":
    main()
