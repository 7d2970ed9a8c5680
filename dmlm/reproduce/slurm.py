"""One shell script that submits a plan as SLURM job arrays, a stage after the other, and the tables at the end."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from dmlm.errors import ConfigError
from dmlm.reproduce.plan import Plan

_SCRIPT = """\
#!/bin/bash
# Run `bash {name}` on a login node: it submits the arrays, each after what it needs, and the tables at the end.
# Edit the three lines of options for your cluster; everything is resumable, so submit again after a time-out.
#SBATCH --job-name=dmlm
#SBATCH --gres=gpu:1 --cpus-per-task=8 --mem=48G
#SBATCH --time=24:00:00
set -euo pipefail
if [ -n "${{SLURM_ARRAY_TASK_ID:-}}" ]; then
  exec {command} --task "$SLURM_ARRAY_TASK_ID"
fi
if [ -n "${{SLURM_JOB_ID:-}}" ]; then
  exec {command} --gather
fi
{submissions}
"""


def slurm_script(plan: Plan, command: Sequence[str], name: str) -> str:
    """Text of the script.

    Args:
        plan: What to run; task I is run I of the plan.
        command: The ``dmlm reproduce`` command without ``--slurm``.
        name: File name of the script.

    Raises:
        ConfigError: If no run of the plan can be done.
    """
    number = {run.name: index for index, run in enumerate(plan.runs)}
    lines: list[str] = []
    for stage, runs in enumerate(plan.stages()):
        tasks = [number[run.name] for run in runs if not run.missing]
        if not tasks:
            continue
        # afterany: a failed run must not hold back others; a task whose needs failed says so and ends
        after = '--dependency=afterany:"$previous" ' if lines else ""
        lines.append(f'previous=$(sbatch --parsable {after}--array={_ranges(tasks)} "$0")  # stage {stage}')
    if not lines:
        reasons = "; ".join(dict.fromkeys(run.missing for run in plan.runs))[:300] or "the plan has no runs"
        msg = f"--slurm {name}: nothing to submit ({reasons}); give --data a folder that holds the data sets"
        raise ConfigError(msg)
    lines.append('sbatch --dependency=afterany:"$previous" "$0"  # the tables')
    return _SCRIPT.format(
        name=name, command=" ".join(shlex.quote(word) for word in command), submissions="\n".join(lines)
    )


def _ranges(numbers: Sequence[int]) -> str:
    """``[0, 1, 2, 5]`` as ``0-2,5``."""
    parts: list[list[int]] = []
    for value in sorted(numbers):
        if parts and value == parts[-1][-1] + 1:
            parts[-1].append(value)
        else:
            parts.append([value])
    return ",".join(str(part[0]) if len(part) == 1 else f"{part[0]}-{part[-1]}" for part in parts)
