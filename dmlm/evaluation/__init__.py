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
from dmlm.evaluation.grading import GradingReport, bootstrap_grades, grading_report, quadratic_kappa
from dmlm.evaluation.intervals import Interval, Intervals, bootstrap_auc, bootstrap_means
from dmlm.evaluation.multiclass import MulticlassReport, confusion_matrix, multiclass_report
from dmlm.evaluation.operating import (
    OperatingPoint,
    micro_metrics,
    operating_metrics,
    sensitivity_at_specificity,
    warn_unmeasured,
)
from dmlm.evaluation.probe import ProbeResult, fit_logistic, linear_probe
from dmlm.evaluation.ranking import (
    auroc,
    average_precision,
    best_f1_threshold,
    best_mcc_threshold,
    precision_recall_curve,
    roc_curve,
)
from dmlm.evaluation.seeds import Spread, over_seeds, spread
from dmlm.evaluation.segmentation import OverlapCounts, OverlapReport
from dmlm.evaluation.tables import format_table, to_markdown
from dmlm.evaluation.uncertainty import (
    RiskCoverage,
    aurc,
    binary_entropy,
    decision_aurc,
    error_auroc,
    risk_coverage,
    spearman,
    uncertainty_metrics,
)

__all__ = [
    "ClassificationReport",
    "GradingReport",
    "Interval",
    "Intervals",
    "MulticlassReport",
    "OperatingPoint",
    "OverlapCounts",
    "OverlapReport",
    "Platt",
    "ProbeResult",
    "Reliability",
    "RiskCoverage",
    "RuleMetrics",
    "Spread",
    "ThresholdRule",
    "aurc",
    "auroc",
    "average_precision",
    "best_f1_threshold",
    "best_mcc_threshold",
    "binary_entropy",
    "bootstrap_auc",
    "bootstrap_grades",
    "bootstrap_means",
    "brier_score",
    "calibration_metrics",
    "classification_report",
    "confusion_matrix",
    "decision_aurc",
    "error_auroc",
    "expected_calibration_error",
    "fit_logistic",
    "fit_platt",
    "format_table",
    "grading_report",
    "linear_probe",
    "micro_metrics",
    "multiclass_report",
    "operating_metrics",
    "over_seeds",
    "precision_recall_curve",
    "quadratic_kappa",
    "reliability_curve",
    "risk_coverage",
    "roc_curve",
    "sensitivity_at_specificity",
    "spearman",
    "spread",
    "to_markdown",
    "uncertainty_metrics",
    "warn_unmeasured",
]
