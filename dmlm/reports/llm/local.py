"""A language model on this machine, run by transformers."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dmlm.errors import PretrainedWeightsError
from dmlm.reports.llm.chat import Message, Reply
from dmlm.reports.llm.errors import AnswerError


class TransformersChat:
    """Runs a causal language model with transformers; nothing is downloaded and no code of the model's is run.

    One answer is written at a time, greedily: threads that ask wait for each other.

    Args:
        path: Folder of the model with its tokenizer, or the name of one that is in the cache of Hugging Face.
        device: Where it runs, e.g. ``"cpu"`` or ``"cuda:0"``.
        dtype: Numbers that it computes with: ``"auto"`` (as stored), ``"float32"``, ``"bfloat16"`` or ``"float16"``.

    Raises:
        PretrainedWeightsError: If the model is not there or cannot be loaded.
    """

    kind = "transformers"

    def __init__(self, path: str, device: str = "cpu", dtype: str = "auto") -> None:
        from transformers import AutoModelForCausalLM, AutoTokenizer

        folder = Path(path).expanduser()
        source = str(folder) if folder.exists() else path
        try:
            self._tokenizer: Any = AutoTokenizer.from_pretrained(source, local_files_only=True)
            model: Any = AutoModelForCausalLM.from_pretrained(
                source, local_files_only=True, torch_dtype=dtype, trust_remote_code=False
            )
            self._model = model.to(device).eval()
        except Exception as error:  # transformers and torch raise many kinds
            first = " ".join(str(error).split())[:200]
            msg = (
                f"--model: '{path}' cannot be loaded as a causal language model ({first}); give the folder of one that "
                "was downloaded before"
            )
            raise PretrainedWeightsError(msg) from error
        self.model = folder.name if folder.exists() else path
        self._longest = int(getattr(model.config, "max_position_embeddings", 0) or 0)
        self._lock = threading.Lock()

    def complete(
        self, messages: Sequence[Message], schema: Mapping[str, Any] | None = None, max_tokens: int = 1024
    ) -> Reply:
        """Let the model answer; see :meth:`dmlm.reports.llm.chat.Chat.complete`.

        The model is not held to ``schema``; it is only told of it by the messages.
        """
        del schema
        import torch

        tokens = self._encode(messages)
        room = self._longest - len(tokens) if self._longest else max_tokens
        if room < 1:
            msg = f"the report and the instructions have {len(tokens)} tokens, and the model reads {self._longest}"
            raise AnswerError(msg, "too_long")
        limit = min(max_tokens, room)
        with self._lock, torch.inference_mode():
            given = torch.tensor([tokens], device=self._model.device)
            pad = self._tokenizer.pad_token_id
            written = self._model.generate(
                given,
                attention_mask=torch.ones_like(given),
                max_new_tokens=limit,
                do_sample=False,
                # a model's own generation settings may sample; greedy decoding reads none of these
                temperature=None,
                top_p=None,
                top_k=None,
                pad_token_id=self._tokenizer.eos_token_id if pad is None else pad,
            )[0, len(tokens) :].tolist()
        text = self._tokenizer.decode(written, skip_special_tokens=True)
        return Reply(text, len(written) >= limit and not self._is_end(written[-1]), len(tokens), len(written))

    def close(self) -> None:
        """Do nothing: the memory goes with the object."""

    def _encode(self, messages: Sequence[Message]) -> list[int]:
        """Tokens of the conversation in the model's chat format, or as plain text where it has none."""
        turns = [message._asdict() for message in messages]
        if self._tokenizer.chat_template:
            try:
                text = self._tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
            except Exception:  # templates raise what they like; some refuse a system turn
                head, first, *rest = turns
                merged = [{"role": "user", "content": f"{head['content']}\n\n{first['content']}"}, *rest]
                text = self._tokenizer.apply_chat_template(merged, tokenize=False, add_generation_prompt=True)
            return list(self._tokenizer(text, add_special_tokens=False)["input_ids"])
        text = "\n\n".join(f"{message.role}: {message.content}" for message in messages) + "\n\nassistant:"
        return list(self._tokenizer(text)["input_ids"])

    def _is_end(self, token: int) -> bool:
        ends = self._model.generation_config.eos_token_id
        return token in (ends if isinstance(ends, list) else [ends])
