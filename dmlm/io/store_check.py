"""Checksums of a prepared image store: CRC-32 of each image, SHA-256 of each file."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from dmlm.errors import DatasetFormatError
from dmlm.io.store_format import Entry, shard_name

_CHUNK: Final = 8 << 20


def check_shards(folder: Path, entries: Sequence[Entry]) -> list[dict[str, Any]]:
    """Read every shard once, compare each image with its checksum, and digest the shard.

    Returns:
        For each shard ``file``, ``bytes`` and ``sha256``.

    Raises:
        DatasetFormatError: If an image differs from its checksum, or is missing.
    """
    ordered: dict[int, list[Entry]] = {}
    for entry in entries:
        if not entry.problem:
            ordered.setdefault(entry.shard, []).append(entry)
    shards = []
    for shard, part in sorted(ordered.items()):
        path, digest, length = folder / shard_name(shard), hashlib.sha256(), 0
        with path.open("rb") as file:
            for entry in sorted(part, key=lambda entry: entry.offset):
                data = file.read(entry.length)
                if entry.offset != length or len(data) != entry.length or zlib.crc32(data) != entry.crc32:
                    msg = (
                        f"{path}: the pixels of image '{entry.image}' differ from their checksum; the disk or a copy "
                        f"damaged them: delete {folder} and prepare again"
                    )
                    raise DatasetFormatError(msg)
                digest.update(data)
                length += len(data)
        shards.append({"file": path.name, "bytes": length, "sha256": digest.hexdigest()})
    return shards


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
