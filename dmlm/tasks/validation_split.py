"""The validation split in the middle of a test, for thresholds that the test set did not choose."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch

from dmlm.errors import DMLMError
from dmlm.tasks.base import TaskModule

_Found = TypeVar("_Found")


def over_validation(task: TaskModule, evaluate: Callable[[dict[str, Any]], _Found]) -> list[_Found] | None:
    """Go through the validation split outside Lightning's loops, without gradients and in the run's precision.

    Args:
        task: A task whose trainer is testing.
        evaluate: Called with every batch of this process, on the task's device.

    Returns:
        What was returned for each batch; None if the data have no validation split.
    """
    datamodule = getattr(task.trainer, "datamodule", None)
    if datamodule is None:
        return None
    try:
        datamodule.setup("validate")  # `dmlm test` opens the test split only
    except DMLMError:  # there is none
        return None
    if not getattr(datamodule, "val_dataset", None):  # none, or an empty one
        return None
    batches = datamodule.val_dataloader()
    with torch.no_grad(), task.trainer.precision_plugin.forward_context():
        return [evaluate(task.trainer.strategy.batch_to_device(batch, task.device)) for batch in batches]
