"""Published splits: draws against scikit-learn itself, exact sizes on data sets of full length, lists, refusals."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.model_selection import train_test_split

from dmlm.datasets import nih, rsna, siim
from dmlm.datasets.boxes import Box
from dmlm.datasets.splits_manifest import write_manifest
from dmlm.datasets.splits_published import check_sizes, random_split, stratified_split, with_val
from dmlm.datasets.table import StudyTable
from dmlm.datasets.table_splits import SplitPlan, assign_splits
from dmlm.errors import ConfigError, DatasetFormatError, DatasetNotFoundError


def make_table(name, ids, positive, tmp_path, images=None, splits=None, patients=None, names=("x",), **extra):
    labels = np.zeros((len(ids), len(names)), np.float32)
    labels[:, 0] = positive
    return StudyTable(
        name=name,
        root=tmp_path,
        label_names=tuple(names),
        images=list(images or [f"{name}.png" for name in ids]),
        study_ids=list(ids),
        patient_ids=list(patients or ids),
        labels=labels,
        splits=splits,
        extra=extra,
    )


def sizes(places):
    return tuple(int((places == part).sum()) for part in ("train", "val", "test"))


@given(st.integers(4, 300), st.floats(0.1, 0.9), st.integers(0, 1000))
def test_random_split_is_scikit_learns(count, share, seed):
    test = int(np.ceil(share * count))
    if test >= count:
        return
    train, rest = random_split(count, test, seed)
    expected = train_test_split(np.arange(count), test_size=share, random_state=seed)
    np.testing.assert_array_equal(train, expected[0])
    np.testing.assert_array_equal(rest, expected[1])


@given(st.lists(st.integers(0, 3), min_size=40, max_size=120), st.integers(5, 20), st.integers(0, 1000))
def test_stratified_split_is_scikit_learns(classes, test, seed):
    if np.unique(classes, return_counts=True)[1].min() < 2:
        return
    train, rest = stratified_split(classes, test, seed)
    expected = train_test_split(np.arange(len(classes)), test_size=test, stratify=classes, random_state=seed)
    np.testing.assert_array_equal(train, expected[0])
    np.testing.assert_array_equal(rest, expected[1])


@pytest.fixture(scope="module")
def full_rsna(tmp_path_factory):
    """A table as long as RSNA's, with as many positives."""
    rng = np.random.default_rng(0)
    ids = [rng.bytes(16).hex() for _ in range(26_684)]
    positive = rng.permutation(np.arange(26_684) < 6_012)
    boxes = [[Box("Pneumonia", 0, 0, 1, 1)] if found else [] for found in positive]
    return make_table("rsna", ids, positive, tmp_path_factory.mktemp("rsna"), boxes=boxes)


@pytest.mark.parametrize("name", ["mgca", "benchx"])
def test_rsna_sizes_on_the_full_length(full_rsna, name):
    places = assign_splits(full_rsna, SplitPlan(name))
    assert sizes(places) == (18_678, 4_003, 4_003)
    shuffled = full_rsna.take(np.random.default_rng(1).permutation(len(full_rsna)))
    again = assign_splits(shuffled, SplitPlan(name))
    assert dict(zip(shuffled.study_ids, again, strict=True)) == dict(zip(full_rsna.study_ids, places, strict=True))
    if name == "benchx":  # stratified: the same share of positives everywhere
        shares = [full_rsna.labels[places == part].mean() for part in ("train", "val", "test")]
        assert np.ptp(shares) < 0.001


def test_mgca_is_two_draws_of_scikit_learn_over_sorted_ids(full_rsna):
    ids = sorted(full_rsna.study_ids)
    train, rest = train_test_split(ids, test_size=0.3, random_state=0)
    test, val = train_test_split(rest, test_size=0.5, random_state=0)
    places = dict(zip(full_rsna.study_ids, assign_splits(full_rsna, SplitPlan("mgca")), strict=True))
    assert {places[name] for name in train} == {"train"}
    assert {places[name] for name in val} == {"val"}
    assert {places[name] for name in test} == {"test"}


