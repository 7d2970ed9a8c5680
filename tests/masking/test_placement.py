"""Zones meet the anatomy of each image: lungs are found, crops, rotations and mirrors carry zones and sides along."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dmlm.datasets.transforms import AugmentConfig, EvalTransform, TrainTransform
from dmlm.errors import ConfigError
from dmlm.masking import AppearanceMask, MaskContext, locate_lungs
from dmlm.masking.appearance import is_frontal
from dmlm.masking.lung_field import AVERAGE
from dmlm.masking.placement import place, upright
from dmlm.reports import Observation, StructuredReport, render

SIZE, GRID = 112, (14, 14)


def film(height: int = 200, width: int = 200, shift: float = 0.0, scale: float = 1.0) -> np.ndarray:
    """A drawn chest: bright body, two dark ellipses beside a bright strip."""
    y, x = np.mgrid[:height, :width].astype(float)
    short = min(height, width)
    u, v = ((x - width / 2) / short - shift) / scale, ((y - height / 2) / short) / scale
    lungs = (((np.abs(u) - 0.23) / 0.17) ** 2 + ((v + 0.04) / 0.36) ** 2) < 1
    noise = np.random.default_rng(0).normal(0, 4, u.shape)
    return np.clip(np.where(lungs, 70, 180) + noise, 0, 255).astype(np.uint8)


def text(finding: str, side: str | None = None, position: str | None = None):
    return render(StructuredReport("s", (Observation(finding, "present", side, position),)))


def context(image: np.ndarray, transform, texts, seed: int = 0) -> MaskContext:
    done = transform(image, None, np.random.default_rng(seed))
    count = len(texts)
    return MaskContext(
        torch.from_numpy(done.image)[None, None].repeat(count, 1, 1, 1),
        GRID,
        texts,
        torch.from_numpy(done.matrix.astype(np.float32))[None].repeat(count, 1, 1),
        torch.tensor([image.shape] * count),
    )


def relevance(batch: MaskContext, **options) -> torch.Tensor:
    return AppearanceMask(attention=0.0, **options).relevance(batch).reshape(-1, *GRID)


@pytest.mark.parametrize(("shift", "scale"), [(0.0, 1.0), (0.06, 1.0), (-0.05, 0.95), (0.0, 0.9)])
def test_drawn_lungs_are_found(shift: float, scale: float) -> None:
    found = locate_lungs(torch.from_numpy(film(shift=shift, scale=scale))[None, None])
    assert found.found.all()
    for box, middle in zip(found.boxes[0], (0.5 + shift - 0.23 * scale, 0.5 + shift + 0.23 * scale), strict=True):
        assert abs(float(box[0] + box[2]) / 2 - middle) < 0.05
        assert abs(float(box[1]) - (0.46 - 0.36 * scale)) < 0.12
        assert abs(float(box[3]) - (0.46 + 0.36 * scale)) < 0.12


@pytest.mark.parametrize("value", [0, 255, 128])
def test_a_blank_image_has_no_lungs_and_gets_average_ones(value: int) -> None:
    found = locate_lungs(torch.full((2, 1, 64, 64), value, dtype=torch.uint8))
    assert not found.found.any()
    torch.testing.assert_close(found.boxes[0], torch.tensor(AVERAGE))


def test_real_lung_boxes_are_met(real_data) -> None:
    """Mean overlap with the boxes of the test split; an average box gives 0.73."""
    import cv2

    overlaps = []
    with (real_data / "manifest.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["split"] == "test" and row["lung_boxes"]]
    for row in rows[:47]:
        boxes = {box["label"]: box["xywh"] for box in json.loads(row["lung_boxes"])}
        image = cv2.imread(str(real_data / row["path"]), cv2.IMREAD_GRAYSCALE)
        done = EvalTransform(224)(image, None)
        located = locate_lungs(torch.from_numpy(done.image)[None, None]).boxes[0].numpy()
        for side, own in zip(("right_lung", "left_lung"), located, strict=True):
            x, y, width, height = boxes[side]
            corners = done.matrix @ np.array([[x, x + width], [y, y + height], [1, 1]]) / 224
            real = np.clip(corners.T.ravel(), 0, 1)
            both = np.clip(np.minimum(own[2:], real[2:]) - np.maximum(own[:2], real[:2]), 0, None).prod()
            union = (own[2:] - own[:2]).prod() + (real[2:] - real[:2]).prod() - both
            overlaps.append(both / union)
    assert len(overlaps) > 60
    assert np.mean(overlaps) > 0.74


@pytest.mark.parametrize("finding", ["Pneumothorax", "Pleural Effusion", "Lung Opacity", "Fracture"])
def test_the_patients_right_is_hidden_on_the_images_left(finding: str) -> None:
    right, left = relevance(context(film(), EvalTransform(SIZE), [text(finding, "right"), text(finding, "left")]))
    assert right[:, :7].sum() > 2 * right[:, 7:].sum()
    assert left[:, 7:].sum() > 2 * left[:, :7].sum()


@settings(max_examples=10)
@given(side=st.sampled_from(["right", "left"]), seed=st.integers(0, 1000))
def test_a_mirrored_image_moves_the_side_along(side: str, seed: int) -> None:
    """The lesion is where the pixels went, whatever the augmentation did."""
    config = AugmentConfig(scale=(1.0, 1.0), rotation=0.0, translation=0.0, horizontal_flip=True)
    batch = context(film(), TrainTransform(SIZE, config), [text("Lung Opacity", side)], seed)
    mirrored = float(batch.matrix[0, 0, 0]) < 0
    (values,) = relevance(batch)
    on_left = values[:, :7].sum() > values[:, 7:].sum()
    assert bool(on_left) == ((side == "right") != mirrored)


@settings(max_examples=20)
@given(seed=st.integers(0, 10_000), height=st.integers(180, 260), width=st.integers(180, 260))
def test_zones_follow_crops_and_rotations(seed: int, height: int, width: int) -> None:
    """A relevance drawn on the stored image and warped as a mask is where the masker puts it."""
    image = film(height, width)
    one = text("Lung Opacity", "right", "lower lobe")
    plain = context(image, EvalTransform(SIZE), [one])
    (upright_values,) = relevance(plain)
    turned = context(image, TrainTransform(SIZE, AugmentConfig(rotation=20.0)), [one], seed)
    (values,) = relevance(turned)
    # patch centres of the turned image, carried back to the upright one
    frame = upright(turned)
    centres = (torch.arange(14) + 0.5) / 14
    points = torch.stack([centres[None].expand(14, 14), centres[:, None].expand(14, 14)], -1)
    back = torch.einsum("ij,hwj->hwi", frame.to_square[0, :, :2], points) + frame.to_square[0, :, 2]
    cells = (back * 14).floor().long()
    inside = ((cells >= 0) & (cells < 14)).all(-1)
    there = upright_values[cells[..., 1].clamp(0, 13), cells[..., 0].clamp(0, 13)]
    assert torch.corrcoef(torch.stack([values[inside], there[inside]]))[0, 1] > 0.85


def test_both_directions_of_the_frame_agree_with_the_transforms_matrix() -> None:
    image = film(220, 180)
    batch = context(image, TrainTransform(SIZE), [text("Edema")], 5)
    frame = upright(batch)
    forth, back = (torch.cat([part[0], torch.tensor([[0.0, 0.0, 1.0]])]) for part in (frame.to_image, frame.to_square))
    torch.testing.assert_close(forth @ back, torch.eye(3), atol=1e-5, rtol=0)
    # the middle of the stored image is the middle of the square
    stored = torch.tensor([(180 - 1) / 2, (220 - 1) / 2, 1.0])
    pixel = batch.matrix[0] @ stored
    torch.testing.assert_close(forth[:2] @ torch.tensor([0.5, 0.5, 1.0]), (pixel + 0.5) / SIZE, atol=1e-5, rtol=0)


def test_without_a_matrix_the_image_is_taken_as_uncut() -> None:
    batch = context(film(), EvalTransform(SIZE), [text("Cardiomegaly")])
    bare = batch._replace(matrix=None, stored_size=None)
    torch.testing.assert_close(relevance(batch), relevance(bare), atol=0.02, rtol=0)


def test_maps_are_laid_onto_the_lungs_that_were_found() -> None:
    """A lung seen further to the right of the image takes its zone along."""
    maps = torch.zeros(1, 64, 64)
    maps[0, 25:35, 10:28] = 1  # in the right lung
    centres = []
    for shift in (-0.06, 0.06):
        batch = context(film(shift=shift), EvalTransform(SIZE), [text("Edema")])
        values = place(maps, batch)[0].reshape(GRID)
        centres.append(float((values.sum(0) * torch.arange(14)).sum() / values.sum()) / 14)
    assert 0.08 < centres[1] - centres[0] < 0.16


def test_fallbacks_are_random_and_counted() -> None:
    texts = [text("Edema"), text("No Finding"), text("Situs Weirdness"), text("Edema"), text("Edema")]
    batch = context(film(), EvalTransform(SIZE), texts)._replace(projections=["PA", "AP", "", "LATERAL", "LL"])
    masker = AppearanceMask()
    values = masker.relevance(batch)
    assert values[0].max() == 1
    assert (values[1:] == 0).all()
    counts = masker.take_counts()
    assert {name: counts.get(name, 0) for name in ("lateral", "nothing_present", "no_anatomy", "unknown_finding")} == {
        "lateral": 2,
        "nothing_present": 1,
        "no_anatomy": 1,
        "unknown_finding": 1,
    }
    blank = batch._replace(images=torch.zeros_like(batch.images))
    assert masker.relevance(blank)[0].max() == 1, "an average film stands in"
    assert masker.take_counts()["no_lungs"] == 1


@pytest.mark.parametrize(
    ("frontal", "projections"),
    [(True, ("", "PA", "AP", "AP Supine", "AP (paediatric)", "?")), (False, ("LATERAL", "LL", "L", "LAO", "swimmers"))],
)
def test_frontal_projections(frontal: bool, projections: tuple[str, ...]) -> None:
    assert [is_frontal(name) for name in projections] == [frontal] * len(projections)


def test_attention_rises_between_the_points_of_the_warm_up_and_is_mixed_in() -> None:
    masker = AppearanceMask(attention=0.6, warmup=(0.2, 0.4))
    assert [masker.attention_weight(at) for at in (0.0, 0.2, 0.3, 0.4, 1.0)] == pytest.approx([0, 0, 0.3, 0.6, 0.6])
    assert not masker.wants_similarity(0.2)
    assert masker.wants_similarity(0.21)
    batch = context(film(), EvalTransform(SIZE), [text("Edema"), text("No Finding")])
    similarity = torch.rand(2, 196)
    early = masker.relevance(batch._replace(similarity=similarity))
    late = masker.relevance(batch._replace(similarity=similarity, progress=1.0))
    torch.testing.assert_close(late[0], 0.4 * early[0] + 0.6 * similarity[0])
    assert (late[1] == 0).all(), "nothing to guide by"


@pytest.mark.parametrize("options", [{"attention": 1.1}, {"warmup": (0.5, 0.2)}, {"warmup": (0.0, 2.0)}])
def test_options_out_of_range_are_named(options) -> None:
    with pytest.raises(ConfigError, match=next(iter(options))):
        AppearanceMask(**options)
