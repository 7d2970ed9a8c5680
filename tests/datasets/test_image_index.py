"""Which of the files below a folder are a data set's images."""

import pytest

from dmlm.datasets.image_index import index_images
from dmlm.errors import DatasetFormatError


def make(root, *paths):
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).touch()


def test_masks_that_bear_the_names_of_films_are_not_taken_for_them(tmp_path):
    make(tmp_path, "masks/a.png", "train_png/a.png", "train_png/b.png")
    with pytest.raises(DatasetFormatError, match=r"'a.png' has the name of an image in 'masks' and lies in"):
        index_images(tmp_path, 2)
    assert index_images(tmp_path, 2, ("train_png",)) == {"a": "train_png/a.png", "b": "train_png/b.png"}


def test_names_are_those_of_one_folder_or_of_several(tmp_path):
    make(tmp_path, "images_001/images/a.png", "images_002/images/b.PNG", "images_002/images/b.txt", ".hidden/a.png")
    found = {"a": "images_001/images/a.png", "b": "images_002/images/b.PNG"}
    assert index_images(tmp_path, 2) == found
    make(tmp_path, "images_001/images/a.jpg")
    assert index_images(tmp_path, 2) == found | {"a": "images_001/images/a.jpg"}
    assert set(index_images(tmp_path, 2, by_stem=False)) == {"a.png", "a.jpg", "b.PNG"}
