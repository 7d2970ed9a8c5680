"""What a frozen encoder is good for: measured after the test of a pre-training run, added to its ``metrics.json``."""

from __future__ import annotations

import json
import time
from typing import Any, NamedTuple

import numpy as np
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from torch.utils.data import DataLoader

from dmlm.datasets.fractions import nested_fraction
from dmlm.errors import ConfigError
from dmlm.evaluation import auroc, bootstrap_auc, linear_probe, spearman
from dmlm.io.atomic import write_json
from dmlm.tasks.pretrain import DMLMPretrainModule
from dmlm.tasks.zero_shot import ZeroShotTask

_FEW_STRENGTH = (0.1,)


class Features(NamedTuple):
    """A split, encoded.

    Args:
        mean: Means of the global elements, float32 ``[n, D]``.
        labels: float32 ``[n, C]``.
        patients: ``n`` identifiers.
    """

    mean: np.ndarray[Any, Any]
    labels: np.ndarray[Any, Any]
    patients: list[str]


class FrozenEvaluation(Callback):
    """Linear probes with all and with few labels, the worth of predicted variances, and the cost of training.

    Adds to ``metrics.json``:

    - ``probe/auc_macro`` with ``_low`` and ``_high``, and ``probe/auc/FINDING``: logistic regression on the means of
      the global elements of all training images, its strength chosen on validation.
    - ``probe_few/auc_macro`` and ``probe_few/auc/FINDING``: the same with a share of the labelled patients of each
      finding, strength fixed (choosing it would take more labels), mean over draws of these patients.
    - ``masked/variance_rho``: rank correlation, over masked patches of test images, between predicted variance and
      squared error. Only where a run trains predicted variances.
    - ``train/seconds`` and ``train/cpu_seconds``, of the training loop of this process.

    Args:
        few: Share of labelled patients of ``probe_few``.
        few_least: Fewest patients that this is.
        draws: Draws of those patients.
        bootstrap: Resamples of patients for the interval of the probe.

    Raises:
        ConfigError: If a value is out of range.
    """

    def __init__(self, few: float = 0.01, few_least: int = 10, draws: int = 5, bootstrap: int = 1000) -> None:
        if not 0 < few <= 1 or min(few_least, draws, bootstrap) < 1:
            got = f"{few}, {few_least}, {draws}, {bootstrap}"
            msg = f"few must be above 0 and at most 1, few_least, draws and bootstrap at least 1; got {got}"
            raise ConfigError(msg)
        self.few, self.few_least, self.draws, self.bootstrap = few, few_least, draws, bootstrap
        self._started: tuple[float, float] | None = None
        self._spent: dict[str, float] = {}

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:  # noqa: ARG002
        """Start the clocks."""
        self._started = (time.monotonic(), time.process_time())

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:  # noqa: ARG002
        """Stop the clocks."""
        if self._started is not None:
            wall, used = time.monotonic() - self._started[0], time.process_time() - self._started[1]
            self._spent = {"train/seconds": wall, "train/cpu_seconds": used}

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Measure and write."""
        if not isinstance(pl_module, ZeroShotTask) or not trainer.is_global_zero:
            return
        data: Any = trainer.datamodule  # type: ignore[attr-defined] # Lightning sets it
        data.setup("fit")
        loaders = (data.train_eval_dataloader(), data.val_dataloader(), data.test_dataloader())
        train, val, test = (self._encode(trainer, pl_module, loader) for loader in loaders)
        names = [data.label_names[column] for column in pl_module.columns]
        metrics = {**self._probe(train, val, test, names), **self._probe_few(train, val, test, names), **self._spent}
        if isinstance(pl_module, DMLMPretrainModule) and pl_module.predicts_variances:
            metrics["masked/variance_rho"] = self._variance_rho(trainer, pl_module, data.test_dataloader())
        path = pl_module.run_dir / "metrics.json"
        write_json(path, {**json.loads(path.read_text(encoding="utf-8")), **metrics})

    @torch.no_grad()
    def _encode(self, trainer: Trainer, task: ZeroShotTask, loader: DataLoader[dict[str, Any]]) -> Features:
        means, labels, patients = [], [], []
        for batch in loader:
            moved = trainer.strategy.batch_to_device({"image": batch["image"]}, task.device)
            means.append(task.encoder.encode_image(moved["image"]).at(0).mean.float().cpu().numpy())
            labels.append(batch["labels"][:, list(task.columns)].numpy())
            patients += list(batch["patient_id"])
        return Features(np.concatenate(means), np.concatenate(labels), patients)

    def _probe(self, train: Features, val: Features, test: Features, names: list[str]) -> dict[str, float]:
        scores = linear_probe(train.mean, train.labels, val.mean, val.labels, test.mean).test_scores
        found = bootstrap_auc(scores, test.labels, test.patients, n=self.bootstrap)
        metrics = {"probe/auc_macro": found.macro.value, **found.flat("probe", names)}
        return metrics | {f"probe/auc/{name}": row.value for name, row in zip(names, found.auc, strict=True)}

    def _probe_few(self, train: Features, val: Features, test: Features, names: list[str]) -> dict[str, float]:
        areas = np.full((self.draws, len(names)), np.nan)
        for column in range(len(names)):
            known = np.flatnonzero(np.isin(train.labels[:, column], (0, 1)))
            patients = [train.patients[row] for row in known]
            labels, count = train.labels[known][:, [column]], len(set(patients))
            if not count:
                continue
            share = min(1.0, max(self.few, self.few_least / count))
            for draw in range(self.draws):
                rows = known[nested_fraction(patients, labels, share, draw)]
                few = (train.mean[rows], train.labels[rows][:, [column]])
                scores = linear_probe(*few, val.mean, val.labels[:, [column]], test.mean, _FEW_STRENGTH).test_scores
                areas[draw, column] = auroc(scores[:, 0], test.labels[:, column])
        known_areas = {name: float(area) for name, area in zip(names, areas.mean(0), strict=True)}
        there = [area for area in known_areas.values() if not np.isnan(area)]
        macro = float(np.mean(there)) if there else float("nan")
        return {"probe_few/auc_macro": macro, **{f"probe_few/auc/{name}": area for name, area in known_areas.items()}}

    @torch.no_grad()
    def _variance_rho(self, trainer: Trainer, task: DMLMPretrainModule, loader: DataLoader[dict[str, Any]]) -> float:
        variances, errors = [], []
        predictor: Any = task.predictor  # pre-training always has one
        for batch in loader:
            moved = trainer.strategy.batch_to_device(batch, task.device)
            rngs = [np.random.default_rng([task.seed, int(place)]) for place in batch["index"]]
            views = task.draw_views(moved, rngs)
            predicted, true = task.objective.predict_patches(task.encoder, predictor, views)
            variances.append(predicted.variance.mean(-1).flatten().cpu().numpy())
            errors.append((predicted.mean - true.mean).square().mean(-1).flatten().cpu().numpy())
        return spearman(np.concatenate(variances), np.concatenate(errors))
