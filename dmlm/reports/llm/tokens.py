"""How many tokens a text has for a language model, or about how many."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dmlm.errors import ConfigError

CHARACTERS_PER_TOKEN = 4.0
"""Rule of thumb for English; reports, full of long words and line breaks, lie between 3.5 and 4.5."""


class TokenCounter:
    """Counts tokens with a tokenizer, or estimates them as a quarter of the characters.

    Args:
        path: ``tokenizer.json`` of the model, or the folder that holds it; ``None`` for the estimate.

    Raises:
        ConfigError: If there is no such tokenizer.
    """

    def __init__(self, path: str | None = None) -> None:
        self._tokenizer: Any = None if path is None else _load(Path(path).expanduser())

    @property
    def is_exact(self) -> bool:
        """Whether a tokenizer counts."""
        return self._tokenizer is not None

    def __call__(self, text: str) -> int:
        """Return the number of tokens of ``text``, without those that a chat format adds."""
        if self._tokenizer is None:
            return int(-(-len(text) // CHARACTERS_PER_TOKEN))
        return len(self._tokenizer.encode(text, add_special_tokens=False).ids)


def _load(path: Path) -> Any:  # noqa: ANN401 - a class of compiled code
    from tokenizers import Tokenizer

    file = path / "tokenizer.json" if path.is_dir() else path
    try:
        return Tokenizer.from_file(str(file))
    except Exception as error:  # the compiled code raises plain exceptions
        msg = f"--llm-tokenizer: {file} is not a readable tokenizer.json ({error}); leave it out for an estimate"
        raise ConfigError(msg) from error
