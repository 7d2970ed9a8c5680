"""Phantoms in the layout of MIMIC-CXR v2, with the cases that broke published loaders."""

from __future__ import annotations

import textwrap
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from dmlm.datasets.mimic_cxr_reports import ARCHIVE
from dmlm.datasets.mimic_cxr_tables import LABEL_NAMES, METADATA, RECORDS, SPLIT
from dmlm.datasets.phantom.studies import PhantomStudy
from dmlm.datasets.splits import Split
from dmlm.datasets.synthesize.films import (
    lateral,
    phantom_patients,
    refuse_existing,
    sections_of,
    write_csv,
    write_dicom,
    write_jpeg,
)
from dmlm.io.atomic import atomic_path

JPG: Final = "mimic-cxr-jpg/2.1.0"
DICOM: Final = "mimic-cxr/2.1.0"
METADATA_HEADER: Final = (
    "dicom_id",
    "subject_id",
    "study_id",
    "PerformedProcedureStepDescription",
    "ViewPosition",
    "Rows",
    "Columns",
    "StudyDate",
    "StudyTime",
    "ProcedureCodeSequence_CodeMeaning",
    "ViewCodeSequence_CodeMeaning",
    "PatientOrientationCodeSequence_CodeMeaning",
)
_NAMES: Final = {"Nodule": "Lung Lesion", "Pleural Thickening": "Pleural Other"}
_OPACITIES: Final = ("Atelectasis", "Consolidation", "Edema", "Nodule")
_VALUES: Final = {"present": "1.0", "absent": "0.0", "uncertain": "-1.0"}
_STYLES: Final = 12


@dataclass(frozen=True)
class WrittenStudy:
    """One study as it was written.

    Args:
        subject: subject_id.
        study: study_id.
        split: ``train``, ``val`` or ``test``.
        films: dicom_id, ViewPosition and size of each image.
        edema_grade: 0 to 3, what is there.
        labels: Cells of the label tables.
        report: The report's text; None where the study has none.
    """

    subject: int
    study: int
    split: Split
    films: tuple[tuple[str, str, tuple[int, int]], ...]
    edema_grade: int
    labels: tuple[str, ...]
    report: str | None


def write(out: Path, patients: int, seed: int, image_size: int) -> None:
    """Write ``mimic-cxr-jpg/2.1.0`` (JPEG and tables) and ``mimic-cxr/2.1.0`` (reports as zip, record list).

    Args:
        out: Folder to write to.
        patients: Patients, at least 3.
        seed: Another seed gives other patients.
        image_size: Larger side of the films, in pixels.

    Raises:
        ConfigError: If the folder holds such a tree already.
    """
    write_trees(out / JPG, out / DICOM, patients, seed, image_size)


def write_trees(
    images: Path,
    reports: Path,
    patients: int,
    seed: int,
    image_size: int,
    *,
    dicom: bool = False,
    zipped: bool = True,
    gzipped: bool = True,
) -> list[WrittenStudy]:
    """Write the two trees, which may be one folder.

    Args:
        images: Folder for ``files`` with images, and for the tables.
        reports: Folder for the reports and the record list.
        patients: Patients, at least 3.
        seed: Seed.
        image_size: Larger side of the films, in pixels.
        dicom: DICOM instead of JPEG (needs pydicom).
        zipped: Whether reports stay in ``mimic-cxr-reports.zip``.
        gzipped: Whether tables end in ``.csv.gz``; the split table is always plain.

    Returns:
        What was written.

    Raises:
        ConfigError: If ``images`` holds such a tree already.
    """
    refuse_existing(images, "files", f"{METADATA}.gz", METADATA)
    refuse_existing(reports, ARCHIVE, "files")
    written: list[WrittenStudy] = []
    for number, (split, studies) in enumerate(phantom_patients(patients, seed, image_size)):
        # the first digits name the group folder: all of p10 to p19 occur
        subject = 10_000_032 + (number % 10) * 1_000_000 + 7 * number
        for phantom in studies:
            place = len(written)
            rng = np.random.default_rng([seed, place])
            films = _films(phantom, place, rng)
            study = 50_000_000 + 37 * place + int(rng.integers(37))
            for name, view, film in films:
                path = images / _folder(subject, study) / f"{name}{'.dcm' if dicom else '.jpg'}"
                if dicom:
                    write_dicom(path, film, str(subject), view)
                else:
                    write_jpeg(path, film)
            style = place % _STYLES
            written.append(
                WrittenStudy(
                    subject=subject,
                    study=study,
                    split=split,
                    films=tuple((name, view, (film.shape[0], film.shape[1])) for name, view, film in films),
                    edema_grade=phantom.edema_grade,
                    labels=("",) * len(LABEL_NAMES) if style == 9 else _labels(phantom),
                    report=None if style == 8 else _report(phantom, style),
                )
            )
    _write_reports(reports, written, zipped)
    _write_tables(images, reports, written, gzipped)
    return written


def _folder(subject: int, study: int) -> str:
    return f"files/p{str(subject)[:2]}/p{subject}/s{study}"


def _films(phantom: PhantomStudy, place: int, rng: np.random.Generator) -> list[tuple[str, str, NDArray[np.uint8]]]:
    """Frontal film, and for some studies a second one, a lateral one, or one of no named view."""
    first = phantom.image[: phantom.image.shape[0] - place % 9]
    if place == 5:  # a study without a frontal film
        return [(rng.bytes(20).hex("-", 4), "LATERAL", lateral(first))]
    films: list[tuple[str, NDArray[np.uint8]]] = [(phantom.view, first)]
    if place % 3 == 0:
        films.append(("AP", (first * 0.9).astype(np.uint8)))
    if place % 2 == 0:
        films.append(("LL" if place % 4 else "LATERAL", lateral(first)))
    if place % 7 == 0:
        films.append(("", first))
    return [(rng.bytes(20).hex("-", 4), view, film) for view, film in films]


