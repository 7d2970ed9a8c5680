"""`Configurable`: a class that remembers how it was constructed, as plain data.

Lightning's ``save_hyperparameters`` walks stack frames and pickles modules that are passed as arguments; the result
differs between the CLI and Python and does not load with ``weights_only=True``. Here ``__new__`` binds the arguments
and keeps them as JSON-like data, so that a checkpoint or a folder can rebuild the object anywhere.
"""

from __future__ import annotations

import dataclasses
import enum
import inspect
import os
import typing
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any

from dmlm.errors import CheckpointError, ConfigError


class Configurable:
    """Mixin that records constructor arguments in ``self._init_args`` before ``__init__`` runs.

    Nested :class:`Configurable` arguments are recorded as ``{"class_path": ..., "init_args": {...}}``. A class may
    override :attr:`config` when what should be recorded differs from what was passed (e.g. ``pretrained: false`` and
    the resolved architecture).
    """

    _init_args: dict[str, Any]

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - forwards any constructor
        """Bind the arguments to the signature of ``__init__`` and keep them."""
        self = super().__new__(cls)
        signature = inspect.signature(cls.__init__)
        try:
            bound = signature.bind(self, *args, **kwargs)
        except TypeError:
            return self  # __init__ raises the ordinary TypeError
        bound.apply_defaults()
        arguments: dict[str, Any] = {}
        for name, parameter in list(signature.parameters.items())[1:]:
            if parameter.kind is inspect.Parameter.VAR_KEYWORD:
                arguments.update(bound.arguments.get(name, {}))
            elif parameter.kind is not inspect.Parameter.VAR_POSITIONAL:
                arguments[name] = bound.arguments[name]
        object.__setattr__(self, "_init_args", arguments)
        return self

    @property
    def config(self) -> dict[str, Any]:
        """``{"class_path": ..., "init_args": ...}`` as plain data; :func:`build` makes an equal object from it."""
        return {"class_path": class_path(type(self)), "init_args": plain(self._init_args)}


def class_path(cls: type) -> str:
    """Return the dotted import path under which ``cls`` can be found again (the shortest public one)."""
    parts = cls.__module__.split(".")
    for length in range(1, len(parts) + 1):
        path = ".".join(parts[:length])
        if any(part.startswith("_") for part in parts[:length]):
            continue
        try:
            if getattr(import_module(path), cls.__qualname__, None) is cls:
                return f"{path}.{cls.__qualname__}"
        except (ImportError, AttributeError):
            continue
    return f"{cls.__module__}.{cls.__qualname__}"


def plain(value: Any) -> Any:  # noqa: ANN401
    """Turn constructor arguments into JSON-like data (str, numbers, list, dict, None).

    Raises:
        ConfigError: If a value cannot be written down (a function, an arbitrary object).
    """
    if value is None or isinstance(value, (bool, int, float, str)):
        return value.value if isinstance(value, enum.Enum) else value
    if isinstance(value, Configurable):
        return value.config
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {item.name: plain(getattr(value, item.name)) for item in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (Sequence, set, frozenset)):
        return [plain(item) for item in value]
    if hasattr(value, "item"):
        return plain(value.item())
    kind = type(value).__name__
    msg = f"constructor argument of type {kind} cannot be recorded; pass plain data or a Configurable object"
    raise ConfigError(msg)


def build(config: Mapping[str, Any], base: type, source: str = "configuration") -> Any:  # noqa: ANN401
    """Rebuild an object from what :attr:`Configurable.config` wrote.

    Only importable subclasses of ``base`` are built, so that a stranger's file cannot call anything else.

    Args:
        config: ``{"class_path": ..., "init_args": ...}``, nested ones included.
        base: Class that the result must be an instance of.
        source: Name of the file that the configuration came from, for messages.

    Raises:
        CheckpointError: If the class cannot be imported, is not a ``base``, or refuses its arguments.
    """
    path = str(config.get("class_path", ""))
    module_name, _, name = path.rpartition(".")
    try:
        cls = getattr(import_module(module_name), name)
    except (ImportError, AttributeError, ValueError, TypeError) as error:  # TypeError: a relative path
        msg = f"{source}: class '{path}' cannot be imported ({error}); install the package that defines it"
        raise CheckpointError(msg) from error
    if not (isinstance(cls, type) and issubclass(cls, base) and issubclass(cls, Configurable)):
        msg = f"{source}: expected a {base.__name__}, found '{path}'"
        raise CheckpointError(msg)
    hints = _type_hints(cls)
    try:
        arguments = {
            key: _rebuild(value, hints.get(key), source) for key, value in dict(config.get("init_args", {})).items()
        }
        return cls(**arguments)
    except TypeError as error:
        msg = f"{source}: {path} does not take the recorded arguments ({error}); it was written by another version"
        raise CheckpointError(msg) from error
    except ConfigError as error:  # says which value is out of range, but not where it was recorded
        msg = f"{source}: {error}"
        raise CheckpointError(msg) from error


def _type_hints(cls: type) -> dict[str, Any]:
    try:
        return typing.get_type_hints(cls.__init__)  # type: ignore[misc]
    except (NameError, TypeError):  # an annotation that exists for type checkers only
        return {}


def _rebuild(value: Any, hint: Any, source: str) -> Any:  # noqa: ANN401
    """Undo :func:`plain`: nested objects, dataclasses and tuples, the last two by the constructor's annotation."""
    if isinstance(value, Mapping) and set(value) == {"class_path", "init_args"}:
        return build(value, Configurable, source)
    for option in (hint, *typing.get_args(hint)):  # the members of a Union, too
        if isinstance(value, Mapping) and dataclasses.is_dataclass(option) and isinstance(option, type):
            fields = _type_hints(option)
            return option(**{name: _rebuild(item, fields.get(name), source) for name, item in value.items()})
        if isinstance(value, (list, tuple)) and (option is tuple or typing.get_origin(option) is tuple):
            return tuple(_rebuild(item, None, source) for item in value)
    if isinstance(value, (list, tuple)):
        return [_rebuild(item, None, source) for item in value]
    return value
