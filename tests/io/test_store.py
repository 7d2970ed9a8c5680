import errno
import pickle
import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dmlm.errors import ConfigError, DatasetFormatError, DatasetNotFoundError, ImageReadError
from dmlm.io import store_writer
from dmlm.io.store import ImageStore
from dmlm.io.store_format import INDEX, PLAN, STORE, Entry, index_line, read_index, shard_name
from dmlm.io.store_writer import StoreWriter


def rows(count=23, seed=0):
    rng = np.random.default_rng(seed)
    sizes = rng.integers(4, 12, (count, 2))
    return [rng.integers(0, 256, size, dtype=np.uint8) for size in sizes]


def names(count=23):
    return [f'a/{k}, "it\'s" ü.png' for k in range(count)]


def write(folder, pixels, step=5, shard_bytes=400, images=None):
    with StoreWriter(folder, images or names(len(pixels)), 8, {"dataset": "toy"}, shard_bytes) as writer:
        while len(writer.entries) < len(pixels):
            writer.append(pixels[len(writer.entries) : len(writer.entries) + step])
        if not writer.finished:
            writer.finish()
    return folder


def content(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_what_was_written_is_read(tmp_path):
    pixels = rows()
    folder = write(tmp_path / "s", pixels)
    store = ImageStore(folder)
    assert len(store) == 23
    assert store.size == 8
    assert len(list(folder.glob("pixels-*.bin"))) > 2
    for name, picture in zip(names(), pixels, strict=True):
        np.testing.assert_array_equal(store.read(name, 4), picture)
        assert store.shape(name) == picture.shape
    assert list(store.names()) == names()
    assert "other.png" not in store
    assert store.missing(["other.png", names()[0]]) == ["other.png"]
    store.verify()


def test_pixels_are_a_copy_and_writable(tmp_path):
    store = ImageStore(write(tmp_path / "s", rows()))
    first = store.read(names()[0])
    first += 1
    assert not np.array_equal(store.read(names()[0]), first)


def test_store_is_pickled_without_pixels(tmp_path):
    store = ImageStore(write(tmp_path / "s", rows()))
    expected = store.read(names()[7])
    sent = pickle.dumps(store)
    assert len(sent) < 6000
    np.testing.assert_array_equal(pickle.loads(sent).read(names()[7]), expected)


def test_size_of_writes_and_interruptions_between_them_do_not_show(tmp_path):
    pixels = rows()
    whole = content(write(tmp_path / "whole", pixels))
    assert content(write(tmp_path / "single", pixels, step=1)) == whole
    for stop in range(0, 23, 4):
        folder = tmp_path / f"stop{stop}"
        with StoreWriter(folder, names(), 8, {"dataset": "toy"}, 400) as writer:
            for k in range(stop):
                writer.append(pixels[k : k + 1])
        assert content(write(folder, pixels)) == whole


@settings(max_examples=40)  # each writes to the disk and waits for it
@given(data=st.data())
def test_files_cut_anywhere_are_continued_to_the_same_bytes(tmp_path_factory, data):
    """A killed process leaves a prefix of what it wrote: pixels ahead of the index, the last line perhaps cut."""
    pixels = rows(12)
    whole = content(write(tmp_path_factory.mktemp("w") / "s", pixels))
    folder = tmp_path_factory.mktemp("k") / "s"
    done = data.draw(st.integers(0, 12), label="committed images")
    with StoreWriter(folder, names(12), 8, {"dataset": "toy"}, 400) as writer:
        for k in range(done):
            writer.append(pixels[k : k + 1])
        shard = max((entry.shard for entry in writer.entries), default=0)
        coming = [Entry(names(12)[k], 9, 9, *pixels[k].shape, 9, "") for k in range(done, 12)]
    extra = data.draw(st.binary(max_size=300), label="pixels without an index line")
    with (folder / shard_name(shard)).open("ab") as file:
        file.write(extra)
    if data.draw(st.booleans(), label="next shard begun"):
        (folder / shard_name(shard + 1)).write_bytes(extra)
    if coming:
        line = index_line(coming[0])
        with (folder / INDEX).open("ab") as file:
            file.write(line[: data.draw(st.integers(0, len(line) - 1), label="bytes of a line")])
    if data.draw(st.booleans(), label="a temporary file is left"):
        (folder / f".{STORE}.abc.part").write_bytes(b"{")
    assert content(write(folder, pixels)) == whole


def test_killed_between_the_last_file_and_the_removal_of_the_plan(tmp_path):
    folder = write(tmp_path / "s", rows())
    whole = content(folder)
    (folder / PLAN).write_text("{}")
    assert content(write(folder, rows())) == whole


def test_index_line_without_its_pixels_is_written_again(tmp_path):
    """After a power failure a file may be shorter than what follows it."""
    pixels = rows()
    whole = content(write(tmp_path / "whole", pixels))
    folder = tmp_path / "s"
    with StoreWriter(folder, names(), 8, {"dataset": "toy"}, 400) as writer:
        writer.append(pixels[:20])
    last = sorted(folder.glob("pixels-*.bin"))[-1]
    last.write_bytes(last.read_bytes()[:-1])
    assert content(write(folder, pixels)) == whole


def test_unreadable_images_are_told_and_can_be_mended(tmp_path):
    pixels = rows(6)
    folder = write(tmp_path / "s", [*pixels[:2], "cut\noff", *pixels[3:]])
    store = ImageStore(folder)
    assert len(store) == 5
    assert list(store.problems()) == [(names()[2], "cut off")]
    assert store.shape(names()[2]) == (0, 0)
    with pytest.raises(ImageReadError, match="could not be read when it was made"):
        store.read(names()[2])
    with pytest.raises(ImageReadError, match="is not in it"):
        store.read("other.png")
    with StoreWriter(folder, names(6), 8, {"dataset": "toy"}, 400) as writer:
        assert writer.finished
        writer.reopen()
        writer.mend({2: pixels[2]})
        writer.finish()
    store = ImageStore(folder)
    for name, picture in zip(names(6), pixels, strict=True):
        np.testing.assert_array_equal(store.read(name), picture)
    store.verify()


def test_unfinished_store_is_not_read(tmp_path):
    with StoreWriter(tmp_path, names(), 8, {}, 400) as writer:
        writer.append(rows()[:5])
    with pytest.raises(DatasetNotFoundError, match="not finished"):
        ImageStore(tmp_path)
    with pytest.raises(DatasetNotFoundError, match="dmlm data prepare ROOT"):
        ImageStore(tmp_path / "none")


def test_store_of_other_images_or_in_use_is_refused(tmp_path):
    folder = write(tmp_path / "s", rows())
    with pytest.raises(ConfigError, match=r"size 8 \(now 16\)"):
        StoreWriter(folder, names(), 16, {}, 400)
    with pytest.raises(ConfigError, match="fingerprint"):
        StoreWriter(folder, names()[::-1], 8, {}, 400)
    with (
        StoreWriter(folder, names(), 8, {}, 400),
        pytest.raises(ConfigError, match="another process"),
    ):
        StoreWriter(folder, names(), 8, {}, 400)
    (tmp_path / "mine.txt").write_text("x")
    with pytest.raises(ConfigError, match=r"other files \(.+\); choose an empty folder"):
        StoreWriter(tmp_path, names(), 8, {}, 400)
    with pytest.raises(ConfigError, match="line break"):
        StoreWriter(tmp_path / "new", ["a\nb"], 8, {}, 400)


def test_damage_is_found_before_it_is_used(tmp_path):
    folder = write(tmp_path / "s", rows())
    shard = folder / shard_name(1)
    good = shard.read_bytes()
    shard.write_bytes(bytes([good[0] ^ 1]) + good[1:])
    with pytest.raises(DatasetFormatError, match="differ from their checksum"):
        ImageStore(folder).verify()
    shard.write_bytes(good[:-1])
    with pytest.raises(DatasetFormatError, match=rf"has {len(good) - 1:,} bytes, expected {len(good):,}"):
        ImageStore(folder)
    shard.unlink()
    with pytest.raises(DatasetFormatError, match="is missing"):
        ImageStore(folder)
    shard.write_bytes(good)
    index = (folder / INDEX).read_bytes()
    (folder / INDEX).write_bytes(index.replace(b"a/0", b"b/0"))
    with pytest.raises(DatasetFormatError, match=r"index\.csv: differs"):
        ImageStore(folder).verify()
    (folder / INDEX).write_bytes(index[:-9])
    with pytest.raises(DatasetFormatError, match="expected 23 images, found 22"):
        ImageStore(folder)
    (folder / STORE).write_text("{")
    with pytest.raises(DatasetFormatError, match="damaged"):
        ImageStore(folder)
    (folder / STORE).write_text('{"format": 99}')
    with pytest.raises(DatasetFormatError, match="pip install --upgrade dmlm"):
        ImageStore(folder)


def test_nonsense_in_the_index_names_the_line(tmp_path):
    folder = write(tmp_path / "s", rows())
    lines = (folder / INDEX).read_bytes().splitlines(keepends=True)
    (folder / INDEX).write_bytes(b"".join([*lines[:3], b"what,is,this\n", *lines[3:]]))
    with pytest.raises(DatasetFormatError, match="line 4 is damaged"):
        list(read_index(folder))


def test_full_disk_keeps_what_was_committed(tmp_path, monkeypatch):
    pixels = rows()
    whole = content(write(tmp_path / "whole", pixels))
    folder = tmp_path / "s"

    def full(file):
        raise OSError(errno.ENOSPC, "No space left on device")

    with StoreWriter(folder, names(), 8, {"dataset": "toy"}, 400) as writer:
        writer.append(pixels[:7])
        with monkeypatch.context() as patched:
            patched.setattr(store_writer.StoreWriter, "_sync", staticmethod(full))
            with pytest.raises(OSError, match="No space"):
                writer.append(pixels[7:])
    assert content(write(folder, pixels)) == whole


@pytest.mark.parametrize(("limit", "name"), [(300, "pixels-00000.bin"), (900, "index.csv")])
def test_a_file_that_may_not_grow_is_named(tmp_path, limit, name):
    resource = pytest.importorskip("resource")
    size = 8 if name.startswith("pixels") else 1
    pixels = [np.zeros((size, size), np.uint8)] * 60
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    with StoreWriter(tmp_path / "s", [f"{number}.png" for number in range(60)], size, {}, 1 << 20) as writer:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
        try:
            with pytest.raises(OSError, match="File too large") as refused:
                writer.append(pixels)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert refused.value.filename == str(tmp_path / "s" / name)


def test_threads_may_read_together(tmp_path):
    pixels = rows()
    store, wrong = ImageStore(write(tmp_path / "s", pixels)), []

    def work():
        for name, picture in list(zip(names(), pixels, strict=True)) * 20:
            if not np.array_equal(store.read(name), picture):
                wrong.append(name)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
