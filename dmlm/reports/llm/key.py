"""The key of an endpoint: from an environment variable, and nowhere else."""

from __future__ import annotations

import os
import re

from dmlm.errors import ConfigError

DEFAULT_VARIABLE = "DMLM_LLM_API_KEY"
"""Variable that is read unless another is named. A service's own variable (``OPENAI_API_KEY`` ...) must be named, so
that its key never goes to another service by accident."""


def read_api_key(variable: str | None = None) -> str | None:
    """Read the key.

    Args:
        variable: Name of the environment variable; the default one may be unset, a named one must be set.

    Returns:
        The key; ``None`` where the default variable is unset (many servers on one's own machine need no key).

    Raises:
        ConfigError: If the name is no name (perhaps the key itself: it is not repeated), a named variable is unset, or
            its value cannot be a key.
    """
    name = variable or DEFAULT_VARIABLE
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]{0,63}", name):
        msg = "--api-key-env: give the NAME of an environment variable that holds the key, not the key"
        raise ConfigError(msg)
    key = os.environ.get(name, "").strip()
    if not key:
        if variable is None:
            return None
        # a key may look like a name: what was given is not repeated
        msg = "--api-key-env: the environment variable of that name is not set or empty; export it first"
        raise ConfigError(msg)
    if not re.fullmatch(r"[\x21-\x7e]+", key):
        msg = "--api-key-env: the value of that variable has blanks or characters that no key has"
        raise ConfigError(msg)
    return key
