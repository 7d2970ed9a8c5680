"""Text models of transformers: built from a configuration, or loaded with their weights and tokenizer."""

from __future__ import annotations

import logging
from collections.abc import Callable
from difflib import get_close_matches
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from dmlm.errors import ConfigError, PretrainedWeightsError
from dmlm.models.checkpointing import Checkpointing, run

if TYPE_CHECKING:
    from tokenizers import Tokenizer

logger = logging.getLogger(__name__)


def from_config(hf_config: dict[str, Any]) -> Any:  # noqa: ANN401 - transformers has no common typed base
    """Build a model with random weights.

    Args:
        hf_config: ``model_type`` and what its configuration class takes.

    Raises:
        ConfigError: If transformers cannot build it.
    """
    from transformers import AutoConfig, AutoModel

    arguments = dict(hf_config)
    model_type = arguments.pop("model_type", None)
    try:
        config = AutoConfig.for_model(model_type, **arguments)
        _warn_of_unknown(AutoConfig.for_model(model_type), arguments)
        return AutoModel.from_config(config, **_without_pooler(model_type))  # type: ignore[no-untyped-call]
    except Exception as error:  # its checks of types, then whatever layers of such sizes raise
        reason = " ".join(str(error.__cause__ or error).split())[:200] or type(error).__name__
        msg = f"transformers cannot build hf_config with model_type '{model_type}': {reason}"
        raise ConfigError(msg) from error


def _warn_of_unknown(defaults: Any, given: dict[str, Any]) -> None:  # noqa: ANN401
    """Name the keys that transformers would silently ignore; a checkpoint of another version may hold some."""
    known = {*defaults.to_dict(), *vars(defaults), *defaults.attribute_map, "num_labels", "torch_dtype"}
    for key in sorted(set(given) - known):
        near = get_close_matches(key, known, 1)
        hint = f"; did you mean '{near[0]}'?" if near else ""
        logger.warning("hf_config: a %s has no '%s', which changes nothing%s", defaults.model_type, key, hint)


def from_pretrained(name: str, changes: dict[str, Any]) -> tuple[Any, tuple[Tokenizer, dict[str, str]]]:
    """Load a model with its weights.

    Args:
        name: Hub id or folder.
        changes: Values of the configuration that differ from the stored ones.

    Returns:
        The model, and its tokenizer with the names of the special tokens that it has.

    Raises:
        PretrainedWeightsError: If they cannot be loaded.
    """
    from transformers import AutoConfig, AutoModel, AutoTokenizer

    try:
        model_type = AutoConfig.from_pretrained(name).model_type
        model = AutoModel.from_pretrained(name, dtype=torch.float32, **_without_pooler(model_type), **changes)
        tokenizer = AutoTokenizer.from_pretrained(name, use_fast=True)
    except Exception as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        msg = (
            f"the pre-trained text encoder '{name}' could not be loaded ({reason}); offline, pass a local folder as "
            "model_name, or pretrained=false with hf_config (--model.encoder.text.pretrained false)"
        )
        raise PretrainedWeightsError(msg) from error
    special = {"pad": tokenizer.pad_token, "mask": tokenizer.mask_token}
    return model, (tokenizer.backend_tokenizer, {role: token for role, token in special.items() if token})


def checkpoint_layers(model: Any, kind: Checkpointing) -> None:  # noqa: ANN401
    """Let a model compute the inside of its layers, or a part of it, again in the backward pass instead of keeping it.

    Done here and not by the model's own method, which also has the embeddings ask for gradients: layers that are frozen
    would be run backwards.

    Raises:
        ConfigError: If the model cannot do that, and ``kind`` does not leave it open.
    """
    layers = [module for module in model.modules() if hasattr(module, "gradient_checkpointing")]
    if not kind:
        return
    if not (layers and model.supports_gradient_checkpointing):
        if kind == "auto":
            return
        msg = f"gradient_checkpointing: {type(model).__name__} has none in transformers; leave it off"
        raise ConfigError(msg)
    for layer in layers:
        layer.gradient_checkpointing, layer._gradient_checkpointing_func = True, partial(_run, kind)
    if getattr(model.config, "use_cache", None):
        model.config.use_cache = False  # nothing is generated here; transformers would warn that it cannot do both


def _run(kind: Checkpointing, function: Callable[..., Any], *arguments: Any) -> Any:  # noqa: ANN401
    """Run a layer as transformers hands it over: a method of it, with some of its arguments bound."""
    inner = function.func if isinstance(function, partial) else function
    bound = (*(function.args if isinstance(function, partial) else ()), getattr(inner, "__self__", None), inner)
    layer = next((one for one in bound if isinstance(one, nn.Module)), nn.Module())
    return run(function, kind, layer, *arguments)


def _without_pooler(model_type: str | None) -> dict[str, Any]:
    return {"add_pooling_layer": False} if model_type in {"bert", "roberta", "xlm-roberta"} else {}
