"""`dmlm reproduce`: run or resume what a table needs, and write the table beside the paper's numbers."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

from dmlm.commands.arguments import Arguments
from dmlm.errors import ConfigError, DMLMError
from dmlm.io.atomic import write_text
from dmlm.reproduce.catalog import PLANS, make_plan
from dmlm.reproduce.plan import Plan
from dmlm.reproduce.scale import Budget, Scale

_SEEDS = {"smoke": 1, "trial": 3, "paper": 5}


def run(argv: Sequence[str]) -> int:
    """Run ``dmlm reproduce`` with the arguments after ``reproduce``.

    Returns:
        Exit status: 0 if every run is done, 1 if some are missing or failed (the tables say why).

    Raises:
        DMLMError: If what was asked for cannot be done.
        SystemExit: After ``--help``.
    """
    options = _parser().parse_args(list(argv))
    seeds = _SEEDS[options.budget] if options.seeds is None else options.seeds
    if options.jobs < 1:
        msg = f"--jobs must be at least 1, got {options.jobs}"
        raise ConfigError(msg)
    if options.data is not None and not options.data.is_dir():
        msg = f"--data {options.data}: no such folder; give the one that holds one folder per data set"
        raise ConfigError(msg)
    scale = Scale(options.budget, options.data, tuple(range(seeds)))
    plan = make_plan(options.what, scale)
    out = (options.out or Path("reproduce") / options.budget).resolve()
    if options.list:
        return _list(plan, out)
    if options.slurm is not None:
        return _write_slurm(plan, options, out, seeds)
    if options.task is not None:
        return _one(plan, options.task, out)
    if options.gather:
        from dmlm.reproduce.runs import check_plan_of

        for item in plan.runs:  # the tables of one plan must not take the place of another's
            check_plan_of(item, out)
    else:
        from dmlm.reproduce.runner import run_plan

        run_plan(plan, out, options.jobs, options.quiet)
    return _write(plan, out)


def _parser() -> Arguments:
    parser = Arguments(
        prog="dmlm reproduce",
        description="Run or resume everything that a table needs, and write it beside the paper's numbers.",
    )
    parser.add_argument("what", nargs="+", metavar="TABLE", help=f"{', '.join(PLANS)}, all (1 to 5), or ablations")
    parser.add_argument("--data", type=Path, metavar="ROOT", help="folder of the data (docs/reproduce)")
    parser.add_argument(
        "--budget",
        choices=get_args(Budget),
        default="smoke",
        help="smoke: phantoms, minutes (default); trial: real data, short runs; paper: the paper's sizes",
    )
    parser.add_argument("--seeds", type=int, metavar="N", help="fine-tuning runs per cell (1, 3, 5 by budget)")
    parser.add_argument("--out", type=Path, metavar="DIR", help="folder of runs and tables (reproduce/BUDGET)")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="runs at a time (1)")
    parser.add_argument("--slurm", type=Path, metavar="FILE", help="write a script of SLURM arrays and run nothing")
    parser.add_argument("--task", type=int, metavar="I", help="do run I only (see --list)")
    parser.add_argument("--gather", action="store_true", help="run nothing; write the tables of what is there")
    parser.add_argument("--list", action="store_true", help="list the runs and their states")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    return parser


def _list(plan: Plan, out: Path) -> int:
    from dmlm.reproduce.runs import folder_of, read_status

    for number, item in enumerate(plan.runs):
        status = read_status(folder_of(out, item.name))
        missing = "" if status.state == "done" else item.missing
        why = f" ({missing or status.reason})" if missing or status.reason else ""
        print(f"{number:4d}  {item.name:40s} {'missing' if missing else status.state}{why}")
    return 0


def _write_slurm(plan: Plan, options: argparse.Namespace, out: Path, seeds: int) -> int:
    from dmlm.reproduce.slurm import slurm_script

    command = [sys.executable, "-m", "dmlm", "reproduce", *options.what, "--budget", options.budget]
    command += ["--seeds", str(seeds), "--out", str(out)]
    if options.data is not None:
        command += ["--data", str(options.data.resolve())]
    write_text(options.slurm, slurm_script(plan, command, options.slurm.name))
    print(f"wrote {options.slurm}: {len(plan.runs)} runs; submit with: bash {options.slurm}")
    return 0


def _one(plan: Plan, number: int, out: Path) -> int:
    from dmlm.reproduce.runs import blocked_by, perform, write_plan_of

    if not 0 <= number < len(plan.runs):
        msg = f"--task {number}: the plan has the runs 0 to {len(plan.runs) - 1}; see --list"
        raise ConfigError(msg)
    chosen = plan.runs[number]
    write_plan_of(chosen, out)
    reason = blocked_by(chosen, out)
    if reason:
        msg = f"run '{chosen.name}' cannot start: {reason}"
        raise ConfigError(msg)
    status = perform(chosen, out)
    if status.state != "done":
        msg = f"run '{chosen.name}' failed: {status.reason}"
        raise DMLMError(msg)
    return 0


def _write(plan: Plan, out: Path) -> int:
    from dmlm.reproduce.differences import differences
    from dmlm.reproduce.paired import compare
    from dmlm.reproduce.results import gather
    from dmlm.reproduce.runs import folder_of, read_status
    from dmlm.reproduce.write import to_markdown, write_table

    for table in plan.tables:
        results = gather(table, out)
        found = (compare(table, out), differences(table, out))
        write_table(table, results, out, *found)
        print(to_markdown(table, results, *found), end="\n\n")
    states = [read_status(folder_of(out, item.name)).state for item in plan.runs]
    open_runs = len(states) - states.count("done")
    print(f"{states.count('done')} of {len(states)} runs done; tables in {out}")
    if open_runs:
        print(f"{open_runs} not done: see --list; the same command tries them again", file=sys.stderr)
    return 1 if open_runs else 0
