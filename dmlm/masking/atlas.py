"""The atlas: where anatomical zones lie on an average frontal film, and which of them each finding concerns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from dmlm.errors import ConfigError
from dmlm.io.yaml_text import parse_yaml
from dmlm.reports.knowledge import canonical_name

SIDES = ("right", "left", "middle")
FRAME = 64
"""Cells of a map along each axis of the film."""

LUNG_SPAN = (0.135, 0.125, 0.865, 0.805)
"""Box of both lungs on the average film, x0, y0, x1, y1; what located lungs are laid onto."""

LUNG_MIDDLE = 0.5025
"""Column midway between the lungs on the average film."""

_BLUR = 0.05  # anatomy differs by 0.03 to 0.08 between patients
_SECONDARY = 0.5
_KEPT = 2048  # maps of 16 KiB


class Place(NamedTuple):
    """A zone that matters.

    Args:
        zone: Name of a zone of the atlas.
        side: ``"right"`` or ``"left"`` (the patient's); None means all of it.
        weight: How much it matters, above 0 up to 1.
    """

    zone: str
    side: str | None = None
    weight: float = 1.0


Guidance = tuple[Place, ...]
"""What a text says of where to look; empty where it says nothing."""

Box = tuple[float, float, float, float]


class Atlas:
    """Zones and the findings that concern them.

    Args:
        zones: Boxes (x0, y0, x1, y1 as fractions of the film) by side, by zone.
        findings: Zones with their weights, by canonical name of a finding.
    """

    def __init__(
        self, zones: Mapping[str, Mapping[str, Sequence[Box]]], findings: Mapping[str, Mapping[str, float]]
    ) -> None:
        self.zones, self.findings = dict(zones), dict(findings)
        self._by_name = {name.lower(): weights for name, weights in self.findings.items()}
        self._maps: dict[Guidance, Tensor] = {}

    def places(self, finding: str, side: str | None = None) -> Guidance:
        """Return where a finding may be seen; nothing where the atlas does not list it.

        Args:
            finding: Any name of the finding.
            side: The patient's side to which zones that have one are restricted; None leaves both.
        """
        weights = self._by_name.get(canonical_name(finding).lower(), {})
        return tuple(Place(zone, side, weight) for zone, weight in weights.items())

    def relevance(self, guidance: Guidance) -> Tensor:
        """Return the map of a guidance, float32 ``(64, 64)`` over the average film: 0 to 1, soft at the borders.

        Places overlap by their maximum. The map is cached; do not change it.
        """
        key = tuple(sorted(set(guidance), key=str))
        found = self._maps.get(key)
        if found is None:
            if len(self._maps) >= _KEPT:
                self._maps.clear()
            found = self._maps[key] = self._draw(key)
        return found

    def _draw(self, guidance: Guidance) -> Tensor:
        weights = torch.zeros(FRAME, FRAME)
        for place in guidance:
            sides = self.zones[place.zone]
            # a zone in the middle has no side to be restricted to
            for side in SIDES if place.side is None else (place.side, "middle"):
                for box in sides.get(side, ()):
                    weights = torch.maximum(weights, place.weight * _inside(box))
        return _blurred(weights)


@lru_cache(maxsize=16)
def load_atlas(path: str | None = None) -> Atlas:
    """Load the library's atlas and, over it, a user's YAML file of the same form (``dmlm/masking/atlas.yaml``).

    The file may have ``zones`` (boxes by zone and side) and ``findings`` (``primary`` and ``secondary`` zones by name);
    an entry replaces the library's entry of that name.

    Args:
        path: The user's file; None loads the library alone.

    Raises:
        ConfigError: If the file cannot be read or does not have that form; the message names file and key.
    """
    own = files("dmlm.masking").joinpath("atlas.yaml")
    zones, findings = _read(own.read_text(encoding="utf-8"), "atlas.yaml", {})
    if path is not None:
        try:
            text = Path(path).expanduser().read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            msg = f"{path}: the atlas cannot be read ({error}); give the path of a UTF-8 YAML file"
            raise ConfigError(msg) from error
        changed, listed = _read(text, path, zones)
        zones, findings = {**zones, **changed}, {**findings, **listed}
    return Atlas(zones, findings)


def _read(
    text: str, source: str, known: Mapping[str, Any]
) -> tuple[dict[str, dict[str, list[Box]]], dict[str, dict[str, float]]]:
    data = parse_yaml(text, source)
    if not isinstance(data, dict) or not data or not set(data) <= {"zones", "findings"}:
        msg = f"{source}: expected mappings 'zones' and 'findings' at the top"
        raise ConfigError(msg)
    zones = {str(name): _zone(f"{source}: zones.{name}", value) for name, value in _items(data, "zones", source)}
    findings = {
        canonical_name(str(name)): _finding(f"{source}: findings.{name}", value, {*known, *zones})
        for name, value in _items(data, "findings", source)
    }
    return zones, findings


def _items(data: Mapping[str, Any], key: str, source: str) -> list[tuple[Any, Any]]:
    part = data.get(key) or {}
    if not isinstance(part, dict):
        msg = f"{source}: {key}: expected a mapping, got {type(part).__name__}"
        raise ConfigError(msg)
    return list(part.items())


def _zone(where: str, value: Any) -> dict[str, list[Box]]:  # noqa: ANN401 - YAML values are anything
    if not isinstance(value, dict) or not value or not set(value) <= set(SIDES):
        msg = f"{where}: expected boxes under right and left, or under middle; got {str(value)[:80]!r}"
        raise ConfigError(msg)
    return {
        side: [_box(f"{where}.{side}", box) for box in _list(f"{where}.{side}", boxes, "boxes")]
        for side, boxes in value.items()
    }


def _list(where: str, value: Any, of: str) -> list[Any]:  # noqa: ANN401
    if value is not None and not isinstance(value, list):
        msg = f"{where}: expected a list of {of}, got {str(value)[:80]!r}"
        raise ConfigError(msg)
    return value or []


def _box(where: str, value: Any) -> Box:  # noqa: ANN401
    numbers = isinstance(value, list) and len(value) == 4 and all(isinstance(item, (int, float)) for item in value)
    if not numbers or not (0 <= value[0] < value[2] <= 1 and 0 <= value[1] < value[3] <= 1):
        msg = f"{where}: expected a box [x0, y0, x1, y1] of fractions with 0 <= x0 < x1 <= 1; got {str(value)[:80]!r}"
        raise ConfigError(msg)
    return float(value[0]), float(value[1]), float(value[2]), float(value[3])


def _finding(where: str, value: Any, zones: set[str]) -> dict[str, float]:  # noqa: ANN401
    if not isinstance(value, dict) or not value or not set(value) <= {"primary", "secondary"}:
        msg = f"{where}: expected lists primary and secondary of zones; got {str(value)[:80]!r}"
        raise ConfigError(msg)
    weights: dict[str, float] = {}
    for key, weight in (("secondary", _SECONDARY), ("primary", 1.0)):
        for zone in _list(f"{where}.{key}", value.get(key), "zones"):
            if not isinstance(zone, str) or zone not in zones:
                msg = f"{where}.{key}: unknown zone '{str(zone)[:60]}'; zones are {', '.join(sorted(zones))}"
                raise ConfigError(msg)
            weights[zone] = weight
    return weights


def _inside(box: Box) -> Tensor:
    """1 inside a box, the covered share in cells on its border: float32 ``(64, 64)``."""
    low = torch.arange(FRAME) / FRAME
    covered = [
        (torch.minimum(low + 1 / FRAME, torch.tensor(end)) - torch.maximum(low, torch.tensor(start))).clamp_min(0.0)
        for start, end in ((box[0], box[2]), (box[1], box[3]))
    ]
    return FRAME * FRAME * covered[1][:, None] * covered[0][None, :]


def _blurred(weights: Tensor) -> Tensor:
    sigma = _BLUR * FRAME
    half = round(2.5 * sigma)
    kernel = torch.exp(-0.5 * (torch.arange(-half, half + 1) / sigma) ** 2)
    kernel = kernel / kernel.sum()
    soft = F.conv2d(weights[None, None], kernel[None, None, :, None], padding=(half, 0))
    return F.conv2d(soft, kernel[None, None, None, :], padding=(0, half))[0, 0]
