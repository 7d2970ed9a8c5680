"""All benchmarks: ``python -m benchmarks --json FILE [--markdown FILE] [--figures DIR] [--only NAME ...]``.

Each section runs in a process of its own, so that memory and threads of one do not reach the next. Ratios are measured
within one process, their sides in turn; compare those between machines, not the absolute figures.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

from dmlm.io.atomic import write_json, write_text

SECTIONS = {
    "step": "A step of ViT-B/16 and BERT-base against the naive step of the same model",
    "curves": "Losses of both steps over a training of a small model",
    "levers": "Each way of doing less work alone",
    "memory": "Memory of activations",
    "loader": "Loading",
    "finetuning": "Fine-tuning: share of model compute, memory of a large test",
    "decode": "Decoding",
    "masking_speed": "Drawing masks",
    "startup": "Starting",
    "scaling": "Processes, tokens, images, batch",
    "reports_speed": "Structured reports by rules",
}
"""Modules with a function ``measure() -> dict[str, float]``, and the titles of their tables."""


def main() -> int:
    """Run the sections and write what was asked for; returns 1 if a section failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, metavar="FILE", help="all figures with flat keys")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="the same as tables")
    parser.add_argument("--figures", type=Path, metavar="DIR", help="draw the two steps' losses into this folder")
    parser.add_argument("--only", nargs="+", choices=SECTIONS, default=list(SECTIONS), metavar="NAME", help="sections")
    parser.add_argument("--update", action="store_true", help="keep the figures of other sections that --json has")
    options = parser.parse_args()
    figures: dict[str, float] = {}
    if options.update and options.json is not None and options.json.exists():
        figures = json.loads(options.json.read_text(encoding="utf-8"))
    failed = []
    for name in options.only:
        start = time.perf_counter()
        found = run(name, options.figures)
        if found is None:
            failed.append(name)
            continue
        figures |= found | {f"seconds_{name}": time.perf_counter() - start}
        print(f"{name}: {time.perf_counter() - start:.0f} s", flush=True)
        if options.json is not None:  # after every section: what was measured survives an interrupt
            write_json(options.json, figures)
    if options.markdown is not None:
        write_text(options.markdown, markdown(figures))
    if options.json is None and options.markdown is None:
        print(json.dumps(figures, indent=2))
    for name in failed:
        print(f"section {name} failed", file=sys.stderr)
    return 1 if failed else 0


def run(name: str, folder: Path | None) -> dict[str, float] | None:
    """Measure one section in a process of its own; None if it failed."""
    draws = folder is not None and name == "curves"
    arguments = f"figure=__import__('pathlib').Path({str(Path(folder or '') / f'{name}.png')!r})" if draws else ""
    code = f"import json\nfrom benchmarks.{name} import measure\nprint('\\n' + json.dumps(measure({arguments})))"
    done = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        return None
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def markdown(figures: dict[str, float]) -> str:
    """Figures as one table a section."""
    parts = ["# Tables of the benchmarks\n\nWritten by `python -m benchmarks --markdown FILE`; do not edit.\n"]
    left = dict(figures)
    for name, title in SECTIONS.items():
        start = {"levers": "lever", "masking_speed": "masking", "reports_speed": "reports"}.get(name, name)
        keys = [key for key in left if key.startswith(f"{start}_") or (name == "step" and key == "gemm_share")]
        if not keys:
            continue
        rows = "".join(f"| `{key}` | {number(left.pop(key))} |\n" for key in keys)
        seconds = figures.get(f"seconds_{name}")
        parts.append(f"## {title}\n\n| figure | value |\n| --- | --- |\n{rows}")
        if seconds is not None:
            parts.append(f"Measured in {seconds:.0f} s.\n")
    return "\n".join(parts)


def number(value: float) -> str:
    """Three digits that count, without an exponent where it can be read."""
    if value == 0 or 1e-3 <= abs(value) < 1e6:
        digits = max(0, 2 - len(str(int(abs(value)))) + 1) if abs(value) >= 1 else 3
        return f"{value:.{digits}f}"
    return f"{value:.2e}"


if __name__ == "__main__":
    sys.exit(main())
