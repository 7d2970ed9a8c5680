"""`ObjectiveConfig`: what is minimised, as plain data that YAML and the command line can set."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from dmlm.distributions import Reduce
from dmlm.errors import ConfigError
from dmlm.objectives.alignment import AlignmentKind, Positives, check_scale
from dmlm.objectives.masked_prediction import Direction
from dmlm.objectives.teacher import TargetKind, check_momentum


@dataclass(frozen=True)
class ObjectiveConfig:
    """What is minimised. The paper's letter is ``examples/paper/letter.yaml``; these defaults do not collapse.

    Args:
        masked_weight: Lambda of Eq. 5: weight of masked prediction; alignment has the rest. 0 skips the masked passes,
            1 skips alignment.
        masked_start: Share of the training (0 to below 1) that passes before masked prediction joins in; alignment
            is alone until then, and a step costs less than half. For towers from scratch, whose first distributions
            say nothing that would be worth predicting.
        kl_direction: ``target_pred`` (its variance grows with the error), ``pred_target`` (the paper's, whose variance
            says nothing of it), ``symmetric``, ``mse``.
        reduce_dims: ``mean`` or ``sum`` over the width inside the KL.
        beta_nll: Tempers the KL where the variances that it divides by become small; 0 is the plain KL.
        text_weight: Weight of masked tokens inside masked prediction.
        image_weight: Weight of masked patches.
        target: Where true distributions come from: ``ema``, ``frozen``, ``online``, ``shared``.
        momentum: EMA momentum at the start and at the end of training, both in 0..1.
        conditioning: ``cross_full`` reads the full view of the other modality, ``joint`` its masked view.
        alignment: ``contrastive``, ``cosine`` (no variances), ``csd_bce`` or ``attract`` (the letter of Eq. 4, which
            collapses).
        positives: ``findings``, ``same_text`` or ``identity``.
        align_view: Align ``full`` or ``masked`` views. ``masked`` with ``joint`` needs no full student pass.
        local_weight: Weight, inside alignment, of the contrast of words with patches (GLoRIA-like); 0 leaves it out.
        scale_init: Alignment scale at the start, above 0 up to ``scale_max``.
        scale_max: Largest alignment scale.
        vib_weight: Weight of KL(global element || N(0, I)), which guards the variances; without alignment it acts on
            variances only, as nothing would hold the means away from 0.
        token_anchor: Weight of the masked tokens' cross-entropy; 0 with ``masked_weight`` 0.
        pixel_anchor: Weight of the masked patches' pixel error; 0 with ``masked_weight`` 0.

    Raises:
        ConfigError: If a value is out of range or a combination cannot learn.
    """

    masked_weight: float = 0.2
    masked_start: float = 0.0
    kl_direction: Direction = "target_pred"
    reduce_dims: Reduce = "mean"
    beta_nll: float = 0.0
    text_weight: float = 1.0
    image_weight: float = 1.0
    target: TargetKind = "ema"
    momentum: tuple[float, float] = (0.996, 1.0)
    conditioning: Literal["cross_full", "joint"] = "cross_full"
    alignment: AlignmentKind = "contrastive"
    positives: Positives = "findings"
    align_view: Literal["full", "masked"] = "full"
    local_weight: float = 0.0
    scale_init: float = 7.14
    scale_max: float = 50.0
    vib_weight: float = 1e-4
    token_anchor: float = 0.0
    pixel_anchor: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.masked_weight <= 1:
            msg = f"masked_weight (lambda of Eq. 5) must lie in 0..1, got {self.masked_weight}"
            raise ConfigError(msg)
        if not 0 <= self.masked_start < 1 or (self.masked_start and self.masked_weight == 1):
            msg = (
                "masked_start must be at least 0 and below 1, and 0 with masked_weight 1 (nothing would train before "
                f"it), got {self.masked_start}"
            )
            raise ConfigError(msg)
        for name in ("text_weight", "image_weight", "local_weight", "vib_weight", "token_anchor", "pixel_anchor"):
            if not 0 <= getattr(self, name) < math.inf:
                msg = f"{name} is a weight and must be finite and at least 0, got {getattr(self, name)}"
                raise ConfigError(msg)
        if self.masked_weight == 0 and (self.token_anchor or self.pixel_anchor):
            msg = (
                "token_anchor and pixel_anchor belong to masked prediction and must be 0 with masked_weight 0, "
                f"got {self.token_anchor} and {self.pixel_anchor}"
            )
            raise ConfigError(msg)
        check_momentum(self.momentum)
        check_scale(self.scale_init, self.scale_max)
        for name, allowed in (("conditioning", ("cross_full", "joint")), ("align_view", ("full", "masked"))):
            if getattr(self, name) not in allowed:
                msg = f"{name} must be {' or '.join(allowed)}, got '{getattr(self, name)}'"
                raise ConfigError(msg)
        if self.local_weight and (self.masked_weight == 1 or self.align_view == "masked"):
            msg = (
                "local_weight above 0 needs masked_weight below 1 and align_view full (words are compared with all "
                f"patches), got {self.local_weight}"
            )
            raise ConfigError(msg)
        if self.target == "online" and (self.masked_weight == 1 or self.alignment == "attract"):
            msg = (
                "target=online collapses without a contrastive alignment: use target=ema, or alignment=contrastive or "
                "csd_bce with masked_weight below 1 (target=shared is there to watch the collapse)"
            )
            raise ConfigError(msg)
