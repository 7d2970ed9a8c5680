"""A language model behind an OpenAI-compatible chat endpoint: vLLM, Ollama, llama.cpp, a cloud."""

from __future__ import annotations

import random
import re
import threading
from collections.abc import Mapping, Sequence
from typing import Any

from dmlm.reports.llm.chat import Message, Reply
from dmlm.reports.llm.errors import AnswerError, EndpointError
from dmlm.reports.llm.json_client import JsonClient, Response, TransferError
from dmlm.reports.llm.limits import RateLimiter, backoff, retry_after
from dmlm.reports.llm.tokens import TokenCounter

_TRANSIENT = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 520, 522, 524, 529})
_REFUSED = frozenset({400, 413, 415, 422})
_FORMATS = ("json_schema", "json_object", "none")


class EndpointChat:
    """Talks to an endpoint; failures that may pass are tried again.

    What an endpoint does not know is left out once it says so: a schema, JSON mode, the temperature, the old name of
    the token limit.

    Args:
        client: Connection to the endpoint.
        model: Name of the model there.
        host: Host, for messages.
        limiter: Spacing of requests.
        count: Counts tokens, for the limiter.
        retries: How often a failed request is sent again (once after a timeout).
        longest_wait: Seconds; an endpoint that asks for more is left alone.
        first_wait: Seconds; see :func:`dmlm.reports.llm.limits.backoff`.
        seed: Seed of the jitter; ``None`` for a different one each time.
    """

    kind = "endpoint"

    def __init__(
        self,
        client: JsonClient,
        model: str,
        host: str,
        limiter: RateLimiter | None = None,
        count: TokenCounter | None = None,
        retries: int = 5,
        longest_wait: float = 600.0,
        first_wait: float = 1.0,
        seed: int | None = None,
    ) -> None:
        self.model = model
        self._client, self._host = client, host
        self._limiter = limiter or RateLimiter()
        self._count = count or TokenCounter()
        self._retries, self._longest_wait, self._first_wait = retries, longest_wait, first_wait
        self._rng = random.Random(seed)
        self._stopped = threading.Event()
        self._format = 0
        self._limit_name = "max_tokens"
        self._has_temperature = True

    def complete(
        self, messages: Sequence[Message], schema: Mapping[str, Any] | None = None, max_tokens: int = 1024
    ) -> Reply:
        """Let the model answer; see :meth:`dmlm.reports.llm.chat.Chat.complete`."""
        level = self._format if schema is not None else len(_FORMATS) - 1
        while True:
            limit_name, has_temperature = self._limit_name, self._has_temperature
            payload: dict[str, Any] = {
                "model": self.model,
                "messages": [message._asdict() for message in messages],
                limit_name: max_tokens,
                **({"temperature": 0} if has_temperature else {}),
                **_response_format(level, schema),
            }
            response = self._send(payload, sum(self._count(message.content) for message in messages), max_tokens)
            if response.status == 200:
                if schema is not None:
                    self._format = max(self._format, level)
                return _reply(response.body, self._host)
            complaint = _error_text(response.body)
            if limit_name == "max_tokens" and "max_completion_tokens" in complaint:
                self._limit_name = "max_completion_tokens"
            elif has_temperature and "temperature" in complaint:
                self._has_temperature = False
            elif level < len(_FORMATS) - 1:
                level += 1
            else:
                msg = f"{self._host} refused the request (status {response.status}{_code(response.body)})"
                raise AnswerError(msg, "refused", is_transport=True)

    def close(self) -> None:
        """Wake who waits, and close the connections."""
        self._stopped.set()
        self._limiter.stop()
        self._client.close()

    def _send(self, payload: Mapping[str, Any], tokens_in: int, max_tokens: int) -> Response:
        """Post until there is an answer or a refusal (200, 400, 413, 415, 422)."""
        booked = tokens_in + min(max_tokens, 256)
        for attempt in range(self._retries + 1):
            self._limiter.wait(booked)
            if self._stopped.is_set():
                break
            asked: float | None = None
            try:
                response = self._client.post(payload)
            except TransferError as error:
                reason: str = error.reason
                is_last = attempt == self._retries or (reason == "timeout" and attempt > 0)
            else:
                if response.status in _REFUSED:
                    return response
                if response.status == 200 and _is_completion(response.body):
                    self._limiter.correct(_used(response.body, booked) - booked)
                    return response
                self._stop_if_final(response)
                reason, is_last = f"status {response.status}", attempt == self._retries
                asked = retry_after(response.retry_after)
            if not is_last:
                self._wait(attempt, asked)
                continue
            if self._stopped.is_set():
                break
            if reason == "connect":
                msg = f"nothing answers at {self._host}; start the server or check --endpoint, then run with --resume"
                raise EndpointError(msg)
            msg = f"{self._host} gave no complete answer after {attempt + 1} attempts ({reason})"
            raise AnswerError(msg, "timeout" if reason == "timeout" else "server", is_transport=True)
        msg = f"talking to {self._host} was stopped"
        raise EndpointError(msg)

    def _stop_if_final(self, response: Response) -> None:
        """Raise for what no further attempt mends."""
        status, code = response.status, _code(response.body)
        if 300 <= status < 400:
            msg = (
                f"{self._host} redirects to {response.location}, which is not followed; give --endpoint where it leads"
            )
        elif status in (401, 403):
            msg = f"{self._host} refuses the key (status {status}{code}); set the variable that --api-key-env names"
        elif status == 404:
            msg = (
                f"{self._host} knows no such model or path (status 404{code}); check --model, and that --endpoint ends "
                "as the server wants it, mostly with /v1"
            )
        elif "quota" in code:
            msg = f"{self._host} says that the quota is used up (status {status}{code}); run with --resume later"
        elif status in _TRANSIENT or status == 200:
            return
        else:
            msg = f"{self._host} answers with status {status}{code}; check --endpoint"
        raise EndpointError(msg)

    def _wait(self, attempt: int, asked: float | None) -> None:
        if asked is not None and asked > self._longest_wait:
            msg = f"{self._host} asks to wait {asked:.0f} s; run with --resume later"
            raise EndpointError(msg)
        if asked is not None:
            self._limiter.pause(asked)
        jitter = backoff(attempt, self._rng, first=self._first_wait)
        # after the pause the threads should not come back all at once
        self._stopped.wait(jitter if asked is None else asked + min(jitter, 0.1 * asked))


