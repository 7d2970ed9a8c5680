"""The parser: jsonargparse's errors as one line, with the nearest right name."""

from __future__ import annotations

import difflib
import inspect
import re
import typing
from collections.abc import Iterable, Mapping
from dataclasses import fields as dataclass_fields
from dataclasses import is_dataclass
from importlib import import_module
from typing import Any, NoReturn

from lightning.pytorch import Callback
from lightning.pytorch.cli import LightningArgumentParser
from lightning.pytorch.loggers import Logger

from dmlm._config import Configurable
from dmlm.datamodules.base import ChestXrayDataModule
from dmlm.errors import ConfigError, DMLMError
from dmlm.tasks.base import TaskModule

_KEY = re.compile(r'Parser key "([\w.+]+)":?')
_CLASS = re.compile(r"Problem with given class_path '([\w.]+)':?")
_KIND = re.compile(r"Expected a (?:<class '(?:\w+\.)*(\w+)'>|typing\.Literal(\[.*\]))")
_IN_UNION = re.compile(
    r"^(Does not validate against any of the Union subtypes|Subtypes: .*|Errors:|Expected a <class 'NoneType'>"
    r"|Given value type: .*|Subclass types expect one of:|a class path \(str\)|a dict with.*"
    r"|Expected a path but .* either not accessible or invalid|)$"
)


class DMLMArgumentParser(LightningArgumentParser):
    """A parser that raises :class:`ConfigError` with one line instead of printing two pages and exiting."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Raise the error of this package that is behind ``ex``, or ``message`` in one line.

        Raises:
            DMLMError: Always, except in parsers that jsonargparse makes for its own use.
        """
        if not self.exit_on_error:
            super().error(message, ex)
        cause = own_error(ex)
        if cause is not None:
            raise cause
        msg = f"{self._explain(message)} (see {self.prog.replace(' [options]', '')} --help)"
        raise ConfigError(msg) from ex

    def _explain(self, message: str) -> str:
        keys: list[str] = []
        owner = ""
        said: list[str] = []
        kinds: list[str] = []
        given = ""
        for raw in message.splitlines():
            line = raw.strip().removeprefix("- ")
            if found := _KEY.search(line):
                keys += [found[1]] if found[1] not in keys[-1:] else []
                line = line[: found.start()] + line[found.end() :]
            if found := _CLASS.search(line):
                owner = found[1]
                line = line[: found.start()] + line[found.end() :]
            line = line.strip()
            if found := _KIND.fullmatch(line):
                kinds += [kind for kind in (found[1] or f"one of {found[2]}",) if kind not in ("NoneType", *kinds)]
            elif line.startswith("Given value: "):
                given = given or line.removeprefix("Given value: ")[:60]  # the innermost comes first
            elif not _IN_UNION.match(line) and line not in said:
                said.append(line)
        if kinds and not said:  # every member of a union says what it wanted; the value came last
            said = [f"expected {' or '.join(kinds)}, got {given}"]
        text = "; ".join(said) or message.splitlines()[0]
        return self._hinted(text, ".".join(keys), owner)

    def _hinted(self, text: str, key: str, owner: str) -> str:
        """Add the nearest right name to what jsonargparse said."""
        where = f"{key}: " if key else ""
        short = owner.rpartition(".")[2]
        if "is abstract" in text or short in ("TaskModule", "ChestXrayDataModule"):
            return f"name a class before its options: --{key} NAME --{key}.OPTION VALUE, or use --config or --ckpt"
        if found := re.search(r"Option '([\w.]+)' is not accepted", text):
            known = _arguments_of(owner) if owner else [action.dest for action in self._actions]
            return f"{where}{short or 'the configuration'} has no option '{found[1]}'{_did_you_mean(found[1], known)}"
        if found := re.search(r"does not accept option '([\w.]+)'|unrecognized arguments: (--[\w.]+)", text):
            option = (found[1] or found[2]).removeprefix("--")
            known = _arguments_of(owner) if owner else self._known_options()
            return f"{where}unknown option '{option}'{_did_you_mean(option, known)}"
        if found := re.search(r"module '([\w.]+)' has no attribute '(\w+)'", text):
            names = [name for name in dir(import_module(found[1])) if not name.startswith("_")]
            return f"{where}{found[1]} has no '{found[2]}'{_did_you_mean(found[2], names)}"
        if found := re.search(r"(?:dot import path string|Not a valid subclass of .*Got value): ([^\s;]+)", text):
            return f"{where}{_unknown_class(found[1], key)}"
        if found := re.search(r"Unable to load config ['\"](.+?)['\"]", text):
            return f"{where}'{found[1]}' is neither a YAML file nor a section written out"
        if found := re.search(r"the following arguments are required: (.*)", text):
            wanted = ", ".join(f"--{key + '.' if key else ''}{_without_verb(name)}" for name in found[1].split(", "))
            return f"{short or 'this command'} needs {wanted}, from an option, a --config file or --ckpt"
        text = re.sub(r"Expected a <class '(\w+)'>\. Got value: ", r"expected \1, got ", " ".join(text.split()))
        text = text.replace("Expected a typing.Literal", "one of ")
        return f"{where}{short + ': ' if short and not key else ''}{text}"

    def _known_options(self) -> list[str]:
        """Names of the options of this parser and of those of its verbs."""
        parsers: list[DMLMArgumentParser] = [self, *getattr(self._subcommands_action, "choices", {}).values()]
        return [
            name.removeprefix("--")
            for parser in parsers
            for action in parser._actions
            for name in action.option_strings
            if name.startswith("--")
        ]


