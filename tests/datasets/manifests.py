"""A CSV of one's own with its images, for tests."""

import csv

import numpy as np
from PIL import Image

from dmlm.datasets import ManifestFormat


def write_image(path, seed=0, shape=(40, 50)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)).save(path)


def write_csv(folder, header, rows, images=True):
    path = folder / "data.csv"
    with path.open("w", newline="", encoding="utf-8-sig") as file:
        csv.writer(file).writerows([header, *rows])
    if images:
        for number, row in enumerate(rows):
            if row and row[0].startswith("img/"):
                write_image(folder / row[0], number)
    return path


HEADER = ["path", "text", "split", "patient_id", "study_id", "Edema", "Effusion"]
ROWS = [
    ["img/0.png", "Mild edema.", "train", "p0", "s0", "1", "0"],
    ["img/1.png", "No edema,\nno effusion.", "train", "p1", "s1", "0.0", "-1"],
    ["img/2.png", "", "val", "p2", "s2", "", "1.0"],
    ["img/3.png", "Clear.", "test", "p3", "s3", "", ""],
    ["img/4.png", "Clear.", "train", "p0", "s0", "0", "0"],
]
NUMERIC = ManifestFormat(label_columns=("Edema", "Effusion"))
