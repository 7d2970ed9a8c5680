"""What a test of a segmentation leaves behind: metrics, ``predictions.csv``, overlays and a table."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dmlm.evaluation import Interval, OverlapReport, auroc, bootstrap_means, uncertainty_metrics
from dmlm.evaluation.classification import macro_mean
from dmlm.io.atomic import atomic_path
from dmlm.plots.case_choice import choose_cases
from dmlm.plots.figures import risk_coverage_figure, roc_figure
from dmlm.plots.predictions import Case, prediction_grid
from dmlm.tasks.gathering import Columns

if TYPE_CHECKING:
    from dmlm.tasks.segmentation import SegmentationModule

_GRID = 8
_SHOWN = (("all", "all images"), ("positive", "with mask"), ("global", "all pixels"), ("fg_bg", "and background"))


def segmentation_results(module: SegmentationModule, rows: Columns, report: OverlapReport) -> dict[str, float]:
    """Measure masks; on the first process write predictions, figures and a table.

    Beside the overlap: whether the highest probability tells images with the mask from those without
    (``image_auc``), and whether the mean entropy knows where Dice is low.

    Args:
        module: The task.
        rows: Rows of the test split.
        report: Overlap.

    Returns:
        All metrics under flat keys.
    """
    prefix, names = module.prefix, module.class_names
    truth = rows["counts"][:, 3::3].astype(np.float64)  # pixels, then (both, predicted, true) per mask
    present = (truth > 0).astype(np.float64)
    areas = [auroc(rows["peak"][:, m], present[:, m]) for m in range(len(names))]
    metrics = report.flat(prefix) | {f"{prefix}/threshold": module.threshold}
    metrics[f"{prefix}/image_auc_macro"] = macro_mean(areas).value
    metrics |= {f"{prefix}/image_auc/{name}": value for name, value in zip(names, areas, strict=True)}
    intervals = _intervals(module, rows, report, truth > 0)
    for measure, found in intervals.items():
        for end in ("low", "high", "skipped"):
            metrics[f"{prefix}/{measure}_{end}"] = float(getattr(found[-1], end))
            each = zip(names, found[:-1], strict=True)
            metrics |= {f"{prefix}/{measure}_{end}/{name}": float(getattr(item, end)) for name, item in each}
    error = 1 - report.image_dice.mean(1)
    kinds: list[str] = [name for name in ("entropy", "mc_std") if name in rows]
    doubts: dict[str, NDArray[Any]] = {name: rows[name].mean(1) for name in kinds}
    for name, value in doubts.items():
        wrong = (error > 0.5).astype(np.float64)
        metrics |= uncertainty_metrics(value, wrong, f"{prefix}/uncertainty/{name}", errors=error)
    if module.trainer.is_global_zero:
        write_mask_predictions(module.run_dir / "predictions.csv", rows, names, module.threshold)
        module.show_figure(roc_figure(rows["peak"], present, names), "roc")
        module.show_figure(risk_coverage_figure(doubts, error), "risk_coverage")
        _grid(module, rows, error, doubts["entropy"])
        print(format_overlap(report, f"{type(module).__name__}, {report.images} images"))
        for measure, found in intervals.items():
            shown = f"{found[-1].value:.3f} [{found[-1].low:.3f}, {found[-1].high:.3f}]"
            print(f"{measure} {shown}, 95 % of {module.bootstrap} resamples of patients")
    return metrics


def _intervals(
    module: SegmentationModule, rows: Columns, report: OverlapReport, present: NDArray[np.bool_]
) -> dict[str, tuple[Interval, ...]]:
    """Intervals of the two means over images, one per mask and that of their mean; nothing without ``bootstrap``."""
    if not module.bootstrap:
        return {}
    dice = {"dice_all": report.image_dice, "dice_positive": np.where(present, report.image_dice, np.nan)}
    return {name: bootstrap_means(value, rows["patient_id"], module.bootstrap) for name, value in dice.items()}


def format_overlap(report: OverlapReport, title: str) -> str:
    """Dice and IoU of each mask under every convention, as plain text."""
    header = ["mask", "images with", *(f"{kind} {text}" for kind in ("Dice", "IoU") for _, text in _SHOWN)]
    lines = []
    for m, name in enumerate(report.names):
        values = [report.values[f"{kind}_{how}"][m] for kind in ("dice", "iou") for how, _ in _SHOWN]
        shown = ["-" if np.isnan(value) else f"{value:.3f}" for value in values]
        lines.append([name, f"{report.positives[m]:,}", *shown])
    widths = [max(len(row[column]) for row in (header, *lines)) for column in range(len(header))]
    rows = [
        "  ".join(cell.ljust(wide) if not place else cell.rjust(wide) for place, (cell, wide) in enumerate(pairs))
        for pairs in (list(zip(row, widths, strict=True)) for row in (header, *lines))
    ]
    return "\n".join([title, "", rows[0], "-" * len(rows[0]), *rows[1:]])


def write_mask_predictions(path: Path, rows: Columns, names: Sequence[str], threshold: float) -> None:
    """Write one line per study and mask, atomically.

    Columns: identifiers, ``mask``, pixels ``true`` (empty where unknown), ``predicted`` and ``both``, ``dice`` (1 where
    truth and prediction are empty), ``peak`` (highest probability), ``threshold``, ``entropy`` (mean over pixels, nats)
    and ``mc_std`` (empty without Monte-Carlo samples).

    Args:
        path: CSV file.
        rows: What was predicted.
        names: The ``M`` masks.
        threshold: On the probability.
    """
    header = "index study_id patient_id mask true predicted both dice peak threshold entropy"
    with atomic_path(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow([*header.split(), "mc_std"])
        for row in range(len(rows["index"])):
            for m, name in enumerate(names):
                both, said, real = (int(value) for value in rows["counts"][row, 1 + 3 * m : 4 + 3 * m])
                who = (int(rows["index"][row]), rows["study_id"][row], rows["patient_id"][row], name)
                dice = 2 * both / (said + real) if said + real else 1.0
                known = (real, said, both, f"{dice:.6g}") if rows["has_truth"][row] else ("", said, "", "")
                spread = f"{rows['mc_std'][row, m]:.6g}" if "mc_std" in rows else ""
                doubt = (f"{rows['entropy'][row, m]:.6g}", spread)
                writer.writerow((*who, *known, f"{rows['peak'][row, m]:.6g}", f"{threshold:g}", *doubt))


def _grid(module: SegmentationModule, rows: Columns, error: NDArray[Any], doubt: NDArray[Any]) -> None:
    """Show some films with true and predicted outlines and the entropy of the prediction."""
    dataset = getattr(getattr(module.trainer, "datamodule", None), "test_dataset", None)
    if dataset is None:
        return
    cases = []
    for row in choose_cases(error, doubt, _GRID):
        sample = dataset[int(rows["index"][row])]
        found = module.predict_images(sample["image"][None].to(module.device), [int(rows["index"][row])])
        answer = (found["prob"][0] >= module.threshold).cpu().numpy()
        truth = sample["masks"].numpy() > 0
        text = f"{rows['study_id'][row]}\nDice {1 - error[row]:.2f}, entropy {doubt[row]:.3f}"
        cases.append(
            Case(
                sample["image"][0].numpy(),
                text,
                dict(zip(module.class_names, truth, strict=True)),
                dict(zip(module.class_names, answer, strict=True)),
                {"entropy": found["entropy"][0].amax(0).cpu().numpy()},
                {"entropy": (0.0, math.log(2.0))},
            )
        )
    path = module.run_dir / "predictions.png"
    prediction_grid(cases, path)
    module.show_picture(path)
