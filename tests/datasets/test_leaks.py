"""Planted leaks of each kind are found; hashes know a film from another one; manifests vouch for themselves."""

import io
import json
import shutil

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from dmlm.datasets.catalog import open_table
from dmlm.datasets.leaks import find_leaks
from dmlm.datasets.leaks_across import find_contamination, overlaps_of, read_mapping
from dmlm.datasets.near_duplicates import BITS, MAX_DISTANCE, hash_files, image_hash, near_pairs
from dmlm.datasets.phantom.studies import make_patient
from dmlm.datasets.splits_manifest import read_manifest, write_manifest
from dmlm.datasets.synthesize.covidx import write_variant as write_covidx
from dmlm.datasets.synthesize.nih import write_variant as write_nih
from dmlm.datasets.synthesize.rsna import write as write_rsna
from dmlm.datasets.table_splits import SplitPlan, assign_splits
from dmlm.errors import ConfigError, DatasetFormatError, MismatchError


def bits_between(one, two):
    return int(np.unpackbits(image_hash(one) ^ image_hash(two)).sum())


@pytest.fixture(scope="module")
def films():
    return [make_patient(0, "train", patient, 256)[0].image for patient in range(8)]


def test_hashes_survive_what_copies_go_through(films):
    import cv2

    rng = np.random.default_rng(0)
    for film in films:
        stream = io.BytesIO()
        Image.fromarray(film).save(stream, "JPEG", quality=40)
        copies = [
            np.asarray(Image.open(stream)),
            cv2.resize(film, (150, 150), interpolation=cv2.INTER_AREA),
            (255 * (film / 255.0) ** 0.8).astype(np.uint8),
            np.clip(film + rng.normal(0, 5, film.shape), 0, 255).astype(np.uint8),
        ]
        assert max(bits_between(film, copy) for copy in copies) <= MAX_DISTANCE
    apart = [bits_between(films[a], films[b]) for a in range(8) for b in range(a)]
    assert min(apart) > MAX_DISTANCE
    assert bits_between(films[0], films[0][:, ::-1]) > 2 * MAX_DISTANCE  # laterality is not lost


