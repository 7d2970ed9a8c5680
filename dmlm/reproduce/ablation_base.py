"""The pre-training that ablations change, at each budget: encoders, data, steps, and how it is evaluated.

All runs of an ablation take the same number of steps on the same batches, and are tested with the weights after the
last one: nothing is chosen on validation, and so nothing favours a row that was validated more often.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

from dmlm.reproduce.scale import Scale, logger
from dmlm.reproduce.sources import PRETRAINING

CSV = "ablations.csv"
"""What examples/python/prepare_ablations.py writes into the folder that ``--data`` names."""
MASKS = "ablation_masks.csv"
"""Beside it: images that show Lung Opacity, each with its mask."""

_STEPS = {"smoke": 120, "trial": 100, "paper": 30_000}
_LABELS = (
    "Lung Opacity",
    "Pneumonia",
    "Bacterial Pneumonia",
    "Viral Pneumonia",
    "COVID-19",
    "Infiltration",
    "Atelectasis",
    "Edema",
    "Pleural Effusion",
    "Consolidation",
)
FINDINGS = ("Lung Opacity", "Pneumonia")
"""Findings of the trial that are tested: each is known within one source only, so no AUC compares sources."""


def base_config(scale: Scale, seed: int, steps: float = 1.0) -> dict[str, Any]:
    """Configuration of the base run.

    Args:
        scale: Size of the reproduction.
        seed: Seed of order, views, masks and initial weights.
        steps: Factor on the number of steps.
    """
    model = _model(scale)
    model["init_args"]["seed"] = seed
    data = _data(scale)
    data["init_args"]["seed"] = seed
    return {"seed_everything": seed, "trainer": _trainer(scale, steps), "model": model, "data": data}


def missing(scale: Scale) -> str:
    """Why the data cannot be read here, or ``""``."""
    if scale.budget != "trial" or scale.root is None:
        return PRETRAINING.missing(scale)
    for path in (scale.root / CSV, scale.root / MASKS):
        if not path.is_file():
            return f"no data: {path} is not there; examples/python/prepare_ablations.py writes it"
    return ""


def test_callbacks(scale: Scale) -> list[dict[str, Any]]:
    """Callbacks that measure what a frozen encoder is good for."""
    # phantoms are few: one in a hundred of them would be four patients
    options: dict[str, Any] = {"few": 0.05} if scale.budget == "smoke" else {}
    if not scale.is_paper:
        options["masks"] = _masks(scale)
    return [{"class_path": "dmlm.tasks.FrozenEvaluation", "init_args": {"draws": 5, **options}}]


def _masks(scale: Scale) -> dict[str, Any]:
    """Data that say where findings are, apart from those of training: batches of training carry no masks."""
    data = _data(scale)
    options = data["init_args"]
    if scale.budget == "smoke":
        options["with_masks"] = True
    else:
        for name in ("label_columns", "cache_images"):
            del options[name]
        path = Path(options["path"])
        options |= {"path": str(path.with_name(MASKS)), "mask_columns": ["mask"], "mask_names": ["Lung Opacity"]}
    return {"class_path": f"dmlm.datamodules.{data['class_path']}", "init_args": options}


def _model(scale: Scale) -> dict[str, Any]:
    model = copy.deepcopy(_trial_model() if scale.budget == "trial" else scale.pretrain_model())
    options = model["init_args"]
    zero_shot: dict[str, Any] = {"templates": ["obs_verdict"], "mc_samples": 1}
    options["zero_shot"] = {**zero_shot, "findings": list(FINDINGS)} if scale.budget == "trial" else zero_shot
    options["collapse"] = "off"  # the letter is meant to collapse; the tables show it
    return model


def _trial_model() -> dict[str, Any]:
    """Towers for few CPU-seconds: ImageNet's EfficientNet-Lite0 by tiles, and the first two layers of MiniLM."""
    package = "dmlm.models.packaged"
    trunk = {"class_path": f"{package}.efficientnet_lite0", "init_args": {"image_size": 32}}
    text = {"max_length": 64, "pooling": "mean", "dropout": 0.0, "layers": 2, "freeze_layers": 1}
    encoder = {
        "image": {"class_path": "TileEncoder", "init_args": {"trunk": trunk, "image_size": 192, "cache": True}},
        "text": {"class_path": f"{package}.minilm", "init_args": text},
        "embed_dim": 192,
        "head": "mlp",
    }
    predictor = {"embed_dim": 192, "width": 128, "depth": 1, "num_heads": 4}
    views = {
        "statement_views": 0.75,
        "further_statements": 3,
        "context_in_statement": 0.0,
        "section_dropout": {"definition": 0.7, "appearance": 0.7},
        "max_defined": 1,
    }
    options = {
        "encoder": {"class_path": "ProbabilisticEncoder", "init_args": encoder},
        "predictor": {"class_path": "CrossModalPredictor", "init_args": predictor},
        # a slower teacher would not move in so few steps
        "objective": {"masked_weight": 0.2, "momentum": [0.99, 1.0]},
        "views": views,
        "center_statements": True,
        "optim": {"lr": 1e-3, "encoder_lr": 5e-4, "text_lr": 2e-4, "min_lr": 1e-5},
    }
    return {"class_path": "DMLMPretrainModule", "init_args": options}


def _data(scale: Scale) -> dict[str, Any]:
    if scale.budget != "trial":
        sizes = {"num_train": 400, "num_val": 60, "num_test": 200} if scale.budget == "smoke" else {}
        return PRETRAINING.data(scale, batch_size=32 if scale.budget == "smoke" else 64, **sizes)
    path = str((scale.root / CSV).resolve()) if scale.root is not None else CSV
    options = {
        "path": path,
        "allow_outside_root": True,
        "image_size": 192,
        "batch_size": 32,
        "num_workers": 0,
        "augment": False,  # so that the description of a tile is computed once
        "cache_images": True,
        "label_columns": list(_LABELS),
    }
    return {"class_path": "ManifestDataModule", "init_args": options}


def _trainer(scale: Scale, steps: float) -> dict[str, Any]:
    options: dict[str, Any] = {
        "accelerator": "auto" if scale.is_paper else "cpu",
        "devices": "auto" if scale.is_paper else 1,
        "max_steps": round(steps * _STEPS[scale.budget]),
        "limit_val_batches": 0,
        "log_every_n_steps": 20,
        "gradient_clip_val": 1.0,
        "num_sanity_val_steps": 0,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "logger": logger(),
    }
    if not scale.is_paper:  # a run of a minute or two is started again rather than resumed
        return {**options, "enable_checkpointing": False, "callbacks": test_callbacks(scale)}
    callback = "lightning.pytorch.callbacks.ModelCheckpoint"
    keep = {"dirpath": "{folder}/checkpoints", "enable_version_counter": False, "save_top_k": 1}
    last = {**keep, "filename": "last", "every_n_train_steps": 1000}
    best = {**keep, "filename": "best", "save_on_train_epoch_end": True}
    return {**options, "callbacks": [{"class_path": callback, "init_args": item} for item in (last, best)]}
