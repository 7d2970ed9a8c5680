"""How often guided masks cover a finding, on real radiographs with boxes and lesion masks; and how lung fields fit.

The text of each image is made from its label alone, never from the box: what is measured is whether the atlas, laid
onto lungs that are located in the image, knows where findings are. Run from the repository::

    python -m benchmarks.masking_coverage DATA --out results [--pictures 8]

``DATA`` is the folder of real radiographs with ``manifest.csv``; nothing of it is written but figures that you ask for.
"""

from __future__ import annotations

import argparse
import csv
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from dmlm.datasets.transforms import EvalTransform, TrainTransform, Transform
from dmlm.masking import AppearanceMask, ImageMasker, MaskContext, MeijeringMask, RandomMask, locate_lungs
from dmlm.masking.atlas import Atlas
from dmlm.masking.guidance import TextGuide
from dmlm.reports import from_labels, render
from dmlm.reports.schema import ReportText

SIZE, GRID, DRAWS, RATIO = 224, (14, 14), 8, 0.3
# the source names some cases by their germ; these are the kinds of pneumonia that it files them under
GERMS = {
    "Streptococcus": "Bacterial Pneumonia",
    "Legionella": "Bacterial Pneumonia",
    "Klebsiella": "Bacterial Pneumonia",
    "E.Coli": "Bacterial Pneumonia",
    "SARS": "Viral Pneumonia",
    "MERS-CoV": "Viral Pneumonia",
    "Varicella": "Viral Pneumonia",
    "Influenza": "Viral Pneumonia",
    "Pneumocystis": "Pneumonia",
    "ARDS": "Lung Opacity",
}
LESIONS = ("Ground Glass Opacities", "Consolidation", "Pleural Effusion", "Pneumothorax")


@dataclass
class Case:
    """One image with the place of its finding and the text that its label gives."""

    path: str
    labels: tuple[str, ...]
    image: NDArray[np.uint8]
    finding: NDArray[np.uint8]

    def text(self) -> ReportText:
        """The structured report of the labels."""
        return render(from_labels(self.path, dict.fromkeys(self.labels, 1.0)))


