"""Use a pre-trained encoder of dmlm inside a LightningModule of your own.

    python examples/python/lightning_project.py --ckpt runs/phantom/version_0/checkpoints/best.ckpt

``dmlm.models`` is plain PyTorch: an encoder is a ``torch.nn.Module`` like any other. Here it is frozen, and a head of
our own reads the mean and the variance of the image's distribution. The data are phantoms; any loader of uint8
images ``(B, 1, H, W)`` and labels will do.
"""

from __future__ import annotations

import argparse
from typing import Any

import lightning as L
import torch
from torch import Tensor, nn

from dmlm.datamodules import PhantomDataModule
from dmlm.models import ProbabilisticEncoder, from_pretrained


class FindingHead(L.LightningModule):
    """Findings from a frozen encoder.

    Args:
        encoder: Where features come from.
        num_labels: Number of findings.
        lr: Learning rate of the head.
    """

    def __init__(self, encoder: ProbabilisticEncoder, num_labels: int, lr: float = 1e-2) -> None:
        super().__init__()
        # the encoder is no hyper-parameter: from_pretrained rebuilds it, and its weights are in the checkpoint anyway
        self.save_hyperparameters(ignore=["encoder"])
        self.lr = lr
        self.encoder = encoder.requires_grad_(False).eval()
        self.head = nn.Linear(2 * encoder.embed_dim, num_labels)

    def forward(self, images: Tensor) -> Tensor:
        """Logits ``(B, num_labels)`` of uint8 images ``(B, 1, H, W)``."""
        image = self.encoder.encode_image(images).at(0)  # a Gaussian over the whole image, (B, D)
        return self.head(torch.cat([image.mean, image.logvar], dim=1))

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:  # noqa: ARG002 - Lightning's signature
        """Binary cross-entropy of the labels that are known."""
        labels = batch["labels"]
        known = (labels == 0) | (labels == 1)
        loss = nn.functional.binary_cross_entropy_with_logits(self(batch["image"])[known], labels[known])
        self.log("loss", loss)
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Only the head learns."""
        return torch.optim.AdamW(self.head.parameters(), lr=self.lr)


def main(arguments: list[str] | None = None) -> FindingHead:
    """Train the head, save it, load it again."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ckpt", required=True, help="checkpoint of a dmlm run, or a folder of save_pretrained")
    parser.add_argument("--patients", type=int, default=200)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--out", default="finding_head.ckpt")
    options = parser.parse_args(arguments)
    encoder = from_pretrained(options.ckpt)
    data = PhantomDataModule(options.patients, 4, 4, image_size=encoder.image.image_size, batch_size=4, num_workers=0)
    data.setup("fit")
    module = FindingHead(encoder, data.num_classes)
    trainer = L.Trainer(max_epochs=options.epochs, logger=False, enable_checkpointing=False, accelerator="auto")
    trainer.fit(module, datamodule=data)
    trainer.save_checkpoint(options.out)
    # the class is yours, so you hand the encoder in; weights_only=True works, since a checkpoint holds plain data
    return FindingHead.load_from_checkpoint(options.out, encoder=from_pretrained(options.ckpt), weights_only=True)


if __name__ == "__main__":
    main()
