"""Phantoms on disk: made once into a folder that is complete or absent, and read through memory maps.

A folder holds ``images.npy`` (uint8 ``[N, H, W]``), ``masks.npy`` (uint8 ``[K, ceil(H * W / 8)]``, bits of the ``K``
masks that are not empty), ``studies.jsonl`` (one record per study, in the order of the images) and ``manifest.json``.
It is written under a temporary name and renamed when it is whole, so that neither an interrupted run nor a second
process ever shows half a data set.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np

from dmlm.datasets.phantom.findings import LABEL_NAMES, UNSEEN_FINDING
from dmlm.datasets.phantom.studies import PhantomStudy, make_patient
from dmlm.datasets.splits import SPLITS, Split
from dmlm.errors import ConfigError, DatasetFormatError
from dmlm.io.atomic import naming, write_json

logger = logging.getLogger(__name__)

GENERATOR_VERSION: Final = 3
"""Goes into the name of the folder: a change of what is drawn or dictated must raise it."""
MANIFEST: Final = "manifest.json"
FILES: Final = ("images.npy", "masks.npy", "studies.jsonl")

_SMALLEST: Final = 32


def phantom_folder(root: str | os.PathLike[str], num_patients: Mapping[str, int], image_size: int, seed: int) -> Path:
    """Return the folder below ``root`` in which these phantoms are kept; nothing is made.

    Raises:
        ConfigError: If a parameter cannot be used.
    """
    facts = _parameters(num_patients, image_size, seed)
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:12]
    return Path(root) / f"phantom-{image_size}px-{digest}"


def generate_phantoms(
    root: str | os.PathLike[str],
    num_patients: Mapping[str, int],
    image_size: int,
    seed: int,
    workers: int = 1,
    progress: bool = True,
) -> Path:
    """Make the phantoms, unless they are there already.

    The result depends on ``num_patients``, ``image_size`` and ``seed`` only: patient ``p`` of a split is drawn from
    ``(seed, split, p)``, so more patients leave the first ones as they are. Another version of OpenCV may draw some
    pixels a little differently; a warning says so where it finds what another one drew. Several processes may call
    this at once: the first to finish wins, the others use its folder.

    Args:
        root: Folder that keeps generated data sets; made where absent.
        num_patients: Patients per split (``train``, ``val``, ``test``), each with one to four studies.
        image_size: Height and width of the films in pixels, at least 32.
        seed: Seed, 0 or more.
        workers: Processes that draw; 1 draws in this one.
        progress: Whether to show a progress bar.

    Returns:
        The folder (see :func:`phantom_folder`).

    Raises:
        ConfigError: If a parameter cannot be used, or ``root`` cannot be written.
    """
    folder = phantom_folder(root, num_patients, image_size, seed)
    if is_complete(folder):
        _compare_opencv(folder)
        return folder
    if workers < 1:
        msg = f"phantoms: workers must be at least 1, got {workers}"
        raise ConfigError(msg)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        part = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", suffix=".part", dir=folder.parent))
    except OSError as error:
        msg = f"{folder.parent}: phantoms cannot be written ({error.strerror}); set DMLM_CACHE to a writable folder"
        raise ConfigError(msg) from error
    try:
        with naming(folder):
            counts = _write(part, num_patients, image_size, seed, workers, progress)
        facts = _parameters(num_patients, image_size, seed)
        sums = {name: _sha256(part / name) for name in FILES}
        drawn = {"label_names": LABEL_NAMES, **counts, "sha256": sums, "opencv": _opencv()}
        write_json(part / MANIFEST, {**facts, **drawn})
        part.chmod(0o755)
        _publish(part, folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return folder


def _compare_opencv(folder: Path) -> None:
    """Say so where another version of OpenCV drew what is there: two machines would train on different pixels."""
    drawn, here = read_manifest(folder).get("opencv", ""), _opencv()
    if drawn and drawn != here:
        logger.warning(
            "%s was drawn with OpenCV %s, this is %s, which draws some pixels a little differently: remove the folder "
            "to have it drawn again",
            folder,
            drawn,
            here,
        )


def _opencv() -> str:
    import cv2

    return str(cv2.__version__)


def is_complete(folder: Path) -> bool:
    """Whether a folder holds a whole data set: its manifest, which is written last, and files of the right length."""
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


def iterate_studies(
    num_patients: Mapping[str, int], image_size: int, seed: int, workers: int, progress: bool
) -> Iterator[list[PhantomStudy]]:
    """Draw all patients, in order of split and number; ``workers`` processes share the work."""
    from tqdm import tqdm  # type: ignore[import-untyped]

    jobs = [(split, patient) for split in SPLITS for patient in range(num_patients.get(split, 0))]
    draw = partial(_draw, seed, image_size)
    with ExitStack() as stack:
        if workers > 1:
            import multiprocessing
            from concurrent.futures import ProcessPoolExecutor

            # a fresh interpreter: forking a process that runs threads (torch, OpenCV) may hang
            context = multiprocessing.get_context("spawn" if sys.platform == "win32" else "forkserver")
            # unlike multiprocessing.Pool it gives up when processes die, instead of starting them for ever
            pool = stack.enter_context(ProcessPoolExecutor(workers, context, initializer=_single_thread))
            patients: Iterator[list[PhantomStudy]] = _drawn(
                pool.map(draw, jobs, chunksize=max(1, min(16, len(jobs) // (4 * workers))))
            )
        else:
            patients = map(draw, jobs)
        bar = tqdm(patients, total=len(jobs), desc=f"phantoms {image_size} px", unit="patient", disable=not progress)
        yield from bar


def _drawn(patients: Iterator[list[PhantomStudy]]) -> Iterator[list[PhantomStudy]]:
    """Say in one line why processes died, which a script without a main guard makes all of them do."""
    from concurrent.futures.process import BrokenProcessPool

    try:
        yield from patients
    except BrokenProcessPool as error:
        msg = (
            "the processes that draw phantoms ended at once; in a script of your own, start everything below "
            "'if __name__ == \"__main__\":' (Python imports the script in such processes), or draw with workers=1"
        )
        raise ConfigError(msg) from error


def _draw(seed: int, image_size: int, job: tuple[Split, int]) -> list[PhantomStudy]:
    return make_patient(seed, job[0], job[1], image_size)


def _single_thread() -> None:
    import cv2

    cv2.setNumThreads(0)


def _write(
    part: Path, num_patients: Mapping[str, int], image_size: int, seed: int, workers: int, progress: bool
) -> dict[str, Any]:
    """Write the three data files; returns counts per split and file sizes."""
    studies: Counter[str] = Counter()
    positives: Counter[str] = Counter()
    masks = 0
    with ExitStack() as stack:
        pixels, bits = (stack.enter_context((part / f"{name}.raw").open("wb")) for name in ("images", "masks"))
        records = stack.enter_context((part / "studies.jsonl").open("w", encoding="utf-8"))
        for patient in iterate_studies(num_patients, image_size, seed, workers, progress):
            for study in patient:
                rows = {}
                for name, mask in study.masks.items():
                    bits.write(np.packbits(mask).tobytes())
                    rows[name], masks = masks, masks + 1
                pixels.write(study.image.tobytes())
                records.write(json.dumps({**study.record(), "mask_rows": rows}) + "\n")
                studies[study.split] += 1
                positives.update(name for name, there in zip(LABEL_NAMES, study.labels, strict=True) if there)
                positives[UNSEEN_FINDING] += study.unseen
    total = sum(studies.values())
    _with_header(part / "images.raw", part / "images.npy", (total, image_size, image_size))
    _with_header(part / "masks.raw", part / "masks.npy", (masks, (image_size**2 + 7) // 8))
    return {
        "studies": {split: studies[split] for split in SPLITS},
        "positives": {name: positives[name] for name in (*LABEL_NAMES, UNSEEN_FINDING)},
        "masks": masks,
        "bytes": {name: (part / name).stat().st_size for name in FILES},
    }


def _with_header(raw: Path, target: Path, shape: tuple[int, ...]) -> None:
    """Put numpy's header before raw bytes; the number of studies is known only at the end."""
    with raw.open("rb") as source, target.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})
        shutil.copyfileobj(source, file, 1 << 20)
    raw.unlink()


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


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
