"""Options that every data module shares: what cannot work is refused, what has no effect is said."""

from __future__ import annotations

import logging

import pytest

from dmlm.datamodules import PhantomDataModule
from dmlm.datasets import AugmentConfig
from dmlm.errors import ConfigError


@pytest.mark.parametrize("name", ["seed", "data_seed"])
def test_a_negative_seed_is_refused(name) -> None:
    with pytest.raises(ConfigError, match=rf"^data\.{name} must be 0 or more, got -1$"):
        PhantomDataModule(**{name: -1})


@pytest.mark.parametrize("options", [{"augmentation": AugmentConfig()}, {"albumentations": []}, {}])
def test_an_augmentation_that_is_off_is_said(options, caplog) -> None:
    with caplog.at_level(logging.WARNING, logger="dmlm"):
        assert PhantomDataModule(augment=False, **options).train_transform() is None
    assert ("data.augment is false: data.augmentation and data.albumentations have no effect" in caplog.text) == bool(
        options
    )
