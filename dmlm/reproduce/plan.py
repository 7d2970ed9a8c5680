"""What is to be run and which numbers go where, as plain data: nothing here runs anything."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from dmlm.errors import ConfigError

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*")


@dataclass(frozen=True)
class Run:
    """One ``dmlm fit`` or ``dmlm test``.

    Args:
        name: Name of its folder; letters, digits, ``.``, ``_``, ``+`` and ``-``.
        config: Its configuration, as in a YAML file. ``{best:NAME}`` inside a string becomes the path of the best
            checkpoint of the run NAME, ``{folder}`` that of the run's own folder.
        needs: Names of runs that must be finished before.
        verb: ``fit`` (tests its best weights at the end) or ``test``.
        missing: Why the run cannot be done, such as a data set that is not there; ``""`` where it can.
    """

    name: str
    config: dict[str, Any]
    needs: tuple[str, ...] = ()
    verb: Literal["fit", "test"] = "fit"
    missing: str = ""

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            msg = f"run name '{self.name}' must be letters, digits, '.', '_', '+' and '-': it becomes a folder"
            raise ConfigError(msg)


@dataclass(frozen=True)
class Cell:
    """One number of a table.

    Args:
        row: Row, one of the table's.
        column: Column, one of the table's.
        metric: Key in the runs' ``metrics.json``.
        runs: Names of its runs, one per seed; their mean and standard deviation are shown. Empty where there is
            nothing to run.
        note: Why there is nothing to run.
        scale: Factor of what is shown where it is not the table's; such a cell is not drawn beside the others.
    """

    row: str
    column: str
    metric: str
    runs: tuple[str, ...] = ()
    note: str = ""
    scale: float | None = None


@dataclass(frozen=True)
class Table:
    """A table of results.

    Args:
        key: Short name, such as ``table1``.
        title: What it shows, and under which protocol.
        rows: Rows of ours.
        columns: Columns.
        cells: What stands where.
        published: Value of the paper (or of others) by row of theirs and column; in the unit of ``scale`` times ours.
        scale: Factor of what is shown, 100 for per cent.
        notes: Sentences beneath.
        compare: Two rows whose difference (the first minus the second) is shown per column with a 95 % interval over
            patients; see :mod:`dmlm.reproduce.paired`.
        reference: Row that every other row is compared with; see :mod:`dmlm.reproduce.differences`.
        referred: In which columns.
    """

    key: str
    title: str
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    cells: tuple[Cell, ...]
    published: dict[str, dict[str, float]] = field(default_factory=dict)
    scale: float = 100.0
    notes: tuple[str, ...] = ()
    compare: tuple[str, str] | None = None
    reference: str = ""
    referred: tuple[str, ...] = ()


@dataclass(frozen=True)
class Plan:
    """Runs, each after what it needs, and the tables made of them."""

    runs: tuple[Run, ...]
    tables: tuple[Table, ...]

    def __post_init__(self) -> None:
        known: set[str] = set()
        for run in self.runs:
            late = [name for name in run.needs if name not in known]
            if late or run.name in known:
                msg = f"plan: run '{run.name}' " + (
                    f"comes before {late[0]}, which it needs" if late else "comes twice"
                )
                raise ConfigError(msg)
            known.add(run.name)
        for table in self.tables:
            for cell in table.cells:
                lost = [name for name in cell.runs if name not in known]
                place = cell.row in table.rows and cell.column in table.columns
                if lost or not place:
                    what = f"names the run '{lost[0]}', which is not planned" if lost else "is in no row or column"
                    msg = f"plan: cell '{cell.row}', '{cell.column}' of {table.key} {what}"
                    raise ConfigError(msg)

    def stages(self) -> list[list[Run]]:
        """Runs by how many others must come before: all of a stage can run at the same time."""
        depth: dict[str, int] = {}
        for run in self.runs:
            depth[run.name] = 1 + max((depth[name] for name in run.needs), default=-1)
        return [[run for run in self.runs if depth[run.name] == level] for level in sorted(set(depth.values()))]


def join(plans: Iterable[Plan]) -> Plan:
    """Put plans together; runs that they share (pre-training) come once.

    Raises:
        ConfigError: If two plans have different runs of one name.
    """
    runs: dict[str, Run] = {}
    tables: list[Table] = []
    for plan in plans:
        for run in plan.runs:
            if runs.setdefault(run.name, run) != run:
                msg = f"plan: two different runs are named '{run.name}'"
                raise ConfigError(msg)
        tables += plan.tables
    return Plan(tuple(runs.values()), tuple(tables))


def seeded(name: str, seeds: Sequence[int]) -> tuple[str, ...]:
    """Names of the runs of one cell, one per seed."""
    return tuple(f"{name}-s{seed}" for seed in seeds)
