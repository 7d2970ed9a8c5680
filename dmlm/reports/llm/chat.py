"""What the engines need of a language model: one exchange of messages for one text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol


class Message(NamedTuple):
    """One turn; ``role`` is ``"system"``, ``"user"`` or ``"assistant"``."""

    role: str
    content: str


@dataclass(frozen=True)
class Reply:
    """What the model said.

    Args:
        text: The answer; ``""`` if it said nothing.
        is_cut: Whether it stopped at the limit of tokens.
        tokens_in: Tokens that it read, as far as it says; 0 if not.
        tokens_out: Tokens that it wrote, as far as it says; 0 if not.
    """

    text: str
    is_cut: bool = False
    tokens_in: int = 0
    tokens_out: int = 0


class Chat(Protocol):
    """A language model that can be talked to; ``complete`` may be called from several threads at once."""

    @property
    def kind(self) -> str:
        """Name for provenance: ``"endpoint"`` or ``"transformers"``."""

    @property
    def model(self) -> str:
        """Name of the model."""

    def complete(
        self, messages: Sequence[Message], schema: Mapping[str, Any] | None = None, max_tokens: int = 1024
    ) -> Reply:
        """Let the model answer, at temperature 0.

        Args:
            messages: The turns so far.
            schema: JSON schema that the answer should follow, where the model can be held to one.
            max_tokens: Longest answer.

        Raises:
            AnswerError: If there is no answer to this text.
            EndpointError: If there will be no answer to any.
        """

    def close(self) -> None:
        """Let go of connections or memory."""
