"""Small tasks, encoders and data modules with which a run takes about a second."""

from __future__ import annotations

from abc import ABC
from pathlib import Path

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

from dmlm._config import Configurable
from dmlm.datamodules.base import ChestXrayDataModule
from dmlm.errors import ConfigError, DatasetNotFoundError
from dmlm.tasks.base import TaskModule
from dmlm.tasks.optim import OptimConfig, configure


class TinyImage(Configurable, nn.Module):
    """Image tower.

    Args:
        width: Width of the tower.
        image_size: Pixels.
    """

    def __init__(self, width: int = 4, image_size: int = 8) -> None:
        super().__init__()
        if width < 1:
            msg = f"width must be positive, got {width}"
            raise ConfigError(msg)
        if width == 13:
            raise ValueError("thirteen is unlucky")
        self.width, self.image_size = width, image_size
        self.layer = nn.Linear(8, width)
        self.norm = nn.LayerNorm(width)


class OtherImage(TinyImage):
    """Another image tower.

    Args:
        depth: Number of layers.
    """

    def __init__(self, depth: int = 2, image_size: int = 8) -> None:
        super().__init__(4, image_size)
        self.more = nn.ModuleList(nn.Linear(4, 4) for _ in range(depth))


class TinyEncoder(Configurable, nn.Module):
    """Encoder around an image tower.

    Args:
        image: Image tower.
        embed_dim: Width.
        span: A pair.
    """

    def __init__(self, image: TinyImage, embed_dim: int = 4, span: tuple[float, float] = (-1.0, 1.0)) -> None:
        super().__init__()
        self.image, self.embed_dim, self.span = image, embed_dim, span
        self.head = nn.Linear(image.width, embed_dim)

    def forward(self, x):
        return self.head(self.image.norm(self.image.layer(x)))


def pretrained(path: str) -> TinyEncoder:
    """Build an encoder whose width is in a file, as ``dmlm.models.from_pretrained`` does."""
    return TinyEncoder(TinyImage(int(Path(path).read_text())))


class TinyPredictor(Configurable, nn.Module):
    """Predictor.

    Args:
        width: Width.
    """

    def __init__(self, width: int = 3) -> None:
        super().__init__()
        self.layer = nn.Linear(width, 1)


class TinyBase(TaskModule, ABC):
    def __init__(self, encoder: TinyEncoder, optim: OptimConfig = OptimConfig(lr=1e-2), scale: float = 1.0) -> None:
        super().__init__()
        self.encoder, self.optim, self.scale = encoder, optim, scale
        self.head = nn.Linear(encoder.embed_dim, 1)

    def loss(self, batch):
        return ((self.head(self.encoder(batch["x"])) - batch["y"]) ** 2).mean() * self.scale

    def training_step(self, batch, index):
        return self.loss(batch)

    def validation_step(self, batch, index):
        self.log("val_loss", self.loss(batch), batch_size=len(batch["x"]))

    def test_step(self, batch, index):
        self.log("test_loss", self.loss(batch), batch_size=len(batch["x"]))

    def predict_step(self, batch, index):
        return self.head(self.encoder(batch["x"]))

    def on_test_end(self):
        (self.run_dir / "tested.txt").write_text(type(self).__name__)

    def configure_optimizers(self):
        return configure(self, ("encoder.image.",), self.optim, self.trainer.estimated_stepping_batches)


class TinyPretrain(TinyBase):
    """Pre-training double.

    Args:
        encoder: Encoder.
        predictor: Predictor.
        optim: Optimiser.
        scale: Factor of the loss.
    """

    def __init__(
        self,
        encoder: TinyEncoder,
        predictor: TinyPredictor,
        optim: OptimConfig = OptimConfig(lr=1e-2),
        scale: float = 1.0,
    ) -> None:
        super().__init__(encoder, optim, scale)
        self.predictor = predictor
        self.teacher = nn.Linear(2, 2)


class TinyClassifier(TinyBase):
    """Fine-tuning double: has a head of its own.

    Args:
        encoder: Encoder.
        optim: Optimiser.
        scale: Factor of the loss.
        num_classes: Number of classes.
    """

    def __init__(
        self,
        encoder: TinyEncoder,
        optim: OptimConfig = OptimConfig(lr=1e-2),
        scale: float = 1.0,
        num_classes: int = 2,
    ) -> None:
        super().__init__(encoder, optim, scale)
        self.num_classes = num_classes


class TinyZeroShot(TaskModule):
    """Zero-shot double: only an encoder and a predictor.

    Args:
        encoder: Encoder.
        predictor: Predictor.
        scale: Factor of the score.
    """

    accepts_encoder_checkpoint = True

    def __init__(self, encoder: TinyEncoder, predictor: TinyPredictor | None = None, scale: float = 2.0) -> None:
        super().__init__()
        self.encoder, self.predictor, self.scale = encoder, predictor, scale

    def test_step(self, batch, index):
        weight = self.encoder.image.layer.weight
        self.log("checksum", weight.double().sum().float(), batch_size=len(batch["x"]))
        if self.predictor is not None:
            self.log("predictor", self.predictor.layer.weight.sum(), batch_size=len(batch["x"]))
        self.log("scale", self.scale, batch_size=len(batch["x"]))


class Vectors(Dataset):
    def __init__(self):
        self.x = torch.randn(8, 8, generator=torch.Generator().manual_seed(0))

    def __len__(self):
        return len(self.x)

    def __getitem__(self, index):
        return {"x": self.x[index], "y": self.x[index].sum(0, keepdim=True)}


class TinyData(ChestXrayDataModule):
    """Random vectors.

    Args:
        root: Folder.
        image_size: Pixels.
        batch_size: Batch size.
        num_classes: Classes.
        with_test: Whether there is a test set.
    """

    def __init__(
        self,
        root: str = "data",
        image_size: int = 8,
        batch_size: int = 4,
        num_classes: int = 2,
        with_test: bool = True,
    ) -> None:
        super().__init__(image_size, batch_size)
        self.root, self.classes, self.with_test = root, num_classes, with_test

    label_names = property(lambda self: tuple(f"label {n}" for n in range(self.classes)))

    def make_dataset(self, split, transform):
        return Vectors()

    def setup(self, stage=None):
        if self.root == "kept" and not Path(self.root).is_dir():
            msg = f"{self.root}/m.csv: no such file"
            raise DatasetNotFoundError(msg)
        self.train_dataset = self.val_dataset = Vectors()
        self.test_dataset = Vectors() if self.with_test else None

    def _loader(self, dataset, train):
        return DataLoader(dataset, batch_size=self.batch_size)


class OtherData(TinyData):
    """Other random vectors.

    Args:
        root: Folder.
        image_size: Pixels.
    """

    def __init__(self, root: str = "other", image_size: int = 8) -> None:
        super().__init__(root, image_size)
