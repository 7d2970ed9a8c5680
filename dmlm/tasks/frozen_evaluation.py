"""What a frozen encoder is good for: measured after the test of a pre-training run, added to its ``metrics.json``."""

from __future__ import annotations

import csv
import json
import time
from hashlib import blake2b
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from torch.utils.data import DataLoader, Subset

from dmlm.datamodules.base import ChestXrayDataModule
from dmlm.datasets.fractions import nested_fraction
from dmlm.errors import ConfigError
from dmlm.evaluation import auroc, bootstrap_auc, linear_probe, spearman
from dmlm.evaluation.grounding import MEASURES
from dmlm.io.atomic import atomic_path, write_json
from dmlm.tasks.frozen_grounding import encode_places, macro, measure_places, references, write_places
from dmlm.tasks.pretrain import DMLMPretrainModule
from dmlm.tasks.zero_shot import ZeroShotTask

_FEW_STRENGTH = (0.1,)
_VARIANCE_IMAGES = 200


class Features(NamedTuple):
    """A split, encoded.

    Args:
        mean: Means of the global elements, float32 ``[n, D]``.
        labels: float32 ``[n, C]``.
        patients: ``n`` identifiers.
        studies: ``n`` identifiers.
    """

    mean: np.ndarray[Any, Any]
    labels: np.ndarray[Any, Any]
    patients: list[str]
    studies: list[str]


