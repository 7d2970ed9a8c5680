"""A table on a few thousand public radiographs: nine tasks, each from scratch, from ImageNet and from D-MLM.

Not a table of the paper, and small enough for two cores and a few hours. ``examples/python/prepare_radiographs.py``
writes the CSV files that it reads. Its rows differ in the weights of the image tower and in what follows from having
none (the rate, and batch normalisation that cannot be frozen): heads see the tower's own pooled feature or maps, and
not the distribution head, which only D-MLM has trained. There is one pre-training, which takes as long as sixteen of
the other runs: seeds vary fine-tuning and the choice of the fraction.
"""

from __future__ import annotations

from typing import Any

from dmlm.errors import ConfigError
from dmlm.reproduce.paper_tables import ROW, SMOKE_NOTE, pretraining
from dmlm.reproduce.plan import Cell, Plan, Run, Table, seeded
from dmlm.reproduce.radiograph_tasks import PRETRAIN, SIZE, TASKS, Task
from dmlm.reproduce.scale import STARTS, Scale, Start, lite0_encoder, packaged_towers, trainer

STEPS = 64
SEGMENT_STEPS = 200
PRETRAIN_STEPS = 150


def radiographs(scale: Scale) -> Plan:
    """Classification, grading and segmentation on public radiographs, from three starts.

    Raises:
        ConfigError: If the budget is ``paper``.
    """
    if scale.budget == "paper":
        msg = "radiographs is no table of the paper and has no such size: use --budget trial, or smoke for phantoms"
        raise ConfigError(msg)
    before = pretraining(scale) if scale.budget == "smoke" else seed_pretraining(scale, scale.seeds[0])
    runs = [before]
    for seed in scale.seeds:  # by seed, so that a plan of fewer seeds is the beginning of this one
        runs += [_finetuning(scale, task, start, seed, before) for task in TASKS for start in STARTS]
    cells, further = [], []
    for task in TASKS:
        for start in STARTS:
            names = seeded(_name(task, start), scale.seeds)
            cells.append(Cell(ROW[start], task.column, task.metric, names))
            further += [Cell(ROW[start], column, metric, names) for column, metric in task.further.items()]
    if scale.budget == "smoke":  # phantoms do not have the labels that some columns are about
        further = [cell for cell in further if not cell.column.startswith("NIH")]
    main = Table(
        "radiographs",
        "Public radiographs (AUC, quadratic kappa, Dice of images that have the mask; all x 100)",
        tuple(ROW.values()),
        tuple(task.column for task in TASKS),
        tuple(cells),
        notes=_notes(scale),
        compare=(ROW["D-MLM"], ROW["ImageNet"]),
    )
    more = Table(
        "radiographs-more",
        "Public radiographs, further measures of the same runs (x 100; MAE in grades x 100, lower is better)",
        main.rows,
        tuple(dict.fromkeys(cell.column for cell in further)),
        tuple(further),
        notes=main.notes[:1],
    )
    return Plan(tuple(runs), (main, more))


def _name(task: Task, start: Start) -> str:
    return f"radiographs-{task.key}-{start}"


def seed_pretraining(scale: Scale, seed: int) -> Run:
    """Pre-training: as examples/real_trial.yaml, without Kermany's images and at the size of this table."""
    encoder, predictor = packaged_towers(SIZE)
    statements = {"statement_views": 0.75, "further_statements": 3, "context_in_statement": 0.0, "max_defined": 1}
    model = {
        "encoder": encoder,
        "predictor": predictor,
        "objective": {"masked_weight": 0.2, "masked_start": 0.6, "momentum": [0.99, 1.0]},
        "views": {"style": "original", **statements, "section_dropout": {"definition": 0.8, "appearance": 0.8}},
        "optim": {"lr": 1e-3, "encoder_lr": 1e-4, "min_lr": 1e-5},
        "zero_shot": {"findings": ["Lung Opacity"], "templates": ["obs_verdict"]},
    }
    config = {
        "seed_everything": seed,
        "trainer": trainer(length(PRETRAIN_STEPS, PRETRAIN_STEPS // 3), "val_auroc", "max", accelerator="cpu"),
        "model": {"class_path": "DMLMPretrainModule", "init_args": model},
        "data": PRETRAIN.data(scale, batch_size=32, seed=seed),
        "test_after_fit": False,
    }
    missing = PRETRAIN.missing(scale) or scale.without("ImageNet") or scale.without("D-MLM")
    return Run(f"radiographs-pretrain-s{seed}", config, missing=missing)


def _finetuning(scale: Scale, task: Task, start: Start, seed: int, before: Run) -> Run:
    smoke = scale.budget == "smoke"
    options: dict[str, Any] = dict(task.options)
    if not task.segments:
        options |= {"features": "pooled", "bootstrap": 200}
    if smoke and "num_classes" in task.smoke:
        options["num_classes"] = task.smoke["num_classes"]
    monitor = "val_dice" if task.segments else "val_auroc"
    if start == "D-MLM":
        encoder = {"class_path": "dmlm.models.from_pretrained", "init_args": {"path": f"{{best:{before.name}}}"}}
    else:
        encoder = scale.encoder(start) if smoke else lite0_encoder(SIZE, start)
    fraction = task.smoke.get("fraction", task.fraction) if smoke else task.fraction
    # decoders start from nothing: after 64 steps no start had a lung Dice above 0.3
    spans = length(SEGMENT_STEPS, SEGMENT_STEPS // 4) if task.segments else length(STEPS, STEPS // 2)
    least = 12 if smoke else int(spans["val_check_interval"])
    batch = {"batch_size": 8 if task.segments else 16, "min_epoch_steps": least}
    config = {
        "seed_everything": seed,
        "trainer": scale.finetune_trainer(monitor) if smoke else trainer(spans, monitor, "max", accelerator="cpu"),
        "model": {
            "class_path": task.module,
            "init_args": {"encoder": encoder, "optim": scale.finetune_optim(start), **options},
        },
        "data": task.source.data(scale, seed=seed, fraction=fraction, fraction_seed=seed, **batch),
    }
    needs = (before.name,) if start == "D-MLM" else ()
    missing = task.source.missing(scale) or scale.without(start) or (before.missing if needs else "")
    return Run(f"{_name(task, start)}-s{seed}", config, needs, missing=missing)


def length(steps: int, every: int) -> dict[str, Any]:
    """Trainer options of a run of so many steps, validated every so many."""
    return {"max_steps": steps, "val_check_interval": every, "check_val_every_n_epoch": None}


def _notes(scale: Scale) -> tuple[str, ...]:
    if scale.budget == "smoke":
        stands = ", ".join(f"{task.column} is {task.source.stand_in}" for task in TASKS)
        return (SMOKE_NOTE, f"Stand-ins: {stands}.", "1, 10, 100 % use 5, 20, 100 % of the patients.")
    return (
        f"EfficientNet-Lite0 at {SIZE} pixels, {STEPS} steps of 16, the tower's own pooled feature; segmentation "
        f"{SEGMENT_STEPS} steps of 8.",
        "Fractions are nested, by patient and stratified; validation and test stay whole; every seed draws its own.",
        "D-MLM: one pre-training for all seeds, on the training images of all sources but Kermany.",
    )
