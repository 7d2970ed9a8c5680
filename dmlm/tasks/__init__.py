"""Tasks as Lightning modules."""

from dmlm.tasks.base import TaskModule
from dmlm.tasks.optim import OptimConfig
from dmlm.tasks.pretrain import DMLMPretrainModule
from dmlm.tasks.zero_shot import ZeroShotModule
from dmlm.tasks.zero_shot_evaluation import ZeroShotConfig

__all__ = ["DMLMPretrainModule", "OptimConfig", "TaskModule", "ZeroShotConfig", "ZeroShotModule"]
