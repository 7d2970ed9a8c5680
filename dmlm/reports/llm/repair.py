"""JSON out of what a language model writes: thoughts, fences and chatter around it, trailing commas, a lost end."""

from __future__ import annotations

import json
import re
from typing import Any, NamedTuple

_THOUGHT = re.compile(r"<(think|thinking|reasoning)>.*?(?:</\1>|\Z)", re.DOTALL | re.IGNORECASE)
_WORDS = {"None": "null", "True": "true", "False": "false", "NaN": "null"}
_LONGEST = 100_000
_DEEPEST = 20
_NAME = re.compile(r"[A-Za-z]+")
_CLOSERS = {"{": "}", "[": "]"}


def without_thoughts(text: str) -> str:
    """Return an answer without the thoughts that some models write before it, between ``<think>`` and ``</think>``."""
    return _THOUGHT.sub("", text)


class Loaded(NamedTuple):
    """``value`` is the JSON; ``is_cut`` says that its end was missing, so that something may be lost."""

    value: Any
    is_cut: bool


def load_json(text: str) -> Loaded:
    """Read the JSON object or list in an answer.

    Repaired are: a thought before it (``<think>``), Markdown fences and words around it, trailing commas, ``None``,
    ``True`` and ``False``, raw line breaks in strings, and a missing end. Of an answer without its end, what is
    incomplete goes: the last element of its outermost list unless that was closed.

    Args:
        text: The answer.

    Returns:
        The value, and whether its end was missing.

    Raises:
        ValueError: If there is no object or list in it that can be read; the message says what is wrong.
    """
    if len(text) > _LONGEST:
        msg = f"it has {len(text)} characters, more than {_LONGEST}"
        raise ValueError(msg)
    bare = without_thoughts(text)
    starts = sorted(place for place in (bare.find("{"), bare.find("[")) if place >= 0)
    if not starts:
        msg = "there is no JSON in it" if bare.strip() else "it is empty"
        raise ValueError(msg)
    try:
        return _load(bare, starts[0])
    except ValueError:
        if len(starts) == 1:
            raise
        return _load(bare, starts[1])  # words before the JSON may hold a bracket


def _load(bare: str, start: int) -> Loaded:
    clean, end, is_cut = _scan(bare, start)
    try:
        # strict=False lets raw line breaks in strings pass
        return Loaded(json.loads(clean, strict=False), is_cut)
    except (json.JSONDecodeError, RecursionError) as error:
        # no text of the answer in the message: it may quote the report
        place = (
            f"{error.msg}, at character {error.pos}" if isinstance(error, json.JSONDecodeError) else "nested too deep"
        )
        msg = f"it is not valid JSON ({place} of {end - start})"
        raise ValueError(msg) from None


def _scan(text: str, start: int) -> tuple[str, int, bool]:
    """Copy the value that opens at ``start``, mended on the way.

    Returns:
        The copy, where it ended, and whether its end had to be supplied.
    """
    out: list[str] = []
    stack: list[str] = []
    safe: list[tuple[int, tuple[str, ...]]] = []  # lengths of `out` at which the value can be closed
    place = start
    while place < len(text):
        letter = text[place]
        if letter == '"':
            end = _string_end(text, place)
            if end is None:
                break
            out.append(text[place:end])
            place = end
            continue
        if letter in "{[":
            if len(stack) == _DEEPEST:
                msg = "it is nested too deep"
                raise ValueError(msg)
            out.append(letter)
            stack.append(_CLOSERS[letter])
            if _is_in_outer_list(stack):
                safe.append((len(out), tuple(stack)))
        elif letter in "}]":
            _drop_comma(out)
            if not stack or stack[-1] != letter:
                out.append(letter)
                return "".join(out), place + 1, False  # crossed brackets: let the parser say so
            stack.pop()
            out.append(letter)
            if not stack:
                return "".join(out), place + 1, False
            if _is_in_outer_list(stack):
                safe.append((len(out), tuple(stack)))
        elif letter.isalpha():
            match = _NAME.match(text, place)
            name = match[0] if match else letter
            out.append(_WORDS.get(name, name))
            place += len(name)
            continue
        else:
            out.append(letter)
        place += 1
    if not safe:
        return "".join(out), place, True
    length, open_ones = safe[-1]
    return "".join(out[:length]) + "".join(reversed(open_ones)), place, True


def _is_in_outer_list(stack: list[str]) -> bool:
    """Whether an element of the outermost list has just ended: there the value can be closed with whole elements."""
    return stack[-1] == "]" and stack.count("]") == 1


def _string_end(text: str, start: int) -> int | None:
    place = start + 1
    while place < len(text):
        if text[place] == "\\":
            place += 2
        elif text[place] == '"':
            return place + 1
        else:
            place += 1
    return None


def _drop_comma(out: list[str]) -> None:
    last = len(out) - 1
    while last >= 0 and out[last].isspace():
        last -= 1
    if last >= 0 and out[last] == ",":
        del out[last]
