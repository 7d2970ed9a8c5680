"""Definitions and appearances of findings by a language model, with the paper's two prompts (section 3.2)."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import yaml

from dmlm.errors import ConfigError
from dmlm.io.atomic import write_text
from dmlm.reports.knowledge import canonical_name
from dmlm.reports.llm.cache import AnswerCache, answer_key
from dmlm.reports.llm.chat import Chat, Message
from dmlm.reports.llm.prompts import APPEARANCE_PROMPT, DEFINITION_PROMPT, knowledge_prompt_hash
from dmlm.reports.llm.repair import without_thoughts

_HEADER = re.compile(r"^\s*(?:definition|(?:radiographic )?(?:characteristics|appearance|signs))\s*:\s*", re.IGNORECASE)
_MARKUP = re.compile(r"^\s{0,3}(?:#{1,6}\s+|[-*•]\s+|\d{1,2}[.)]\s+)|\*\*|__|`", re.MULTILINE)


def write_knowledge(
    chat: Chat,
    findings: Iterable[str],
    out: Path,
    cache: AnswerCache | None = None,
    attempts: int = 3,
    progress: Callable[[int], object] = lambda _: None,
) -> int:
    """Ask for definition and appearance of each finding and write them as a file of knowledge.

    The questions name a finding and nothing of any patient. The file has the form that
    :func:`dmlm.reports.knowledge.load_knowledge` reads; its first line says which model wrote it and under which
    prompts. **Read it before you train with it**: nobody has checked what the model says.

    Args:
        chat: The model.
        findings: Names of findings.
        out: YAML file to write.
        cache: Where answers are kept.
        attempts: How often the model is asked for a text.
        progress: Called with 1 for each finding.

    Returns:
        Number of findings written.

    Raises:
        ConfigError: If there is no finding, or the model gives no usable text on one.
        EndpointError: If the model cannot be reached.
    """
    cache = AnswerCache(None) if cache is None else cache
    entries: dict[str, Any] = {}
    for name in dict.fromkeys(canonical_name(finding) for finding in findings):
        entries[name] = {
            key: _text(chat, template.format(finding=name), name, cache, attempts)
            for key, template in (("definition", DEFINITION_PROMPT), ("appearance", APPEARANCE_PROMPT))
        }
        progress(1)
    if not entries:
        msg = "no finding was named; give at least one"
        raise ConfigError(msg)
    head = f"# written by {chat.model} ({chat.kind}), prompts {knowledge_prompt_hash()}, checked by nobody"
    body = yaml.safe_dump({"findings": entries}, allow_unicode=True, sort_keys=False, width=120)
    write_text(out, f"{' '.join(head.split())}\n{body}")
    return len(entries)


def _text(chat: Chat, question: str, name: str, cache: AnswerCache, attempts: int) -> str:
    key = answer_key(knowledge_prompt_hash(), chat.model, question)
    cached = cache.get(key)
    if cached is not None:
        return cached
    for _ in range(attempts):
        reply = chat.complete([Message("user", question)], None, 512)
        text = plain_paragraph(reply.text, reply.is_cut)
        if text:
            cache.put(key, text)
            return text
    msg = f"the model {chat.model} gave no usable text on '{name}' in {attempts} attempts; try another --model"
    raise ConfigError(msg)


def plain_paragraph(text: str, is_cut: bool = False) -> str:
    """Return an answer as one paragraph of plain text.

    Thoughts, Markdown and a header of its own ("Definition:") go; of an answer that was cut, so does the sentence that
    was. Headers of sections in the middle would break the rendered text, so their colons go too.

    Args:
        text: The answer.
        is_cut: Whether the model stopped at its limit.

    Returns:
        The paragraph; ``""`` if fewer than four words are left.
    """
    plain = _HEADER.sub("", " ".join(_MARKUP.sub("", without_thoughts(text)).split()))
    plain = re.sub(r"\b(Definition|Radiographic characteristics|Observations|Verdict):", r"\1", plain)
    if is_cut:
        plain = plain[: plain.rfind(". ") + 1] if ". " in plain else ""
    return plain if len(plain.split()) >= 4 else ""
