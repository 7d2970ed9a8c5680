"""All plans by the name that ``dmlm reproduce`` knows."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from dmlm.errors import ConfigError
from dmlm.reproduce import ablations, paper_tables, radiographs, uncertainty
from dmlm.reproduce.plan import Plan, join
from dmlm.reproduce.scale import Scale

PLANS: dict[str, Callable[[Scale], Plan]] = {
    "table1": paper_tables.table1,
    "table2": paper_tables.table2,
    "table3": paper_tables.table3,
    "table4": paper_tables.table4,
    "table5": paper_tables.table5,
    "radiographs": radiographs.radiographs,
    "uncertainty": uncertainty.uncertainty,
    **{key: partial(ablations.ablation, key) for key in ablations.tables()},
}
"""What can be reproduced."""

PAPER = ("table1", "table2", "table3", "table4", "table5")
"""What ``all`` means: the paper's tables."""


def make_plan(names: list[str], scale: Scale) -> Plan:
    """Plan of one or several tables.

    Args:
        names: Keys of :data:`PLANS`, ``all`` (:data:`PAPER`) or ``ablations`` (those that vary pre-training).
        scale: Size of the reproduction.

    Raises:
        ConfigError: If a name is unknown.
    """
    groups = {"all": list(PAPER), "ablations": list(ablations.tables())}
    wanted = [key for name in sorted(names, key=lambda name: name != "all") for key in groups.get(name, [name])]
    unknown = [name for name in wanted if name not in PLANS]
    if unknown:
        msg = f"nothing is called '{unknown[0]}'; dmlm reproduce knows {', '.join(PLANS)}, all and ablations"
        raise ConfigError(msg)
    return join(PLANS[name](scale) for name in dict.fromkeys(wanted))
