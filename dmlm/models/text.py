"""Text encoders: any BERT-like transformers model, computed in groups of similar length."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dmlm._config import Configurable
from dmlm.errors import CheckpointError, ConfigError
from dmlm.models.checkpointing import Checkpointing, check_checkpointing, check_compiled
from dmlm.models.length_groups import length_groups
from dmlm.models.text_backbone import checkpoint_layers, from_config, from_pretrained
from dmlm.models.text_sections import encode_sections
from dmlm.models.tokenizers import own_tokenizer
from dmlm.models.tokens import Row, TokenBatch, tokenize
from dmlm.reports.schema import ReportText

if TYPE_CHECKING:
    from tokenizers import Tokenizer


class TextFeatures(NamedTuple):
    """What a text encoder returns.

    Args:
        tokens: ``(B, L, F)``; position 0 stands for the whole text; padding holds zeros.
    """

    tokens: Tensor


class TextEncoder(Configurable, nn.Module, ABC):
    """Contract of a text encoder: texts to tokens, tokens to features. Sets ``feature_dim`` (width ``F``)."""

    feature_dim: int
    vocab_size: int

    @abstractmethod
    def tokenize(self, texts: Sequence[ReportText | str]) -> TokenBatch:
        """Turn texts into tokens on the CPU."""

    @abstractmethod
    def forward(self, tokens: TokenBatch, mask: Tensor | None = None) -> TextFeatures:
        """Encode tokens.

        Args:
            tokens: The batch, on the encoder's device.
            mask: bool ``(B, L)``, True where the mask token replaces the token.
        """


class HFTextEncoder(TextEncoder):
    """A text encoder from transformers.

    The tokenizer travels inside the state dict, so a checkpoint needs no vocabulary file. Texts are encoded in up to
    ``length_groups`` groups of similar length, each padded to its own longest: the same output for less work.

    Args:
        model_name: Hub id or folder for ``AutoModel.from_pretrained``; with ``hf_config`` only a label.
        pretrained: Load weights and tokenizer of ``model_name``. Recorded as False: a checkpoint brings its weights.
        hf_config: Architecture when not pre-trained, e.g. ``{"model_type": "bert", "hidden_size": 96, ...}``; with
            ``pretrained`` what replaces entries of the model's own, e.g. ``{"hidden_dropout_prob": 0.0}``.
        tokenizer: ``"auto"`` (the model's own, the only one with ``pretrained``), ``"library"`` (the vocabulary that
            ships with dmlm), or the path of a ``tokenizer.json``.
        max_length: Most tokens of a text.
        length_groups: Most groups of similar length that a batch is encoded in.
        layout: ``"joint"``: a text is one sequence; ``"sections"``: each of its sections is one, see
            :mod:`dmlm.models.text_sections`.
        pooling: What stands at position 0: the text's own token (``"cls"``), or the ``"mean"`` of all its tokens, which
            sentence encoders were trained for and which learns sooner from scratch.
        gradient_checkpointing: True keeps only the input of each layer for the backward pass and computes the rest
            again: the same gradients for a fraction of the memory and about a quarter more time; ``"selective"`` keeps
            the matrix products, too: a third less memory at nearly the same speed; ``"auto"`` is selective where that
            is worth it (:data:`dmlm.models.checkpointing.Checkpointing`); False keeps everything.
        freeze_layers: Layers of a BERT, from the first one on, that are not trained; with any, the embeddings are not
            either.

    Raises:
        PretrainedWeightsError: If weights were asked for and could not be had.
        ConfigError: If the options do not fit each other.
    """

    def __init__(
        self,
        model_name: str = "emilyalsentzer/Bio_ClinicalBERT",
        pretrained: bool = True,
        hf_config: dict[str, Any] | None = None,
        tokenizer: str = "auto",
        max_length: int = 512,
        length_groups: int = 4,
        pooling: Literal["cls", "mean"] = "cls",
        layout: Literal["joint", "sections"] = "joint",
        gradient_checkpointing: Checkpointing = "auto",
        freeze_layers: int = 0,
    ) -> None:
        super().__init__()
        if layout not in ("joint", "sections"):
            msg = f"layout must be joint or sections, got '{layout}'"
            raise ConfigError(msg)
        check_checkpointing(gradient_checkpointing)
        self.layout, self.gradient_checkpointing = layout, gradient_checkpointing
        if pooling not in ("cls", "mean"):
            msg = f"pooling must be cls or mean, got '{pooling}'"
            raise ConfigError(msg)
        self.pooling = pooling
        if max_length < 3 or length_groups < 1:  # a text is [CLS], at least one token, [SEP]
            msg = f"max_length must be at least 3 and length_groups at least 1, got {max_length} and {length_groups}"
            raise ConfigError(msg)
        self.max_length, self.length_groups = max_length, length_groups
        self._tokenizer: Tokenizer | None = None
        self._special: dict[str, int] = {}
        self._rows: dict[Any, Row] = {}  # texts that were tokenised before
        if pretrained:
            if tokenizer != "auto":
                msg = f"tokenizer '{tokenizer}' does not go with pretrained=true, which brings its own; take auto"
                raise ConfigError(msg)
            self.model, loaded = from_pretrained(model_name, dict(hf_config or {}))
            self._set_tokenizer(*loaded)
        else:
            if hf_config is None:
                msg = f"text encoder '{model_name}' with pretrained=false needs hf_config (the architecture to build)"
                raise ConfigError(msg)
            hf_config = dict(hf_config)
            if tokenizer != "auto":
                self._set_tokenizer(*own_tokenizer(tokenizer))
                size = len(self._loaded_tokenizer.get_vocab())
                hf_config.setdefault("vocab_size", size + -size % 8)
            self.model = from_config(hf_config)
        checkpoint_layers(self.model, gradient_checkpointing)
        self._check_vocabulary()
        self._freeze(freeze_layers)
        self.feature_dim = int(self.model.config.hidden_size)
        self.vocab_size = int(self.model.config.vocab_size)

    @property
    def config(self) -> dict[str, Any]:
        """Recorded constructor arguments with the resolved architecture; the tokenizer comes with the weights."""
        config = super().config
        hf_config = json.loads(self.model.config.to_json_string(use_diff=True))
        hf_config = {
            key: value for key, value in hf_config.items() if not key.startswith("_") and key != "transformers_version"
        }
        hf_config.pop("use_cache", None)  # no part of the architecture
        hf_config |= {"model_type": self.model.config.model_type, "vocab_size": self.vocab_size}
        resolved = {"pretrained": False, "hf_config": hf_config, "tokenizer": "auto"}
        return {**config, "init_args": {**config["init_args"], **resolved}}

    def tokenize(self, texts: Sequence[ReportText | str]) -> TokenBatch:
        """Turn texts into tokens on the CPU."""
        return tokenize(self._loaded_tokenizer, texts, self.max_length, self._special["pad"], self._rows)

    def forward(self, tokens: TokenBatch, mask: Tensor | None = None) -> TextFeatures:
        """Encode tokens; see :meth:`TextEncoder.forward`."""
        ids = tokens.input_ids
        if mask is not None:
            ids = ids.masked_fill(mask, self._special["mask"])
        if self.layout == "sections":
            split = partial(length_groups, most=self.length_groups)
            return TextFeatures(encode_sections(self._encode, split, ids, tokens.sections, tokens.lengths))
        groups = length_groups(tokens.lengths, self.length_groups)
        if len(groups) == 1:
            return TextFeatures(self._encode(ids, tokens.valid, tokens.lengths))
        width = ids.shape[1]
        parts = []
        for rows in groups:
            longest = max(tokens.lengths[row] for row in rows)
            index = torch.as_tensor(rows, device=ids.device)
            part = self._encode(
                ids[index, :longest], tokens.valid[index, :longest], [tokens.lengths[row] for row in rows]
            )
            parts.append(F.pad(part, (0, 0, 0, width - longest)))
        back = torch.as_tensor(np.argsort(np.concatenate(groups), kind="stable"), device=ids.device)
        return TextFeatures(torch.cat(parts)[back])

    def compile(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - as torch's
        """Compile the transformer only: the groups around it differ from batch to batch."""
        check_compiled(self.gradient_checkpointing)
        self.model.compile(*args, **kwargs)

    def _encode(self, ids: Tensor, valid: Tensor, lengths: Sequence[int]) -> Tensor:
        uniform = min(lengths) == ids.shape[1]
        features: Tensor = self.model(input_ids=ids, attention_mask=None if uniform else valid.long()).last_hidden_state
        features = features if uniform else features * valid.unsqueeze(-1).to(features.dtype)
        if self.pooling == "mean":
            count = torch.as_tensor(lengths, device=ids.device, dtype=features.dtype)
            features = torch.cat([(features.sum(1) / count[:, None]).unsqueeze(1), features[:, 1:]], dim=1)
        return features

    @property
    def _loaded_tokenizer(self) -> Tokenizer:
        if self._tokenizer is None:
            msg = "the text encoder has no tokenizer yet: load weights, or pass tokenizer='library' or a tokenizer.json"
            raise ConfigError(msg)
        return self._tokenizer

    def _set_tokenizer(self, tokenizer: Tokenizer, special: dict[str, str]) -> None:
        tokenizer.no_padding()
        tokenizer.no_truncation()
        found = {role: tokenizer.token_to_id(token) for role, token in special.items()}
        ids = {role: number for role, number in found.items() if number is not None}
        missing = [role for role in ("pad", "mask") if role not in ids]
        if missing:
            msg = f"the tokenizer has no {' and no '.join(missing)} token; masked prediction needs both"
            raise ConfigError(msg)
        self._tokenizer, self._special, self._rows = tokenizer, ids, {}

    def _freeze(self, layers: int) -> None:
        stack = getattr(getattr(self.model, "encoder", None), "layer", ())
        if not 0 <= layers <= len(stack):
            msg = f"freeze_layers must lie between 0 and the {len(stack)} layers of a BERT, got {layers}"
            raise ConfigError(msg)
        for part in (self.model.embeddings, *stack[:layers]) if layers else ():
            part.requires_grad_(requires_grad=False)

    def _check_vocabulary(self) -> None:
        if self._tokenizer is not None and max(self._tokenizer.get_vocab().values()) >= self.model.config.vocab_size:
            msg = (
                f"the tokenizer has ids up to {max(self._tokenizer.get_vocab().values())}, the model embeds "
                f"{self.model.config.vocab_size}; set hf_config.vocab_size or another tokenizer"
            )
            raise ConfigError(msg)

    def get_extra_state(self) -> Tensor:
        """The tokenizer as JSON bytes, so that it survives ``weights_only`` loading and safetensors."""
        if self._tokenizer is None:
            return torch.zeros(0, dtype=torch.uint8)
        state = json.dumps({"tokenizer": self._tokenizer.to_str(), "special": self._special})
        return torch.frombuffer(bytearray(state.encode()), dtype=torch.uint8)

    def set_extra_state(self, state: Tensor) -> None:
        """Restore the tokenizer from :meth:`get_extra_state`.

        Raises:
            CheckpointError: If the bytes are not what :meth:`get_extra_state` writes.
        """
        from tokenizers import Tokenizer

        if state.numel() == 0:
            return
        try:
            loaded = json.loads(bytes(state.cpu().numpy().tobytes()))
            self._tokenizer = Tokenizer.from_str(loaded["tokenizer"])
            self._special = {str(role): int(number) for role, number in loaded["special"].items()}
            self._rows = {}
        except Exception as error:
            msg = f"the tokenizer in the checkpoint is damaged ({type(error).__name__}); save the encoder again"
            raise CheckpointError(msg) from error
