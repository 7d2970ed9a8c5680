"""How fast requests may follow each other, and how long to wait after a failure."""

from __future__ import annotations

import math
import random
import threading
import time
from collections.abc import Callable
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime


class RateLimiter:
    """Spaces requests so that limits per minute hold in every minute, for all threads together.

    Each request takes its share of a minute on two time lines, ``60 / requests_per_minute`` seconds on one and
    ``60 * tokens / tokens_per_minute`` on the other, and starts when both are free. There is no burst at the start.

    Args:
        requests_per_minute: Limit of requests; ``None`` for none.
        tokens_per_minute: Limit of tokens, read and written together; ``None`` for none.
        clock: Seconds that only grow.
        sleep: How to wait; by default in a way that :meth:`stop` ends.
    """

    def __init__(
        self,
        requests_per_minute: float | None = None,
        tokens_per_minute: float | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], object] | None = None,
    ) -> None:
        self._seconds_per_request = 60 / requests_per_minute if requests_per_minute else 0.0
        self._seconds_per_token = 60 / tokens_per_minute if tokens_per_minute else 0.0
        self._stopped = threading.Event()
        self._clock, self._sleep = clock, sleep or self._stopped.wait
        self._lock = threading.Lock()
        self._requests_free = self._tokens_free = self._paused_until = -math.inf

    def wait(self, tokens: int) -> None:
        """Wait for the turn of a request.

        Args:
            tokens: Tokens that it will probably read and write; see :meth:`correct`.
        """
        with self._lock:
            start = max(self._clock(), self._requests_free, self._tokens_free, self._paused_until)
            self._requests_free = start + self._seconds_per_request
            self._tokens_free = start + self._seconds_per_token * tokens
        # a pause that another thread asks for while this one sleeps holds for it too
        while not self._stopped.is_set() and (left := max(start, self._paused_until) - self._clock()) > 0:
            self._sleep(left)

    def correct(self, tokens: int) -> None:
        """Book the difference between the tokens of a finished request and those that :meth:`wait` was told."""
        with self._lock:
            self._tokens_free += self._seconds_per_token * tokens

    def pause(self, seconds: float) -> None:
        """Let no request start for a while, because the endpoint asked for it."""
        with self._lock:
            self._paused_until = max(self._paused_until, self._clock() + seconds)

    def stop(self) -> None:
        """Let nobody wait any more, because nothing more will be sent."""
        self._stopped.set()


def backoff(attempt: int, rng: random.Random, first: float = 1.0, longest: float = 60.0) -> float:
    """Seconds to wait after a failed attempt: doubled each time, between half and all of it at random.

    Args:
        attempt: Number of the attempt that failed, from 0.
        rng: Source of the jitter, which keeps many clients from coming back at the same moment.
        first: Longest wait after attempt 0.
        longest: Longest wait of all.
    """
    return min(longest, first * 2.0 ** min(attempt, 60)) * rng.uniform(0.5, 1.0)


def retry_after(value: str | None, now: datetime | None = None) -> float | None:
    """Seconds that a ``Retry-After`` header asks for (RFC 9110, 10.2.3): a number, or a date.

    Args:
        value: The header; ``None`` if there is none.
        now: The time, for a date.

    Returns:
        Seconds, at least 0; ``None`` if there is no header or it makes no sense.
    """
    if value is None:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            date = parsedate_to_datetime(value)
        except (ValueError, TypeError):
            return None
        if date.tzinfo is None:
            date = date.replace(tzinfo=timezone.utc)
        seconds = (date - (now or datetime.now(timezone.utc))).total_seconds()
    return max(0.0, seconds) if math.isfinite(seconds) else None
