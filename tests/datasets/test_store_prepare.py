import csv
import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from dmlm.__main__ import main
from dmlm.datasets import store_prepare
from dmlm.datasets.store_pixels import StorePixels
from dmlm.datasets.store_prepare import prepare_store, small_copy
from dmlm.errors import ConfigError, DatasetNotFoundError
from dmlm.io.images import read_grey
from dmlm.io.store import ImageStore


def folder_of_images(root, count=70, side=60):
    (root / "x").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for k in range(count):
        height, width = (int(n) for n in rng.integers(side // 2, 2 * side, 2))
        y, x = np.mgrid[0:height, 0:width]
        wave = 127 + 100 * np.sin(x / 9 + k) * np.cos(y / 11)
        Image.fromarray(wave.astype(np.uint8)).save(root / "x" / f"{k}.{'jpg' if k % 2 else 'png'}")
    with (root / "manifest.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "text"])
        writer.writerows([f"x/{k}.{'jpg' if k % 2 else 'png'}", ""] for k in range(count))
    return root


def content(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def prepare(root, out, *more):
    return main(["data", "prepare", str(root / "manifest.csv"), "--out", str(out), "--size", "32", "--quiet", *more])


def test_copies_show_the_whole_field_and_are_never_enlarged(tmp_path):
    y, x = np.mgrid[0:90, 0:120]
    wide = (x + y).astype(np.uint8)
    Image.fromarray(wide).save(tmp_path / "a.png")
    np.testing.assert_array_equal(
        small_copy(tmp_path / "a.png", 30), cv2.resize(wide, (40, 30), interpolation=cv2.INTER_AREA)
    )
    np.testing.assert_array_equal(small_copy(tmp_path / "a.png", 200), wide)


def test_command_makes_a_store_that_is_the_same_for_any_number_of_workers(tmp_path, capsys):
    root = folder_of_images(tmp_path / "r")
    assert prepare(root, tmp_path / "one", "--workers", "1") == 0
    assert "70 images of 'manifest' at 32 px" in capsys.readouterr().out
    assert prepare(root, tmp_path / "two", "--workers", "2") == 0
    assert content(tmp_path / "one") == content(tmp_path / "two")
    pixels = StorePixels(tmp_path / "one", "manifest")
    np.testing.assert_array_equal(pixels.read("x/4.png", 16), small_copy(root / "x" / "4.png", 32))
    with pytest.raises(ConfigError, match="prepared from 'manifest', the data set is 'rsna'"):
        StorePixels(tmp_path / "one", "rsna")
    before = content(tmp_path / "one")
    assert prepare(root, tmp_path / "one") == 0
    assert content(tmp_path / "one") == before


def test_skipped_files_are_listed_and_fail_the_command_unless_allowed(tmp_path, capsys):
    root = folder_of_images(tmp_path / "r", 40)
    whole = (root / "x" / "3.jpg").read_bytes()
    (root / "x" / "3.jpg").write_bytes(whole[:100])
    (root / "x" / "8.png").unlink()
    assert prepare(root, tmp_path / "s", "--workers", "1") == 2
    told = capsys.readouterr().err
    assert "skipped x/3.jpg: " in told
    assert "skipped x/8.png: " in told
    assert "2 of 40 images were skipped" in told
    assert "--allow-skipped" in told
    assert prepare(root, tmp_path / "s", "--workers", "1", "--allow-skipped") == 0
    assert "38 images" in capsys.readouterr().out
    assert len(ImageStore(tmp_path / "s")) == 38
    (root / "x" / "3.jpg").write_bytes(whole)
    Image.new("L", (50, 40), 7).save(root / "x" / "8.png")
    assert prepare(root, tmp_path / "s", "--workers", "1") == 0
    store = ImageStore(tmp_path / "s")
    assert len(store) == 40
    np.testing.assert_array_equal(store.read("x/8.png"), np.full((32, 40), 7))
    store.verify()


def test_progress_tells_rate_and_time_left(tmp_path, capsys):
    root = folder_of_images(tmp_path / "r", 40)
    arguments = ["data", "prepare", str(root / "manifest.csv"), "--out", str(tmp_path / "s"), "--size", "32"]
    assert main([*arguments, "--workers", "1"]) == 0
    told = capsys.readouterr().err
    assert "40/40" in told
    assert "img/s" in told


class Killed(BaseException):
    """In the place of a kill: no handler of ours may catch it."""


def test_killed_twenty_times_at_random_points_gives_the_same_store(tmp_path, monkeypatch):
    """Every write, sync, rename and truncation is a point at which the process may end, half of a write included."""
    root = folder_of_images(tmp_path / "r")
    images = [line.split(",")[0] for line in (root / "manifest.csv").read_text().splitlines()[1:]]
    provenance = {"dataset": "toy"}
    monkeypatch.setattr(store_prepare, "_CHUNK", 3)
    prepare_store(images, root, tmp_path / "whole", 32, provenance)
    whole = content(tmp_path / "whole")

    rng, sync, fate = np.random.default_rng(0), os.fsync, {"left": 0}

    def fragile(handle):
        fate["left"] -= 1
        if fate["left"] == 0:
            size = os.fstat(handle).st_size
            os.ftruncate(handle, size - min(size, int(rng.integers(0, 60))))  # the last write reached the disk in part
            raise Killed
        sync(handle)

    monkeypatch.setattr(os, "fsync", fragile)
    kills = 0
    while kills < 20:
        out = tmp_path / f"k{kills}"
        for _ in range(4):
            fate["left"] = int(rng.integers(1, 20))
            try:
                prepare_store(images, root, out, 32, provenance)
                break
            except Killed:
                kills += 1
        fate["left"] = 10**9
        prepare_store(images, root, out, 32, provenance)
        assert content(out) == whole
    assert kills >= 20


def test_full_disk_is_one_line_and_the_next_run_goes_on(tmp_path, monkeypatch, capsys):
    root = folder_of_images(tmp_path / "r")
    assert prepare(root, tmp_path / "whole", "--workers", "1") == 0
    calls = iter(range(100))
    sync = os.fsync

    def full(handle):
        if next(calls) == 3:
            raise OSError(errno.ENOSPC, "No space left on device")
        sync(handle)

    monkeypatch.setattr(os, "fsync", full)
    assert prepare(root, tmp_path / "s", "--workers", "1") == 2
    told = capsys.readouterr().err
    assert "the disk is full (No space left on device)" in told
    assert told.count("\n") == 1
    monkeypatch.setattr(os, "fsync", sync)
    assert prepare(root, tmp_path / "s", "--workers", "1") == 0
    assert content(tmp_path / "s") == content(tmp_path / "whole")
    usage = type("Usage", (), {"free": 10})
    monkeypatch.setattr(store_prepare.shutil, "disk_usage", lambda path: usage)
    assert prepare(root, tmp_path / "t", "--workers", "1") == 2
    assert "GB are needed" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        (["--size", "8"], "--size must be"),
        (["--workers", "0"], "--workers must be"),
        (["--image-column", "file"], "no column 'file'"),
        (["--format", "litdata"], r"dmlm[litdata]"),
    ],
)
def test_wrong_options_are_one_line(tmp_path, capsys, monkeypatch, more, expected):
    monkeypatch.setitem(sys.modules, "litdata.streaming.writer", None)
    root = folder_of_images(tmp_path / "r", 3)
    assert prepare(root, tmp_path / "s", *more) == 2
    told = capsys.readouterr().err
    assert expected in told
    assert told.count("\n") == 1


def test_missing_and_empty_manifests(tmp_path, capsys):
    assert prepare(tmp_path, tmp_path / "s") == 2
    assert "no such file" in capsys.readouterr().err
    (tmp_path / "manifest.csv").write_text("path\n")
    assert prepare(tmp_path, tmp_path / "s") == 2
    assert "no images" in capsys.readouterr().err
    (tmp_path / "manifest.csv").write_text("path;labels\na.png;Edema\n")
    assert prepare(tmp_path, tmp_path / "s") == 2
    assert "separated by semicolons, save it with commas" in capsys.readouterr().err


def test_long_texts_in_a_manifest_are_no_hindrance(tmp_path):
    root = folder_of_images(tmp_path / "r", 2)
    rows = (root / "manifest.csv").read_text().splitlines()
    long = "x" * 200_000
    (root / "manifest.csv").write_text("\n".join([f"{rows[0]},remarks", *(f"{row},{long}" for row in rows[1:])]) + "\n")
    assert prepare(root, tmp_path / "s") == 0


def test_data_module_reads_folder_and_store_alike(tmp_path):
    """DICOM of a published layout, with masks from its boxes: the store gives the same studies, only smaller."""
    from dmlm.datamodules import RSNAPneumoniaDataModule

    pytest.importorskip("pydicom")
    root = tmp_path / "rsna"
    assert main(["data", "synthesize", "rsna", str(root), "--patients", "5", "--image-size", "96"]) == 0
    assert main(["data", "prepare", str(root), "--out", str(tmp_path / "s"), "--size", "64", "--quiet"]) == 0

    def studies(store):
        module = RSNAPneumoniaDataModule(root=str(root), image_size=48, store=store, with_masks=True, num_workers=0)
        return module.make_dataset("train", None)

    folder, store = studies(None), studies(str(tmp_path / "s"))
    assert len(folder) == len(store) > 3
    for index in range(len(folder)):
        one, other = folder[index], store[index]
        assert one["study_id"] == other["study_id"]
        assert np.abs(one["image"].numpy().astype(int) - other["image"].numpy()).mean() < 3.0
        assert (one["masks"] != other["masks"]).float().mean() < 0.03


def test_missing_images_are_refused_left_out_where_allowed_and_noticed_before_training(tmp_path, capsys):
    from dmlm.datamodules import NIHChestXray14DataModule

    root, out = tmp_path / "nih", tmp_path / "s"
    assert main(["data", "synthesize", "nih", str(root), "--patients", "12", "--image-size", "64"]) == 0
    gone = sorted(root.rglob("*.png"))[::7]
    kept = {path: path.read_bytes() for path in gone}
    for path in gone:
        path.unlink()
    arguments = ["data", "prepare", str(root), "--out", str(out), "--size", "32", "--quiet", "--workers", "1"]
    assert main(arguments) == 2
    told = capsys.readouterr().err
    assert "are not there" in told
    assert "--allow-skipped" in told
    assert not out.exists()
    assert main([*arguments, "--allow-skipped"]) == 0

    for path, data in kept.items():  # now the folder has more than the store
        path.write_bytes(data)

    def studies(**options):
        module = NIHChestXray14DataModule(str(root), image_size=32, num_workers=0, store=str(out), **options)
        return sum(len(module.make_dataset(part, None)) for part in ("train", "val", "test"))

    with pytest.raises(DatasetNotFoundError, match=r"has no pixels of \d+ of \d+ images .* set data.missing_images"):
        studies()
    assert studies(missing_images="drop") == len(list(root.rglob("*.png"))) - len(gone)


@pytest.mark.slow
def test_real_kills_give_the_same_store(tmp_path):
    root = folder_of_images(tmp_path / "r", 1500, 200)
    command = [sys.executable, "-m", "dmlm", "data", "prepare", str(root / "manifest.csv"), "--size", "64", "--quiet"]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    assert (
        subprocess.run([*command, "--out", str(tmp_path / "whole"), "--workers", "1"], env=environment).returncode == 0
    )
    for turn in range(3):
        out = tmp_path / f"s{turn}"
        process = subprocess.Popen([*command, "--out", str(out), "--workers", "2"], env=environment)
        wanted = 200 + 400 * turn
        until = time.monotonic() + 60
        while time.monotonic() < until and process.poll() is None:
            index = out / "index.csv"
            if index.exists() and index.read_bytes().count(b"\n") > wanted:
                break
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        assert not (out / "store.json").exists()
        assert subprocess.run([*command, "--out", str(out), "--workers", "2"], env=environment).returncode == 0
        assert content(out) == content(tmp_path / "whole")


def test_real_images_come_back_as_they_are(real_data, tmp_path):
    with (real_data / "manifest.csv").open(encoding="utf-8") as file:
        images = [row["path"] for row in csv.DictReader(file)][:40]
    prepare_store(images, real_data, tmp_path / "s", 128, {"dataset": "real"})
    store = ImageStore(tmp_path / "s")
    for image in images[::8]:
        full = read_grey(real_data / image)
        small = store.read(image)
        area = cv2.resize(full, small.shape[::-1], interpolation=cv2.INTER_AREA)
        assert np.abs(small.astype(float) - area).mean() < 1.0
        assert min(small.shape) == 128
