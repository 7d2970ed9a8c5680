"""What every data set shares: the sample, the key under which it is asked for, and the way from pixels to tensors."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset

from dmlm.datasets.transforms import EvalTransform, TrainTransform, Transform, Transformed
from dmlm.errors import ConfigError, DatasetFormatError
from dmlm.reports.schema import StructuredReport

_ROWS: Final = {"labels": np.float32, "index": np.int64, "matrix": np.float32, "stored_size": np.int64}
"""What a batch has one row of for each sample, and its type."""


class SampleKey(NamedTuple):
    """What the samplers of :mod:`dmlm.datamodules` yield: which sample, and in which epoch it is drawn.

    The epoch is part of the key because worker processes outlive an epoch: a counter kept in the data set would stay
    at the value with which the worker was started.
    """

    index: int  # type: ignore[assignment]  # hides tuple.index, which nobody needs here
    epoch: int


@dataclass(frozen=True)
class RawSample:
    """One study as it is stored, before any transform.

    Args:
        image: Grey values, uint8 ``[H, W]``, 0 (black) to 255.
        report: The report as records.
        text: The report as written; ``""`` where there is none.
        labels: float32 ``[C]`` in the order of the data set's ``label_names``: 1 present, 0 absent, -1 uncertain,
            nan unknown.
        study_id: Identifier of the study.
        patient_id: Identifier of the patient.
        masks: uint8 ``[M, H, W]``, 0 or 1, on the grid of ``image``; None where there are none or none were asked for.
        view: Projection as the source names it (``"PA"``, ``"AP"``, ``"LATERAL"``, ...), ``""`` where it does not.
    """

    image: NDArray[np.uint8]
    report: StructuredReport
    text: str
    labels: NDArray[np.float32]
    study_id: str
    patient_id: str
    masks: NDArray[np.uint8] | None = None
    view: str = ""


class ChestXrayDataset(Dataset[dict[str, Any]], ABC):
    """A split of a chest X-ray data set; a subclass says how a study is read, this class does the rest.

    A sample is a dict: ``image`` uint8 tensor ``[1, S, S]``, ``report``, ``text``, ``labels`` float32 tensor ``[C]``,
    ``index`` int64 scalar, ``study_id``, ``patient_id``, ``view`` and, where the study has them, ``masks`` uint8 tensor
    ``[M, S, S]``. Where the transform says what it did, ``matrix`` float32 tensor ``[2, 3]`` maps stored pixel indices
    ``(x, y, 1)`` to those of ``image``, and ``stored_size`` int64 tensor ``[2]`` is the height and width of the stored
    image. The same ``(seed, epoch, index)`` always gives the same sample, whatever the worker.

    Args:
        image_size: Height and width ``S`` of the images that come out, in pixels.
        transform: Turns stored pixels into ``[S, S]``; None resizes without augmentation.
        seed: First part of the seed of every random draw.
    """

    label_names: tuple[str, ...]

    def __init__(self, image_size: int, transform: Transform | None = None, seed: int = 0) -> None:
        self.image_size = image_size
        self.transform: Transform = EvalTransform(image_size) if transform is None else transform
        self.seed = seed

    @abstractmethod
    def __len__(self) -> int:
        """Return the number of samples."""

    @abstractmethod
    def read(self, index: int) -> RawSample:
        """Read the study at ``index`` (0 to ``len - 1``) as it is stored."""

    @property
    @abstractmethod
    def labels(self) -> NDArray[np.float32]:
        """Labels of all samples, float32 ``[N, C]``, without reading an image."""

    @property
    def mask_names(self) -> tuple[str, ...]:
        """Names of the ``masks`` of a sample, in their order; empty where samples hold none."""
        return ()

    @property
    @abstractmethod
    def patient_ids(self) -> list[str]:
        """Patient of each sample, without reading an image."""

    def text_lengths(self) -> NDArray[np.int64]:
        """Words of each sample's free-text report, int64 ``[N]``, without reading an image.

        Raises:
            ConfigError: If the data set has no texts.
        """
        msg = f"{type(self).__name__} has no free texts to sort by length; leave data.bucket_texts off"
        raise ConfigError(msg)

    def __getitem__(self, key: int | SampleKey) -> dict[str, Any]:
        """Return one sample; a plain int means epoch 0.

        Raises:
            IndexError: If there is no such sample.
            DatasetFormatError: If the transform does not give uint8 ``[image_size, image_size]``.
        """
        return self._samples([key])[0]

    def __getitems__(self, keys: Sequence[int | SampleKey]) -> list[dict[str, Any]]:
        """Return the samples of a batch, as a loader asks for them; each of their tensors is a row of one for all.

        Raises:
            IndexError: As for one sample.
            DatasetFormatError: As for one sample.
        """
        if type(self).__getitem__ is not ChestXrayDataset.__getitem__:
            return [self[key] for key in keys]  # a subclass makes samples in its own way
        return self._samples(keys)

    def _samples(self, keys: Sequence[int | SampleKey]) -> list[dict[str, Any]]:
        # numpy asks for large pages: the system takes as long for new small ones as a warp into them
        images = np.empty((len(keys), 1, self.image_size, self.image_size), np.uint8)
        samples = [self._sample(key, image[0]) for key, image in zip(keys, images, strict=True)]
        for sample, image in zip(samples, torch.from_numpy(images).unbind(), strict=True):
            sample["image"] = image
        for name, dtype in _ROWS.items():
            having = [sample for sample in samples if name in sample]
            if having:
                rows = torch.from_numpy(np.array([sample[name] for sample in having], dtype))
                for sample, row in zip(having, rows.unbind(), strict=True):
                    sample[name] = row
        return samples

    def _sample(self, key: int | SampleKey, pixels: NDArray[np.uint8]) -> dict[str, Any]:
        """Return one sample without tensors, its image written to ``pixels`` uint8 ``[S, S]``."""
        index, epoch = key if isinstance(key, SampleKey) else (int(key), 0)
        size = len(self)
        if not -size <= index < size:
            msg = f"sample {index} does not exist: the split has {size} samples"
            raise IndexError(msg)
        index %= size
        raw = self.read(index)
        done = self._transform_into(pixels, raw, _rng(self.seed, epoch, index))
        sample: dict[str, Any] = {
            "image": pixels,
            "report": raw.report,
            "text": raw.text,
            "labels": raw.labels,
            "index": index,
            "study_id": raw.study_id,
            "patient_id": raw.patient_id,
            "view": raw.view,
        }
        if done.matrix is not None:
            sample["matrix"] = done.matrix
            sample["stored_size"] = raw.image.shape
        if done.masks is not None:
            sample["masks"] = torch.from_numpy(done.masks)
        return sample

    def _transform_into(self, pixels: NDArray[np.uint8], raw: RawSample, rng: np.random.Generator) -> Transformed:
        own = self.transform
        plain = type(own) in (EvalTransform, TrainTransform)  # a subclass may do more in __call__
        if plain and isinstance(own, (EvalTransform, TrainTransform)) and own.image_size == self.image_size:
            _check_bytes(raw.image, raw.study_id, "it was read as")
            return own.into(pixels, raw.image, raw.masks, rng)
        done = self.transform(raw.image, raw.masks, rng)
        _check_bytes(done.image, raw.study_id, "the transform gave")
        if done.image.shape != pixels.shape:
            msg = (
                f"study '{raw.study_id}': the transform gave an image of shape {list(done.image.shape)}, "
                f"expected [{self.image_size}, {self.image_size}]; give it the image_size of the data set"
            )
            raise DatasetFormatError(msg)
        np.copyto(pixels, done.image)
        return done


def _check_bytes(image: NDArray[Any], study: str, what: str) -> None:
    if image.dtype != np.uint8:
        msg = f"study '{study}': {what} {image.dtype}, expected uint8 grey levels, 0 (black) to 255"
        raise DatasetFormatError(msg)


def collate(samples: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Make a batch: tensors are stacked along a new first dimension, everything else becomes a list.

    Only keys that every sample has are kept, so that a study without masks does not break a batch. Rows of one tensor
    (:meth:`ChestXrayDataset.__getitems__`) are not copied: the batch is the memory of its samples.
    """
    shared = [key for key in samples[0] if all(key in sample for sample in samples)]
    columns = {key: [sample[key] for sample in samples] for key in shared}
    return {key: _stack(v) if isinstance(v[0], torch.Tensor) else v for key, v in columns.items()}


def _stack(tensors: list[torch.Tensor]) -> torch.Tensor:
    whole = tensors[0]._base
    if whole is not None and whole.shape == (len(tensors), *tensors[0].shape) and whole.is_contiguous():
        start, row = whole.data_ptr(), whole[0].nbytes
        strides = whole.stride()[1:]  # a row that was turned begins where it began before
        if all(
            t._base is whole and t.data_ptr() == start + k * row and t.stride() == strides
            for k, t in enumerate(tensors)
        ):
            return whole
    return torch.stack(tensors)


def _rng(seed: int, epoch: int, index: int) -> np.random.Generator:
    """Draws of a sample. An array of words gives the same stream as a list in two thirds of the time."""
    entropy = [seed, epoch, index]
    return np.random.default_rng(
        np.array(entropy, np.uint32) if min(entropy) >= 0 and max(entropy) < 1 << 32 else entropy
    )
