"""Phantoms in the layout of COVID-Rural."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np

from dmlm.datasets.phantom.studies import make_patient
from dmlm.datasets.synthesize.films import phantom_patients

FOLDER: Final = "opacity_segmentation_covid_chest_X_ray-master/covid_rural_annot"
_OPACITIES: Final = ("Consolidation", "Edema", "Atelectasis")


def write(out: Path, patients: int, seed: int, image_size: int) -> None:
    """Write ``jpgs`` (colour, not square) and ``pngs_masks`` (values 0 and 1), with one image that has no mask.

    Args:
        out: Folder to write to.
        patients: Patients, at least 3.
        seed: Another seed gives other patients.
        image_size: Height of the films, in pixels; widths vary.
    """
    from PIL import Image

    images, masks = out / FOLDER / "jpgs", out / FOLDER / "pngs_masks"
    images.mkdir(parents=True, exist_ok=True)
    masks.mkdir(parents=True, exist_ok=True)
    number = 0
    for patient, (_, studies) in enumerate(phantom_patients(patients, seed, image_size)):
        for visit, study in enumerate(studies):
            trim = 2 * (number % 7)
            shown = slice(trim, image_size - trim)
            mask = np.zeros((image_size, image_size), np.uint8)
            for name in _OPACITIES:
                mask |= study.masks.get(name, np.zeros_like(mask, bool)).astype(np.uint8)
            stem = f"COVID-19-AR-{16_406_000 + 3 * patient}_{1 + visit:02d}-{1 + patient % 28:02d}-2012-XR"
            Image.fromarray(study.image[:, shown]).convert("RGB").save(images / f"{stem}.jpg", quality=92)
            Image.fromarray(mask[:, shown]).save(masks / f"{stem}.png")
            number += 1
    alone = make_patient(seed, "train", 10_000, image_size)[0]
    Image.fromarray(alone.image).convert("RGB").save(images / "COVID-19-AR-16499999_01-19-2012-XR.jpg", quality=92)
