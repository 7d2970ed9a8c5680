"""Draw ``masking.png``: what each image masking strategy sees and hides, on phantoms.

Run from the repository: ``python docs/figures/masking.py [--checkpoint CKPT]``. The row of the attention mask needs a
checkpoint of a pre-training (such as that of ``dmlm fit --config cli.yaml``); without one it is left out.
"""

from __future__ import annotations

import argparse
import re
import tempfile
from pathlib import Path

import numpy as np
import torch
from matplotlib.axes import Axes
from PIL import Image

from dmlm.datasets.phantom import LABEL_NAMES, PhantomDataset, generate_phantoms
from dmlm.datasets.transforms import AugmentConfig, EvalTransform, TrainTransform
from dmlm.masking import (
    AppearanceMask,
    AttentionMask,
    GuidedMask,
    ImageMasker,
    MAEMask,
    MaskContext,
    MaskVLMMask,
    MeijeringMask,
    RandomMask,
    text_patch_similarity,
)
from dmlm.masking.passages import affirmed
from dmlm.masking.placement import lungs_in_square, upright
from dmlm.plots.figures import new_figure, save_figure
from dmlm.reports import ReportText, load_knowledge
from dmlm.reports.anatomy import find_anatomy
from dmlm.reports.prompts import render_statement

SIZE, GRID, WRAP = 224, (14, 14), 46
WANTED = (("Pneumothorax", "right"), ("Pleural Effusion", "left"), ("Consolidation", "right"))
RIDGES = "meijering (60 %)"


def main() -> None:
    """Draw the figure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoint")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "masking.png")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = generate_phantoms(folder, {"train": 60, "val": 1, "test": 1}, 256, 7, progress=False)
        raw = PhantomDataset(root, "train", SIZE, with_masks=True)
        chosen = [pick(raw, finding, side) for finding, side in WANTED]
    transforms = [EvalTransform(SIZE)] * 2 + [TrainTransform(SIZE, AugmentConfig(rotation=25.0))]
    done = [
        transform(item[0], item[1][None], np.random.default_rng(4))
        for transform, item in zip(transforms, chosen, strict=True)
    ]
    texts = [item[2] for item in chosen]
    context = MaskContext(
        torch.from_numpy(np.stack([item.image for item in done]))[:, None],
        GRID,
        texts,
        torch.from_numpy(np.stack([item.matrix for item in done if item.matrix is not None])).float(),
        torch.tensor([item[0].shape for item in chosen]),
    )
    rows: dict[str, tuple[ImageMasker, MaskContext]] = {
        "random (30 %)": (RandomMask(), context),
        "mae (75 %)": (MAEMask(), context),
        "maskvlm (60 %)": (MaskVLMMask(), context),
        RIDGES: (MeijeringMask(), context),
        "appearance (30 %)": (AppearanceMask(), context),
    }
    if options.checkpoint:
        rows["attention (30 %)"] = (AttentionMask(), with_similarity(context, options.checkpoint))
    draw(context, [item.masks[0] for item in done if item.masks is not None], rows, options.out)


def pick(data: PhantomDataset, finding: str, side: str | None) -> tuple[np.ndarray, np.ndarray, ReportText]:
    """First study with a finding on a side: stored image, its mask, and the statement with its context."""
    for index in range(len(data)):
        raw = data.read(index)
        for said in raw.report.observations:
            if said.finding == finding and said.existence == "present" and said.laterality == side:
                mask = raw.masks[LABEL_NAMES.index(finding)] if raw.masks is not None else None
                if mask is not None and mask.any():
                    return raw.image, mask, render_statement(said, "full", True, load_knowledge())
    msg = f"no phantom has {finding} on the side {side}; raise the number of patients"
    raise SystemExit(msg)


def with_similarity(context: MaskContext, checkpoint: str) -> MaskContext:
    """The teacher's similarity, on the grid of the trained model."""
    from dmlm.models import from_pretrained

    encoder = from_pretrained(checkpoint).eval()
    side = encoder.image.image_size
    small = torch.nn.functional.interpolate(context.images.float(), (side, side), mode="area").round().to(torch.uint8)
    tokens = encoder.tokenize(context.texts)
    with torch.no_grad():
        similarity = text_patch_similarity(encoder.encode_text(tokens), encoder.encode_image(small), tokens)
    return context._replace(grid=encoder.image.patch_grid, similarity=similarity, progress=1.0)


