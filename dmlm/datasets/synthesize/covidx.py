"""Phantoms in the layout of COVIDx CXR."""

from __future__ import annotations

from pathlib import Path
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from dmlm.datasets.phantom.studies import PhantomStudy
from dmlm.datasets.splits import Split
from dmlm.datasets.synthesize.films import phantom_patients

_FORMS: Final = (("png", "L"), ("jpg", "RGB"), ("jpeg", "L"), ("PNG", "RGBA"), ("JPG", "L"))


def write(out: Path, patients: int, seed: int, image_size: int) -> None:
    """Write version 9B: ``train``, ``test``, ``train.txt``, ``test.txt``, classes positive and negative.

    Args:
        out: Folder to write to.
        patients: Patients, at least 3.
        seed: Another seed gives other patients.
        image_size: Height and width of the films, in pixels.
    """
    write_variant(out, patients, seed, image_size)


def write_variant(
    out: Path,
    patients: int,
    seed: int,
    image_size: int,
    *,
    classes: Literal["A", "B"] = "B",
    with_val: bool = False,
    lists: str = "{part}.txt",
) -> None:
    """Write version 9A (three classes) or 9B (two), with or without ``val``.

    Among the edge cases: lines of three, four and five fields, the misspelt source ``rnsa``, a line that is there
    twice, mixed endings and colour modes.

    Args:
        out: Folder to write to.
        patients: Patients, at least 3.
        seed: Another seed gives other patients.
        image_size: Height and width of the films, in pixels.
        classes: Vocabulary of the classes.
        with_val: Whether validation patients have a folder and list of their own (CXR-4) or belong to training.
        lists: Name of a list, with ``{part}``.
    """
    lines: dict[str, list[str]] = {part: [] for part in ("train", "test", *(("val",) if with_val else ()))}
    number = 0
    for patient, (split, studies) in enumerate(phantom_patients(patients, seed, image_size)):
        part: Split = "train" if split == "val" and not with_val else split
        for study in studies:
            suffix, mode = _FORMS[number % len(_FORMS)]
            kind = _kind(study, classes)
            file, source = f"{study.study_id}.{suffix}", ("rsna", "rnsa", "cohen", "ricord")[number % 4]
            who = str(patient)
            if number % 6 == 4:
                who, file, source = f"COVID {patient}", f"COVID({number}).{suffix}", "sirm"
            fields = [who, file, kind] if number % 6 == 5 else [who, file, kind, source]
            lines[part].append(" ".join(fields))
            _write_film(out / part / file, study.image, mode)
            number += 1
    lines["train"].append(lines["train"][0])
    for part_name, listed in lines.items():
        (out / lists.format(part=part_name)).write_text("\n".join(listed) + "\n", encoding="utf-8")


def _kind(study: PhantomStudy, classes: Literal["A", "B"]) -> str:
    """Edema stands for COVID-19 (both lungs), consolidation for another pneumonia."""
    covid, pneumonia = "Edema" in study.severity, "Consolidation" in study.severity
    if classes == "B":
        return "positive" if covid else "negative"
    return "COVID-19" if covid else "pneumonia" if pneumonia else "normal"


def _write_film(path: Path, image: NDArray[np.uint8], mode: str) -> None:
    from PIL import Image

    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).convert(mode).save(path)
