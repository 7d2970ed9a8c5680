"""What can go wrong with a language model: the way to it is barred, it is gone, or it cannot read one report."""

from __future__ import annotations

from dmlm.errors import ConfigError, DMLMError


class GateError(ConfigError):
    """Text would leave the machine without leave; the message names the option that gives it."""


class EndpointError(DMLMError, ConnectionError):
    """The endpoint or the model answers no request at all; the run stops and can be resumed."""


class AnswerError(DMLMError, ValueError):
    """The model gave no usable answer to one report; others may still be read.

    Args:
        message: What was wrong, in words that the model can be told.
        reason: One word for the record's flag: ``"answer"``, ``"refused"``, ``"timeout"``, ``"server"`` ...
        is_transport: Whether the fault lies with the endpoint rather than with the answer.
    """

    def __init__(self, message: str, reason: str = "answer", is_transport: bool = False) -> None:
        super().__init__(message)
        self.reason = reason
        self.is_transport = is_transport
