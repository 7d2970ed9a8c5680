"""Ablations as plans: one pre-training per row and seed, tested as it stands after its last step.

What is compared is data (``ablations.yaml``); a variant that several tables name is one run.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from typing import Any

import yaml

from dmlm.reproduce.ablation_base import base_config, missing, test_callbacks
from dmlm.reproduce.paper_tables import published
from dmlm.reproduce.plan import Cell, Plan, Run, Table, seeded
from dmlm.reproduce.scale import Scale, logger
from dmlm.reproduce.sources import ZERO_SHOT

COLUMNS = {
    "Zero-shot AUC": "zero_shot/auc_macro",
    "95 % low": "zero_shot/auc_macro_low",
    "95 % high": "zero_shot/auc_macro_high",
    "Probe AUC": "probe/auc_macro",
    "Probe AUC, 1 % labels": "probe_few/auc_macro",
    "Variance rho": "masked/variance_rho",
    "CPU seconds": "train/cpu_seconds",
}
"""Columns of every ablation with their metrics; the last two are not percentages."""
FURTHER = {
    "Pointing": "grounding/pointing",
    "Pointing, chance": "grounding/chance",
    "Mask AUC": "grounding/mask_auc",
    "Patch probe AUC": "grounding/probe_auc",
    "Mean mask AUC": "grounding/prior_auc",
    "Patch probe Dice": "grounding/probe_dice",
    "ECE": "zero_shot/ece_macro",
    "AURC": "zero_shot/aurc_macro",
}
"""Columns of a second table of every ablation: where findings are, and what probabilities are worth."""
_COMPARED = ("Zero-shot AUC", "Probe AUC")
_COMPARED_FURTHER = ("Pointing", "Mask AUC", "Patch probe AUC", "Patch probe Dice")
_DEFAULT = "default"
_WITHOUT_MASKS = "no masks in this test data"
_PLAIN = {"Variance rho": 1.0, "CPU seconds": 1.0}
_PUBLISHED = {"AUC": "Zero-shot AUC"}
_WITHOUT_VARIANCE = "no predicted variance"


@dataclass(frozen=True)
class Variant:
    """A change to the base pre-training.

    Args:
        model: Options of the task, merged into the base's.
        task: Another task class.
        steps: Factor on the number of steps.
        untrained: Whether the base model is tested before any training.
    """

    model: dict[str, Any] = field(default_factory=dict)
    task: str = ""
    steps: float = 1.0
    untrained: bool = False


@cache
def variants() -> dict[str, Variant]:
    """All variants by name."""
    return {name: Variant(**options) for name, options in _data()["variants"].items()}


def tables() -> dict[str, dict[str, Any]]:
    """All tables by key: ``title``, ``rows`` (variant by row), ``reference`` (a variant; else the default)."""
    found: dict[str, dict[str, Any]] = _data()["tables"]
    return found


def ablation(key: str, scale: Scale) -> Plan:
    """Plan of one ablation.

    Args:
        key: One of :func:`tables`.
        scale: Size of the reproduction; its seeds are those of every row.
    """
    table = tables()[key]
    runs: dict[str, Run] = {}
    cells: list[Cell] = []
    further: list[Cell] = []
    for row, name in table["rows"].items():
        names = seeded(f"ablation-{name}", scale.seeds)
        for seed, run in zip(scale.seeds, names, strict=True):
            runs.update({made.name: made for made in _runs(run, name, scale, seed)})
        tested = tuple(f"{run}-nih" if scale.is_paper else run for run in names)
        cells += [_cell(row, column, metric, name, names, tested) for column, metric in COLUMNS.items()]
        for column, metric in FURTHER.items():
            lost = scale.is_paper and metric.startswith("grounding/")
            further.append(Cell(row, column, metric, *(((), _WITHOUT_MASKS) if lost else (tested,))))
    shown = {
        row: {_PUBLISHED[column]: value for column, value in values.items() if column in _PUBLISHED}
        for row, values in published(key).items()
    }
    rows = tuple(table["rows"])
    reference = next(row for row, name in table["rows"].items() if name == table.get("reference", _DEFAULT))
    main = Table(
        key,
        table["title"],
        rows,
        tuple(COLUMNS),
        tuple(cells),
        shown,
        notes=_notes(scale),
        reference=reference,
        referred=_COMPARED,
    )
    more = Table(
        f"{key}-more",
        f"{table['title']}, further measures of the same runs (x 100; ECE and AURC: lower is better)",
        rows,
        tuple(FURTHER),
        tuple(further),
        notes=_further_notes(scale),
        reference=reference,
        referred=() if scale.is_paper else _COMPARED_FURTHER,
    )
    return Plan(tuple(runs.values()), (main, more))


def configuration(name: str, scale: Scale, seed: int) -> dict[str, Any]:
    """Configuration of a variant's run."""
    variant = variants()[name]
    config = base_config(scale, seed, variant.steps)
    options = config["model"]["init_args"]
    if variant.task:
        kept = ("encoder", "predictor", "optim", "zero_shot", "seed")
        options = {key: options[key] for key in kept if key in options}
        config["model"]["class_path"] = variant.task
    config["model"]["init_args"] = _filled(merged(options, variant.model))
    return config


