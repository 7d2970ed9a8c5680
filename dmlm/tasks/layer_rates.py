"""Rates that fall from the last layer of the image tower to the first (layer-wise decay, as BEiT and MAE fine-tune)."""

from __future__ import annotations

from typing import Any

from torch import nn

from dmlm.errors import ConfigError


def layer_numbers(tower: nn.Module) -> dict[str, int]:
    """Number of the layer that each parameter of an image tower belongs to: 0 is the stem.

    Args:
        tower: An :class:`dmlm.models.ImageEncoder`; those of timm say how they are layered (``group_matcher``).

    Returns:
        Layer by parameter name, relative to the tower.

    Raises:
        ConfigError: If the tower does not say how it is layered.
    """
    from timm.models import group_parameters

    model = getattr(tower, "model", None)
    if not isinstance(model, nn.Module) or not hasattr(model, "group_matcher"):
        msg = f"optim.layer_decay needs an image encoder of timm, {type(tower).__name__} does not say its layers; use 1"
        raise ConfigError(msg)
    timm_model: Any = model
    found: dict[Any, list[str]] = group_parameters(timm_model, timm_model.group_matcher(coarse=False))
    ordered = sorted(found, key=lambda layer: layer if isinstance(layer, tuple) else (layer,))
    return {f"model.{name}": number for number, layer in enumerate(ordered) for name in found[layer]}


def by_layer(
    groups: list[dict[str, Any]], names: dict[int, str], prefix: str, tower: nn.Module, decay: float
) -> list[dict[str, Any]]:
    """Split parameter groups by layer of the tower; layer ``l`` of ``L`` gets ``decay ** (L - 1 - l)`` of its rate.

    Args:
        groups: Groups of an optimiser, with ``params``, ``name`` and ``lr``.
        names: Name of each parameter in the task, by ``id``.
        prefix: What the tower's parameters start with, e.g. ``"encoder.image."``.
        tower: The image tower.
        decay: Factor per layer, above 0 up to 1.

    Returns:
        New groups; parameters outside the tower stay as they are.
    """
    numbers = layer_numbers(tower)
    last = max(numbers.values())
    split: list[dict[str, Any]] = []
    for group in groups:
        by_number: dict[int, list[nn.Parameter]] = {}
        for parameter in group["params"]:
            name = names[id(parameter)]
            inside = name.startswith(prefix)
            by_number.setdefault(numbers[name.removeprefix(prefix)] if inside else -1, []).append(parameter)
        for number, parameters in sorted(by_number.items()):
            if number < 0:
                split.append({**group, "params": parameters})
            else:
                rate = group["lr"] * decay ** (last - number)
                split.append({**group, "params": parameters, "name": f"{group['name']}_layer{number}", "lr": rate})
    return split