class FrozenEvaluation(Callback):
    """Linear probes with all and with few labels, grounding, what predicted variances are worth, cost of training.

    Adds to ``metrics.json``:

    - ``probe/auc_macro`` with ``_low`` and ``_high``, and ``probe/auc/FINDING``: logistic regression on the means of
      the global elements of all labelled training images, each once, its strength chosen on validation. Scores by
      study are in ``probe.csv``.
    - ``probe_few/auc_macro`` and ``probe_few/auc/FINDING``: the same with a share of the labelled patients of each
      finding, strength fixed (choosing it would take more labels), mean over draws of these patients.
    - ``masked/variance_rho``: rank correlation, over masked patches of at most 200 test images, between predicted
      variance and squared error. Only after training that shapes predicted variances.
    - ``grounding/pointing`` and ``grounding/mask_auc``: pointing game, and AUC of pixels inside against outside the
      mask, of the map that the zero-shot scores of single patches make, on images that show the finding (mean over
      images, then over findings); ``grounding/probe_auc`` and ``grounding/probe_dice``: AUC and Dice at one half of a
      linear probe of single patches. For comparison ``grounding/chance`` (pointing of a map that says nothing) and
      ``grounding/prior_auc`` (the mean training mask as the map). By image in ``grounding.csv``. Only where there are
      masks.
    - ``train/seconds`` and ``train/cpu_seconds``, of the training loop of this process.

    Args:
        few: Share of labelled patients of ``probe_few``.
        few_least: Fewest patients that this is.
        draws: Draws of those patients.
        bootstrap: Resamples of patients for the interval of the probe.
        masks: Data with masks that are named by findings, of the size of the encoder's images; its training and test
            splits are read as they are, not augmented. None means the run's own data, where it has masks.
        most_masked: Images with a mask that are taken of each of these splits.

    Raises:
        ConfigError: If a value is out of range.
    """

    def __init__(
        self,
        few: float = 0.01,
        few_least: int = 10,
        draws: int = 5,
        bootstrap: int = 1000,
        masks: ChestXrayDataModule | None = None,
        most_masked: int = 200,
    ) -> None:
        if not 0 < few <= 1 or min(few_least, draws, bootstrap, most_masked) < 1:
            got = f"{few}, {few_least}, {draws}, {bootstrap}, {most_masked}"
            msg = (
                f"few must be above 0 and at most 1, few_least, draws, bootstrap and most_masked at least 1; got {got}"
            )
            raise ConfigError(msg)
        self.few, self.few_least, self.draws, self.bootstrap = few, few_least, draws, bootstrap
        self.masks, self.most_masked = masks, most_masked
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
        # this process is alone here: the loaders of a run would give it its share of the data only
        loaders = tuple(map(_whole, (data.train_eval_dataloader(), data.val_dataloader(), data.test_dataloader())))
        train, val, test = (
            self._encode(trainer, pl_module, loader, labelled)
            for loader, labelled in zip(loaders, (True, True, False), strict=True)
        )
        names = [data.label_names[column] for column in pl_module.columns]
        metrics = dict(self._spent)
        if train.studies:
            metrics |= self._probe(train, val, test, names, pl_module.run_dir / "probe.csv")
            metrics |= self._probe_few(train, val, test, names)
        metrics |= self._grounding(trainer, pl_module, data if self.masks is None else self.masks)
        # without training there is no schedule to draw views by, and no variance that training has shaped
        if self._spent and isinstance(pl_module, DMLMPretrainModule) and pl_module.predicts_variances:
            metrics["masked/variance_rho"] = self._variance_rho(trainer, pl_module, loaders[2])
        path = pl_module.run_dir / "metrics.json"
        write_json(path, {**json.loads(path.read_text(encoding="utf-8")), **metrics})

    @torch.no_grad()
    def _encode(
        self, trainer: Trainer, task: ZeroShotTask, loader: DataLoader[dict[str, Any]], labelled: bool
    ) -> Features:
        """Encode a split, or the studies of it that have a label; an image that stands in it several times once."""
        means = [np.zeros((0, task.encoder.embed_dim), np.float32)]
        labels = [np.zeros((0, len(task.columns)), np.float32)]
        patients: list[str] = []
        studies: list[str] = []
        seen: set[tuple[str, bytes]] = set()
        for batch in loader:
            marks = batch["labels"][:, list(task.columns)].numpy()
            wanted = np.isin(marks, (0, 1)).any(1) | (not labelled)
            keep = []
            for row in np.flatnonzero(wanted).tolist():
                image = batch["image"][row].numpy().tobytes()
                key = (batch["study_id"][row], blake2b(image, digest_size=16).digest())
                if key not in seen:
                    seen.add(key)
                    keep.append(row)
            if not keep:
                continue
            moved = trainer.strategy.batch_to_device({"image": batch["image"][keep]}, task.device)
            means.append(task.encoder.image_global(moved["image"]).mean.float().cpu().numpy())
            labels.append(marks[keep])
            patients += [batch["patient_id"][row] for row in keep]
            studies += [batch["study_id"][row] for row in keep]
        return Features(np.concatenate(means), np.concatenate(labels), patients, studies)

    def _probe(self, train: Features, val: Features, test: Features, names: list[str], path: Path) -> dict[str, float]:
        scores = linear_probe(train.mean, train.labels, val.mean, val.labels, test.mean).test_scores
        _write_scores(path, test, names, scores)
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

    def _grounding(self, trainer: Trainer, task: ZeroShotTask, data: ChestXrayDataModule) -> dict[str, float]:
        if data is self.masks:
            data.prepare_data()
        split = data.make_dataset("test", None)
        names = split.mask_names
        if not names:
            return {}
        prompts = task.prompts(names)
        found = []
        for dataset in (data.make_dataset("train", None), split):
            loader = DataLoader(dataset, data.batch_size, collate_fn=data.collate)
            found.append(
                encode_places(
                    task,
                    prompts,
                    loader,
                    lambda images: trainer.strategy.batch_to_device({"image": images}, task.device)["image"],
                    self.most_masked,
                )
            )
        train, test = found
        if test is None:
            return {}
        measures = measure_places(train, test)
        write_places(task.run_dir / "grounding.csv", names, test.studies, measures)
        metrics = {f"grounding/{name}": macro(measures[..., place]) for place, name in enumerate(MEASURES)}
        return metrics | references(train, test)

    @torch.no_grad()
    def _variance_rho(self, trainer: Trainer, task: DMLMPretrainModule, loader: DataLoader[dict[str, Any]]) -> float:
        variances, errors = [], []
        predictor: Any = task.predictor  # pre-training always has one
        for batch in _some(loader, _VARIANCE_IMAGES):
            moved = trainer.strategy.batch_to_device(batch, task.device)
            rngs = [np.random.default_rng([task.seed, int(place)]) for place in batch["index"]]
            views = task.draw_views(moved, rngs)
            predicted, true = task.objective.predict_patches(task.encoder, predictor, views)
            variances.append(predicted.variance.mean(-1).flatten().cpu().numpy())
            errors.append((predicted.mean - true.mean).square().mean(-1).flatten().cpu().numpy())
        return spearman(np.concatenate(variances), np.concatenate(errors))


def _whole(loader: DataLoader[dict[str, Any]]) -> DataLoader[dict[str, Any]]:
    """Read all samples of a loader's data in their own order, whatever share of them the loader gives."""
    return DataLoader(
        loader.dataset,
        loader.batch_size,
        num_workers=loader.num_workers,
        collate_fn=loader.collate_fn,
        worker_init_fn=loader.worker_init_fn,
    )


def _some(loader: DataLoader[dict[str, Any]], most: int) -> DataLoader[dict[str, Any]]:
    """Read at most so many samples of a loader's data, evenly spaced."""
    dataset: Any = loader.dataset
    rows = np.unique(np.linspace(0, len(dataset) - 1, min(most, len(dataset))).round().astype(int)).tolist()
    return DataLoader(Subset(dataset, rows), loader.batch_size, collate_fn=loader.collate_fn)


def _write_scores(path: Path, test: Features, names: list[str], scores: np.ndarray[Any, Any]) -> None:
    """Write one line per study and finding, the label empty where it is unknown."""
    with atomic_path(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("study_id", "patient_id", "finding", "label", "score"))
        for row, study in enumerate(test.studies):
            for name, label, score in zip(names, test.labels[row], scores[row], strict=True):
                known = "" if np.isnan(label) else f"{label:g}"
                writer.writerow((study, test.patients[row], name, known, f"{score:.9g}"))
