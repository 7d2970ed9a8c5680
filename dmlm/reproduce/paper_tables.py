"""Tables 1 to 5 of the paper as plans: pre-training once, then fine-tuning or zero-shot for every cell."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from importlib.resources import files
from typing import Any

import yaml

from dmlm.reproduce.plan import Cell, Plan, Run, Table, seeded
from dmlm.reproduce.scale import PRETRAIN, STARTS, Scale, Start, logger
from dmlm.reproduce.sources import CLASSIFY, COVIDX, EDEMA, PRETRAINING, SEGMENT, ZERO_SHOT, Source

FRACTIONS = {"1 %": 0.01, "10 %": 0.1, "100 %": 1.0}
_SMOKE_FRACTIONS = {"1 %": 0.05, "10 %": 0.2, "100 %": 1.0}
ROW = {"Scratch": "Scratch", "ImageNet": "ImageNet", "D-MLM": "D-MLM (ours)"}
SMOKE_NOTE = (
    "Smoke: phantoms and tiny encoders. It shows that the pipeline runs; its numbers say nothing about the method."
)
_UNTRAINED = "Untrained (chance)"


def table1(scale: Scale) -> Plan:
    """AUROC of classification with 1, 10 and 100 % of the labels."""
    models: dict[str, dict[str, Any]] = {
        "RSNA": {"num_classes": 1, "task": "binary", "bootstrap": 200},
        "SIIM": {"num_classes": 1, "task": "binary", "bootstrap": 200},
        "CheXpert": {"num_classes": 9, "task": "multilabel", "bootstrap": 200}
        if scale.budget == "smoke"
        else {
            "num_classes": 5,
            "task": "multilabel",
            "uncertain": "chexpert_mixed",
            "unknown": "zeros",
            "bootstrap": 200,
        },
    }
    title = "Classification after fine-tuning with 1, 10, 100 % of the labels (AUROC in %)"
    return _fractions(scale, "table1", title, CLASSIFY, "ClassificationModule", models, "classify/auc_macro", "cls")


def table2(scale: Scale) -> Plan:
    """Zero-shot classification on RSNA, SIIM and NIH."""
    return _zero_shot(scale, "table2", "Zero-shot classification (%)", ZERO_SHOT)


def table3(scale: Scale) -> Plan:
    """Zero-shot classification of COVID-19."""
    return _zero_shot(scale, "table3", "Zero-shot classification of COVID-19 (%)", {"COVIDx": COVIDX})


def table4(scale: Scale) -> Plan:
    """Edema grading."""
    runs, cells = [pretraining(scale)], []
    measures = {
        "AUC": "grade/auc_macro",
        "F1": "grade/f1_macro@best_f1_test",
        "ACC": "grade/acc_macro@best_f1_test",
        "Kappa": "grade/kappa",
        "MAE x 100": "grade/mae",
    }
    for start in STARTS:
        names = seeded(f"edema-{start}", scale.seeds)
        for seed, name in zip(scale.seeds, names, strict=True):
            model = {"class_path": "EdemaGradingModule", "init_args": {"bootstrap": 200}}
            data = EDEMA.data(scale, seed=seed, fraction_seed=seed, **scale.finetune_data)
            runs.append(_finetune(scale, name, start, EDEMA, model, data, seed, "val_auroc"))
        cells += [Cell(ROW[start], column, metric, names) for column, metric in measures.items()]
    notes = ("AUC, F1, ACC: mean over the four grades, one against the rest, threshold of best F1 on the test set.",)
    title = "Edema grading, four grades (%)"
    table = Table("table4", title, tuple(ROW.values()), tuple(measures), tuple(cells), published("table4"), 100.0)
    return Plan(tuple(runs), (_noted(table, scale, notes, {"edema": EDEMA}),))


def table5(scale: Scale) -> Plan:
    """Dice of segmentation with 1, 10 and 100 % of the labels."""
    width = {"smoke": 32, "trial": 64, "paper": 256}[scale.budget]
    decoder = "dpt" if scale.is_paper else "unet"
    models = {name: {"num_masks": 1, "decoder": decoder, "width": width} for name in SEGMENT}
    title = "Segmentation with 1, 10, 100 % of the labels (Dice of images that have the mask, in %)"
    return _fractions(scale, "table5", title, SEGMENT, "SegmentationModule", models, "segment/dice_positive", "seg")


@cache
def published(table: str) -> dict[str, dict[str, float]]:
    """Published values of a table by row and column; the source of each row is in ``published.yaml``."""
    text = files("dmlm.reproduce").joinpath("published.yaml").read_text(encoding="utf-8")
    values: dict[str, dict[str, float]] = yaml.safe_load(text).get(table, {})
    return values


def _fractions(
    scale: Scale,
    key: str,
    title: str,
    sources: Mapping[str, Source],
    task: str,
    models: Mapping[str, dict[str, Any]],
    metric: str,
    short: str,
) -> Plan:
    """Every data set, fraction, start and seed: one run."""
    runs, cells = [pretraining(scale)], []
    shares = _SMOKE_FRACTIONS if scale.budget == "smoke" else FRACTIONS
    monitor = "val_dice" if short == "seg" else "val_auroc"
    for dataset, source in sources.items():
        for label, fraction in shares.items():
            for start in STARTS:
                names = seeded(f"{short}-{dataset}-{label.split()[0]}pc-{start}".replace(" ", ""), scale.seeds)
                for seed, name in zip(scale.seeds, names, strict=True):
                    model = {"class_path": task, "init_args": models[dataset]}
                    rates = {**scale.finetune_data, **({"batch_size": 16} if short == "seg" else {})}
                    data = source.data(scale, fraction=fraction, fraction_seed=seed, seed=seed, **rates)
                    runs.append(_finetune(scale, name, start, source, model, data, seed, monitor))
                cells.append(Cell(ROW[start], f"{dataset} {label}", metric, names))
    columns = tuple(f"{dataset} {label}" for dataset in sources for label in shares)
    table = Table(key, title, tuple(ROW.values()), columns, tuple(cells), published(key))
    notes: tuple[str, ...] = ("Fractions are nested, by patient and stratified; validation and test stay whole.",)
    if scale.budget == "smoke":
        notes += ("Phantoms are few: the columns 1, 10, 100 % use 5, 20, 100 % of the patients.",)
    return Plan(tuple(runs), (_noted(table, scale, notes, sources),))


def _zero_shot(scale: Scale, key: str, title: str, sources: Mapping[str, Source]) -> Plan:
    runs, cells = [pretraining(scale)], []
    measures = {
        "AUC": "zero_shot/auc_macro",
        "F1": "zero_shot/f1_macro@best_f1_test",
        "ACC": "zero_shot/acc_macro@best_f1_test",
    }
    rows: dict[str, Start] = {_UNTRAINED: "Scratch", ROW["D-MLM"]: "D-MLM"}
    for dataset, source in sources.items():
        for row, start in rows.items():
            name = f"zeroshot-{dataset}-{start}"
            runs.append(
                Run(
                    name,
                    {
                        "seed_everything": 0,
                        "trainer": {
                            "accelerator": "auto" if scale.is_paper else "cpu",
                            "devices": 1,
                            "enable_progress_bar": False,
                            "logger": logger(),
                        },
                        "model": {"class_path": "ZeroShotModule", "init_args": {"encoder": scale.encoder(start)}},
                        "data": source.data(scale, batch_size=64),
                    },
                    _needs(start),
                    verb="test",
                    missing=source.missing(scale) or (PRETRAINING.missing(scale) if start == "D-MLM" else ""),
                )
            )
            cells += [Cell(row, f"{dataset} {column}", metric, (name,)) for column, metric in measures.items()]
    notes = (
        "F1 and ACC at the threshold of best F1 on the test set, MedKLIP's convention: optimistic, as in the paper.",
        f"{_UNTRAINED}: the same model before any training; an ImageNet image tower has no text side to compare with.",
    )
    columns = tuple(f"{dataset} {measure}" for dataset in sources for measure in measures)
    table = Table(key, title, tuple(rows), columns, tuple(cells), published(key))
    return Plan(tuple(runs), (_noted(table, scale, notes, sources),))


def pretraining(scale: Scale) -> Run:
    """Return the run that pre-trains the encoder of all D-MLM rows."""
    batch = 64 if scale.budget == "paper" else 32
    config = {
        "seed_everything": 0,
        "trainer": scale.pretrain_trainer(),
        "model": scale.pretrain_model(),
        "data": PRETRAINING.data(scale, batch_size=batch),
        "test_after_fit": False,
    }
    return Run(PRETRAIN, config, missing=PRETRAINING.missing(scale))


def _finetune(
    scale: Scale,
    name: str,
    start: Start,
    source: Source,
    model: dict[str, Any],
    data: dict[str, Any],
    seed: int,
    monitor: str,
) -> Run:
    options = {"encoder": scale.encoder(start), "optim": scale.finetune_optim(start), **model["init_args"]}
    config = {
        "seed_everything": seed,
        "trainer": scale.finetune_trainer(monitor),
        "model": {"class_path": model["class_path"], "init_args": options},
        "data": data,
    }
    missing = source.missing(scale) or scale.without(start)
    if start == "D-MLM":
        missing = missing or PRETRAINING.missing(scale)
    return Run(name, config, _needs(start), missing=missing)


def _needs(start: Start) -> tuple[str, ...]:
    return (PRETRAIN,) if start == "D-MLM" else ()


def _noted(table: Table, scale: Scale, notes: tuple[str, ...], sources: Mapping[str, Source]) -> Table:
    if scale.budget == "smoke":
        stands = ", ".join(f"{name} is {source.stand_in}" for name, source in sources.items())
        notes = (SMOKE_NOTE, f"Stand-ins: {stands}.", *notes)
    return replace(table, notes=notes)
