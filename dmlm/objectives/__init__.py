"""What pre-training minimises, and what watches it: plain modules and functions, no Lightning."""

from dmlm.objectives.alignment import AlignmentLoss
from dmlm.objectives.batch import Statements, Views
from dmlm.objectives.config import ObjectiveConfig
from dmlm.objectives.image_only import ImageObjective, ImageObjectiveConfig
from dmlm.objectives.masked_prediction import MaskedPredictionLoss
from dmlm.objectives.monitors import CollapseMonitor
from dmlm.objectives.positives import PairRelations, pair_relations
from dmlm.objectives.pretraining import PretrainingObjective
from dmlm.objectives.reconstruction import ReconstructionAnchor
from dmlm.objectives.teacher import Teacher

__all__ = [
    "AlignmentLoss",
    "CollapseMonitor",
    "ImageObjective",
    "ImageObjectiveConfig",
    "MaskedPredictionLoss",
    "ObjectiveConfig",
    "PairRelations",
    "PretrainingObjective",
    "ReconstructionAnchor",
    "Statements",
    "Teacher",
    "Views",
    "pair_relations",
]
