"""Find the image files of a data set below its folder, however it was unpacked, and say which listed ones are not."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final, Literal

from dmlm.errors import DatasetFormatError, DatasetNotFoundError

IMAGE_SUFFIXES: Final = (".dcm", ".dicom", ".png", ".jpg", ".jpeg", ".tif", ".tiff", ".gif", ".bmp")
"""Endings (lower case) of files that count as images."""

MissingImages = Literal["raise", "drop"]
"""``raise`` refuses a folder that lacks listed images, ``drop`` leaves their rows out."""

_ARCHIVES: Final = (".zip", ".tar", ".gz", ".tgz", ".7z")
_LOG = logging.getLogger(__name__)


def index_images(
    root: Path, depth: int, first: Sequence[str] = (), skip: Collection[str] = (), by_stem: bool = True
) -> dict[str, str]:
    """Map the name of every image file below ``root`` to its path.

    Of two files of one name in one folder the first in the alphabet counts. In two folders, one of them must be below
    ``first``: masks or heat maps often bear the names of their films. Hidden files and folders are passed over.

    Args:
        root: Where to look.
        depth: How many levels of folders below ``root`` are looked into; 0 is ``root`` alone.
        first: Names of folders that hold films; they come before others.
        skip: Names of folders that are not looked into.
        by_stem: Whether names are taken without their ending.

    Returns:
        Name -> path relative to ``root`` (posix).

    Raises:
        DatasetFormatError: If nothing says which of two files of one name is the film.
    """
    paths = list(_files(root, "", depth, first, skip))
    found = names_of(paths, by_stem)
    for path in paths:
        folder, _, name = path.rpartition("/")
        taken = found.get(name.rpartition(".")[0] if by_stem else name, path).rpartition("/")[0]
        if taken != folder and not set(taken.split("/")) & set(first):
            msg = (
                f"{root}: '{name}' has the name of an image in '{taken or '.'}' and lies in '{folder or '.'}'; move "
                "the folder that does not hold the films (masks, copies) out of it"
            )
            raise DatasetFormatError(msg)
    return found


def names_of(paths: Iterable[str], by_stem: bool = True) -> dict[str, str]:
    """Map the name of every image among ``paths`` to its path; where a name occurs twice, the first counts.

    Args:
        paths: Posix paths relative to the data set's folder, such as the names in a store.
        by_stem: Whether names are taken without their ending.
    """
    found: dict[str, str] = {}
    for path in paths:
        name = path.rpartition("/")[2]
        stem, dot, suffix = name.rpartition(".")
        if dot and f".{suffix.lower()}" in IMAGE_SUFFIXES:
            found.setdefault(stem if by_stem else name, path)
    return found


def _files(folder: Path, prefix: str, depth: int, first: Sequence[str], skip: Collection[str]) -> Iterator[str]:
    """Yield files as paths relative to the root; a folder that cannot be listed counts as empty."""
    try:
        entries = sorted(folder.iterdir(), key=lambda entry: (entry.name not in first, entry.name))
    except OSError:
        return
    folders = []
    for entry in entries:
        if entry.name.startswith("."):
            continue
        if "." in entry.name and entry.name.rpartition(".")[2].lower() in _ENDINGS:
            yield f"{prefix}{entry.name}"
        elif depth > 0 and entry.name not in skip and entry.is_dir():
            folders.append(entry)
    for entry in folders:
        yield from _files(entry, f"{prefix}{entry.name}/", depth - 1, first, skip)


_ENDINGS: Final = frozenset(suffix[1:] for suffix in IMAGE_SUFFIXES)


def settle_missing(
    root: Path,
    source: str,
    missing: Sequence[str],
    listed: int,
    missing_images: MissingImages,
    how_to_get: str,
    in_store: bool = False,
) -> None:
    """Refuse a data set some of whose images are not on disk, or log that they are left out.

    Args:
        root: Folder of the data set.
        source: File that lists the images.
        missing: Names of listed images that are not there.
        listed: How many are listed.
        missing_images: Whether to go on without them (``drop``) or not (``raise``).
        how_to_get: Where the data set comes from, one line.
        in_store: Whether they were looked for in a store.

    Raises:
        DatasetNotFoundError: If images are missing and they are not to be dropped, or none is there.
    """
    if not missing:
        return
    if in_store:
        msg = f"the store has no pixels of {len(missing):,} of {listed:,} images of {root} (first: '{missing[0]}')"
        if missing_images == "drop" and len(missing) < listed:
            _LOG.warning("%s; they are left out", msg)
            return
        msg += "; run dmlm data prepare again, or set data.missing_images to drop"
        raise DatasetNotFoundError(msg)
    packed = _archives(root)
    unpack = f"{', '.join(packed[:3])} {'is' if len(packed) == 1 else 'are'} not unpacked" if packed else ""
    if len(missing) == listed:
        msg = f"{root}: none of the {listed:,} images that {source} lists is there; {unpack or how_to_get}"
        raise DatasetNotFoundError(msg)
    what = f"{root}: {len(missing):,} of {listed:,} images that {source} lists are not there (first: '{missing[0]}')"
    if missing_images == "drop":
        _LOG.warning("%s; they are left out", what)
        return
    msg = f"{what}; {unpack or 'unpack or copy the images again'}, or leave them out with missing_images: drop"
    raise DatasetNotFoundError(msg)


def _archives(root: Path) -> list[str]:
    """Names of archives in the folder and one below; tables may be gzipped and do not count."""
    return [
        entry.relative_to(root).as_posix()
        for folder in subfolders(root)
        for entry in sorted(folder.iterdir())[:1000]
        if entry.suffix.lower() in _ARCHIVES and not entry.name.lower().endswith(".csv.gz")
    ]


def subfolders(root: Path) -> list[Path]:
    """Return ``root`` and the folders in it, in the alphabet's order; people point at the folder or at its parent."""
    try:
        below = sorted(entry for entry in root.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    except OSError:
        below = []
    return [root, *below]
