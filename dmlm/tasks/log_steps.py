"""Which steps of a training are logged: those whose values Lightning hands to the loggers."""

from __future__ import annotations

from lightning.pytorch import Trainer

_WITHOUT_LOGGING = 50


class LogSteps:
    """Tells the steps whose values are worth computing, each of them once.

    Lightning writes what was logged last at the end of every ``log_every_n_steps``-th step, and forgets it at the end
    of an epoch. A value that is logged in any other step is written late, under another step's number, or never.
    """

    def __init__(self) -> None:
        self._last = -1

    def start(self) -> None:
        """Start a training."""
        self._last = -1

    def is_due(self, trainer: Trainer) -> bool:
        """Whether this batch is the first of a step that Lightning writes.

        The batches of an accumulated step count once: what is watched over steps would otherwise see one step several
        times. Without logging (``log_every_n_steps: 0``) every 50th step is due, for those who watch.
        """
        step = trainer.global_step  # stands still while gradients accumulate
        every = trainer.log_every_n_steps or _WITHOUT_LOGGING  # type: ignore[attr-defined] # Lightning sets it
        if (step + 1) % every or step == self._last:
            return False
        self._last = step
        return True
