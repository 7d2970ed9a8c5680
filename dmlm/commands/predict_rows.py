"""Rows of ``dmlm predict``: the same records as CSV and as JSON, written as they come, complete or not at all."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any

import numpy as np
from typing_extensions import Self

from dmlm.io.atomic import atomic_path, naming

if TYPE_CHECKING:
    from dmlm.tasks.inference import LabelAnswers, LabelPredictor, MaskPredictor

COLUMNS = (
    "image",
    "finding",
    "probability",
    "uncertainty",
    "mc_std",
    "image_variance",
    "threshold",
    "threshold_rule",
    "positive",
    "area",
)
"""``uncertainty`` is the entropy of the answer in nats (of a mask: mean over its pixels); ``threshold`` is on the
probability; ``area`` is the share of the image that a mask covers."""

Row = dict[str, Any]


class _Discarded(Exception):  # noqa: N818 - never leaves this module
    """Ends the files without keeping them."""


class RowFile:
    """``predictions.csv`` and ``predictions.json`` in a folder; use as a context manager.

    Args:
        out: The folder.
    """

    def __init__(self, out: Path) -> None:
        self.out = out
        self._count, self._keep = 0, True

    def __enter__(self) -> Self:
        """Open both under temporary names."""
        self._stack = ExitStack()
        # each is closed before the next one, so that an error while closing names its own file
        table = self._stack.enter_context(self._opened("csv"))
        self._json = self._stack.enter_context(self._opened("json"))
        self._csv = csv.DictWriter(table, COLUMNS)
        self._csv.writeheader()
        self._json.write("[")
        return self

    def write(self, rows: list[Row]) -> None:
        """Add rows; numbers that do not exist are empty in CSV and null in JSON."""
        for row in rows:
            known = {key: None if isinstance(item, float) and math.isnan(item) else item for key, item in row.items()}
            cells = {key: f"{item:.6g}" if isinstance(item, float) else item for key, item in known.items()}
            with naming(self.out / "predictions.csv"):
                self._csv.writerow(cells)
            self._json.write(("," if self._count else "") + "\n  " + json.dumps(known))
            self._count += 1

    @contextmanager
    def _opened(self, kind: str) -> Iterator[IO[str]]:
        with (
            atomic_path(self.out / f"predictions.{kind}") as path,
            path.open("w", newline="" if kind == "csv" else None, encoding="utf-8") as file,
        ):
            yield file

    def discard(self) -> None:
        """Leave no files behind: nothing was predicted."""
        self._keep = False

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give the files their names, or remove them after an error."""
        if kind is None and self._keep:
            self._json.write("\n]\n")
            self._stack.close()
            return
        end = error if error is not None else _Discarded()
        try:
            self._stack.__exit__(type(end), end, trace)
        except _Discarded:
            return


def label_rows(names: list[str], predictor: LabelPredictor, answers: LabelAnswers) -> list[Row]:
    """One row per image and finding (or class)."""
    rows = []
    for i, image in enumerate(names):
        winner = int(np.argmax(answers.probability[i]))
        for c, finding in enumerate(predictor.names):
            chance, limit = float(answers.probability[i, c]), float(predictor.threshold[c])
            rows.append(
                {
                    "image": image,
                    "finding": finding,
                    "probability": chance,
                    "uncertainty": float(answers.entropy[i, c]),
                    "mc_std": float(answers.mc_std[i, c]),
                    "image_variance": float(answers.variance[i]),
                    "threshold": limit,
                    "threshold_rule": predictor.rules[c],
                    "positive": int(c == winner) if predictor.exclusive else int(chance >= limit),
                    "area": math.nan,
                }
            )
    return rows


def mask_rows(names: list[str], predictor: MaskPredictor, found: dict[str, Any]) -> list[Row]:
    """One row per image and mask; the probability is that of its most probable pixel."""
    rows = []
    for i, image in enumerate(names):
        for m, finding in enumerate(predictor.names):
            prob = found["prob"][i, m]
            area = float((prob >= predictor.threshold).mean())
            rows.append(
                {
                    "image": image,
                    "finding": finding,
                    "probability": float(prob.max()),
                    "uncertainty": float(found["entropy"][i, m].mean()),
                    "mc_std": float(found["mc_std"][i, m].mean()) if "mc_std" in found else math.nan,
                    "image_variance": math.nan,
                    "threshold": float(predictor.threshold),
                    "threshold_rule": "fixed",
                    "positive": int(area > 0),
                    "area": area,
                }
            )
    return rows
