"""Read YAML of strangers: plain data only, bounded, no key twice; what is wrong is said with file, line and column."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import yaml

from dmlm.errors import ConfigError
from dmlm.io.bounded import read_file

MAX_BYTES: Final = 1 << 20
"""Largest file that is read: a configuration has 5 KB, a large file of findings 300 KB."""

MAX_VALUES: Final = 100_000
"""Most values of a document, those that aliases repeat counted each time: nine lines can stand for a billion."""

MAX_DEPTH: Final = 40
"""Deepest nesting: a configuration has 10; what reads it after us calls itself for every level."""


class _Loader(yaml.SafeLoader):
    """Plain data; a date stays the text that it was written as, and a value that cannot be read keeps its place."""

    def construct_object(self, node: Any, deep: bool = False) -> Any:  # noqa: ANN401 - as in PyYAML
        try:
            return super().construct_object(node, deep)  # type: ignore[no-untyped-call]
        except yaml.YAMLError:
            raise
        except Exception as error:  # !!int abc, !!bool abc, !!int '', 5,000 digits: each raises something of its own
            kind = node.tag.rpartition(":")[2]
            raise _error(node, f"the value cannot be read as {kind} ({str(error)[:80]})") from error


_Loader.add_constructor("tag:yaml.org,2002:timestamp", yaml.SafeLoader.construct_yaml_str)  # type: ignore[type-var]


def read_yaml(path: Path) -> Any:  # noqa: ANN401 - YAML values are anything
    """Read a YAML file; see :func:`parse_yaml`.

    Raises:
        ConfigError: If it is no such file.
        DMLMError, OSError: If it cannot be opened, is a pipe, or is too large.
    """
    try:
        text = read_file(path, MAX_BYTES).decode("utf-8")
    except UnicodeDecodeError as error:
        msg = f"{path} is not a YAML file: it is no text in UTF-8 ({error.reason})"
        raise ConfigError(msg) from error
    return parse_yaml(text, str(path))


def parse_yaml(text: str, source: str) -> Any:  # noqa: ANN401 - YAML values are anything
    """Parse one YAML document into dicts, lists, text, numbers, booleans and None.

    Args:
        text: The document.
        source: Its name, for messages.

    Raises:
        ConfigError: If it is no YAML, names Python objects, has a key twice in a mapping, contains itself, or is larger
            or deeper than any real one.
    """
    try:
        loader = _Loader(text)
        try:
            root = loader.get_single_node()
            if root is None:
                return None
            _measure(root)
            return loader.construct_document(root)  # type: ignore[no-untyped-call]
        finally:
            loader.dispose()  # type: ignore[no-untyped-call]
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f", line {mark.line + 1}, column {mark.column + 1}" if mark is not None else ""
        msg = f"{source}{where}: not valid YAML: {error.problem}"
        raise ConfigError(msg) from error
    except yaml.YAMLError as error:
        msg = f"{source} is not a YAML file (not valid YAML: {' '.join(str(error).split())[:200]})"
        raise ConfigError(msg) from error
    except RecursionError as error:
        msg = f"{source}: not valid YAML: it is nested far too deep"
        raise ConfigError(msg) from error


def _measure(root: Any) -> None:  # noqa: ANN401 - PyYAML's nodes are untyped
    """Refuse keys that occur twice, documents that contain themselves, and those that unfold to too much."""
    sizes: dict[int, int] = {}  # of finished nodes, aliases unfolded
    open_nodes: set[int] = set()
    waiting: list[tuple[Any, bool]] = [(root, False)]
    while waiting:
        node, done = waiting.pop()
        children = _children(node)
        if done:
            open_nodes.discard(id(node))
            sizes[id(node)] = 1 + sum(sizes[id(child)] for child in children)
            if sizes[id(node)] > MAX_VALUES:
                raise _error(node, f"it unfolds to more than {MAX_VALUES:,} values; write out less, or without aliases")
            continue
        if id(node) in open_nodes:
            raise _error(node, "it contains itself through an alias")
        if id(node) in sizes:
            continue
        open_nodes.add(id(node))
        if len(open_nodes) > MAX_DEPTH:
            raise _error(node, f"it is nested more than {MAX_DEPTH} deep")
        _refuse_twice(node)
        waiting.append((node, True))
        waiting += [(child, False) for child in children]


def _children(node: Any) -> list[Any]:  # noqa: ANN401
    if isinstance(node, yaml.MappingNode):
        return [part for pair in node.value for part in pair]
    return list(node.value) if isinstance(node, yaml.SequenceNode) else []


def _refuse_twice(node: Any) -> None:  # noqa: ANN401
    if not isinstance(node, yaml.MappingNode):
        return
    lines: dict[tuple[str, str], int] = {}
    for key, _ in node.value:
        if not isinstance(key, yaml.ScalarNode) or key.value == "<<":
            continue
        name = (key.tag, key.value)
        if name in lines:
            raise _error(key, f"the key '{key.value[:60]}' is there already in line {lines[name]}; keep one")
        lines[name] = key.start_mark.line + 1


def _error(node: Any, problem: str) -> yaml.MarkedYAMLError:  # noqa: ANN401
    return yaml.MarkedYAMLError(problem=problem, problem_mark=node.start_mark)