def check_sections(class_path: str, arguments: Mapping[str, Any], key: str) -> None:
    """Refuse an option that is a section of options (``optim``) and holds a list or a number, which the parser accepts.

    Args:
        class_path: Class whose options they are.
        arguments: What was given.
        key: Where they are, for the message.

    Raises:
        ConfigError: Naming the option.
    """
    for name, kind in _sections_of(class_path):
        value = arguments.get(name)
        if isinstance(value, (list, tuple, str, int, float)):
            known = ", ".join(field.name for field in dataclass_fields(kind))
            msg = f"{key}.{name}: expected a section with options ({known}), got '{str(value)[:60]}'"
            raise ConfigError(msg)


def own_error(error: BaseException | None) -> DMLMError | None:
    """Return the error of this package that others wrapped, or None."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        if isinstance(error, DMLMError):
            return error
        seen.add(id(error))
        error = error.__cause__ or error.__context__
    return None


def root_error(error: BaseException) -> BaseException:
    """Return the error that started a chain."""
    seen: set[int] = set()
    while id(error) not in seen:
        seen.add(id(error))
        error = error.__cause__ or error.__context__ or error
    return error


def _did_you_mean(name: str, known: Iterable[str]) -> str:
    known = sorted(set(known))
    root, _, rest = name.partition(".")
    roots = {item.partition(".")[0] for item in known}
    if rest and root not in roots:  # the section is misspelt
        near = [f"{section}.{rest}" for section in difflib.get_close_matches(root, roots, n=1)]
    else:
        near = difflib.get_close_matches(name, known, n=1)
    if near:
        return f"; did you mean '{near[0]}'?"
    return f"; known are {', '.join(known)}" if 0 < len(known) <= 12 else ""


def _arguments_of(class_path: str) -> list[str]:
    """Names of a class's arguments, and of the fields of those that are dataclasses (``optim.lr``)."""
    fields = [(item, field) for item, kind in _sections_of(class_path) for field in dataclass_fields(kind)]
    return _parameters(_imported(class_path)) + [f"{item}.{field.name}" for item, field in fields]


def _sections_of(class_path: str) -> list[tuple[str, Any]]:
    """Arguments of a class that are dataclasses, with their types."""
    cls = _imported(class_path)
    hints = typing.get_type_hints(cls.__init__)
    found = [(item, kind) for item in _parameters(cls) for kind in (hints.get(item), *typing.get_args(hints.get(item)))]
    return [(item, kind) for item, kind in found if is_dataclass(kind)]


def _imported(class_path: str) -> Any:  # noqa: ANN401 - a class
    module, _, name = class_path.rpartition(".")
    return getattr(import_module(module), name)


def _parameters(cls: Any) -> list[str]:  # noqa: ANN401
    return [item for item in inspect.signature(cls).parameters if item not in ("args", "kwargs")]


def _unknown_class(name: str, key: str) -> str:
    bases: dict[str, type] = {"model": TaskModule, "data": ChestXrayDataModule}
    base = bases.get(key)
    known = _class_names([base] if base else [Configurable, Callback, Logger])
    short = name.rpartition(".")[2]
    if base is not None:
        return f"'{name}' is not a {base.__name__}{_did_you_mean(short, known)}"
    if short in known:
        return f"'{name}' is not what is expected here"
    return f"'{name}' is not a class that can be imported{_did_you_mean(short, known)}"


def _class_names(bases: Iterable[type]) -> list[str]:
    """Names of the concrete classes below ``bases``, which a configuration may name in short."""
    names: list[str] = []
    waiting = list(bases)
    while waiting:
        children: list[type] = waiting.pop().__subclasses__()
        names += [child.__name__ for child in children if not inspect.isabstract(child)]
        waiting += children
    return names


def _without_verb(name: str) -> str:
    return re.sub(r"^(fit|validate|test|predict)\.", "", name)
