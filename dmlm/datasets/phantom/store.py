"""Phantoms on disk: what is known of them is written at once, the films when they are drawn.

A folder holds ``studies.jsonl`` (one record per study, in the order of the images), ``images.npy`` (uint8
``[N, H, W]``), ``masks.npy`` (uint8 ``[K, ceil(H * W / 8)]``, bits of the ``K`` masks of findings that are there),
``checksums.npy`` (uint32 ``[N]``, 0 where a film is not drawn yet) and ``manifest.json``. It is written under a
temporary name and renamed, so that neither an interrupted run nor a second process ever shows half a folder; its arrays
have their full size then, and :class:`dmlm.datasets.phantom.film_store.FilmStore` fills them.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import math
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from dmlm.datasets.phantom.film_store import CHECKSUMS, IMAGES, MASKS, FilmStore
from dmlm.datasets.phantom.findings import LABEL_NAMES, UNSEEN_FINDING
from dmlm.datasets.phantom.studies import patient_facts
from dmlm.datasets.splits import SPLITS
from dmlm.errors import ConfigError, DatasetFormatError
from dmlm.io.atomic import naming, write_json

logger = logging.getLogger(__name__)

GENERATOR_VERSION: Final = 4
"""Goes into the name of the folder: a change of what is drawn, dictated or kept must raise it."""
MANIFEST: Final = "manifest.json"
STUDIES: Final = "studies.jsonl"
FILES: Final = (IMAGES, MASKS, CHECKSUMS, STUDIES)

_SMALLEST: Final = 32


def phantom_folder(root: str | os.PathLike[str], num_patients: Mapping[str, int], image_size: int, seed: int) -> Path:
    """Return the folder below ``root`` in which these phantoms are kept; nothing is made.

    Raises:
        ConfigError: If a parameter cannot be used.
    """
    facts = _parameters(num_patients, image_size, seed)
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:12]
    return Path(root) / f"phantom-{image_size}px-{digest}"


def plan_phantoms(
    root: str | os.PathLike[str], num_patients: Mapping[str, int], image_size: int, seed: int, progress: bool = True
) -> Path:
    """Make up the patients with their studies and reports, unless they are there already; no film is drawn.

    The result depends on ``num_patients``, ``image_size`` and ``seed`` only: patient ``p`` of a split is drawn from
    ``(seed, split, p)``, so more patients leave the first ones as they are. Another version of OpenCV may draw some
    pixels a little differently; a warning says so where it finds what another one drew. Several processes may call
    this at once: the first to finish wins, the others use its folder.

    Args:
        root: Folder that keeps generated data sets; made where absent.
        num_patients: Patients per split (``train``, ``val``, ``test``), each with one to four studies.
        image_size: Height and width of the films in pixels, at least 32.
        seed: Seed, 0 or more.
        progress: Whether to show a progress bar.

    Returns:
        The folder (see :func:`phantom_folder`).

    Raises:
        ConfigError: If a parameter cannot be used, or ``root`` cannot be written.
        OSError: If the disk is full.
    """
    folder = phantom_folder(root, num_patients, image_size, seed)
    if is_complete(folder):
        _compare_opencv(folder)
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        part = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", suffix=".part", dir=folder.parent))
    except OSError as error:
        msg = f"{folder.parent}: phantoms cannot be written ({error.strerror}); set DMLM_CACHE to a writable folder"
        raise ConfigError(msg) from error
    try:
        with naming(folder):
            counts = _write(part, num_patients, image_size, seed, progress)
        facts = _parameters(num_patients, image_size, seed)
        write_json(part / MANIFEST, {**facts, "label_names": LABEL_NAMES, **counts, "opencv": _opencv()})
        part.chmod(0o755)
        _publish(part, folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return folder


def read_records(folder: Path) -> list[dict[str, Any]]:
    """Return the lines of ``studies.jsonl``: what is known of each study, and where in ``masks.npy`` its masks are."""
    with (folder / STUDIES).open(encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def open_films(folder: Path, records: Sequence[Mapping[str, Any]] | None = None) -> FilmStore:
    """Open the films of a folder.

    Args:
        folder: What :func:`plan_phantoms` returned.
        records: Its :func:`read_records`, where they were read already.

    Raises:
        DatasetFormatError: If the folder is no complete set of phantoms.
    """
    facts = read_manifest(folder)
    return FilmStore(folder, read_records(folder) if records is None else records, facts["image_size"], facts["seed"])


def _compare_opencv(folder: Path) -> None:
    """Say so where another version of OpenCV drew what is there: two machines would train on different pixels."""
    facts, here = read_manifest(folder), _opencv()
    drawn = str(facts.get("opencv", here))
    if drawn == here:
        return
    films = open_films(folder)
    if films.num_drawn:
        logger.warning(
            "%s: %s of %s films were drawn with OpenCV %s, this is %s, which draws some pixels a little differently: "
            "remove the folder to have them drawn again",
            folder,
            films.num_drawn,
            len(films),
            drawn,
            here,
        )
    if films.num_drawn < len(films) and here not in drawn.split(", "):
        with contextlib.suppress(OSError):  # what cannot be written is not drawn into, either
            write_json(folder / MANIFEST, {**facts, "opencv": f"{drawn}, {here}" if films.num_drawn else here})


def _opencv() -> str:
    import cv2

    return str(cv2.__version__)


def is_complete(folder: Path) -> bool:
    """Whether a folder is whole, drawn or not: its manifest, which is written last, and files of the right length."""
    try:
        facts = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        return all((folder / name).stat().st_size == facts["bytes"][name] for name in FILES)
    except (OSError, ValueError, KeyError, TypeError):
        return False


def read_manifest(folder: Path) -> dict[str, Any]:
    """Read ``manifest.json`` of a folder.

    Raises:
        DatasetFormatError: If the folder is no complete set of phantoms.
    """
    if not is_complete(folder):
        msg = f"{folder}: no complete set of phantoms (expected {', '.join(FILES)} and {MANIFEST}); make it again"
        raise DatasetFormatError(msg)
    facts: dict[str, Any] = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    return facts


def _write(part: Path, num_patients: Mapping[str, int], image_size: int, seed: int, progress: bool) -> dict[str, Any]:
    """Write the records and empty arrays; returns counts per split and file sizes."""
    from tqdm import tqdm  # type: ignore[import-untyped]

    studies: Counter[str] = Counter()
    positives: Counter[str] = Counter()
    masks = 0
    patients = [(split, patient) for split in SPLITS for patient in range(num_patients.get(split, 0))]
    with (part / STUDIES).open("w", encoding="utf-8") as records:
        for split, patient in tqdm(patients, desc="phantom studies", unit="patient", disable=not progress):
            for study in patient_facts(seed, split, patient):
                rows = {name: masks + number for number, name in enumerate(study.severity)}
                masks += len(rows)
                records.write(json.dumps({**study.record(), "mask_rows": rows}) + "\n")
                studies[split] += 1
                positives.update(list(study.severity))
    total = sum(studies.values())
    _empty(part / IMAGES, np.dtype(np.uint8), (total, image_size, image_size))
    _empty(part / MASKS, np.dtype(np.uint8), (masks, (image_size**2 + 7) // 8))
    _empty(part / CHECKSUMS, np.dtype(np.uint32), (total,))
    return {
        "studies": {split: studies[split] for split in SPLITS},
        "positives": {name: positives[name] for name in (*LABEL_NAMES, UNSEEN_FINDING)},
        "masks": masks,
        "bytes": {name: (part / name).stat().st_size for name in FILES},
    }


def _empty(path: Path, dtype: np.dtype[Any], shape: tuple[int, ...]) -> None:
    """Write an array of zeros. Every byte: a disk that is full says so now, and not in the middle of training."""
    left = math.prod(shape) * dtype.itemsize
    zeros = bytes(min(left, 1 << 20))
    with path.open("wb") as file:
        descr = np.lib.format.dtype_to_descr(dtype)
        np.lib.format.write_array_header_1_0(file, {"descr": descr, "fortran_order": False, "shape": shape})
        while left > 0:
            left -= file.write(zeros[:left])


def _publish(part: Path, folder: Path) -> None:
    """Rename a whole folder into place; another process may have been faster, or have left half of one."""
    for _ in range(8):
        if _rename(part, folder) or is_complete(folder):
            return
        # what is there is damaged: move it away first, so that nobody sees it half removed
        aside = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", suffix=".old", dir=folder.parent))
        _rename(folder, aside / "damaged")
        shutil.rmtree(aside, ignore_errors=True)
    msg = f"{folder}: it is in the way and cannot be replaced; remove it"
    raise ConfigError(msg)


def _rename(source: Path, target: Path) -> bool:
    """Rename, or say that it cannot be done (another process was faster)."""
    try:
        source.rename(target)
    except OSError:
        return False
    return True


def _parameters(num_patients: Mapping[str, int], image_size: int, seed: int) -> dict[str, Any]:
    for split, count in num_patients.items():
        if split not in SPLITS or count < 0:
            msg = (
                f"phantoms: num_patients must map {', '.join(SPLITS)} to 0 or more patients, got {{'{split}': {count}}}"
            )
            raise ConfigError(msg)
    if not sum(num_patients.values()):
        msg = "phantoms: num_patients must hold at least one patient"
        raise ConfigError(msg)
    if image_size < _SMALLEST:
        msg = f"phantoms: image_size must be at least {_SMALLEST} pixels, got {image_size}"
        raise ConfigError(msg)
    if seed < 0:
        msg = f"phantoms: seed must be 0 or more, got {seed}"
        raise ConfigError(msg)
    counts = {split: int(num_patients.get(split, 0)) for split in SPLITS}
    return {"generator": GENERATOR_VERSION, "num_patients": counts, "image_size": image_size, "seed": seed}
