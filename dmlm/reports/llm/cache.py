"""Answers on disk, so that no report is paid for twice.

The key is a hash of prompt, model and text. Answers quote the reports, so the file is as confidential as they are: it
is made readable for its owner alone. It never holds a key, an address or a failed answer.
"""

from __future__ import annotations

import sqlite3
import threading
from hashlib import sha256
from pathlib import Path
from typing import Any

from dmlm.errors import ConfigError

_VERSION = 1
_TABLE = "CREATE TABLE IF NOT EXISTS answers (key BLOB PRIMARY KEY, answer TEXT NOT NULL) WITHOUT ROWID"


class AnswerCache:
    """Answers by key in one SQLite file; may be used by several threads, and processes of one machine.

    Args:
        path: The file; made with its folder where there is none. ``None`` keeps answers in memory only.

    Raises:
        ConfigError: If the file is damaged, no cache, or of another version.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self._lock = threading.Lock()
        try:
            if path is not None:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.touch(mode=0o600)
            # autocommit: a kill loses no answer; 60 s for another process to finish writing
            self._database = sqlite3.connect(
                ":memory:" if path is None else path, timeout=60, check_same_thread=False, isolation_level=None
            )
            (version,) = self._database.execute("PRAGMA user_version").fetchone()
            tables = {name for (name,) in self._database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
            if version not in (0, _VERSION) or (version == 0 and tables - {"answers"}):
                msg = (
                    f"{path}: a cache of version {version}, not {_VERSION}, or none at all; choose another --llm-cache"
                )
                raise ConfigError(msg)
            # a write-ahead log: no flush of the disk for each answer; a power cut loses the last ones, a kill none
            self._database.execute("PRAGMA journal_mode = WAL")
            self._database.execute("PRAGMA synchronous = NORMAL")
            self._database.execute(_TABLE)
            self._database.execute(f"PRAGMA user_version = {_VERSION}")
        except (sqlite3.Error, OSError) as error:
            msg = f"{path}: cannot be used as cache of answers ({error}); delete it or choose another --llm-cache"
            raise ConfigError(msg) from error

    def get(self, key: bytes) -> str | None:
        """Return the answer of a key; ``None`` if there is none."""
        rows = self._run("SELECT answer FROM answers WHERE key = ?", (key,))
        return str(rows[0][0]) if rows else None

    def put(self, key: bytes, answer: str) -> None:
        """Keep an answer."""
        # a lone surrogate cannot be stored
        clean = answer.encode("utf-8", "replace").decode("utf-8")
        self._run("INSERT OR REPLACE INTO answers VALUES (?, ?)", (key, clean))

    def __len__(self) -> int:
        return int(self._run("SELECT COUNT(*) FROM answers")[0][0])

    def _run(self, statement: str, values: tuple[Any, ...] = ()) -> list[Any]:
        try:
            with self._lock:
                return self._database.execute(statement, values).fetchall()
        except sqlite3.Error as error:
            msg = f"{self.path}: the cache of answers failed ({error}); free the disk or choose another --llm-cache"
            raise ConfigError(msg) from error

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._database.close()


def answer_key(prompt_hash: str, model: str, text: str) -> bytes:
    """Return the key of the answer that a model gives to a text under a prompt."""
    digest = sha256()
    for part in (prompt_hash, model, text):
        data = part.encode("utf-8", "surrogatepass")
        digest.update(len(data).to_bytes(8, "big") + data)  # lengths keep ("ab", "c") and ("a", "bc") apart
    return digest.digest()
