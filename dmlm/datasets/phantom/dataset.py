"""`PhantomDataset`: generated phantoms as samples."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dmlm.datasets.base import ChestXrayDataset, RawSample
from dmlm.datasets.phantom.findings import LABEL_NAMES
from dmlm.datasets.phantom.store import read_manifest
from dmlm.datasets.splits import SPLITS, Split
from dmlm.datasets.transforms import Transform
from dmlm.errors import ConfigError, DatasetFormatError
from dmlm.reports.schema import Observation, StructuredReport


class PhantomDataset(ChestXrayDataset):
    """One split of a folder that :func:`dmlm.datasets.phantom.generate_phantoms` made.

    ``labels`` say what is in the image; the report says what its reader saw, which may be less.

    Args:
        root: The folder that :func:`generate_phantoms` returned.
        split: ``"train"``, ``"val"`` or ``"test"``.
        image_size: Height and width of the images that come out, in pixels.
        transform: Turns stored pixels into the model's; None resizes without augmentation.
        seed: First part of the seed of every random draw.
        with_masks: Whether samples hold ``masks`` uint8 ``[C, S, S]``, the place of each finding.

    Raises:
        ConfigError: If ``split`` is not a split.
        DatasetFormatError: If the folder is not whole, or the split has no studies.
    """

    label_names = LABEL_NAMES

    def __init__(
        self,
        root: str | os.PathLike[str],
        split: Split,
        image_size: int,
        transform: Transform | None = None,
        seed: int = 0,
        with_masks: bool = False,
    ) -> None:
        super().__init__(image_size, transform, seed)
        if split not in SPLITS:
            msg = f"split must be one of {', '.join(SPLITS)}, got '{split}'"
            raise ConfigError(msg)
        self.root = Path(root)
        self.with_masks = with_masks
        self._stored_size = int(read_manifest(self.root)["image_size"])
        with (self.root / "studies.jsonl").open(encoding="utf-8") as file:
            records = [json.loads(line) for line in file]
        self._rows = [row for row, record in enumerate(records) if record["split"] == split]
        self.records: list[dict[str, Any]] = [records[row] for row in self._rows]
        if not self.records:
            msg = f"{self.root}: no studies in the split '{split}'; generate with num_patients > 0 for it"
            raise DatasetFormatError(msg)
        self._reports = [_report(record) for record in self.records]
        self._open()

    def __len__(self) -> int:
        return len(self.records)

    @property
    def labels(self) -> NDArray[np.float32]:
        """What is in the images, float32 ``[N, C]``: 1 or 0."""
        return np.array([record["labels"] for record in self.records], dtype=np.float32)

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

    def read(self, index: int) -> RawSample:
        """Read the study at ``index`` as it is stored."""
        record = self.records[index]
        return RawSample(
            image=np.array(self._images[self._rows[index]]),
            report=self._reports[index],
            text=record["text"],
            labels=np.array(record["labels"], dtype=np.float32),
            study_id=record["study_id"],
            patient_id=record["patient_id"],
            masks=self.masks(index) if self.with_masks else None,
        )

    def masks(self, index: int) -> NDArray[np.uint8]:
        """Return where each finding is in the stored image, uint8 ``[C, H, W]``, 0 or 1."""
        size = self._stored_size
        masks = np.zeros((len(LABEL_NAMES), size, size), np.uint8)
        for name, row in self.records[index]["mask_rows"].items():
            if name in LABEL_NAMES:
                bits = np.unpackbits(self._masks[row], count=size * size)
                masks[LABEL_NAMES.index(name)] = bits.reshape(size, size)
        return masks

    def __getstate__(self) -> dict[str, Any]:
        """Leave the memory maps out: a worker process opens its own, instead of getting a copy of all pixels."""
        return {name: value for name, value in self.__dict__.items() if name not in ("_images", "_masks")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._open()

    def _open(self) -> None:
        self._images = np.load(self.root / "images.npy", mmap_mode="r")
        self._masks = _map(self.root / "masks.npy")


def _map(path: Path) -> NDArray[np.uint8]:
    """Open an array as a memory map; an empty one (no finding anywhere) cannot be mapped."""
    try:
        return np.asarray(np.load(path, mmap_mode="r"))
    except ValueError:
        return np.asarray(np.load(path))


def _report(record: dict[str, Any]) -> StructuredReport:
    observations = tuple(
        Observation(**{**item, "evidence": tuple(item["evidence"])}) for item in record["observations"]
    )
    return StructuredReport(record["study_id"], observations, source="phantom")
