"""Evaluation: arrays in, numbers and plain text out. No files, no data sets; only the probe loads torch."""

from dmlm.evaluation.calibration import (
    Platt,
    Reliability,
    brier_score,
    calibration_metrics,
    expected_calibration_error,
    fit_platt,
    reliability_curve,
)
from dmlm.evaluation.classification import ClassificationReport, RuleMetrics, ThresholdRule, classification_report
from dmlm.evaluation.intervals import Interval, Intervals, bootstrap_auc
from dmlm.evaluation.probe import ProbeResult, fit_logistic, linear_probe
from dmlm.evaluation.ranking import (
    auroc,
    average_precision,
    best_f1_threshold,
    best_mcc_threshold,
    precision_recall_curve,
    roc_curve,
)
from dmlm.evaluation.tables import format_table, to_markdown
from dmlm.evaluation.uncertainty import (
    RiskCoverage,
    aurc,
    binary_entropy,
    error_auroc,
    risk_coverage,
    spearman,
    uncertainty_metrics,
)

__all__ = [
    "ClassificationReport",
    "Interval",
    "Intervals",
    "Platt",
    "ProbeResult",
    "Reliability",
    "RiskCoverage",
    "RuleMetrics",
    "ThresholdRule",
    "aurc",
    "auroc",
    "average_precision",
    "best_f1_threshold",
    "best_mcc_threshold",
    "binary_entropy",
    "bootstrap_auc",
    "brier_score",
    "calibration_metrics",
    "classification_report",
    "error_auroc",
    "expected_calibration_error",
    "fit_logistic",
    "fit_platt",
    "format_table",
    "linear_probe",
    "precision_recall_curve",
    "reliability_curve",
    "risk_coverage",
    "roc_curve",
    "spearman",
    "to_markdown",
    "uncertainty_metrics",
]
