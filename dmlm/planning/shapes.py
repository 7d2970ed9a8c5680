"""The shapes that decide what a step costs, read from a configuration."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dmlm.errors import ConfigError, DMLMError
from dmlm.planning.config_files import read_configs

_VIT = re.compile(r"(?:vit|deit3?)_(tiny|small|base|large|huge)_patch(\d+)(?:_.*)?")
_VIT_SIZES = {"tiny": (192, 12), "small": (384, 12), "base": (768, 12), "large": (1024, 24), "huge": (1280, 32)}
_BERT = {"hidden_size": 768, "num_hidden_layers": 12, "intermediate_size": 3072, "vocab_size": 30_522}
_KNOWN_TEXT = {
    "emilyalsentzer/Bio_ClinicalBERT": {"vocab_size": 28_996},
    "microsoft/BiomedNLP-BiomedBERT-base-uncased-abstract-fulltext": {},
    "bert-base-uncased": {},
    "bert-base-cased": {"vocab_size": 28_996},
}
WIDE = 384
"""From here on ``auto`` checkpointing is selective; :mod:`dmlm.models.checkpointing` has it too, and imports torch."""
_MASK_RATIOS = {"RandomMask": 0.3, "MAEMask": 0.75, "MaskVLMMask": 0.6, "NoMask": 0.0}


@dataclass(frozen=True)
class Tower:
    """A transformer.

    Args:
        width: Features of a token.
        depth: Number of layers.
        inner: Width inside the MLP of a layer.
        checkpointing: True: the inside of layers is computed again in the backward pass; ``selective``: all of it but
            the matrix products; ``auto``: selective where layers are wide.
    """

    width: int = 768
    depth: int = 12
    inner: int = 3072
    checkpointing: bool | str = "auto"

    @property
    def keeps(self) -> bool | str:
        """What layers compute again, with ``auto`` resolved as :mod:`dmlm.models.checkpointing` does."""
        return ("selective" if self.width >= WIDE else False) if self.checkpointing == "auto" else self.checkpointing


@dataclass(frozen=True)
class Shapes:
    """Everything that decides the cost of a step; the defaults are those of the classes, which are the paper's.

    Args:
        image: ViT.
        patch_side: Pixels of a patch, across.
        patches: Patches of an image.
        prefix: Class and register tokens.
        text: BERT-like transformer.
        vocabulary: Token embeddings.
        positions: Position embeddings of the text.
        max_length: Most tokens of a text.
        embed_dim: Width of the distributions.
        head: ``attn`` or ``mlp``.
        predictor: Cross-modal predictor.
        shared_predictor: One stack of blocks for both directions.
        image_mask: Share of the patches that is hidden.
        text_mask: Share of the words that is hidden.
        masked: Whether there is masked prediction.
        full_pass: Whether the student encodes full views (with gradient).
        full_conditions: Whether the predictor reads full views of the other modality.
        full_target: Whether the student's own full view is the target.
        teacher: Whether a teacher with weights of its own encodes full views.
        chunk: Pairs whose activations are held at a time (``model.chunk_size``); 0 for those of the whole batch.
    """

    image: Tower = field(default_factory=Tower)
    patch_side: int = 16
    patches: int = 196
    prefix: int = 1
    text: Tower = field(default_factory=Tower)
    vocabulary: int = 28_996
    positions: int = 512
    max_length: int = 512
    embed_dim: int = 768
    head: str = "attn"
    predictor: Tower = field(default_factory=lambda: Tower(384, 4, 1536))
    shared_predictor: bool = False
    image_mask: float = 0.3
    text_mask: float = 0.3
    masked: bool = True
    full_pass: bool = True
    full_conditions: bool = True
    full_target: bool = False
    teacher: bool = True
    chunk: int = 0


def read_shapes(configs: Sequence[Path]) -> tuple[Shapes, dict[str, Any]]:
    """Read stacked configuration files of ``dmlm fit``.

    Args:
        configs: YAML files; later ones win key by key, as on the command line.

    Returns:
        The shapes, and what else the files say about the run (``epochs``, ``max_steps``, ``batch`` per process,
        ``precision``), where they do.

    Raises:
        ConfigError: If a file cannot be read, or has encoders whose shape is not known here.
    """
    merged = read_configs(configs)
    try:
        return shapes_of(merged), _run_of(merged)
    except DMLMError:
        raise
    except (AttributeError, TypeError, ValueError, ArithmeticError) as error:
        files = ", ".join(map(str, configs))
        reason = " ".join(str(error).split())[:100]
        msg = f"{files}: an option has a value of the wrong kind ({reason}); `dmlm fit --config ...` says which"
        raise ConfigError(msg) from error


def shapes_of(config: Mapping[str, Any]) -> Shapes:
    """Shapes of a configuration as plain data; see :func:`read_shapes`."""
    section = config.get("model")
    task = str(section.get("class_path") or "") if isinstance(section, Mapping) else ""
    if task.rpartition(".")[0] in ("", "dmlm.tasks") and task.rpartition(".")[2] not in ("", "DMLMPretrainModule"):
        msg = f"model.class_path is {task}: dmlm plan knows the steps of pre-training with DMLMPretrainModule only"
        raise ConfigError(msg)
    model = _arguments(section)
    encoder = _arguments(model.get("encoder"))
    image, text, objective = encoder.get("image"), encoder.get("text"), model.get("objective") or {}
    embed_dim = int(encoder.get("embed_dim", 768))
    masked = float(objective.get("masked_weight", 0.2)) > 0
    conditioning = str(objective.get("conditioning", "cross_full")).removeprefix("cross_")
    target = objective.get("target", "ema")
    full = not masked or "full" in (objective.get("align_view", "full"), conditioning) or target in ("online", "shared")
    predictor = _arguments(model.get("predictor"))
    width = int(predictor.get("width", 384))
    compiled = model.get("compile") == "all"
    tower = Tower(width, int(predictor.get("depth", 4)), 4 * width, _checkpointing(predictor, compiled=False))
    return Shapes(
        **_image_shapes(image, compiled),
        **_text_shapes(text, compiled),
        embed_dim=embed_dim,
        head=str(encoder.get("head", "attn")),
        predictor=tower,
        shared_predictor=bool(predictor.get("share_directions")),
        image_mask=_mask_ratio(model.get("image_masker")),
        text_mask=float(_arguments(model.get("text_masker")).get("ratio", 0.3)),
        masked=masked,
        full_pass=full,
        full_conditions=masked and conditioning == "full",
        full_target=masked and target in ("online", "shared"),
        teacher=masked and target in ("ema", "frozen"),
        chunk=int(model.get("chunk_size") or 0),
    )


def _image_shapes(section: Any, compiled: bool) -> dict[str, Any]:  # noqa: ANN401
    given = _arguments(section, "TimmImageEncoder", "model.encoder.image")
    name, kwargs = str(given.get("model_name", "vit_base_patch16_224")), given.get("model_kwargs") or {}
    known = _VIT.fullmatch(name.split(".")[0])
    if known is None:
        msg = f"dmlm plan knows the shapes of ViTs (vit_base_patch16_224, ...), not of '{name}': model.encoder.image"
        raise ConfigError(msg)
    width, depth = _VIT_SIZES[known[1]]
    width, depth = int(kwargs.get("embed_dim", width)), int(kwargs.get("depth", depth))
    side = int(kwargs.get("patch_size") or known[2])
    inner = int(float(kwargs.get("mlp_ratio", 4.0)) * width)
    return {
        "image": Tower(width, depth, inner, _checkpointing(given, compiled)),
        "patch_side": side,
        "patches": (int(given.get("image_size", 224)) // side) ** 2,
        "prefix": int(kwargs.get("class_token", True)) + int(kwargs.get("reg_tokens", 0)),
    }


def _text_shapes(section: Any, compiled: bool) -> dict[str, Any]:  # noqa: ANN401
    given = _arguments(section, "HFTextEncoder", "model.encoder.text")
    name, config = str(given.get("model_name", "emilyalsentzer/Bio_ClinicalBERT")), dict(given.get("hf_config") or {})
    if given.get("pretrained", True) and name not in _KNOWN_TEXT:
        msg = (
            f"dmlm plan does not know the shape of '{name}' (it knows {', '.join(_KNOWN_TEXT)}); describe it with "
            "model.encoder.text.pretrained: false and hf_config"
        )
        raise ConfigError(msg)
    if given.get("tokenizer") == "library":
        config.setdefault("vocab_size", _library_vocabulary())
    shape = {**_BERT, **_KNOWN_TEXT.get(name, {}), **config}
    tower = Tower(
        int(shape["hidden_size"]),
        int(shape["num_hidden_layers"]),
        int(shape["intermediate_size"]),
        _checkpointing(given, compiled),
    )
    return {
        "text": tower,
        "vocabulary": int(shape["vocab_size"]),
        "positions": int(shape.get("max_position_embeddings", 512)),
        "max_length": int(given.get("max_length", 512)),
    }


def _checkpointing(given: Mapping[str, Any], compiled: bool) -> bool | str:
    """The option of a tower; what a compiler keeps instead of ``auto`` is not known, everything is the most."""
    kind: bool | str = given.get("gradient_checkpointing", "auto")
    return False if compiled and kind == "auto" else kind


def _library_vocabulary() -> int:
    from dmlm.reports.vocabulary import vocabulary_path

    size = len(vocabulary_path().read_text(encoding="utf-8").splitlines())
    return size + -size % 8


def _mask_ratio(section: Any) -> float:  # noqa: ANN401
    """Share of hidden patches: of the strategy where it is fixed, else the ``ratio`` that it is given, else 0.3."""
    name = str(section.get("class_path", "")) if isinstance(section, Mapping) else str(section or "")
    ratio = _arguments(section).get("ratio", _MASK_RATIOS.get(name.rpartition(".")[2], 0.3))
    return sum(ratio) / len(ratio) if isinstance(ratio, (list, tuple)) else float(ratio)


def _arguments(section: Any, expected: str | None = None, where: str = "") -> Mapping[str, Any]:  # noqa: ANN401
    """Constructor arguments of ``{class_path, init_args}``; of nothing, none."""
    if not isinstance(section, Mapping):
        return {}
    name = str(section.get("class_path", expected)).rpartition(".")[2]
    if expected is not None and name != expected:
        msg = f"dmlm plan reads a {expected} as {where}, got '{section.get('class_path')}'"
        raise ConfigError(msg)
    inner = section.get("init_args", {k: v for k, v in section.items() if k != "class_path"})
    return inner or {}


def _run_of(config: Mapping[str, Any]) -> dict[str, Any]:
    trainer, data = config.get("trainer") or {}, _arguments(config.get("data"))
    found = {
        "epochs": trainer.get("max_epochs"),
        "max_steps": trainer.get("max_steps"),
        "precision": trainer.get("precision"),
        "batch": data.get("batch_size"),
        "accumulate": trainer.get("accumulate_grad_batches"),
    }
    return {name: value for name, value in found.items() if value is not None}
