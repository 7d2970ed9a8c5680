"""A quiet console: what is known noise of Lightning is left out, each with its reason."""

from __future__ import annotations

import logging
import warnings

_LOG_NOISE = (
    "Tip: For seamless cloud",  # advertisements for litlogger and litmodels
    "TPU available:",  # of no use to anyone with a GPU or a CPU
    "Loading `train_dataloader` to estimate number of stepping batches",  # every schedule by steps does
)

_WARNING_NOISE = (
    # Lightning 2.6 under torch 2.14; nothing that a user could change
    r".*isinstance\(treespec, LeafSpec\).* is deprecated.*",
    # few batches per epoch are normal for small data sets, and epoch averages are logged anyway
    r".*The number of training batches .* is smaller than the logging interval.*",
    # data modules choose `num_workers` themselves and document it
    r".*does not have many workers which may be a bottleneck.*",
    # resuming writes beside the checkpoints that are there, which is what was asked for
    r".*Checkpoint directory .* exists and is not empty.*",
    # samples that fill up the last batch of several processes are told apart by their index and count once
    r".*During `trainer\..*`, it is recommended to use `Trainer\(devices=1.*",
    # a run that is evaluated or resumed has a new folder; CarryBest brings along what it kept
    r".*The dirpath has changed from .*",
    # evaluation needs none of the callbacks that a training had
    r".*callbacks used to create the checkpoint need to be provided during `Trainer` instantiation.*",
    # teachers and frozen normalisation stay in eval mode by intent; task modules put everything else into train mode
    r".*module\(s\) in eval mode at the start of training.*",
    # the package comes with tensorboard; only its absence would matter, and that is said elsewhere
    r".*Starting from v1.9.0, `tensorboardX` has been removed.*",
)


def quiet() -> None:
    """Leave out known noise; calling it again changes nothing."""
    for name in ("lightning.pytorch.utilities.rank_zero", "lightning.fabric.utilities.rank_zero"):
        logger = logging.getLogger(name)
        if not any(isinstance(item, _Noise) for item in logger.filters):
            logger.addFilter(_Noise())
    for message in _WARNING_NOISE:
        warnings.filterwarnings("ignore", message=message)


class _Noise(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        return not any(noise in record.getMessage() for noise in _LOG_NOISE)