def main() -> None:
    """Measure and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", type=Path, default=Path("results/masking"))
    parser.add_argument("--pictures", type=int, default=0, help="contact sheet of so many images per set")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    with (options.data / "manifest.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    lines = ["## Lung fields", "", *lung_fields(options.data, rows), ""]
    for name, cases in case_sets(options.data, rows).items():
        lines += [f"## {name}", "", *coverage(cases), ""]
        if options.pictures:
            sheet(cases[: options.pictures], options.out / f"{name.split(':')[0].replace(' ', '_').lower()}.png")
    text = "\n".join(lines)
    (options.out / "masking_coverage.md").write_text(text, encoding="utf-8")
    print(text)


def read_image(path: Path) -> NDArray[np.uint8]:
    """Grey values of a JPEG or PNG."""
    import cv2

    return np.asarray(cv2.imread(str(path), cv2.IMREAD_GRAYSCALE), dtype=np.uint8)


def case_sets(root: Path, rows: list[dict[str, str]]) -> dict[str, list[Case]]:
    """Images with boxes of radiologists, read under two labels, and images with lesion masks."""
    boxed = [row for row in rows if row["rsna_boxes"] not in ("", "[]")]
    masked = [row for row in rows if set(json.loads(row["class_masks"] or "{}")) & set(LESIONS)]
    return {
        "RSNA boxes: class of the RSNA radiologists": [_boxed(root, row, (row["rsna_class"],)) for row in boxed],
        "RSNA boxes: the 14 labels of NIH": [
            _boxed(root, row, tuple(row["labels"].split("|"))) for row in boxed if row["labels"] != "No Finding"
        ],
        "Lesion masks: diagnosis of the case": [_masked(root, row) for row in masked],
    }


def _boxed(root: Path, row: dict[str, str], labels: tuple[str, ...]) -> Case:
    image = read_image(root / row["path"])
    finding = np.zeros_like(image)
    for box in json.loads(row["rsna_boxes"]):
        x, y, width, height = box["xywh"] if isinstance(box, dict) else box
        finding[int(y) : round(y + height), int(x) : round(x + width)] = 1
    return Case(row["path"], labels, image, finding)


def _masked(root: Path, row: dict[str, str]) -> Case:
    image = read_image(root / row["path"])
    finding = np.zeros_like(image)
    for name, path in json.loads(row["class_masks"]).items():
        if name in LESIONS:
            finding |= (read_image(root / path) > 127).astype(np.uint8)
    return Case(row["path"], tuple(GERMS.get(label, label) for label in row["labels"].split("|")), image, finding)


def coverage(cases: list[Case]) -> list[str]:
    """Table of the share of a finding that is hidden, per strategy, without and with augmentation."""
    strategies: dict[str, ImageMasker] = {
        "random": RandomMask(RATIO),
        "meijering": MeijeringMask(ratio=RATIO),
        "appearance": AppearanceMask(RATIO),
        "appearance, average film instead of located lungs": _AverageFilm(RATIO),
        "appearance, atlas with findings shuffled": _Shuffled(RATIO),
    }
    transforms: dict[str, Transform] = {"centre": EvalTransform(SIZE), "augmented": TrainTransform(SIZE)}
    lines = [
        f"{len(cases)} images, {100 * RATIO:.0f} % of {GRID[0] * GRID[1]} patches hidden, {DRAWS} draws an image.",
        "",
        "| strategy | view | finding hidden | x random (95 %) | at least half hidden | x random |",
        "|---|---|---|---|---|---|",
    ]
    for view, transform in transforms.items():
        batch, weights = prepared(cases, transform)
        base = hidden(strategies["random"], batch, weights)
        for name, masker in strategies.items():
            share = base if name == "random" else hidden(masker, batch, weights)
            low, high = interval(share.mean(0), base.mean(0))
            half, base_half = (share >= 0.5).mean(), max((base >= 0.5).mean(), 1e-9)
            ratio = share.mean() / base.mean()
            lines.append(
                f"| {name} | {view} | {share.mean():.3f} | {ratio:.2f} ({low:.2f}-{high:.2f}) | {half:.3f} | "
                f"{half / base_half:.2f} |"
            )
    return lines


def prepared(cases: list[Case], transform: Transform) -> tuple[MaskContext, NDArray[np.float64]]:
    """A batch of all cases whose finding is in view, and the area of the finding in each patch ``[B, N]``."""
    images, matrices, sizes, texts, areas = [], [], [], [], []
    for number, case in enumerate(cases):
        done = transform(case.image, case.finding[None], np.random.default_rng(number))
        if done.masks is None or done.matrix is None or not done.masks.any():
            continue
        images.append(done.image)
        matrices.append(done.matrix.astype(np.float32))
        sizes.append(case.image.shape)
        texts.append(case.text())
        patch = SIZE // GRID[0]
        areas.append(done.masks[0].reshape(GRID[0], patch, GRID[1], patch).sum((1, 3)).ravel().astype(float))
    context = MaskContext(
        torch.from_numpy(np.stack(images))[:, None],
        GRID,
        texts,
        torch.from_numpy(np.stack(matrices)),
        torch.tensor(sizes),
    )
    weights = np.stack(areas)
    return context, weights / weights.sum(1, keepdims=True)


def hidden(masker: ImageMasker, context: MaskContext, weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Share of each finding's area that is hidden, ``[DRAWS, B]``."""
    draws = []
    for seed in range(DRAWS):
        mask = masker(context, torch.Generator().manual_seed(seed)).numpy()
        draws.append((mask * weights).sum(1))
    return np.stack(draws)


def interval(share: NDArray[np.float64], base: NDArray[np.float64]) -> tuple[float, float]:
    """95 % bootstrap interval over images of the ratio of means."""
    rng = np.random.default_rng(0)
    picks = rng.integers(len(share), size=(1000, len(share)))
    low, high = np.quantile(share[picks].mean(1) / base[picks].mean(1), [0.025, 0.975])
    return float(low), float(high)


class _AverageFilm(AppearanceMask):
    """The same zones where an average film has them: what locating lungs adds."""

    def relevance(self, context: MaskContext) -> torch.Tensor:
        return super().relevance(context._replace(images=torch.zeros_like(context.images)))


class _Shuffled(AppearanceMask):
    """The zones of another finding, another permutation in each draw: what knowing the place adds to any focus."""

    def __init__(self, ratio: float) -> None:
        super().__init__(ratio)
        self.own, self.rng = self.guide.atlas, np.random.default_rng(0)

    def relevance(self, context: MaskContext) -> torch.Tensor:
        names = sorted(self.own.findings)
        order = self.rng.permutation(len(names))
        findings = {name: self.own.findings[names[other]] for name, other in zip(names, order, strict=True)}
        self.guide = TextGuide(Atlas(self.own.zones, findings))
        return super().relevance(context)


