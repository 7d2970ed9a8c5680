"""Where derived files (image caches, generated data, split manifests) are kept between runs."""

from __future__ import annotations

import os
from pathlib import Path


def cache_dir() -> Path:
    """Return the folder for files that can be made again; it is not created here.

    The environment variable ``DMLM_CACHE`` wins, then ``XDG_CACHE_HOME/dmlm``, then ``~/.cache/dmlm``. Empty variables
    count as unset.
    """
    own = os.environ.get("DMLM_CACHE")
    if own:
        return Path(own).expanduser()
    shared = os.environ.get("XDG_CACHE_HOME")
    return (Path(shared).expanduser() if shared else Path.home() / ".cache") / "dmlm"
