"""What a test of a classifier leaves behind: metrics, ``predictions.csv``, figures and a table."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from dmlm.evaluation import (
    ClassificationReport,
    Intervals,
    MulticlassReport,
    ThresholdRule,
    binary_entropy,
    bootstrap_auc,
    bootstrap_grades,
    calibration_metrics,
    format_table,
    micro_metrics,
    operating_metrics,
    uncertainty_metrics,
    warn_unmeasured,
)
from dmlm.io.atomic import atomic_path
from dmlm.plots.case_choice import choose_cases
from dmlm.plots.confusion import confusion_figure
from dmlm.plots.figures import pr_figure, reliability_figure, risk_coverage_figure, roc_figure
from dmlm.plots.predictions import Case, prediction_grid
from dmlm.tasks.gathering import Columns

if TYPE_CHECKING:
    from dmlm.tasks.classification import ClassificationModule

_GRID = 8


def binary_results(
    module: ClassificationModule, rows: Columns, report: ClassificationReport, rule: ThresholdRule
) -> dict[str, float]:
    """Measure independent labels; on the first process write predictions, figures and a table.

    Args:
        module: The task.
        rows: Rows of the test split.
        report: What was measured.
        rule: Threshold rule of the decisions.

    Returns:
        All metrics under flat keys.
    """
    names, prefix, labels = module.class_names, module.prefix, rows["labels"]
    warn_unmeasured(report, "test split")
    threshold = report.rules[rule].threshold
    if rule == "fixed_0.5":
        threshold = np.zeros_like(threshold)  # log-odds 0
    thresholds = np.nan_to_num(threshold)
    known = np.isin(labels, (0.0, 1.0))
    wrong = ((rows["score"] >= thresholds) != (labels == 1)).astype(np.float64)
    doubts = _uncertainties(rows, binary_entropy(rows["prob"]))
    cells = {name: value[known] for name, value in doubts.items()}
    metrics, intervals = _common(module, rows, report.flat(prefix), cells, wrong[known])
    metrics |= micro_metrics(rows["prob"], labels, prefix)
    if module.trainer.is_global_zero:
        write_label_predictions(module.run_dir / "predictions.csv", rows, names, thresholds, rule)
        _figures(module, rows, labels, cells, wrong[known])
        error = np.where(known, np.abs(rows["prob"] - np.nan_to_num(labels)), np.nan)
        with np.errstate(all="ignore"):
            _grid(module, rows, np.where(known.any(1), np.nanmax(np.where(known, error, -1), axis=1), np.nan))
        _table(module, rows, report, intervals)
    return metrics


def multiclass_results(
    module: ClassificationModule,
    rows: Columns,
    truth: NDArray[np.int64],
    report: MulticlassReport,
    metrics: dict[str, float],
) -> dict[str, float]:
    """Measure exclusive classes; on the first process write predictions, figures and a table.

    Args:
        module: The task.
        rows: Rows of the test split.
        truth: Class of each row, -1 where unknown, ``(N,)``.
        report: What was measured.
        metrics: Metrics so far.

    Returns:
        All metrics under flat keys.
    """
    warn_unmeasured(report.one_vs_rest, "test split")
    known = truth >= 0
    labels = np.where(known[:, None], truth[:, None] == np.arange(len(module.class_names)), np.nan).astype(np.float64)
    wrong = (rows["prob"].argmax(1) != truth).astype(np.float64)
    prob = np.clip(rows["prob"], 1e-300, 1)
    doubts = _uncertainties(rows, -(prob * np.log(prob)).sum(1))
    per_row = {name: (value if value.ndim == 1 else value.mean(1))[known] for name, value in doubts.items()}
    metrics, intervals = _common(module, {**rows, "labels": labels}, metrics, per_row, wrong[known])
    if module.bootstrap:
        drawn = bootstrap_grades(
            rows["prob"].argmax(1), truth, len(module.class_names), rows["patient_id"], module.bootstrap
        )
        for name, interval in drawn.items():
            if f"{module.prefix}/{name}" in metrics:  # only grades have a kappa
                metrics |= {f"{module.prefix}/{name}_{end}": getattr(interval, end) for end in ("low", "high")}
    if module.trainer.is_global_zero:
        write_label_predictions(module.run_dir / "predictions.csv", rows, module.class_names, None, "argmax")
        _figures(module, rows, labels, per_row, wrong[known])
        module.show_figure(confusion_figure(report.confusion, module.class_names), "confusion")
        own = np.take_along_axis(rows["prob"], np.maximum(truth, 0)[:, None], axis=1)[:, 0]
        _grid(module, rows, np.where(known, 1 - own, np.nan))
        _table(module, rows, report.one_vs_rest, intervals)
        print(f"accuracy {report.accuracy:.3f}, balanced {report.balanced_accuracy:.3f}, MCC {report.mcc:.3f}")
    return metrics


def write_label_predictions(
    path: Path, rows: Columns, names: Sequence[str], thresholds: NDArray[Any] | None, rule: str
) -> None:
    """Write one line per study and class, atomically.

    Columns: identifiers, ``label`` (empty where unknown), ``score`` (log-odds), ``prob``, ``pred``, ``threshold`` (on
    the score) and ``rule`` that gave it, and what is known of the uncertainty: ``entropy`` (of ``prob``, in nats),
    ``mc_std`` and ``mutual_information`` (empty without Monte-Carlo samples), ``variance`` (of the image's embedding;
    no calibrated uncertainty).

    Args:
        path: CSV file.
        rows: What was predicted.
        names: The ``C`` classes.
        thresholds: On the score, ``[C]``; None where the class of largest probability is the answer.
        rule: Name of the rule.
    """
    entropy, best = binary_entropy(rows["prob"]), rows["prob"].argmax(1)
    header = "index study_id patient_id finding label score prob pred threshold rule entropy mc_std mutual_information"
    with atomic_path(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow([*header.split(), "variance"])
        for row in range(len(rows["index"])):
            for column, name in enumerate(names):
                score = rows["score"][row, column]
                limit = None if thresholds is None else thresholds[column]
                answer = best[row] == column if limit is None else score >= limit
                who = (int(rows["index"][row]), rows["study_id"][row], rows["patient_id"][row], name)
                values = (score, rows["prob"][row, column])
                doubt = (entropy[row, column], rows["mc_std"][row, column], rows["mutual_information"][row, column])
                shown = [_number(value) for value in (*doubt, rows["variance"][row])]
                label = _number(rows["labels"][row, column])
                writer.writerow((*who, label, *map(_number, values), int(answer), _number(limit), rule, *shown))


def _number(value: float | None) -> str:
    return "" if value is None or np.isnan(value) else f"{value:.6g}"


def _uncertainties(rows: Columns, entropy: NDArray[Any]) -> dict[str, NDArray[Any]]:
    """Kinds of uncertainty that exist for these rows, each broadcast to the shape of ``entropy`` or per row."""
    found = {"entropy": entropy}
    for name in ("mc_std", "mutual_information"):
        if not np.isnan(rows[name]).any():
            found[name] = rows[name]
    if not np.isnan(rows["variance"]).any():
        variance = rows["variance"]
        found["variance"] = variance if entropy.ndim == 1 else np.repeat(variance[:, None], entropy.shape[1], axis=1)
    return found


def _common(
    module: ClassificationModule,
    rows: Columns,
    metrics: dict[str, float],
    doubts: dict[str, NDArray[Any]],
    wrong: NDArray[Any],
) -> tuple[dict[str, float], Intervals | None]:
    """Add calibration, operating points, uncertainty and intervals; the intervals also by themselves, for the table."""
    prefix, names = module.prefix, module.class_names
    metrics = metrics | calibration_metrics(rows["prob"], rows["labels"], prefix)
    metrics |= operating_metrics(rows["score"], rows["labels"], names, prefix)
    for name, value in doubts.items():
        metrics |= uncertainty_metrics(value, wrong, f"{prefix}/uncertainty/{name}")
    if not module.bootstrap:
        return metrics, None
    intervals = bootstrap_auc(rows["score"], rows["labels"], rows["patient_id"], n=module.bootstrap)
    return metrics | intervals.flat(prefix, list(names)), intervals


def _figures(
    module: ClassificationModule,
    rows: Columns,
    labels: NDArray[Any],
    doubts: dict[str, NDArray[Any]],
    wrong: NDArray[Any],
) -> None:
    names = module.class_names
    module.show_figure(roc_figure(rows["score"], labels, names), "roc")
    module.show_figure(pr_figure(rows["score"], labels, names), "pr")
    module.show_figure(reliability_figure(rows["prob"], labels, names), "reliability")
    if len(wrong):
        module.show_figure(risk_coverage_figure(doubts, wrong), "risk_coverage")


def _grid(module: ClassificationModule, rows: Columns, error: NDArray[Any]) -> None:
    """Show some studies with their truth, probabilities and the variance of their patches."""
    dataset = getattr(getattr(module.trainer, "datamodule", None), "test_dataset", None)
    if dataset is None:
        return
    doubt = binary_entropy(rows["prob"]).mean(1)
    chosen = choose_cases(error, doubt, _GRID)
    images = torch.stack([dataset[int(rows["index"][row])]["image"] for row in chosen])
    with torch.no_grad():
        gaussian = module.encoder.encode_image(images.to(module.device))
    maps = gaussian.variance[:, 1:].mean(-1).reshape(len(chosen), *module.encoder.image.patch_grid).cpu().numpy()
    cases = []
    for place, row in enumerate(chosen):
        order = np.argsort(-rows["prob"][row], kind="stable")[:3]
        lines = [f"{rows['prob'][row, c]:.2f} {module.class_names[c][:24]}" for c in order]
        true = [module.class_names[c] for c in np.flatnonzero(rows["labels"][row] == 1)]
        text = "\n".join([f"truth: {', '.join(true)[:70] or '-'}", *lines])
        # from scratch all patches have the variance that they start with, and a map of it would show nothing
        shown = {"patch variance": maps[place]} if np.ptp(maps) > 1e-6 else {}
        cases.append(Case(images[place, 0].numpy(), text, maps=shown))
    path = module.run_dir / "predictions.png"
    prediction_grid(cases, path)
    module.show_picture(path)


def _table(
    module: ClassificationModule, rows: Columns, report: ClassificationReport, intervals: Intervals | None
) -> None:
    how = f"{module.features}, {'frozen' if module.freeze_encoder else 'tuned'} encoder"
    print(format_table(report, intervals, f"{type(module).__name__}, {len(rows['index'])} studies ({how})"))
