"""Copy a prepared store into LitData chunks, for training that streams from object storage."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Final

from dmlm.errors import MissingDependencyError
from dmlm.io.store import ImageStore

_CHUNK: Final = "64MB"  # one request to object storage each


def write_litdata(store: Path, out: Path) -> Path:
    """Write every image of a store as one sample ``{"image": str, "pixels": uint8 [H, W] array}``.

    Upload the folder as it is and read it with ``litdata.StreamingDataset``. An interrupted copy leaves nothing behind
    that looks finished.

    Args:
        store: A finished store.
        out: Folder to write; an older copy is replaced.

    Returns:
        ``out``.

    Raises:
        MissingDependencyError: If litdata is not installed.
        DatasetNotFoundError, DatasetFormatError: If the store is not there, not finished, or damaged.
    """
    try:
        from litdata.streaming.writer import BinaryWriter  # type: ignore[import-not-found, import-untyped, unused-ignore]
    except ImportError as error:
        raise MissingDependencyError("litdata", "litdata") from error  # noqa: EM101 - a package, not a message
    images = ImageStore(store)
    part = out.with_name(f"{out.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    try:
        writer = BinaryWriter(str(part), chunk_bytes=_CHUNK)
        for row, name in enumerate(images.names()):
            writer[row] = {"image": name, "pixels": images.read(name)}
        writer.done()
        writer.merge(1)
        shutil.rmtree(out, ignore_errors=True)
        part.replace(out)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return out