def lung_fields(root: Path, rows: list[dict[str, str]]) -> list[str]:
    """Overlap of located lungs with real lung boxes, by split; an average box is the bar to pass."""
    found: dict[str, list[NDArray[np.float64]]] = {"train and val": [], "test": []}
    transform = EvalTransform(SIZE)
    for row, boxes in _with_lung_boxes(rows):
        done = transform(read_image(root / row["path"]), None)
        real = np.stack([_moved(boxes[side], done.matrix) for side in ("right_lung", "left_lung")])
        located = locate_lungs(torch.from_numpy(done.image)[None, None])
        item = np.concatenate([real, located.boxes[0].numpy(), np.full((2, 1), float(located.found[0]))], axis=1)
        found["test" if row["split"] == "test" else "train and val"].append(item)
    average = np.median(np.stack(found["train and val"])[:, :, :4], axis=0)
    lines = [
        "| split | images | located: mean IoU (10th percentile) | above 0.5 | average box | lungs not found |",
        "|---|---|---|---|---|---|",
    ]
    for name, items in found.items():
        data = np.stack(items)
        own, fixed = iou(data[..., :4], data[..., 4:8]).mean(1), iou(data[..., :4], average[None]).mean(1)
        lines.append(
            f"| {name} | {len(data)} | {own.mean():.3f} ({np.quantile(own, 0.1):.3f}) | {(own > 0.5).mean():.3f} | "
            f"{fixed.mean():.3f} | {int((data[:, 0, 8] == 0).sum())} |"
        )
    return lines


def _with_lung_boxes(rows: list[dict[str, str]]) -> Iterator[tuple[dict[str, str], dict[str, list[float]]]]:
    for row in rows:
        boxes = {box["label"]: box["xywh"] for box in json.loads(row["lung_boxes"] or "[]")}
        if len(boxes) == 2:
            yield row, boxes


def _moved(box: list[float], matrix: Any) -> NDArray[np.float64]:  # noqa: ANN401
    x, y, width, height = box
    corners = matrix @ np.array([[x, x + width], [y, y + height], [1.0, 1.0]])
    return np.clip(np.array([*corners[:, 0], *corners[:, 1]]) / SIZE, 0.0, 1.0)


def iou(first: NDArray[np.float64], second: NDArray[np.float64]) -> NDArray[np.float64]:
    """Intersection over union of boxes ``[..., 4]`` (x0, y0, x1, y1)."""
    low, high = np.maximum(first[..., :2], second[..., :2]), np.minimum(first[..., 2:], second[..., 2:])
    both = np.clip(high - low, 0.0, None).prod(-1)
    area: Callable[[NDArray[np.float64]], NDArray[np.float64]] = lambda box: (box[..., 2:] - box[..., :2]).prod(-1)  # noqa: E731
    return np.asarray(both / (area(first) + area(second) - both))


def sheet(cases: list[Case], path: Path) -> None:
    """Contact sheet: image with the finding's outline, relevance, a random and a guided mask."""
    import cv2

    context, _ = prepared(cases, EvalTransform(SIZE))
    guided, plain = AppearanceMask(RATIO), RandomMask(RATIO)
    relevance = guided.relevance(context).reshape(-1, *GRID).numpy()
    masks = [m(context, torch.Generator().manual_seed(1)).reshape(-1, *GRID).numpy() for m in (plain, guided)]
    columns = []
    for index in range(len(context.images)):
        grey = cv2.cvtColor(context.images[index, 0].numpy(), cv2.COLOR_GRAY2BGR)
        finding = EvalTransform(SIZE)(cases[index].image, cases[index].finding[None]).masks
        outlines, _ = cv2.findContours(finding[0], cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
        heat = cv2.resize(np.uint8(255 * relevance[index]), (SIZE, SIZE), interpolation=cv2.INTER_NEAREST)
        tiles = [grey, cv2.addWeighted(grey, 0.6, cv2.applyColorMap(heat, cv2.COLORMAP_INFERNO), 0.4, 0)]
        for mask in masks:
            full = cv2.resize(mask[index].astype(np.uint8), (SIZE, SIZE), interpolation=cv2.INTER_NEAREST)
            tiles.append(np.where(full[..., None] > 0, np.uint8(60), grey))
        tiles = [np.ascontiguousarray(tile) for tile in tiles]
        for tile in tiles:
            cv2.drawContours(tile, outlines, -1, (0, 220, 255), 2)
        columns.append(np.concatenate(tiles))
    cv2.imwrite(str(path), np.concatenate(columns, axis=1))


if __name__ == "__main__":
    main()