def merged(base: dict[str, Any], change: dict[str, Any]) -> dict[str, Any]:
    """``base`` with ``change`` over it, mapping by mapping; neither is altered."""
    result = copy.deepcopy(base)
    for key, value in change.items():
        old = result.get(key)
        both = isinstance(value, dict) and isinstance(old, dict)
        result[key] = merged(old, value) if both else copy.deepcopy(value)  # type: ignore[arg-type] # both are
    return result


def _runs(run: str, name: str, scale: Scale, seed: int) -> list[Run]:
    config = configuration(name, scale, seed)
    lost = missing(scale)
    verb = "test" if variants()[name].untrained else "fit"
    if not scale.is_paper:
        return [Run(run, config, verb=verb, missing=lost)]  # type: ignore[arg-type] # one of the two
    model = config["model"]["init_args"]
    source = ZERO_SHOT["NIH"]
    encoder: Any = {"class_path": "dmlm.models.from_pretrained", "init_args": {"path": f"{{best:{run}}}"}}
    if verb == "test":
        encoder = model["encoder"]
    distance = {"cosine": "cosine", "csd_bce": "csd"}.get(model.get("objective", {}).get("alignment"), "w2")
    tested = {
        "seed_everything": seed,
        "trainer": {
            "accelerator": "auto",
            "devices": 1,
            "enable_progress_bar": False,
            "logger": logger(),
            "callbacks": test_callbacks(scale),
        },
        "model": {
            "class_path": "ZeroShotModule",
            "init_args": {"encoder": encoder, "zero_shot": {**model["zero_shot"], "distance": distance}},
        },
        "data": source.data(scale, batch_size=64),
    }
    lost = lost or source.missing(scale)
    pretraining = [] if verb == "test" else [Run(run, {**config, "test_after_fit": False}, missing=missing(scale))]
    needs = tuple(made.name for made in pretraining)
    return [*pretraining, Run(f"{run}-nih", tested, needs, verb="test", missing=lost)]


def _cell(row: str, column: str, metric: str, name: str, runs: tuple[str, ...], tested: tuple[str, ...]) -> Cell:
    scale = _PLAIN.get(column)
    if metric == "train/cpu_seconds":
        if variants()[name].untrained:
            return Cell(row, column, metric, note="not trained")
        return Cell(row, column, metric, runs, scale=scale)
    if metric == "masked/variance_rho" and not predicts_variances(name):
        return Cell(row, column, metric, note=_WITHOUT_VARIANCE)
    return Cell(row, column, metric, tested, scale=scale)


def predicts_variances(name: str) -> bool:
    """Whether a variant's training shapes the variance of predicted patches."""
    variant = variants()[name]
    objective = variant.model.get("objective", {})
    off = objective.get("masked_weight") == 0 or objective.get("image_weight") == 0
    return not (variant.task or variant.untrained or off or objective.get("kl_direction") == "mse")


def _notes(scale: Scale) -> tuple[str, ...]:
    budget = {
        "smoke": "Phantoms and tiny encoders: large effects only.",
        "trial": "Public radiographs, frozen ImageNet features of tiles, 100 steps of 32: large effects only.",
        "paper": "Pre-training on MIMIC-CXR, tested on NIH.",
    }[scale.budget]
    return (
        budget,
        "All rows take the same steps on the same data with the same seeds and are tested after the last step. CPU "
        "seconds say what that cost; rows of equal cost are not rows of equal steps.",
        "95 % low and high: ends of the interval of the zero-shot AUC over patients, mean over seeds. ± is over seeds.",
        "Probe: logistic regression on the means of the frozen global elements. Variance rho: rank correlation of "
        "predicted variance with squared error on masked patches of test images.",
    )


def _further_notes(scale: Scale) -> tuple[str, ...]:
    masks = {
        "smoke": "Masks of all findings of phantoms.",
        "trial": "Masks: RSNA's boxes, and ground glass and consolidation that were drawn (Cohen), as Lung Opacity.",
        "paper": "NIH is read without masks.",
    }[scale.budget]
    return (
        f"{masks} Only images that show the finding count: pointing is 0 or 100 for each, AUC is of pixels inside "
        "against outside.",
        "Pointing and mask AUC: map of the zero-shot scores of single patches. Patch probe: logistic regression on the "
        "means of single patches of the training images that show the finding; Dice at one half. What no encoder is "
        "needed for stands beside them: pointing of a map that says nothing, and the mean training mask as the map.",
        "ECE: of the zero-shot probabilities as they are. AURC: error of decisions at one half, the most certain "
        "kept first, mean over all shares kept.",
    )


def _filled(value: Any) -> Any:  # noqa: ANN401 - plain data
    """Put the path of the shuffled atlas in its place."""
    if isinstance(value, dict):
        return {key: _filled(item) for key, item in value.items()}
    if value == "{shuffled_atlas}":
        return str(files("dmlm.reproduce").joinpath("shuffled_atlas.yaml"))
    return value


@cache
def _data() -> dict[str, Any]:
    text = files("dmlm.reproduce").joinpath("ablations.yaml").read_text(encoding="utf-8")
    found: dict[str, Any] = yaml.safe_load(text)
    return found