def test_mgca_for_segmentation_holds_10674_of_the_sorted_ids_out(full_rsna):
    train, rest = train_test_split(sorted(full_rsna.study_ids), test_size=10_674, random_state=0)
    test, val = train_test_split(rest, test_size=0.5, random_state=0)
    assigned = assign_splits(full_rsna, SplitPlan("mgca_segment"))
    assert sizes(assigned) == (16_010, 5_337, 5_337)
    places = dict(zip(full_rsna.study_ids, assigned, strict=True))
    parts = (("train", train), ("val", val), ("test", test))
    assert all({places[name] for name in names} == {part} for part, names in parts)


def test_wrong_sizes_of_a_complete_data_set_are_refused(full_rsna):
    places = np.full(len(full_rsna), "train", dtype="<U5")
    with pytest.raises(DatasetFormatError, match=r"has sizes \[26684, 0, 0\], published are"):
        check_sizes(full_rsna, SplitPlan("mgca"), places, 26_684, (18_678, 4_003, 4_003))
    part = full_rsna.take(np.arange(10))
    assert check_sizes(part, SplitPlan("mgca"), places[:10], 26_684, (18_678, 4_003, 4_003)) is not None


@pytest.fixture(scope="module")
def full_siim(tmp_path_factory):
    """A table as long as SIIM in layout C."""
    stems = [f"{i}_train_{int(i < 2_379)}_" for i in range(10_675)] + [
        f"{i}_test_{int(i < 290)}_" for i in range(1_372)
    ]
    splits = ["train"] * 10_675 + ["test"] * 1_372
    lines = [()] * len(stems)
    root = tmp_path_factory.mktemp("siim")
    return make_table("siim", stems, ["_1_" in s for s in stems], root, splits=splits, csv_lines=lines)


def test_siim_benchx_sizes_and_stage_1_test(full_siim):
    places = assign_splits(full_siim, SplitPlan("benchx"))
    assert sizes(places) == (9_303, 1_372, 1_372)
    assert (places[np.asarray(full_siim.splits) == "test"] == "test").all()
    official = assign_splits(full_siim, SplitPlan("official"))
    assert sizes(official)[2] == 1_372
    assert sizes(official)[1] == round(10_675 * (1 - 0.8 / 0.9))


