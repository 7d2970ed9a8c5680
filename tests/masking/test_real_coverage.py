"""On real radiographs, masks guided by the label cover the radiologists' boxes more often than random ones."""

from __future__ import annotations

import csv
import json

import cv2
import numpy as np
import torch

from dmlm.datasets.transforms import TrainTransform
from dmlm.masking import AppearanceMask, MaskContext, RandomMask
from dmlm.reports import from_labels, render


def test_guided_masks_cover_real_boxes_one_and_a_half_times_as_often(real_data) -> None:
    with (real_data / "manifest.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["rsna_boxes"] not in ("", "[]")][:40]
    images, matrices, sizes, texts, areas = [], [], [], [], []
    for number, row in enumerate(rows):
        image = cv2.imread(str(real_data / row["path"]), cv2.IMREAD_GRAYSCALE)
        finding = np.zeros_like(image)
        for box in json.loads(row["rsna_boxes"]):
            x, y, width, height = box["xywh"] if isinstance(box, dict) else box
            finding[int(y) : round(y + height), int(x) : round(x + width)] = 1
        done = TrainTransform(224)(image, finding[None], np.random.default_rng(number))
        images.append(done.image)
        matrices.append(done.matrix.astype(np.float32))
        sizes.append(image.shape)
        texts.append(render(from_labels(row["path"], dict.fromkeys(row["labels"].split("|"), 1.0))))
        areas.append(done.masks[0].reshape(14, 16, 14, 16).sum((1, 3)).ravel())
    stacked = (torch.from_numpy(np.stack(images))[:, None], (14, 14), texts, torch.from_numpy(np.stack(matrices)))
    context = MaskContext(*stacked, torch.tensor(sizes))
    weights = torch.from_numpy(np.stack(areas)).float()
    weights = weights / weights.sum(1, keepdim=True).clamp_min(1)
    guided, plain = (
        np.mean([float((masker(context, torch.Generator().manual_seed(s)) * weights).sum(1).mean()) for s in range(4)])
        for masker in (AppearanceMask(0.3), RandomMask(0.3))
    )
    assert guided > 1.5 * plain
