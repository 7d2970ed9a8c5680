"""Write ``ablations.md`` beside this file from the tables of ``dmlm reproduce``.

Run from the repository: ``python docs/results/ablation_tables.py OUT``, with the folder that ``dmlm reproduce ablations
--budget trial --seeds 3 --out OUT`` wrote; with ``--phantoms`` the folder of ``--budget smoke --seeds 1``, for
``ablations_phantoms.md``. Rows that were not run are named below their table.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
TABLES = (
    "objectives",
    "equal-compute",
    "twin",
    "kl-direction",
    "lambda",
    "table6",
    "table7",
    "atlas",
    "atlas-long",
    "positives",
    "targets",
    "alignment",
    "conditioning",
    "align-view",
    "layout",
    "section-dropout",
    "local-weight",
    "anchor",
    "heads",
)
COLUMNS = {
    "Zero-shot AUC": "zero-shot",
    "Probe AUC": "probe",
    "Probe AUC, 1 % labels": "probe, 1 %",
    "Variance rho": "rho",
    "Mask AUC": "mask AUC",
    "Patch probe Dice": "patch Dice",
    "ECE": "ECE",
    "CPU seconds": "CPU s",
}
DIGITS = {"Variance rho": 2, "CPU seconds": 0}
COMPARED = ("Zero-shot AUC", "Probe AUC", "Mask AUC")
HEADER = """# Ablations on real radiographs

Written by `docs/results/ablation_tables.py`; do not edit. Every row is one pre-training of 100 steps of 32 for each of
three seeds (`dmlm reproduce ablations --budget trial --seeds 3`; [data and sizes](../decisions.md#how-it-is-measured),
[columns](../reproduce.md#ablations)), mean ± deviation over the seeds, x 100 but rho; six seeds
where a row says so. What follows from them:
[decisions](../decisions.md).

Below each table, the difference to its default on the same resampled patients with its 95 % interval; last, in how many
seeds the sign is this one.
"""

PHANTOMS = """# Ablations on phantoms

Written by `docs/results/ablation_tables.py --phantoms`; do not edit. Every row is one pre-training of tiny encoders
from scratch on synthetic films, four epochs, one seed (`dmlm reproduce ablations --budget smoke --seeds 1`;
[columns](../reproduce.md#ablations)), x 100 but rho; zero-shot AUC with its 95 % interval over patients. One seed of so
small a model shows what collapses and little else: the interval leaves out the spread over seeds. Real radiographs,
three seeds: [ablations](ablations.md).

Below each table, the difference to its default on the same resampled patients with its 95 % interval.
"""

Cells = dict[tuple[str, str], dict[str, Any]]


def main() -> None:
    """Gather and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--phantoms", action="store_true", help="the folder is one of --budget smoke")
    options = parser.parse_args()
    budget, header, file = ("smoke", PHANTOMS, "ablations_phantoms.md")
    if not options.phantoms:
        budget, header, file = ("trial", HEADER, "ablations.md")
    parts = [header, *(part for name in TABLES if (part := section(options.out, name, budget)))]
    (HERE / file).write_text("\n".join(parts), encoding="utf-8")


def section(folder: Path, name: str, budget: str) -> str:
    """One ablation as Markdown; empty if nothing but its default was run."""
    cells: Cells = {}
    differences: Cells = {}
    title = ""
    if not (folder / f"{name}.json").exists():
        return ""
    for table in (f"{name}-more", name):
        found = json.loads((folder / f"{table}.json").read_text(encoding="utf-8"))
        title = found["title"]
        cells |= {(cell["row"], cell["column"]): cell for cell in found["cells"] if cell["source"] == "ours"}
        differences |= {(cell["row"], cell["column"]): cell for cell in found["differences"]}
    rows = list(dict.fromkeys(row for row, _ in cells))
    done = [row for row in rows if cells[row, "Zero-shot AUC"]["value"] is not None]
    if len(done) < 2:
        return ""
    lines = [f"## {title}\n", f"`dmlm reproduce {name} --budget {budget}`\n"]
    lines += _table(COLUMNS.values(), [[_named(row, cells), *_values(row, cells)] for row in done])
    compared = [row for row in done if (row, COMPARED[0]) in differences]
    shown = [[row, *(_difference(differences.get((row, column))) for column in COMPARED)] for row in compared]
    lines += ["", *_table((COLUMNS[column] for column in COMPARED), shown)]
    if left := [row for row in rows if row not in done]:
        lines.append(f"\nNot run: {'; '.join(left)}.")
    return "\n".join([*lines, ""])


def _table(columns: Any, rows: list[list[str]]) -> list[str]:  # noqa: ANN401 - any iterable of names
    head = ["", *columns]
    return [_line(head), _line([":--", *["--:"] * (len(head) - 1)]), *(_line(row) for row in rows)]


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _named(row: str, cells: Cells) -> str:
    seeds = cells[row, "Zero-shot AUC"]["seeds"]
    return row if seeds == 3 or cells[row, "95 % low"]["std"] is None else f"{row} ({seeds} seed{'s' * (seeds > 1)})"


def _values(row: str, cells: Cells) -> list[str]:
    values = [_value(cells.get((row, column)), DIGITS.get(column, 1)) for column in COLUMNS]
    low, high = (cells.get((row, f"95 % {end}")) for end in ("low", "high"))
    if low and high and low["value"] is not None and low["std"] is None:  # one seed: its own interval
        values[0] += f" [{low['value']:.1f}, {high['value']:.1f}]"
    return values


def _value(cell: dict[str, Any] | None, digits: int) -> str:
    if cell is None or cell["value"] is None:
        return ""
    return f"{cell['value']:.{digits}f}" + ("" if cell["std"] is None else f" ± {cell['std']:.{digits}f}")


def _difference(cell: dict[str, Any] | None) -> str:
    if cell is None or cell.get("value") is None:
        return ""
    agreeing = f", {cell['agreeing']}/{cell['seeds']}" if cell["seeds"] > 1 else ""
    return f"{cell['value']:+.1f} [{cell['low']:+.1f}, {cell['high']:+.1f}]{agreeing}"


if __name__ == "__main__":
    main()
