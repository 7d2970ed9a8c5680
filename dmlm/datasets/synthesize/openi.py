"""Phantoms in the layout of Open-i: one XML per report, PNG images, with the cases that occur in the collection."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path
from typing import Final
from xml.etree import ElementTree

from dmlm.datasets.open_i_labels import TERMS, UNINDEXED
from dmlm.datasets.open_i_reports import ARCHIVE, FOLDER, SECTIONS
from dmlm.datasets.phantom.studies import PhantomStudy
from dmlm.datasets.synthesize.films import lateral, phantom_patients, refuse_existing, sections_of, write_csv
from dmlm.io.atomic import atomic_path

PNG: Final = "NLMCXR_png"
_QUALIFIER: Final = {"left": "left", "right": "right", "bilateral": "bilateral"}


def write(out: Path, patients: int, seed: int, image_size: int) -> None:
    """Write ``ecgen-radiology/N.xml`` and ``NLMCXR_png/CXR....png``.

    Args:
        out: Folder to write to.
        patients: Patients, at least 3.
        seed: Another seed gives other patients.
        image_size: Height and width of the films, in pixels.

    Raises:
        ConfigError: If the folder holds them already.
    """
    write_collection(out, patients, seed, image_size)


def write_collection(
    out: Path, patients: int, seed: int, image_size: int, *, archive: bool = False, projections: bool = False
) -> None:
    """Write the collection.

    Args:
        out: Folder to write to.
        patients: Patients, at least 3.
        seed: Seed.
        image_size: Height and width of the films, in pixels.
        archive: Whether reports are in ``NLMCXR_reports.tgz`` instead of a folder.
        projections: Whether the Kaggle copy's ``indiana_projections.csv`` is there too.

    Raises:
        ConfigError: If the folder holds such a collection already.
    """
    from PIL import Image

    refuse_existing(out, FOLDER, ARCHIVE, PNG)
    (out / PNG).mkdir(parents=True)
    files: dict[str, bytes] = {}
    rows: list[tuple[str, ...]] = []
    number = 0
    for _, studies in phantom_patients(patients, seed, image_size):
        for study in studies:
            number += 1
            images = []
            # every eleventh report has no image, every seventh one only, every fifth three
            count = 0 if number % 11 == 4 else (1 if number % 7 == 3 else (3 if number % 5 == 2 else 2))
            for place in range(count):
                # the first report's images have its number twice in their names
                stem = f"{number}_IM-{number:04d}-{place + 1}001"
                name = f"CXR1_{stem}" if number == 1 else f"CXR{stem}"
                film = lateral(study.image) if place == 1 else study.image
                Image.fromarray(film).save(out / PNG / f"{name}.png", compress_level=3)
                images.append(name)
                rows.append((str(number), f"{stem}.dcm.png", "Lateral" if place == 1 else "Frontal"))
            files[f"{FOLDER}/{number}.xml"] = _xml(number, study, images)
    if projections:
        write_csv(out / "indiana_projections.csv", ("uid", "filename", "projection"), rows)
    if archive:
        with atomic_path(out / ARCHIVE) as target, tarfile.open(target, "w:gz") as pack:
            for name, data in files.items():
                member = tarfile.TarInfo(name)
                member.size = len(data)
                pack.addfile(member, io.BytesIO(data))
        return
    (out / FOLDER).mkdir()
    for name, data in files.items():
        (out / name).write_bytes(data)


def _xml(number: int, study: PhantomStudy, images: list[str]) -> bytes:
    tree = ElementTree.Element("eCitation")
    ElementTree.SubElement(tree, "uId", id=f"CXR{number}")
    ElementTree.SubElement(tree, "licenseURL").text = "synthetic"
    abstract = ElementTree.SubElement(
        ElementTree.SubElement(ElementTree.SubElement(tree, "MedlineCitation"), "Article"), "Abstract"
    )
    parts = {name.upper(): text for name, text in sections_of(study).items()}
    if number % 6 == 5:
        parts.pop("FINDINGS" if "IMPRESSION" in parts else "INDICATION", None)
    for label in SECTIONS:
        text = parts.get(label, "None." if label == "COMPARISON" and number % 2 else None)
        ElementTree.SubElement(abstract, "AbstractText", Label=label).text = text
    mesh = ElementTree.SubElement(tree, "MeSH")
    for term in [UNINDEXED] if number % 13 == 9 else _terms(study):
        ElementTree.SubElement(mesh, "major").text = term
    for image in images:
        parent = ElementTree.SubElement(tree, "parentImage", id=image)
        ElementTree.SubElement(parent, "caption").text = "Xray Chest PA and Lateral"
    ElementTree.indent(tree)
    data: bytes = ElementTree.tostring(tree, encoding="utf-8", xml_declaration=True)
    return data


def _terms(study: PhantomStudy) -> list[str]:
    """Index what the report states as present."""
    terms = []
    for item in study.observations:
        if item.existence == "present":
            if item.finding == "Pleural Thickening":
                terms.append("Thickening/pleura")
            elif item.finding in TERMS:
                side = _QUALIFIER.get(str(item.laterality or ""), "")
                terms.append(TERMS[item.finding][0] + (f"/{side}" if side else ""))
    return list(dict.fromkeys(terms)) or ["normal"]
