"""`data.bucket_texts`: reports of a batch are of similar length, and nothing else changes."""

import numpy as np
import pytest

from dmlm.datamodules import PhantomDataModule
from dmlm.errors import ConfigError


def words_of_batches(data) -> list[np.ndarray]:
    return [np.array([len(text.split()) for text in batch["text"]]) for batch in data.train_dataloader()]


@pytest.mark.parametrize("fraction", [1.0, 0.5])
def test_batches_pad_less_and_have_the_same_studies(fraction, tmp_path) -> None:
    padding, studies = {}, {}
    for bucketed in (False, True):
        data = PhantomDataModule(
            60, 2, 3, 32, 8, cache=str(tmp_path), num_workers=0, fraction=fraction, bucket_texts=bucketed
        )
        data.prepare_data()
        data.setup("fit")
        rows = words_of_batches(data)
        padding[bucketed] = 1 - sum(row.sum() for row in rows) / sum(row.max() * len(row) for row in rows)
        studies[bucketed] = sum(len(row) for row in rows)
    assert studies[True] == studies[False]
    assert padding[True] < 0.5 * padding[False]


def test_a_data_set_without_texts_says_so(tmp_path) -> None:
    from dmlm.__main__ import main
    from dmlm.datamodules import RSNAPneumoniaDataModule

    assert main(["data", "synthesize", "rsna", str(tmp_path / "rsna"), "--patients", "9", "--image-size", "64"]) == 0
    data = RSNAPneumoniaDataModule(
        str(tmp_path / "rsna"), image_size=32, batch_size=2, num_workers=0, bucket_texts=True
    )
    data.setup("fit")
    with pytest.raises(ConfigError, match=r"leave data\.bucket_texts off"):
        data.train_dataloader()
