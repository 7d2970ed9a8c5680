"""Spacing of requests with a clock that only sleeping moves, back-off, and the header Retry-After."""

from __future__ import annotations

import random
from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dmlm.reports.llm.limits import RateLimiter, backoff, retry_after


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def started(limiter: RateLimiter, clock: Clock, tokens) -> list[float]:
    times = []
    for count in tokens:
        limiter.wait(count)
        times.append(clock.now)
    return times


@given(st.floats(1, 1000), st.lists(st.integers(0, 5000), min_size=1, max_size=40), st.floats(10, 1e6))
def test_no_minute_holds_more_than_the_limits(requests, tokens, tokens_per_minute):
    clock = Clock()
    times = started(RateLimiter(requests, tokens_per_minute, clock, clock.sleep), clock, tokens)
    for first in range(len(times)):
        within = [index for index in range(first, len(times)) if times[index] < times[first] + 60 - 1e-6]
        assert len(within) <= requests + 1
        # the last of them may reach beyond the minute
        assert sum(tokens[index] for index in within[:-1]) <= tokens_per_minute * (1 + 1e-9) + 1e-6


def test_no_limit_no_wait():
    clock = Clock()
    assert started(RateLimiter(None, None, clock, clock.sleep), clock, [10**9] * 5) == [100.0] * 5


def test_spacing():
    clock = Clock()
    assert started(RateLimiter(30, None, clock, clock.sleep), clock, [0] * 3) == [100.0, 102.0, 104.0]
    clock = Clock()
    assert started(RateLimiter(None, 600, clock, clock.sleep), clock, [100, 50, 1]) == [100.0, 110.0, 115.0]


def test_what_was_booked_too_much_is_given_back():
    clock = Clock()
    limiter = RateLimiter(None, 600, clock, clock.sleep)
    limiter.wait(100)
    limiter.correct(-50)
    assert started(limiter, clock, [0]) == [105.0]


def test_a_pause_holds_for_all():
    clock = Clock()
    limiter = RateLimiter(None, None, clock, clock.sleep)
    limiter.pause(7)
    limiter.pause(3)
    assert started(limiter, clock, [0, 0]) == [107.0, 107.0]


@given(st.integers(0, 10_000), st.integers(0, 2**32))
def test_back_off_doubles_within_bounds(attempt, seed):
    wait = backoff(attempt, random.Random(seed), first=0.5, longest=20.0)
    full = min(20.0, 0.5 * 2.0 ** min(attempt, 50))
    assert full / 2 <= wait <= full


def test_back_off_differs_between_clients():
    assert len({backoff(3, random.Random(seed)) for seed in range(20)}) == 20


NOW = datetime(2026, 1, 1, tzinfo=timezone.utc)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, None),
        ("12", 12.0),
        ("0.5", 0.5),
        ("-3", 0.0),
        ("inf", None),
        ("nan", None),
        ("soon", None),
        ("", None),
        ("Thu, 01 Jan 2026 00:00:30 GMT", 30.0),
        ("Wed, 31 Dec 2025 00:00:00 GMT", 0.0),
    ],
)
def test_retry_after(value, expected):
    assert retry_after(value, NOW) == expected


def test_retry_after_without_a_time_to_compare_with():
    date = (datetime.now(timezone.utc) + timedelta(seconds=100)).strftime("%a, %d %b %Y %H:%M:%S GMT")
    assert retry_after(date) == pytest.approx(100, abs=5)