def _labels(phantom: PhantomStudy) -> tuple[str, ...]:
    said = {item.finding: item.existence for item in phantom.observations}
    cells = {_NAMES.get(name, name): _VALUES[state] for name, state in said.items()}
    if any(said.get(name) == "present" for name in _OPACITIES):
        cells["Lung Opacity"] = "1.0"
    if not any(state != "absent" and name != "Support Devices" for name, state in said.items()):
        cells["No Finding"] = "1.0"
    return tuple(cells.get(name, "") for name in LABEL_NAMES)


def _report(phantom: PhantomStudy, style: int) -> str:
    """Say the same in one of the ways in which the reports of the release are written."""
    parts = sections_of(phantom)
    findings = parts.get("findings") or parts["impression"]
    impression = parts.get("impression") or parts["findings"]
    head = [
        ("EXAMINATION", "CHEST (PA AND LAT)"),
        ("INDICATION", f"___ year old patient. {parts.get('indication', '')}"),
        ("COMPARISON", "Radiograph of ___."),
    ]
    both = [("FINDINGS", findings), ("IMPRESSION", impression)]
    bodies: dict[int, list[tuple[str, str]]] = {
        1: [("IMPRESSION", impression)],
        2: [("FINDINGS AND IMPRESSION", findings)],
        3: [("FINDINGS", findings), ("IMPRESSON", impression)],
        5: [("IMPRESSION", "Preliminary reading, see below."), *both],
        6: [("FINDINGS", ""), ("IMPRESSION", impression)],
        10: [("CHEST, TWO VIEWS", f"{findings} Discussed with Dr. ___ at ___.")],
        11: [("COMPARISON", f"Radiograph of ___. {findings}")],
    }
    title = " " * 33 + "FINAL REPORT\n"
    if style == 4:
        return f"{title}{_paragraph(findings)}"
    if style == 7:
        return f"{title}{_sections(head)} \n{_paragraph(findings)}"
    return f"{title}{_sections([*head, *bodies.get(style, both)])}"


def _sections(parts: Iterable[tuple[str, str]]) -> str:
    """Lay out sections: one leading space a line, lines of a single space between them."""
    lines = []
    for name, text in parts:
        if name in ("EXAMINATION", "INDICATION", "COMPARISON"):
            lines.append(_paragraph(f"{name}:  {text}"))
        else:
            lines.append(f" {name}: \n \n{_paragraph(text)}" if text else f" {name}: \n")
    return " \n".join(lines)


def _paragraph(text: str) -> str:
    return "".join(f" {line}\n" for line in textwrap.wrap(text, 78))


def _write_reports(reports: Path, written: list[WrittenStudy], zipped: bool) -> None:
    texts = {
        f"files/p{str(item.subject)[:2]}/p{item.subject}/s{item.study}.txt": item.report
        for item in written
        if item.report is not None
    }
    if not zipped:
        for name, text in texts.items():
            path = reports / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        return
    with atomic_path(reports / ARCHIVE) as target, zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in texts.items():
            archive.writestr(zipfile.ZipInfo(name, (2019, 9, 19, 0, 0, 0)), text, zipfile.ZIP_DEFLATED)


def _write_tables(images: Path, reports: Path, written: list[WrittenStudy], gzipped: bool) -> None:
    end = ".gz" if gzipped else ""
    films = [(item, *film) for item in written for film in item.films]
    metadata = [
        (
            name,
            item.subject,
            item.study,
            "CHEST (PA AND LAT)",
            view,
            size[0],
            size[1],
            21_800_101 + item.study % 1000,
            "213014.531",
            "CHEST (PA AND LAT)",
            {"PA": "postero-anterior", "AP": "antero-posterior", "": ""}.get(view, "lateral"),
            "Erect",
        )
        for item, name, view, size in films
    ]
    write_csv(images / f"{METADATA}{end}", METADATA_HEADER, metadata)
    splits = [
        (name, item.study, item.subject, "validate" if item.split == "val" else item.split)
        for item, name, _, _ in films
    ]
    write_csv(images / SPLIT, ("dicom_id", "study_id", "subject_id", "split"), splits)
    # two studies of the release have no row in the label tables
    labelled = [(item.subject, item.study, *item.labels) for place, item in enumerate(written) if place != 14]
    for source in ("chexpert", "negbio"):
        name = f"mimic-cxr-2.0.0-{source}.csv{end}"
        write_csv(images / name, ("subject_id", "study_id", *LABEL_NAMES), labelled)
    by_hand = [(item.study, *(cell or "0.0" for cell in item.labels)) for item in written if item.split == "test"]
    write_csv(images / "mimic-cxr-2.1.0-test-set-labeled.csv", ("study_id", *LABEL_NAMES), by_hand)
    records = [
        (item.subject, item.study, name, f"{_folder(item.subject, item.study)}/{name}.dcm")
        for item, name, _, _ in films
    ]
    write_csv(reports / f"{RECORDS}{end}", ("subject_id", "study_id", "dicom_id", "path"), records)
    studies = [(item.subject, item.study, f"{_folder(item.subject, item.study)}.txt") for item in written]
    write_csv(reports / f"cxr-study-list.csv{end}", ("subject_id", "study_id", "path"), studies)