def draw(
    context: MaskContext, findings: list[np.ndarray], rows: dict[str, tuple[ImageMasker, MaskContext]], path: Path
) -> None:
    """A column pair per image, a row per strategy: relevance left, mask right."""
    count = len(findings)
    figure = new_figure(3.1 * count, 2.5 + 1.62 * len(rows))
    grid = figure.add_gridspec(
        len(rows) + 2, 2 * count, height_ratios=[0.75, 1.0, *[1.0] * len(rows)], hspace=0.06, wspace=0.04
    )
    for index, text in enumerate(context.texts):
        write(figure.add_subplot(grid[0, 2 * index : 2 * index + 2]), text)
    lungs = lungs_in_square(context.images, upright(context)).boxes
    for index, finding in enumerate(findings):
        plain, found = figure.add_subplot(grid[1, 2 * index]), figure.add_subplot(grid[1, 2 * index + 1])
        show(plain, context, index)
        plain.contour(finding, levels=[0.5], colors="#ffd400", linewidths=1.0)
        show(found, context, index)
        corners(found, lungs[index], upright(context).to_image[index])
        if index == 0:
            plain.set_ylabel("finding, lungs", fontsize=8)
    for row, (name, (masker, seen)) in enumerate(rows.items(), start=2):
        mask = masker(seen, torch.Generator().manual_seed(3)).reshape(-1, *seen.grid)
        relevance = masker.relevance(seen).reshape(-1, *seen.grid) if isinstance(masker, GuidedMask) else None
        for index in range(count):
            left, right = figure.add_subplot(grid[row, 2 * index]), figure.add_subplot(grid[row, 2 * index + 1])
            show(left, context, index)
            if relevance is not None:
                overlay(left, relevance[index].numpy(), "inferno", 0.55)
            show(right, context, index)
            hidden = np.ma.masked_equal(mask[index].numpy(), 0)
            overlay(right, hidden, "GnBu", 0.9)
            right.contour(findings[index], levels=[0.5], colors="#ffd400", linewidths=0.8)
            if index == 0:
                left.set_ylabel(name, fontsize=8)
    save_figure(figure, path)
    with Image.open(path) as drawn:  # few colours are enough, and a repository should stay small
        small = drawn.convert("RGB").resize((1000, round(1000 * drawn.height / drawn.width)), Image.Resampling.LANCZOS)
    small.quantize(48, dither=Image.Dither.NONE).save(path, optimize=True)


def show(axes: Axes, context: MaskContext, index: int) -> None:
    """The image without ticks."""
    axes.imshow(context.images[index, 0].numpy(), cmap="gray", vmin=0, vmax=255)
    axes.set_xticks([])
    axes.set_yticks([])


def overlay(axes: Axes, values: np.ndarray, colours: str, alpha: float) -> None:
    """Values per patch over the image."""
    axes.imshow(
        values, cmap=colours, alpha=alpha, vmin=0, vmax=1, extent=(-0.5, SIZE - 0.5, SIZE - 0.5, -0.5), aspect="equal"
    )


def corners(axes: Axes, boxes: torch.Tensor, to_image: torch.Tensor) -> None:
    """Outline located lungs; boxes are of the upright square."""
    for box in boxes:
        x0, y0, x1, y1 = (float(value) for value in box)
        ring = torch.tensor([[x0, y0, 1], [x1, y0, 1], [x1, y1, 1], [x0, y1, 1], [x0, y0, 1]])
        points = (ring @ to_image.T * SIZE).numpy()
        axes.plot(points[:, 0], points[:, 1], color="#2ec4ff", linewidth=1.0)
    axes.set_xlim(-0.5, SIZE - 0.5)
    axes.set_ylim(SIZE - 0.5, -0.5)


def write(axes: Axes, text: ReportText) -> None:
    """The text; anatomy that counts is red, what is cut from the appearance is grey."""
    axes.axis("off")
    axes.set_xlim(0, WRAP)
    lines = 12
    axes.set_ylim(lines, 0)
    body = next((span for span in text.spans if span.section == "appearance"), text.spans[-1])
    passages = list(affirmed(text.text[body.start : body.end]))
    kept: set[int] = set()
    named: set[int] = set()
    place = body.start
    for passage in passages:
        start = text.text.find(passage, place)
        kept |= set(range(start, start + len(passage)))
        for _, first, last in find_anatomy(passage):
            named |= set(range(start + first, start + last))
        place = start + len(passage)
    start = max(text.text.find("Radiographic"), 0)
    x, y = 0, 0.5
    for match in re.finditer(r"\S+", text.text[start:]):
        first, word = match.start() + start, match[0]
        if x + len(word) > WRAP:
            x, y = 0, y + 1
        inside = body.start <= first < body.end
        colour = "#d1242f" if first in named else ("#b5b5b5" if inside and first not in kept else "#222222")
        if y < lines:
            axes.text(x, y, word, fontsize=6.6, family="monospace", color=colour, va="center")
        x += len(word) + 1


if __name__ == "__main__":
    main()
