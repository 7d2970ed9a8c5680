"""`dmlm plan`: what a pre-training will take on given GPUs, from the shapes of its configuration."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dmlm.commands.arguments import Arguments
from dmlm.errors import ConfigError
from dmlm.planning.estimate import Estimate, Run, estimate
from dmlm.planning.hardware import GPUS, Cluster, parse_cluster
from dmlm.planning.memory import parameters
from dmlm.planning.shapes import Shapes, read_shapes

_TOKENS = 420
_PRECISIONS = ("16-mixed", "bf16-mixed", "32-true", "16-true", "bf16-true", "16", "bf16", "32")


def run(argv: Sequence[str]) -> int:
    """Run ``dmlm plan`` with the arguments after ``plan``.

    Returns:
        Exit status 0.

    Raises:
        DMLMError: If a configuration cannot be read or a number cannot be.
        SystemExit: After ``--help``.
    """
    options = _parser().parse_args(list(argv))
    for name in ("images", "epochs", "batch_size"):
        value = getattr(options, name)
        if value is not None and value < 1:
            msg = f"--{name.replace('_', '-')} must be at least 1, got {value}"
            raise ConfigError(msg)
    if not 1 <= options.tokens < math.inf:
        msg = f"--tokens must be a number of at least 1, got {options.tokens}"
        raise ConfigError(msg)
    shapes, said = read_shapes(options.config)
    cluster = parse_cluster(options.gpus)
    precision = str(said.get("precision", "16-mixed") if options.precision is None else options.precision)
    if precision not in _PRECISIONS:
        where = "trainer.precision" if options.precision is None else "--precision"
        msg = f"{where}: dmlm plan knows {', '.join(_PRECISIONS)}, got '{precision}'"
        raise ConfigError(msg)
    half = precision.startswith(("16", "bf16"))
    if precision.startswith("bf16") and not cluster.gpu.has_bf16:
        msg = f"{cluster.gpu.name} has no bf16: use --precision 16-mixed"
        raise ConfigError(msg)
    max_steps = _whole(said, "max_steps", -1)
    plan = Run(
        images=options.images,
        epochs=_whole(said, "epochs", -1 if max_steps > 0 else 100, options.epochs),
        batch=_whole(said, "batch", 32, options.batch_size),
        tokens=[min(options.tokens, shapes.max_length)],
        half=half,
        utilisation=options.utilisation,
        network=options.network_gbps * 1e9 / 8,
        loader_rate=options.loader_rate,
        loader_cores=options.loader_cores,
        accumulate=_whole(said, "accumulate", 1),
        max_steps=max_steps,
    )
    result = estimate(shapes, plan, cluster)
    figures = _figures(shapes, plan, cluster, result)
    print(json.dumps(figures, indent=2) if options.json else _text(shapes, plan, cluster, result, precision))
    return 0


def _whole(said: dict[str, Any], name: str, default: int, option: int | None = None) -> int:
    """Return the option where it is given, else what the configuration says, else the default."""
    try:
        return int(said.get(name, default) if option is None else option)
    except (TypeError, ValueError, OverflowError) as error:
        msg = f"--config: {name} must be a whole number, got '{str(said[name])[:40]}'"
        raise ConfigError(msg) from error


def _figures(shapes: Shapes, plan: Run, cluster: Cluster, result: Estimate) -> dict[str, Any]:
    """Flat keys, SI units."""
    flops = {f"flops_per_pair_{name}": value for name, value in result.flops._asdict().items()}
    memory = {f"memory_bytes_{name}": value for name, value in result.memory._asdict().items()}
    seconds = {f"step_seconds_{n}": getattr(result, n) for n in ("compute", "optimizer", "exchange", "loader")}
    return {
        "gpus": cluster.total,
        "gpu": cluster.gpu.name,
        "pairs_per_step": plan.batch * plan.accumulate * cluster.total,
        "parameters": sum(parameters(shapes).values()),
        **flops,
        "flops_per_pair": result.flops.total,
        "flops_per_step": result.flops.total * plan.batch * plan.accumulate * cluster.total,
        "steps": result.steps,
        **seconds,
        "step_seconds": result.step,
        "hours": result.hours,
        "hours_at_peak": result.hours * result.compute * plan.utilisation / result.step,
        "images_per_second": result.images_per_second,
        "bottleneck": result.bottleneck,
        **memory,
        "memory_bytes": result.memory.total,
        "memory_fits": result.fits,
        "largest_batch_size": result.largest_batch,
        "utilisation_assumed": plan.utilisation,
        "tokens_assumed": sum(plan.tokens) / len(plan.tokens),
    }


def _text(shapes: Shapes, plan: Run, cluster: Cluster, result: Estimate, precision: str) -> str:
    gpu, flops, memory = cluster.gpu, result.flops, result.memory
    pairs = plan.batch * plan.accumulate * cluster.total
    nodes = f" in {cluster.nodes} nodes" if cluster.nodes > 1 else ""
    batch = f"{plan.batch} per GPU" + (f", {plan.accumulate} accumulated" if plan.accumulate > 1 else "")
    run_length = f"{plan.epochs} epochs of {plan.images:,} images"
    if result.steps == plan.max_steps:
        run_length = "trainer.max_steps"
    pace = f"{result.steps:,} steps of {1e3 * result.step:.0f} ms, {result.images_per_second:.0f} images/s"
    advice = (
        ""
        if result.fits
        else ": DOES NOT FIT (lower data.batch_size, add examples/paper/less_memory.yaml, or set model.chunk_size: 8)"
    )
    fit = f"{advice}; at most {result.largest_batch:,} pairs per GPU fit"
    parts = {name: f"{1e-9 * value:.1f}" for name, value in memory._asdict().items()}
    kept = f"{parts.pop('activations')} ({memory.activations / plan.batch / 2**20:.0f} MiB a pair)"
    peak = 1e-12 * (gpu.half if plan.half else gpu.single)
    network = f", {8e-9 * plan.network:.0f} Gbit/s between nodes (--network-gbps)" if nodes else ""
    times = (
        ("matrix products", result.compute, f"{1e-12 * flops.total * pairs:.1f} TFLOP a step"),
        ("optimizer, EMA", result.optimizer, "memory bandwidth"),
        (
            "gradients",
            result.exchange,
            f"of {1e3 * result.exchange_all:.0f} ms; the rest hides behind the backward pass",
        ),
        ("loader", result.loader, "at the same time as all of that"),
    )
    return "\n".join(
        [
            f"{cluster.total} x {gpu.name}{nodes}, {precision}, {pairs} pairs a step ({batch})",
            "",
            f"time          {result.hours:.1f} h for {run_length}: {pace}",
            f"bottleneck    {result.bottleneck}",
            *(f"  {name:<16}{1e3 * seconds:9.1f} ms  {note}" for name, seconds, note in times),
            f"memory        {1e-9 * memory.total:.1f} GB of {1e-9 * gpu.memory:.0f} GB per GPU{fit}",
            f"  activations {kept}, " + ", ".join(f"{name} {value}" for name, value in parts.items()),
            f"GFLOP a pair  {1e-9 * flops.total:.0f}: "
            + ", ".join(f"{name} {1e-9 * value:.0f}" for name, value in flops._asdict().items()),
            "",
            "Assumed:",
            f"  - matrix products reach {plan.utilisation:.0%} of {peak:.0f} TFLOP/s (--utilisation; published "
            "trainings on V100: ViT 17-21 %, BERT 31-52 %)",
            f"  - texts of {sum(plan.tokens) / len(plan.tokens):.0f} tokens after bucketing (--tokens), "
            f"{shapes.image_mask:.0%} of the patches hidden, {shapes.text_mask:.0%} of the words",
            f"  - the loader gives {plan.loader_rate:.0f} images/s a core from a prepared store, {plan.loader_cores} "
            "cores per GPU (--loader-rate, --loader-cores)",
            f"  - links of {1e-9 * gpu.link:.0f} GB/s inside a node{network}",
            "  - activations as measured on the CPU with the same layers; validation and start-up are not counted",
            "Nothing of this was measured on these GPUs.",
        ]
    )


def _parser() -> Arguments:
    parser = Arguments(
        prog="dmlm plan",
        description="Estimate operations, hours, memory and bottleneck of a pre-training from the shapes of its "
        "configuration (without one: the paper's), the data sheets of the GPUs, and assumptions that are printed.",
    )
    parser.add_argument("--config", type=Path, action="append", default=[], metavar="FILE", help="as of dmlm fit")
    parser.add_argument(
        "--gpus", required=True, metavar="NxGPU", help=f"4xV100, or 2x8xA100 (two nodes); GPUs: {', '.join(GPUS)}"
    )
    parser.add_argument("--images", type=int, required=True, help="images of an epoch; MIMIC-CXR has 377110")
    parser.add_argument("--epochs", type=int, help="default: the configuration's, or 100")
    parser.add_argument("--batch-size", type=int, help="pairs per GPU; default: the configuration's, or 32")
    parser.add_argument(
        "--tokens", type=float, default=_TOKENS, help=f"tokens of a text, mean after bucketing; default {_TOKENS}"
    )
    parser.add_argument(
        "--precision", help="16-mixed, bf16-mixed or 32-true; default: the configuration's, or 16-mixed"
    )
    parser.add_argument("--utilisation", type=float, default=0.3, help="share of the peak that is reached; default 0.3")
    parser.add_argument("--loader-rate", type=float, default=2500.0, help="images a second and core; default 2500")
    parser.add_argument("--loader-cores", type=int, default=4, help="cores that load, per GPU; default 4")
    parser.add_argument("--network-gbps", type=float, default=100.0, help="between nodes, Gbit/s; default 100")
    parser.add_argument("--json", action="store_true", help="print figures with flat keys instead")
    return parser