def _response_format(level: int, schema: Mapping[str, Any] | None) -> dict[str, Any]:
    if _FORMATS[level] == "json_schema":
        return {
            "response_format": {
                "type": "json_schema",
                "json_schema": {"name": "report", "strict": True, "schema": schema},
            }
        }
    return {"response_format": {"type": "json_object"}} if _FORMATS[level] == "json_object" else {}


def _is_completion(body: Any) -> bool:  # noqa: ANN401 - JSON is anything
    choices = body.get("choices") if isinstance(body, dict) else None
    first = choices[0] if isinstance(choices, list) and choices else None
    return isinstance(first, dict) and isinstance(first.get("message"), dict)


def _reply(body: Any, host: str) -> Reply:  # noqa: ANN401
    choice = body["choices"][0]
    message, reason = choice["message"], choice.get("finish_reason")
    if reason == "content_filter" or message.get("refusal"):
        msg = f"the model at {host} declined to answer"
        raise AnswerError(msg, "declined")
    content = message.get("content")
    if isinstance(content, list):
        content = "".join(str(part.get("text") or "") for part in content if isinstance(part, dict))
    usage = body.get("usage")
    tokens_in, tokens_out = (_count(usage, name) for name in ("prompt_tokens", "completion_tokens"))
    return Reply(content if isinstance(content, str) else "", reason == "length", tokens_in, tokens_out)


def _used(body: Any, default: int) -> int:  # noqa: ANN401
    usage = body.get("usage")
    return (_count(usage, "prompt_tokens") + _count(usage, "completion_tokens")) or default


def _count(usage: Any, name: str) -> int:  # noqa: ANN401
    value = usage.get(name) if isinstance(usage, dict) else None
    return value if isinstance(value, int) and value > 0 else 0


def _error(body: Any) -> Any:  # noqa: ANN401
    return body.get("error", body) if isinstance(body, dict) else None


def _error_text(body: Any) -> str:  # noqa: ANN401
    """Complaint of the endpoint, to be searched and never shown: it may repeat the report or the key."""
    return str(_error(body)).lower()


def _code(body: Any) -> str:  # noqa: ANN401
    """Error code for a message, if it is a plain word that cannot be part of a report or a key."""
    error = _error(body)
    for name in ("code", "type"):
        value = error.get(name) if isinstance(error, dict) else None
        if isinstance(value, str) and re.fullmatch(r"[a-z][a-z_]{2,47}", value):
            return f", {value}"
    return ""
