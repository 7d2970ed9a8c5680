"""One POST of JSON: no redirect followed, no proxy from the environment, bounded in time and size."""

from __future__ import annotations

import json
import ssl
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from dmlm import __version__
from dmlm.errors import MissingDependencyError
from dmlm.reports.llm.gate import Destination

MAX_BYTES = 4_000_000
"""Longest body that is read; an answer has a few thousand bytes."""


@dataclass(frozen=True)
class Response:
    """What came back.

    Args:
        status: HTTP status.
        body: Decoded JSON; ``None`` if it was none.
        retry_after: The header of that name.
        location: Host that a redirect points to.
    """

    status: int
    body: Any
    retry_after: str | None = None
    location: str = ""


Fault = Literal["connect", "timeout", "closed", "too large"]


class TransferError(Exception):
    """A request got no complete answer.

    Args:
        reason: ``"connect"`` (nobody answers), ``"timeout"``, ``"closed"`` (the connection broke) or ``"too large"``.
    """

    def __init__(self, reason: Fault) -> None:
        super().__init__(reason)
        self.reason = reason


class JsonClient:
    """Posts JSON to one destination; its method may be called from several threads at once.

    Args:
        destination: Where to, as the gate let it pass.
        api_key: Sent as bearer token; never part of a message or a representation.
        timeout: Seconds that one request may take in all, connecting apart (10 s).

    Raises:
        MissingDependencyError: If httpx is not installed.
    """

    def __init__(self, destination: Destination, api_key: str | None = None, timeout: float = 180.0) -> None:
        try:
            import httpx
        except ImportError as error:
            package = "httpx"
            raise MissingDependencyError(package, "llm") from error
        self._httpx = httpx
        self._timeout = timeout
        self._url = f"{destination.url}/chat/completions"
        # the address is that of the gate's look-up, so TLS must be told the name
        self._extensions = {"sni_hostname": destination.host}
        headers = {
            "Host": destination.name,
            "Accept": "application/json",
            "Accept-Encoding": "identity",
            "User-Agent": f"dmlm/{__version__}",
        }
        if api_key is not None:
            headers["Authorization"] = f"Bearer {api_key}"
        self._client = httpx.Client(
            headers=headers,
            proxy=destination.proxy,
            trust_env=False,  # no proxy, no .netrc password that the environment happens to hold
            follow_redirects=False,
            verify=ssl.create_default_context(),  # the system's certificates, for hospitals with their own authority
            timeout=httpx.Timeout(timeout, connect=10.0),
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=32),
        )

    def post(self, payload: Mapping[str, Any]) -> Response:
        """Send ``payload`` to ``/chat/completions``.

        Raises:
            TransferError: If no complete answer came back. Nothing of the request is in it.
        """
        httpx = self._httpx
        deadline = time.monotonic() + self._timeout
        # "surrogatepass" is not JSON: a lone surrogate, as broken files have them, becomes a question mark
        content = json.dumps(payload, ensure_ascii=False).encode("utf-8", "replace")
        headers = {"Content-Type": "application/json"}
        fault: Fault
        try:
            request = self._client.build_request(
                "POST", self._url, content=content, headers=headers, extensions=self._extensions
            )
            response = self._client.send(request, stream=True)
            try:
                if response.is_redirect:
                    return Response(response.status_code, None, location=_host_of(response.headers.get("Location")))
                raw = _read(response.iter_bytes(), deadline)
            finally:
                response.close()
        # `from None`: these errors hold the request, with the report and the key, and are seen by whoever logs them
        except httpx.TimeoutException as error:
            fault = "connect" if isinstance(error, httpx.ConnectTimeout) else "timeout"
            raise TransferError(fault) from None
        # RuntimeError: another thread closed the client
        except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError, RuntimeError) as error:
            fault = "connect" if isinstance(error, (httpx.ConnectError, httpx.ProxyError)) else "closed"
            raise TransferError(fault) from None
        return Response(response.status_code, _decoded(raw), response.headers.get("Retry-After"))

    def close(self) -> None:
        """Close all connections."""
        self._client.close()


def _read(pieces: Iterator[bytes], deadline: float) -> bytes:
    raw = bytearray()
    fault: Fault
    for piece in pieces:
        raw += piece
        # a timeout of httpx starts again with every byte, so the time is watched here as well
        if len(raw) > MAX_BYTES or time.monotonic() > deadline:
            fault = "too large" if len(raw) > MAX_BYTES else "timeout"
            raise TransferError(fault)
    return bytes(raw)


def _decoded(raw: bytes) -> Any:  # noqa: ANN401 - JSON is anything
    try:
        return json.loads(raw)
    except (ValueError, RecursionError):
        return None


def _host_of(location: str | None) -> str:
    from urllib.parse import urlsplit

    try:
        return urlsplit(location or "").hostname or "the same host"
    except ValueError:
        return "another place"
