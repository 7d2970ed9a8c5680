"""`UncertaintyModule`: test what the uncertainty of a trained model is worth."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from dmlm.datasets.corruptions import CORRUPTIONS, LEVELS, Corruption, corrupt
from dmlm.errors import CheckpointError, ConfigError, MismatchError
from dmlm.evaluation.uncertainty_study import Doubt, Version, uncertainty_study, wrong_answers
from dmlm.io.atomic import write_json
from dmlm.plots.figures import risk_coverage_figure
from dmlm.plots.uncertainty import corruption_figure
from dmlm.tasks.base import TaskModule, checked_seed
from dmlm.tasks.classification import ClassificationModule
from dmlm.tasks.doubts import classifier_doubts, zero_shot_doubts
from dmlm.tasks.gathering import Columns, gather_columns
from dmlm.tasks.inference import LabelPredictor, thresholds_of_run
from dmlm.tasks.zero_shot import ZeroShotTask

_ONLY_TEST = "UncertaintyModule trains nothing: use it with `dmlm test`"


class UncertaintyModule(TaskModule):
    """Test the uncertainty of a trained classifier or zero-shot model on clean, spoilt and unfamiliar images.

    Only for ``dmlm test``: nothing is trained. Every image of the test split is answered as it is and under every kind
    and level of corruption; where the data set marks studies that show what training never did (phantoms do; a manifest
    by ``unseen_column``), those are told apart, too. ``metrics.json`` has the keys of
    :func:`dmlm.evaluation.uncertainty_study.uncertainty_study`; beside it are ``risk_coverage.png`` and
    ``corruption.png``.

    Args:
        path: The ``.ckpt`` of the run whose model is tested. A classifier must have been trained for the data's labels;
            a zero-shot model is asked about them.
        corruptions: Kinds: ``noise``, ``blur``, ``exposure``, ``covered``.
        levels: Degrees, 1 to 5.
        samples: Samples of each image's distribution, and passes with dropout.
        seed: Seed of the corruptions.

    Raises:
        ConfigError: If options are out of range.
    """

    def __init__(
        self,
        path: str,
        corruptions: Sequence[Corruption] = CORRUPTIONS,
        levels: Sequence[int] = LEVELS,
        samples: int = 16,
        seed: int = 0,
    ) -> None:
        super().__init__()
        some = corruptions and levels and set(levels) <= set(LEVELS) and set(corruptions) <= set(CORRUPTIONS)
        if samples < 2 or not some:
            msg = (
                f"samples must be at least 2, corruptions some of {', '.join(CORRUPTIONS)} and levels some of 1 to 5, "
                f"got {samples}, {list(corruptions)}, {list(levels)}"
            )
            raise ConfigError(msg)
        self.path, self.samples, self.seed = path, samples, checked_seed(seed)
        spoilt = [(kind, level) for level in sorted(set(levels)) for kind in dict.fromkeys(corruptions)]
        self.versions: list[Version] = [("none", 0), *spoilt]
        self._predictor: LabelPredictor | None = None
        self._parts: list[Columns] = []

    def setup(self, stage: str) -> None:
        """Load the model, and check that it speaks about the data's labels."""
        super().setup(stage)
        if stage != "test":
            raise ConfigError(_ONLY_TEST)
        datamodule = self.trainer.datamodule  # type: ignore[attr-defined]
        predictor = self._load(tuple(datamodule.label_names))
        if isinstance(predictor.task, ClassificationModule) and predictor.names != tuple(datamodule.label_names):
            msg = (
                f"the data has the labels {', '.join(datamodule.label_names)}, but {self.path} was trained for "
                f"{', '.join(predictor.names)}: use the data that it was trained with"
            )
            raise MismatchError(msg)
        self._agree(datamodule, "image_size", predictor.image_size, "data.image_size")
        self._predictor = predictor

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> None:  # noqa: ARG002 - Lightning's signature
        """Refuse: Lightning asks whether there is such a method before it calls :meth:`setup`, which says why not."""
        raise ConfigError(_ONLY_TEST)

    def configure_optimizers(self) -> None:
        """Return none: nothing is trained."""

    def on_test_start(self) -> None:
        """Move the model to the device and encode the prompts of a zero-shot one."""
        predictor = self._loaded
        predictor.task.to(self.device)
        if not isinstance(predictor.task, ClassificationModule):
            self._prompts = predictor.task.prompts(predictor.names)

    def test_step(self, batch: dict[str, Any], batch_idx: int) -> None:  # noqa: ARG002 - Lightning's signature
        """Answer every version of the images of a batch."""
        images, index = batch["image"], batch["index"].cpu().numpy()
        versions = [self._ask(self._spoilt(images, index, version), index) for version in self.versions]
        row: Columns = {"index": index, "labels": batch["labels"].cpu().numpy()}
        row["prob"] = np.stack([prob for prob, _ in versions], axis=1)
        for name in versions[0][1]:
            row[f"value/{name}"] = np.stack([doubts[name].value for _, doubts in versions], axis=1)
            own = [part for part in (doubts[name].prob for _, doubts in versions) if part is not None]
            if own:
                row[f"prob/{name}"] = np.stack(own, axis=1)
        self._parts.append(row)

    def on_test_epoch_end(self) -> None:
        """Write ``metrics.json`` and figures, and print the main numbers."""
        rows, self._parts = gather_columns(self._parts), []
        doubts = {
            key.removeprefix("value/"): Doubt(value, rows.get(key.replace("value/", "prob/", 1)))
            for key, value in rows.items()
            if key.startswith("value/")
        }
        thresholds = None if self._loaded.exclusive else self._loaded.threshold
        dataset = self.trainer.datamodule.test_dataset  # type: ignore[attr-defined]
        marked = getattr(dataset, "unseen", None)
        unseen = None if marked is None else np.asarray(marked, bool)[rows["index"]]
        metrics = uncertainty_study(rows["prob"], doubts, rows["labels"], self.versions, thresholds, unseen)
        self.log("test_error_rate", metrics["uncertainty/error_rate@0"])
        if self.trainer.is_global_zero:
            write_json(self.run_dir / "metrics.json", metrics)
            own = np.ones(len(rows["index"]), bool) if unseen is None else ~unseen
            wrong = wrong_answers(rows["prob"][own, 0], rows["labels"][own], thresholds)
            known = ~np.isnan(wrong)
            shown = {name: doubt.value[own, 0][known] for name, doubt in doubts.items()}
            self.show_figure(risk_coverage_figure(shown, wrong[known]), "risk_coverage")
            self.show_figure(corruption_figure(metrics, list(doubts)), "corruption")
            print(self._summary(metrics, list(doubts), len(rows["index"])))

    def _load(self, names: tuple[str, ...]) -> LabelPredictor:
        task = TaskModule.load_from_checkpoint(self.path, map_location="cpu").eval()
        if isinstance(task, ClassificationModule):
            return LabelPredictor(task)
        if isinstance(task, ZeroShotTask):
            return LabelPredictor(task, names, thresholds_of_run(Path(self.path)))
        msg = f"{self.path} holds a {type(task).__name__}; UncertaintyModule tests classification and zero-shot models"
        raise CheckpointError(msg)

    @property
    def _loaded(self) -> LabelPredictor:
        if self._predictor is None:
            msg = f"{self.path} is loaded in setup(); run this through `dmlm test`"
            raise ConfigError(msg)
        return self._predictor

    def _ask(self, images: torch.Tensor, seeds: NDArray[np.int64]) -> tuple[NDArray[np.float64], dict[str, Doubt]]:
        task = self._loaded.task
        if isinstance(task, ClassificationModule):
            return classifier_doubts(task, images, seeds.tolist(), self.samples)
        return zero_shot_doubts(task, self._prompts, self._loaded.names, images, seeds.tolist(), self.samples)

    def _spoilt(self, images: torch.Tensor, index: NDArray[np.int64], version: Version) -> torch.Tensor:
        """Corrupt each image by its own seed, so that a result does not depend on the batch."""
        kind, level = version
        if level == 0:
            return images
        place = self.versions.index(version)
        found = [
            corrupt(image[0].cpu().numpy(), kind, level, np.random.default_rng([self.seed, place, int(number)]))  # type: ignore[arg-type]
            for image, number in zip(images, index, strict=True)
        ]
        return torch.from_numpy(np.stack(found))[:, None].to(images.device)

    def _summary(self, metrics: dict[str, float], names: list[str], count: int) -> str:
        top = max(level for _, level in self.versions)
        lines = [
            f"Uncertainty of {self.path} on {count} images: error rate {metrics['uncertainty/error_rate@0']:.3f}, "
            f"at level {top} {metrics[f'uncertainty/error_rate@{top}']:.3f}",
            f"{'':20s} {'AURC':>7s} {'wrong':>7s} {f'level {top}':>7s} {'unseen':>7s}   (AUROC of doubt, chance 0.5)",
        ]
        for name in names:
            key = f"uncertainty/{name}"
            values = [metrics.get(f"{key}/{part}", float("nan")) for part in ("aurc", "error_auroc")]
            values += [metrics[f"{key}/corruption_auroc@{top}"], metrics.get(f"{key}/unseen_auroc", float("nan"))]
            lines.append(f"{name:20s} " + " ".join(f"{value:7.3f}" for value in values))
        return "\n".join(lines)
