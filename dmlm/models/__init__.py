"""Models as plain torch modules: encoders whose elements are Gaussians, the predictor, loading and saving.

The task modules are reachable from here too, for those who look for them under ``models``; they load Lightning on first
use.
"""

from __future__ import annotations

from typing import Any

from dmlm.distributions import Gaussian
from dmlm.models.classifier import ClassifierHead, image_features
from dmlm.models.encoder import ProbabilisticEncoder
from dmlm.models.heads import GaussianHead
from dmlm.models.image import ImageEncoder, ImageFeatures, TimmImageEncoder
from dmlm.models.predictor import CrossModalPredictor
from dmlm.models.pretrained import from_pretrained, save_pretrained
from dmlm.models.segmenter import Segmenter
from dmlm.models.text import HFTextEncoder, TextEncoder, TextFeatures
from dmlm.models.tiles import TileEncoder
from dmlm.models.tokens import TokenBatch

_LAZY = {
    "ModelCard": "dmlm.models.card",
    "export_onnx": "dmlm.models.onnx_export",
    "from_hub": "dmlm.models.hub",
    "push_to_hub": "dmlm.models.hub",
}
_TASKS = (
    "ClassificationModule",
    "DMLMPretrainModule",
    "EdemaGradingModule",
    "SegmentationModule",
    "UncertaintyModule",
    "ZeroShotModule",
)

__all__ = [
    "ClassifierHead",
    "CrossModalPredictor",
    "Gaussian",
    "GaussianHead",
    "HFTextEncoder",
    "ImageEncoder",
    "ImageFeatures",
    "ProbabilisticEncoder",
    "Segmenter",
    "TextEncoder",
    "TextFeatures",
    "TileEncoder",
    "TimmImageEncoder",
    "TokenBatch",
    "from_pretrained",
    "image_features",
    "save_pretrained",
]


def __getattr__(name: str) -> Any:  # noqa: ANN401
    home = "dmlm.tasks" if name in _TASKS else _LAZY.get(name)
    if home is not None:
        from importlib import import_module

        return getattr(import_module(home), name)
    msg = f"module 'dmlm.models' has no attribute '{name}'"
    raise AttributeError(msg)


def __dir__() -> list[str]:
    return sorted([*globals(), *_TASKS, *_LAZY])
