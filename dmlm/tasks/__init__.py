"""Tasks as Lightning modules."""

from dmlm.tasks.base import TaskModule
from dmlm.tasks.classification import ClassificationModule
from dmlm.tasks.finetune import load_finetuned
from dmlm.tasks.frozen_evaluation import FrozenEvaluation
from dmlm.tasks.grading import EdemaGradingModule
from dmlm.tasks.optim import OptimConfig
from dmlm.tasks.pretrain import DMLMPretrainModule
from dmlm.tasks.pretrain_images import ImagePretrainModule
from dmlm.tasks.segmentation import SegmentationModule
from dmlm.tasks.uncertainty import UncertaintyModule
from dmlm.tasks.zero_shot import ZeroShotModule
from dmlm.tasks.zero_shot_evaluation import ZeroShotConfig

__all__ = [
    "ClassificationModule",
    "DMLMPretrainModule",
    "EdemaGradingModule",
    "FrozenEvaluation",
    "ImagePretrainModule",
    "OptimConfig",
    "SegmentationModule",
    "TaskModule",
    "UncertaintyModule",
    "ZeroShotConfig",
    "ZeroShotModule",
    "load_finetuned",
]
