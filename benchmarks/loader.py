"""How many augmented images a core gives: prepared store against a folder of PNG and JPEG read with Pillow, in one run.

``python -m benchmarks.loader`` prints the figures; :func:`measure` returns them. One process, one thread, CPU time, the
sides of a ratio in turn; images are read in random order with warm files, cropped and varied from 256 to 224 pixels,
and written to uint8 batches of 128.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

SIDE, SIZE, BATCH = 256, 224, 128

Pixels = NDArray[np.uint8]


def measure(images: int = 1024, rounds: int = 6) -> dict[str, float]:
    """Return images per second and core of the store and of a plain folder, and their ratio."""
    import cv2

    from dmlm.datasets.transforms import TrainTransform
    from dmlm.io.store import ImageStore
    from dmlm.io.store_writer import StoreWriter

    cv2.setNumThreads(1)
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        names = [f"{k}.jpg" for k in range(images)]
        pictures = [_film(rng) for _ in range(64)]
        with StoreWriter(folder / "store", names, SIDE, {"dataset": "benchmark"}) as writer:
            writer.append([pictures[k % 64] for k in range(images)])
            writer.finish()
        _write_folder(folder / "small", pictures, names, 1)
        _write_folder(folder / "large", pictures, names[:64], 4)
        store, train = ImageStore(folder / "store"), TrainTransform(SIZE)

        def from_store(out: Pixels, image: str, rng: np.random.Generator) -> None:
            train.into(out, store.read(image, SIZE), None, rng)

        def from_folder(out: Pixels, image: str, rng: np.random.Generator) -> None:
            out[...] = _plain(folder / "small" / image, rng)

        def from_originals(out: Pixels, image: str, rng: np.random.Generator) -> None:
            out[...] = _plain(folder / "large" / f"{int(image[:-4]) % 64}.jpg", rng)

        order = [names[k] for k in rng.permutation(images)]
        ours = best(lambda: _batches(from_store, order), len(order), rounds)
        small = best(lambda: _batches(from_folder, order[:BATCH]), BATCH, rounds)
        large = best(lambda: _batches(from_originals, order[:BATCH]), BATCH, rounds)
        reading = best(lambda: [store.read(image, SIZE) for image in order], len(order), rounds)
        dataset = best(_dataset_work(store, train, names), len(names) // BATCH * BATCH, rounds)
    return {
        "loader_images_per_second_per_core": ours,
        "loader_dataset_images_per_second_per_core": dataset,
        "loader_read_images_per_second_per_core": reading,
        "loader_folder_images_per_second_per_core": large,
        "loader_small_folder_images_per_second_per_core": small,
        "loader_over_folder_x": ours / large,
        "loader_over_small_folder_x": ours / small,
    }


def best(work: Callable[[], object], count: int, rounds: int) -> float:
    """Return images per second of CPU time in the best of some rounds; the first only warms up."""
    times = []
    for _ in range(rounds + 1):
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    return count / min(times[1:])


def _batches(one: Callable[[Pixels, str, np.random.Generator], None], order: list[str]) -> int:
    total = 0
    for start in range(0, len(order), BATCH):
        batch = np.empty((min(BATCH, len(order) - start), SIZE, SIZE), np.uint8)
        for k, out in enumerate(batch):
            one(out, order[start + k], np.random.default_rng(np.array([0, 1, start + k], np.uint32)))
        total += len(batch)
    return total


def _dataset_work(store: object, train: object, names: list[str]) -> Callable[[], object]:
    """Everything that a training step receives: pixels, labels, report, batch."""
    from dmlm.datasets.base import SampleKey, collate
    from dmlm.datasets.table import StudyTable
    from dmlm.datasets.table_dataset import TableDataset

    labels = np.full((len(names), 2), np.nan, np.float32)
    table = StudyTable("benchmark", Path(), ("a", "b"), names, names, names, labels)
    dataset = TableDataset(table, SIZE, train, pixels=store)  # type: ignore[arg-type]
    starts = range(0, len(names) // BATCH * BATCH, BATCH)
    return lambda: [collate(dataset.__getitems__([SampleKey(s + k, 1) for k in range(BATCH)])) for s in starts]


def _plain(path: Path, rng: np.random.Generator) -> NDArray[np.uint8]:
    """The usual image folder: decode, resize, rotate, crop, brightness and contrast, all with Pillow."""
    from PIL import Image, ImageEnhance

    with Image.open(path) as file:
        image = file.convert("L")
    scale = SIDE / min(image.size)
    image = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.BILINEAR)
    image = image.rotate(float(rng.uniform(-10, 10)), Image.Resampling.BILINEAR)
    side = int(SIDE * rng.uniform(0.8, 1.0))
    left, top = (int(v) for v in rng.integers(0, SIDE - side + 1, 2))
    image = image.resize((SIZE, SIZE), Image.Resampling.BILINEAR, (left, top, left + side, top + side))
    image = ImageEnhance.Brightness(image).enhance(float(rng.uniform(0.8, 1.2)))
    return np.asarray(ImageEnhance.Contrast(image).enhance(float(rng.uniform(0.8, 1.2))))


def _film(rng: np.random.Generator) -> NDArray[np.uint8]:
    y, x = np.mgrid[0:SIDE, 0:SIDE] / SIDE
    wave = 0.5 + 0.3 * np.sin(6 * x + rng.uniform(0, 6)) * np.cos(5 * y) + rng.normal(0, 0.02, (SIDE, SIDE))
    return np.rint(np.clip(wave, 0, 1) * 255).astype(np.uint8)


def _write_folder(folder: Path, pictures: list[NDArray[np.uint8]], names: list[str], enlarge: int) -> None:
    from PIL import Image

    folder.mkdir()
    for k, name in enumerate(names):
        image = Image.fromarray(pictures[k % len(pictures)])
        image.resize((SIDE * enlarge, SIDE * enlarge), Image.Resampling.BICUBIC).save(folder / name, quality=95)


if __name__ == "__main__":
    print(json.dumps(measure(), indent=2))
