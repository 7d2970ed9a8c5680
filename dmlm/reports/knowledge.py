"""What is known of each finding: its definition, its radiographic appearance and its other names.

These are the texts of the paper's Definition and Radiographic characteristics sections (section 3.2). The library ships
its own short texts (``knowledge/findings.yaml``); a user's file of the same form replaces or extends them.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from dmlm.errors import ConfigError, ReportFormatError
from dmlm.io.yaml_text import parse_yaml
from dmlm.reports.knowledge_authors import read_authors_file

NO_FINDING = "No Finding"
"""Name of the statement that nothing is found; it is the context of absent findings and has a verdict, no question."""

_KEYS = ("definition", "appearance", "synonyms", "codes")


@dataclass(frozen=True)
class FindingKnowledge:
    """What is known of one finding.

    Args:
        name: Canonical name, e.g. ``"Pleural Effusion"``.
        definition: One sentence that says what it is; ``""`` where nobody wrote one.
        appearance: One or two sentences that say how it looks on a chest radiograph; ``""`` where nobody wrote any.
        synonyms: Other names of it.
        source: ``"library"`` for our own texts, otherwise the path of the file that supplied or changed them.
        codes: Its code per terminology, e.g. ``{"SNOMED CT": "60046008"}``; only where it means the same.
    """

    name: str
    definition: str = ""
    appearance: str = ""
    synonyms: tuple[str, ...] = ()
    source: str = "library"
    codes: Mapping[str, str] = field(default_factory=dict, hash=False)


class Knowledge(Mapping[str, FindingKnowledge]):
    """Findings by canonical name, read-only, with an index over all their names.

    Args:
        findings: Knowledge per canonical name.

    Raises:
        ReportFormatError: If one name or synonym stands for two findings.
    """

    def __init__(self, findings: Mapping[str, FindingKnowledge]) -> None:
        self._findings = dict(findings)
        self._index: dict[str, str] = {_plain(name): name for name in self._findings}
        for name, known in self._findings.items():
            for synonym in known.synonyms:
                owner = self._index.setdefault(_plain(synonym), name)
                if owner != name:
                    msg = (
                        f"{known.source}: finding '{name}': synonym '{synonym}' already means '{owner}'; "
                        "remove it from one of them"
                    )
                    raise ReportFormatError(msg)

    def __getitem__(self, name: str) -> FindingKnowledge:
        return self._findings[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._findings)

    def __len__(self) -> int:
        return len(self._findings)

    def canonical(self, name: str) -> str:
        """Return the canonical name for ``name``; see :func:`canonical_name`."""
        spaced = " ".join(name.replace("_", " ").split())
        return self._index.get(_plain(name), spaced)


def load_knowledge(path: str | None = None) -> Knowledge:
    """Load the library's findings and, over them, those of a user's YAML file.

    The file has the form of ``dmlm/reports/knowledge/findings.yaml``: a mapping ``findings`` from names to any of
    ``definition``, ``appearance`` (text), ``synonyms`` (list) and ``codes`` (mapping from terminology to code). A known
    finding keeps what the file does not name (synonyms are added to its own); a new name becomes a finding of its own.
    Results are cached per path. A file that ends in ``.txt`` is read as the authors' file, see
    :func:`load_authors_knowledge`.

    Args:
        path: The user's file; ``None`` loads the library alone.

    Raises:
        ReportFormatError: If the file cannot be read or does not have that form; the message names file and key.
    """
    return _library() if path is None else _with_file(str(Path(path).expanduser().resolve()))


def load_authors_knowledge(path: str) -> Knowledge:
    """Load the texts of the paper's authors, as downloaded (``MIMIC-CXR.txt``), over the library's findings.

    The file has, per finding, a line with its name, a line ``Definition: ...`` and a line ``Appearance: ...``. Its text
    on "Pleural Other" describes pleural thickening, one kind of it; both findings get it.

    Args:
        path: The authors' file.

    Raises:
        ReportFormatError: If the file cannot be read or does not have that form; the message names file and line.
    """
    return _with_file(str(Path(path).expanduser().resolve()), is_authors=True)


def canonical_name(name: str, knowledge: Mapping[str, FindingKnowledge] | None = None) -> str:
    """Resolve case, underscores, hyphens and synonyms: ``"pleural_effusion"`` -> ``"Pleural Effusion"``.

    Args:
        name: A name as a data set or a user writes it.
        knowledge: Findings to look it up in; the library's by default.

    Returns:
        The canonical name. An unknown name is a custom finding: it comes back as it is, underscores read as spaces.
    """
    return as_knowledge(knowledge).canonical(name)


def as_knowledge(knowledge: Mapping[str, FindingKnowledge] | None) -> Knowledge:
    """Return ``knowledge`` with its index: itself, the library for ``None``, or a plain mapping wrapped."""
    if knowledge is None:
        return _library()
    return knowledge if isinstance(knowledge, Knowledge) else Knowledge(knowledge)


@lru_cache(maxsize=1)
def _library() -> Knowledge:
    resource = files("dmlm.reports").joinpath("knowledge").joinpath("findings.yaml")
    entries = _entries(resource.read_text(encoding="utf-8"), str(resource))
    return Knowledge({name: FindingKnowledge(name=name, **values) for name, values in entries.items()})


@lru_cache(maxsize=16)
def _with_file(path: str, is_authors: bool = False) -> Knowledge:
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        msg = f"{path}: the file of findings cannot be read ({error}); give the path of a UTF-8 text file"
        raise ReportFormatError(msg) from error
    library = _library()
    findings = dict(library)
    is_authors = is_authors or path.endswith(".txt")
    entries: Mapping[str, dict[str, Any]] = read_authors_file(text, path) if is_authors else _entries(text, path)
    for raw, values in entries.items():
        name = library.canonical(raw)
        old = findings.get(name, FindingKnowledge(name))
        values["synonyms"] = tuple(dict.fromkeys((*old.synonyms, *values.get("synonyms", ()))))
        findings[name] = replace(old, source=path, **values)
    return Knowledge(findings)


def _entries(text: str, path: str) -> dict[str, dict[str, Any]]:
    try:
        data = parse_yaml(text, path)
    except ConfigError as error:
        raise ReportFormatError(str(error)) from error
    if not isinstance(data, dict) or set(data) != {"findings"} or not isinstance(data["findings"], dict):
        msg = f"{path}: expected one mapping 'findings' at the top, with a mapping of texts per finding"
        raise ReportFormatError(msg)
    return {_name(name, path): _entry(name, values, path) for name, values in data["findings"].items()}


def _name(name: Any, path: str) -> str:  # noqa: ANN401 - YAML keys are any scalar
    if not isinstance(name, str) or not name.strip():
        msg = f"{path}: findings: a name must be text, got {name!r}; write it in quotes"
        raise ReportFormatError(msg)
    return name


def _entry(name: str, values: Any, path: str) -> dict[str, Any]:  # noqa: ANN401 - YAML values are anything
    where = f"{path}: findings.{name}"
    if not isinstance(values, dict):
        msg = f"{where}: expected a mapping with {', '.join(_KEYS)}; got {type(values).__name__}"
        raise ReportFormatError(msg)
    entry: dict[str, Any] = {}
    for key, value in values.items():
        if key not in _KEYS:
            near = difflib.get_close_matches(str(key), _KEYS, n=1)
            hint = f"; did you mean '{near[0]}'?" if near else f"; known keys: {', '.join(_KEYS)}"
            msg = f"{where}.{str(key)[:60]}: unknown key{hint}"
            raise ReportFormatError(msg)
        if key == "synonyms":
            if not isinstance(value, list) or not all(isinstance(item, str) and item.strip() for item in value):
                msg = f"{where}.synonyms: expected a list of names; got {str(value)[:80]!r}"
                raise ReportFormatError(msg)
            entry[key] = tuple(value)
        elif key == "codes":
            if not isinstance(value, dict) or not all(
                isinstance(code, str) and code.strip() for code in value.values()
            ):
                msg = f"{where}.codes: expected terminology: code, codes in quotes; got {str(value)[:80]!r}"
                raise ReportFormatError(msg)
            entry[key] = {str(system): code for system, code in value.items()}
        elif isinstance(value, str) and value.strip():
            entry[key] = " ".join(value.split())
        else:
            msg = f"{where}.{key}: expected text; got {str(value)[:80]!r}"
            raise ReportFormatError(msg)
    return entry


def _plain(name: str) -> str:
    return " ".join(name.replace("_", " ").replace("-", " ").casefold().split())
