"""`PhantomDataModule`: synthetic chest X-rays, made on the first run, so that everything runs without a data set."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from dmlm.datamodules.base import ChestXrayDataModule
from dmlm.datasets.phantom import PhantomDataset, generate_phantoms, phantom_folder
from dmlm.datasets.splits import Split
from dmlm.datasets.transforms import AugmentConfig, Transform
from dmlm.errors import ConfigError