def test_siim_row_level_split_is_refused_and_leaks_where_allowed(tmp_path):
    ids = [f"i{n}" for n in range(100)]
    lines = [(2 + 2 * n, 3 + 2 * n) for n in range(100)]  # two rows an image
    table = make_table("siim", ids, [1] * 100, tmp_path, csv_lines=lines)
    for name in ("gloria", "mgca", "ecamp"):
        with pytest.raises(ConfigError, match="leaks: it draws rows of the csv"):
            assign_splits(table, SplitPlan(name))
    places = assign_splits(table, SplitPlan("gloria", allow_leaks=True))
    train, rest = train_test_split(np.arange(200), test_size=0.3, random_state=0)
    test, _ = train_test_split(rest, test_size=0.5, random_state=0)
    assert set(np.flatnonzero(places == "test")) == set(test // 2)
    assert set(train // 2) & set(test // 2)  # the published split does leak


def write_lists(folder, train, val, test, suffix=".txt", header=None):
    folder.mkdir(exist_ok=True)
    for name, rows in (("train", train), ("val", val), ("test", test)):
        (folder / f"{name}{suffix}").write_text("\n".join([*([header] if header else []), *rows]) + "\n")
    return str(folder)


def test_lists_in_the_forms_of_their_authors(tmp_path):
    ids = [f"0000{n}_000" for n in range(6)]
    table = make_table("nih", ids, [0] * 6, tmp_path, names=nih.LABEL_NAMES)
    # MRM: file name and 14 labels; LoVT: csv with a header and boxes
    text = write_lists(tmp_path / "a", [f"{i}.png 0 1 0" for i in ids[:3]], [f"{ids[3]}.png 1"], [f"{ids[4]}.png 0"])
    csv = write_lists(
        tmp_path / "b", [f"{i},1;2;3;4," for i in ids[:3]], [ids[3]], [ids[4]], ".csv", "ID,boxes,classes"
    )
    (tmp_path / "b" / "val.csv").rename(tmp_path / "b" / "validation.csv")
    expected = ["train", "train", "train", "val", "test", ""]
    for folder in (text, csv):
        assert assign_splits(table, SplitPlan("chexnet", file=folder)).tolist() == expected


def test_lists_that_leak_are_refused_and_test_wins_where_allowed(tmp_path):
    ids = ["a", "b", "c", "d"]
    table = make_table("rsna", ids, [0] * 4, tmp_path, boxes=[[]] * 4)
    folder = write_lists(tmp_path / "lists", ["a", "b"], ["c"], ["d", "a"])
    with pytest.raises(ConfigError, match="1 images are in two lists"):
        assign_splits(table, SplitPlan("lovt", file=folder))
    places = assign_splits(table, SplitPlan("lovt", file=folder, allow_leaks=True))
    assert places.tolist() == ["test", "train", "val", "test"]


@pytest.mark.parametrize("name", ["official", "chexnet", "file"])
def test_a_patient_in_two_parts_is_refused_whoever_made_the_split(tmp_path, name):
    ids = ["1_000", "1_001", "2_000", "3_000"]
    parts = ["train", "test", "val", "test"]
    table = make_table(
        "nih", ids, [0] * 4, tmp_path, splits=parts, patients=["1", "1", "2", "3"], names=nih.LABEL_NAMES
    )
    file = None
    if name == "chexnet":
        file = write_lists(tmp_path / "lists", ids[:1], ids[2:3], [ids[1], ids[3]])
    elif name == "file":
        file = str(tmp_path / "split.json")
        write_manifest(tmp_path / "split.json", table, np.asarray(parts))
    with pytest.raises(ConfigError, match="leaks: patient '1' is in 'train' and in 'test'; use split: ratios"):
        assign_splits(table, SplitPlan(name, file=file))
    assert assign_splits(table, SplitPlan(name, file=file, allow_leaks=True)).tolist() == parts


def test_lists_that_are_missing_or_of_another_data_set(tmp_path):
    table = make_table("rsna", ["a", "b"], [0, 0], tmp_path, boxes=[[], []])
    with pytest.raises(ConfigError, match="set split_file to it"):
        assign_splits(table, SplitPlan("lovt"))
    folder = write_lists(tmp_path / "lists", ["x"], ["y"], ["z"])
    with pytest.raises(DatasetFormatError, match="names no image of"):
        assign_splits(table, SplitPlan("lovt", file=folder))
    (tmp_path / "lists" / "train.txt").unlink()
    with pytest.raises(DatasetNotFoundError, match="has no list for 'train'"):
        assign_splits(table, SplitPlan("lovt", file=folder))


def test_nih_official_takes_validation_from_training_patients(tmp_path):
    ids = [f"{n:08d}_{k:03d}" for n in range(200) for k in range(2)]
    patients = [name[:8] for name in ids]
    splits = ["test" if int(p) >= 150 else "train" for p in patients]
    table = make_table("nih", ids, [0] * 400, tmp_path, splits=splits, patients=patients, names=nih.LABEL_NAMES)
    places = assign_splits(table, SplitPlan("official"))
    assert (places[np.asarray(splits) == "test"] == "test").all()
    assert sizes(places)[1] == 2 * round(150 / 9)
    assert not {p for p, s in zip(patients, places, strict=True) if s == "val"} & {
        p for p, s in zip(patients, places, strict=True) if s == "train"
    }
    with pytest.raises(ConfigError, match="leave out split_file"):
        assign_splits(table, SplitPlan("official", file="split.json"))
    with pytest.raises(ConfigError, match="leave nothing"):
        with_val(table, SplitPlan("official", ratios=(0.0, 0.0, 1.0)))
    with pytest.raises(ConfigError, match="12, 13 and 5 patients"):
        assign_splits(table, SplitPlan("lovt"))


@given(st.lists(st.integers(0, 40), min_size=3, max_size=80), st.integers(0, 50))
def test_drawn_splits_keep_patients_apart_whatever_the_order(patients, seed):
    from dmlm.datasets.splits import draw_splits

    names = [f"p{n}" for n in patients]
    places = draw_splits(names, (0.6, 0.2, 0.2), seed)
    assert set(places) == set(names)
    assert places == draw_splits(sorted(names, reverse=True), (0.6, 0.2, 0.2), seed)


def test_every_module_names_totals_and_where_to_get_it():
    for home in (rsna, siim, nih):
        assert home.TOTALS["images"] > 10_000
        assert "\n" not in home.HOW_TO_GET
