"""`PhantomDataset`: generated phantoms as samples."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dmlm.datasets.base import ChestXrayDataset, RawSample
from dmlm.datasets.phantom.findings import LABEL_NAMES
from dmlm.datasets.phantom.store import open_films, read_manifest, read_records
from dmlm.datasets.splits import SPLITS, Split
from dmlm.datasets.transforms import Transform
from dmlm.errors import ConfigError, DatasetFormatError
from dmlm.reports.schema import Observation, StructuredReport

EDEMA_GRADES: Final = ("Edema none", "Edema mild", "Edema moderate", "Edema severe")
"""Labels of the target ``edema``, in order of grade."""


class PhantomDataset(ChestXrayDataset):
    """One split of a folder that :func:`dmlm.datasets.phantom.generate_phantoms` or ``plan_phantoms`` made.

    Films that are not drawn yet are drawn when they are read, and kept.
    ``labels`` say what is in the image; the report says what its reader saw, which may be less.

    Args:
        root: The folder that they returned.
        split: ``"train"``, ``"val"`` or ``"test"``.
        image_size: Height and width of the images that come out, in pixels.
        transform: Turns stored pixels into the model's; None resizes without augmentation.
        seed: First part of the seed of every random draw.
        with_masks: Whether samples hold ``masks`` uint8 ``[M, S, S]``, the place of each finding.
        target: What ``labels`` are: ``"findings"`` (what is in the image, one column per finding), ``"edema"`` (one
            column per grade, none to severe, exactly one of them 1), or the name of one finding.
        mask_of: Findings that ``masks`` show; None shows all.

    Raises:
        ConfigError: If ``split`` is not a split, or a finding is not one of ``LABEL_NAMES``.
        DatasetFormatError: If the folder is not whole, or the split has no studies.
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        split: Split,
        image_size: int,
        transform: Transform | None = None,
        seed: int = 0,
        with_masks: bool = False,
        target: str = "findings",
        mask_of: Sequence[str] | None = None,
    ) -> None:
        super().__init__(image_size, transform, seed)
        if split not in SPLITS:
            msg = f"split must be one of {', '.join(SPLITS)}, got '{split}'"
            raise ConfigError(msg)
        self.label_names = target_names(target)
        self.target = target
        self.mask_of = LABEL_NAMES if mask_of is None else tuple(mask_of)
        for name in self.mask_of:
            if name not in LABEL_NAMES:
                msg = f"phantoms have no mask of '{name}'; data.mask_of may name {', '.join(LABEL_NAMES)}"
                raise ConfigError(msg)
        self.root = Path(root)
        self.with_masks = with_masks
        self._stored_size = int(read_manifest(self.root)["image_size"])
        records = read_records(self.root)
        self._films = open_films(self.root, records)
        self._rows = [row for row, record in enumerate(records) if record["split"] == split]
        self.records: list[dict[str, Any]] = [records[row] for row in self._rows]
        if not self.records:
            msg = f"{self.root}: no studies in the split '{split}'; generate with num_patients > 0 for it"
            raise DatasetFormatError(msg)
        self._labels = self.labels
        self._reports = [_report(record) for record in self.records]

    def __len__(self) -> int:
        return len(self.records)

    @property
    def labels(self) -> NDArray[np.float32]:
        """What ``target`` asks for, float32 ``[N, C]``: 1 or 0."""
        if self.target == "edema":
            return np.eye(len(EDEMA_GRADES), dtype=np.float32)[self.edema_grades]
        found = np.array([record["labels"] for record in self.records], dtype=np.float32)
        return found if self.target == "findings" else found[:, [LABEL_NAMES.index(self.target)]]

    @property
    def mask_names(self) -> tuple[str, ...]:
        """Findings whose place ``masks`` show; empty where samples hold no masks."""
        return self.mask_of if self.with_masks else ()

    @property
    def unseen(self) -> NDArray[np.bool_]:
        """Whether the finding that training never shows (``UNSEEN_FINDING``) is there, bool ``[N]``."""
        return np.array([record["unseen"] for record in self.records], dtype=np.bool_)

    @property
    def edema_grades(self) -> NDArray[np.int64]:
        """Grade of edema, int64 ``[N]``: 0 none, 1 mild, 2 moderate, 3 severe."""
        return np.array([record["edema_grade"] for record in self.records], dtype=np.int64)

    @property
    def patient_ids(self) -> list[str]:
        """Patient of each sample."""
        return [record["patient_id"] for record in self.records]

    def text_lengths(self) -> NDArray[np.int64]:
        """Words of each sample's free-text report, int64 ``[N]``."""
        return np.array([len(record["text"].split()) for record in self.records], dtype=np.int64)

    def read(self, index: int) -> RawSample:
        """Read the study at ``index`` as it is stored."""
        record = self.records[index]
        return RawSample(
            image=self._films.image(self._rows[index]),
            report=self._reports[index],
            text=record["text"],
            labels=self._labels[index],
            study_id=record["study_id"],
            patient_id=record["patient_id"],
            masks=self.masks(index) if self.with_masks else None,
        )

    def masks(self, index: int) -> NDArray[np.uint8]:
        """Return where the findings of ``mask_of`` are in the stored image, uint8 ``[M, H, W]``, 0 or 1."""
        size = self._stored_size
        masks = np.zeros((len(self.mask_of), size, size), np.uint8)
        found = self._films.masks(self._rows[index])
        for mask, name in zip(masks, self.mask_of, strict=True):
            if name in found:
                mask[...] = found[name]
        return masks


def target_names(target: str) -> tuple[str, ...]:
    """Return the labels of a target: ``findings``, ``edema``, or one finding.

    Raises:
        ConfigError: If there is no such target.
    """
    if target == "edema":
        return EDEMA_GRADES
    if target == "findings":
        return LABEL_NAMES
    if target not in LABEL_NAMES:
        msg = f"phantoms have no target '{target}'; data.target may be findings, edema, or {', '.join(LABEL_NAMES)}"
        raise ConfigError(msg)
    return (target,)


def _report(record: dict[str, Any]) -> StructuredReport:
    observations = tuple(
        Observation(**{**item, "evidence": tuple(item["evidence"])}) for item in record["observations"]
    )
    return StructuredReport(record["study_id"], observations, source="phantom")