@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, BITS), st.integers(0, 99))
def test_near_pairs_are_those_of_a_double_loop(count, other, limit, seed):
    rng = np.random.default_rng(seed)
    first = rng.integers(0, 256, (count, BITS // 8), dtype=np.uint8)
    second = rng.integers(0, 256, (other, BITS // 8), dtype=np.uint8)
    second[0] = first[0]
    expected = {
        (a, b, int(np.unpackbits(first[a] ^ second[b]).sum()))
        for a in range(count)
        for b in range(other)
        if np.unpackbits(first[a] ^ second[b]).sum() <= limit
    }
    assert set(near_pairs(first, second, limit)) == expected


def test_hashes_of_another_kind_are_refused():
    with pytest.raises(MismatchError, match=r"hashes must be \[N, 64\]"):
        list(near_pairs(np.zeros((2, 64), np.uint8), np.zeros((2, 8), np.uint8)))


def test_hashes_are_kept_until_a_file_changes(tmp_path, films):
    path = tmp_path / "a.png"
    Image.fromarray(films[0]).save(path)
    first = hash_files([path])
    assert (hash_files([path]) == first).all()
    Image.fromarray(films[1]).save(path)
    assert (hash_files([path]) != first).any()


@pytest.fixture(scope="module")
def nih(tmp_path_factory):
    root = tmp_path_factory.mktemp("nih")
    write_nih(root, 14, 0, 96, flat=True)
    return root


def places_of(table):
    return assign_splits(table, SplitPlan("official"))


def test_a_clean_split_is_clean(nih):
    table = open_table("nih", nih)
    report = find_leaks(table, places_of(table), near_duplicates=True)
    assert report.clean
    assert report.checked == ["image", "patient", "near-duplicate"]


def test_a_planted_patient_is_found(nih):
    table = open_table("nih", nih)
    places = places_of(table)
    row = next(r for r in range(len(table)) if list(table.patient_ids).count(table.patient_ids[r]) > 1)
    places[row] = "test" if places[row] != "test" else "train"
    report = find_leaks(table, places)
    assert list(report.counts.values()) == [1]
    assert next(iter(report.counts)).startswith("patient, ")
    assert str(table.patient_ids[row]) in report.examples[0].why


def planted(nih, tmp_path, change):
    """Add an image of a new patient to the test list: a changed copy of a training image."""
    root = shutil.copytree(nih, tmp_path / "nih")
    first = (root / "train_val_list.txt").read_text().split()[0]
    change(root / "images" / first, root / "images" / "00000900_000.png")
    with (root / "Data_Entry_2017_v2020.csv").open("a") as file:
        file.write("00000900_000.png,No Finding,0,900,50,M,PA,1,1,1,1\n")
    with (root / "test_list.txt").open("a") as file:
        file.write("00000900_000.png\n")
    return open_table("nih", root)


def test_a_planted_copy_is_found_by_its_bytes(nih, tmp_path):
    table = planted(nih, tmp_path, shutil.copy)
    report = find_leaks(table, places_of(table))
    assert [leak.why for leak in report.examples] == ["files of the same bytes"]
    assert "00000900_000" in report.examples[0].first + report.examples[0].second


def test_a_planted_near_duplicate_is_found_by_its_picture(nih, tmp_path):
    def recompress(source, target):
        image = Image.open(source).convert("L").resize((80, 80))
        stream = io.BytesIO()
        image.save(stream, "JPEG", quality=50)
        Image.open(stream).save(target)

    table = planted(nih, tmp_path, recompress)
    places = places_of(table)
    assert find_leaks(table, places).clean
    report = find_leaks(table, places, near_duplicates=True)
    assert list(report.counts.values()) == [1]
    assert report.examples[0].kind == "near-duplicate"
    assert find_leaks(table, places, near_duplicates=True, max_distance=0).clean or "0 of" in report.examples[0].why


def test_rsna_in_nih_is_found_by_pictures_or_mapping(nih, tmp_path):
    write_rsna(tmp_path / "rsna", 14, 0, 96)  # the same phantoms under other names, as in reality
    first, second = open_table("rsna", tmp_path / "rsna"), open_table("nih", nih)
    assert find_contamination(first, second).clean
    found = find_contamination(first, second, near_duplicates=True)
    assert found.counts == {"contamination, rsna / nih": len(first)}
    pairs = [
        {"subset_img_id": name, "img_id": f"{other}.png"}
        for name, other in zip(first.study_ids, second.study_ids, strict=True)
    ]
    (tmp_path / "mapping.json").write_text(json.dumps(pairs[:5]))
    for one, other in ((first, second), (second, first)):
        assert sum(find_contamination(one, other, mapping=tmp_path / "mapping.json").counts.values()) == 5
    (tmp_path / "mapping.csv").write_text("rsna,nih\n" + f"{first.study_ids[0]},{second.study_ids[0]}.png\n")
    assert sum(find_contamination(first, second, mapping=tmp_path / "mapping.csv").counts.values()) == 1
    (tmp_path / "mapping.json").write_text("{}")
    with pytest.raises(DatasetFormatError, match="pairs no names"):
        read_mapping(tmp_path / "mapping.json")


def test_covidx_negatives_of_rsna_are_found_by_name(tmp_path):
    write_rsna(tmp_path / "rsna", 4, 0, 64)
    write_covidx(tmp_path / "covidx", 4, 5, 64)
    rsna = open_table("rsna", tmp_path / "rsna")
    name = f"{rsna.study_ids[3]}.png"
    Image.fromarray(np.zeros((64, 64), np.uint8)).save(tmp_path / "covidx" / "train" / name)
    with (tmp_path / "covidx" / "train.txt").open("a") as file:
        file.write(f"{rsna.study_ids[3]} {name} negative rsna\n")
    report = find_contamination(open_table("covidx", tmp_path / "covidx"), rsna)
    assert report.counts == {"contamination, covidx / rsna": 1}
    assert report.examples[0].why == "the same name"


def test_edema_patients_in_mimic_are_found(tmp_path):
    from dmlm.datasets.synthesize import synthesize

    synthesize("edema", tmp_path / "edema", 6, 0, 64)
    edema = open_table("edema", tmp_path / "edema")
    mimic = open_table("mimic", next(path for path in (tmp_path / "edema").rglob("files")).parent)
    report = find_contamination(edema, mimic)
    patients = {str(name) for name in edema.patient_ids}
    whys = [leak.why for leak in report.examples]
    assert sum(report.counts.values()) >= len(patients)
    assert "the same name" in whys
    assert "mimic" in overlaps_of("edema")
    others = open_table("mimic", mimic.root).take(
        np.flatnonzero([str(name) not in patients for name in mimic.patient_ids])
    )
    assert not len(others) or find_contamination(edema, others).clean


def test_manifest_round_trip_and_its_hash(nih, tmp_path):
    table = open_table("nih", nih)
    places = places_of(table)
    path = tmp_path / "split.json"
    content = write_manifest(path, table, places, split="official", seed=0)
    assert sum(content["sizes"].values()) == len(table)
    np.testing.assert_array_equal(read_manifest(path, table), places)
    np.testing.assert_array_equal(assign_splits(table, SplitPlan("file", file=str(path))), places)
    shuffled = table.take(np.random.default_rng(0).permutation(len(table)))
    again = dict(zip(shuffled.images, read_manifest(path, shuffled), strict=True))
    assert again == dict(zip(table.images, places, strict=True))
    assert write_manifest(tmp_path / "b.json", shuffled, places_of(shuffled))["sha256"] == content["sha256"]
    part = table.take(np.arange(3))
    with pytest.raises(DatasetFormatError, match=r"images that .* does not have"):
        read_manifest(path, part)
    edited = json.loads(path.read_text())
    edited["images"]["test"].append(edited["images"]["train"].pop())
    path.write_text(json.dumps(edited))
    with pytest.raises(DatasetFormatError, match="its hash does not fit"):
        read_manifest(path, table)
    path.write_text("{}")
    with pytest.raises(DatasetFormatError, match="not a split that 'dmlm data splits' wrote"):
        read_manifest(path, table)
    with pytest.raises(ConfigError, match=r"set data\.split_file"):
        assign_splits(table, SplitPlan("file"))
