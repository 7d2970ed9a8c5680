"""The example of docs/masking.md runs as it is written."""

from __future__ import annotations

from pathlib import Path

import torch

from dmlm.masking import MaskContext

PAGE = Path(__file__).parents[2] / "docs" / "masking.md"


def test_the_strategy_of_the_page_prefers_the_border() -> None:
    code = PAGE.read_text(encoding="utf-8").split("```python\n")[1].split("```")[0]
    names: dict = {"__name__": "border"}
    exec(compile(code, str(PAGE), "exec"), names)
    masker = names["BorderMask"](ratio=0.3)
    context = MaskContext(torch.zeros(64, 1, 80, 80, dtype=torch.uint8), (10, 10))
    mask = masker(context, torch.Generator().manual_seed(0)).reshape(64, 10, 10)
    assert (mask.sum((1, 2)) == 30).all()
    inner = mask[:, 1:-1, 1:-1].sum() / mask.sum()
    assert inner < 0.3, "64 of 100 patches are inside; at random 64 % of the hidden ones would be"
