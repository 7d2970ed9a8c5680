"""Phantoms in the layout of NIH ChestX-ray14."""

from __future__ import annotations

from pathlib import Path
from typing import Final, Literal

from dmlm.datasets.nih_tables import BOX_NAMES, LABEL_NAMES
from dmlm.datasets.phantom.studies import PhantomStudy
from dmlm.datasets.synthesize.films import phantom_patients

_HEADER: Final = (
    "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,"
    "OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y]"
)
_BOX_HEADER: Final = "Image Index,Finding Label,Bbox [x,y,w,h],,,"
_NAMES: Final = {"Pleural Effusion": "Effusion", "Pleural Thickening": "Pleural_Thickening"}
_SIDE: Final = 1024


def write(out: Path, patients: int, seed: int, image_size: int) -> None:
    """Write folders ``images_001/images`` and ``images_002/images``, the table of 2020, boxes and lists.

    Args:
        out: Folder to write to.
        patients: Patients, at least 3.
        seed: Another seed gives other patients.
        image_size: Height and width of the films, in pixels (1024 in the data set).
    """
    write_variant(out, patients, seed, image_size)


def write_variant(
    out: Path, patients: int, seed: int, image_size: int, *, version: Literal[1, 2] = 2, flat: bool = False
) -> None:
    """Write the data set with the table of 2017 (trailing commas, ages such as ``058Y``) or 2020, in folders or flat.

    Among the edge cases: several findings in one cell, ``Pleural_Thickening``, boxes called ``Infiltrate``, patients
    with follow-ups, an RGBA file.
    """
    from PIL import Image

    rows: list[str] = []
    boxes: list[str] = []
    lists: dict[str, list[str]] = {"train_val_list.txt": [], "test_list.txt": []}
    for patient, (split, studies) in enumerate(phantom_patients(patients, seed, image_size), start=1):
        for follow_up, study in enumerate(studies):
            name = f"{patient:08d}_{follow_up:03d}.png"
            folder = out / "images" if flat else out / f"images_{1 + patient % 2:03d}" / "images"
            folder.mkdir(parents=True, exist_ok=True)
            film = Image.fromarray(study.image)
            (film.convert("RGBA") if len(rows) == 1 else film).save(folder / name)
            findings = "|".join(_findings(study)) or "No Finding"
            age, sex = 20 + (7 * patient) % 70, "MF"[patient % 2]
            written = f"{age:03d}Y" if version == 1 else str(age)
            end = "," if version == 1 else ""
            rows.append(
                f"{name},{findings},{follow_up},{patient},{written},{sex},{study.view},2682,2749,0.143,0.143{end}"
            )
            boxes.extend(f"{name},{line}" for line in _boxes(study))
            lists["test_list.txt" if split == "test" else "train_val_list.txt"].append(name)
    table = "Data_Entry_2017.csv" if version == 1 else "Data_Entry_2017_v2020.csv"
    _write_lines(out / table, [_HEADER + ("," if version == 1 else ""), *rows])
    _write_lines(out / "BBox_List_2017.csv", [_BOX_HEADER, *boxes])
    for list_name, names in lists.items():
        _write_lines(out / list_name, names)


def _findings(study: PhantomStudy) -> list[str]:
    present = {_NAMES.get(name, name) for name in study.severity}
    if "Consolidation" in present:
        present.add("Infiltration")
    return [name for name in LABEL_NAMES if name in present]


def _boxes(study: PhantomStudy) -> list[str]:
    lines = []
    for name, several in study.boxes.items():
        label = {"Consolidation": "Infiltration"}.get(_NAMES.get(name, name), _NAMES.get(name, name))
        if label not in BOX_NAMES or not several:
            continue
        x0, y0, x1, y1 = (edge * _SIDE for edge in several[0])
        written = "Infiltrate" if label == "Infiltration" else label
        lines.append(f"{written},{x0:.6f},{y0:.6f},{x1 - x0:.6f},{y1 - y0:.6f}")
    return lines


def _write_lines(path: Path, lines: list[str]) -> None:
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
