"""Draw ``uncertainty_maps.png``, and put the risk-coverage curves of runs side by side.

Run from the repository: ``python docs/figures/uncertainty.py maps CKPT`` with the checkpoint of ``cli.yaml``, or
``python docs/figures/uncertainty.py curves RUN RUN`` with two runs of ``dmlm reproduce uncertainty``.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
import torch
from diagrams import shrink
from matplotlib.axes import Axes
from PIL import Image

from dmlm.datasets.phantom import LABEL_NAMES, PhantomDataset, generate_phantoms
from dmlm.datasets.transforms import EvalTransform
from dmlm.distributions import Gaussian
from dmlm.evaluation.grounding import cell_pixels, mask_auroc
from dmlm.models import ProbabilisticEncoder, from_pretrained
from dmlm.models.zero_shot import Prompts, encode_prompts, zero_shot_scores
from dmlm.plots.figures import new_figure, save_figure

HERE = Path(__file__).parent
FINDINGS = ("Pleural Effusion", "Consolidation", "Pneumothorax", "Cardiomegaly")
PATIENTS = 80


def main() -> None:
    """Draw what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("maps", "curves"))
    parser.add_argument("sources", nargs="+", type=Path)
    options = parser.parse_args()
    if options.what == "maps":
        maps(from_pretrained(options.sources[0]).eval())
    else:
        curves(options.sources)


def maps(encoder: ProbabilisticEncoder) -> None:
    """Film, score of its patches and variance of its patches, for the first held-out phantom with each finding."""
    side, grid = encoder.image.image_size, encoder.image.patch_grid
    with tempfile.TemporaryDirectory() as folder:  # the test patients of the default run: the seed is that of its data
        counts = {"train": 1, "val": 1, "test": PATIENTS}
        root = generate_phantoms(folder, counts, round(side * 7 / 6), 0, progress=False)
        data = PhantomDataset(root, "test", side, with_masks=True)
        raw = [data.read(index) for index in range(len(data))]
    done = [EvalTransform(side)(item.image, item.masks, np.random.default_rng(0)) for item in raw]
    films = np.stack([item.image for item in done])
    masks = np.stack([item.masks for item in done])[:, [LABEL_NAMES.index(name) for name in FINDINGS]]
    with torch.no_grad():
        patches = encoder.encode_image(torch.from_numpy(films)[:, None])
        prompts = encode_prompts(encoder, FINDINGS, ["obs_verdict", "full"])
    scores = np.stack([patch_scores(patches, index, prompts) for index in range(len(films))])
    variance = patches.variance[:, 1:].mean(-1).numpy()
    report(scores, variance, masks, grid)
    figure = new_figure(6.4, 2.05 * len(FINDINGS))
    shown: list[int] = []
    for row, name in enumerate(FINDINGS):
        study = next(int(place) for place in np.flatnonzero(masks[:, row].any(axis=(1, 2))) if place not in shown)
        shown.append(study)
        for column, (title, values) in enumerate(
            ((name, None), ("score of patches", scores[study, :, row]), ("variance of patches", variance[study]))
        ):
            axes = figure.add_subplot(len(FINDINGS), 3, 3 * row + column + 1)
            panel(axes, films[study], masks[study, row], None if values is None else values.reshape(grid))
            axes.set_title(title, fontsize=9)
    shrink(save_figure(figure, HERE / "uncertainty_maps.png"), 256, 900)


def patch_scores(patches: Gaussian, index: int, prompts: Prompts) -> np.ndarray:
    """Zero-shot scores of the patches of one film, ``(N, findings)``."""
    return zero_shot_scores(Gaussian(patches.mean[index, 1:], patches.logvar[index, 1:]), prompts).numpy()


def report(scores: np.ndarray, variance: np.ndarray, masks: np.ndarray, grid: tuple[int, int]) -> None:
    """Print how well each map tells pixels of a finding from others (AUC, mean over the films that show it).

    Beside it: the same for the mean map over all films, which knows of anatomy and nothing of this film.
    """
    inside, total = cell_pixels(masks, grid)
    for place, name in enumerate(FINDINGS):
        studies = np.flatnonzero(inside[:, place].sum(-1) > 0)
        areas = {
            kind: np.mean([mask_auroc(of(study), inside[study, place], total) for study in studies])
            for kind, of in (
                ("score", lambda study, place=place: scores[study, :, place]),
                ("mean score", lambda _, place=place: scores[:, :, place].mean(0)),
                ("variance", lambda study: variance[study]),
                ("mean variance", lambda _: variance.mean(0)),
            )
        }
        print(f"{name}: {len(studies)} films", *(f"{kind} {area:.2f}" for kind, area in areas.items()), sep=", ")


def panel(axes: Axes, film: np.ndarray, mask: np.ndarray, values: np.ndarray | None) -> None:
    """A film with its finding outlined, and over it a map whose colours run from its least to its largest value."""
    side = len(film)
    axes.imshow(film, cmap="gray", vmin=0, vmax=255)
    if values is not None:
        axes.imshow(values, cmap="inferno", alpha=0.6, extent=(-0.5, side - 0.5, side - 0.5, -0.5))
    axes.contour(mask, levels=[0.5], colors="#2ec4ff", linewidths=1.2)
    axes.axis("off")


def curves(runs: list[Path]) -> None:
    """Paste the ``risk_coverage.png`` of each run beside the others."""
    pictures = [Image.open(run / "risk_coverage.png").convert("RGB") for run in runs]
    height = max(picture.height for picture in pictures)
    sheet = Image.new("RGB", (sum(picture.width for picture in pictures), height), "white")
    place = 0
    for picture in pictures:
        sheet.paste(picture, (place, 0))
        place += picture.width
    path = HERE / "results" / "kermany_risk_coverage.png"
    sheet.save(path)
    shrink(path, 160, 1500)  # few colours would mix the lines


if __name__ == "__main__":
    main()
