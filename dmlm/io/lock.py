"""One writer at a time: a lock that ends with the process, however it ends."""

from __future__ import annotations

import os
from pathlib import Path

from dmlm.errors import ConfigError


def lock(place: Path, busy: str) -> int | None:
    """Lock a file or a folder that exists.

    Args:
        place: What is written to.
        busy: Message where another process has it.

    Returns:
        A descriptor: closing it, or the end of the process, ends the lock. None where the system or the disk has none.

    Raises:
        ConfigError: If another process has it.
    """
    try:
        import fcntl

        handle = os.open(place, os.O_RDONLY)
    except (ImportError, OSError):
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(handle)
        raise ConfigError(busy) from error
    except OSError:  # some network disks
        os.close(handle)
        return None
    return handle


def unlock(handle: int | None) -> None:
    """End a lock, also where a child of this process still has a copy of its descriptor.

    Args:
        handle: What :func:`lock` returned.
    """
    if handle is None:
        return
    import fcntl

    fcntl.flock(handle, fcntl.LOCK_UN)
    os.close(handle)
