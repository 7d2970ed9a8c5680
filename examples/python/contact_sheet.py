"""Draw the first studies of a data set as they reach the model: image, view, labels and the start of the text.

python examples/python/contact_sheet.py mimic ROOT sheet.png
"""

from __future__ import annotations

import argparse
import textwrap
from pathlib import Path

import numpy as np

from dmlm.datasets.catalog import open_table
from dmlm.datasets.table_dataset import TableDataset
from dmlm.plots.overlays import gallery


def main() -> None:
    parser = argparse.ArgumentParser(description="Contact sheet of a data set.", allow_abbrev=False)
    parser.add_argument("name", help="short name, or auto")
    parser.add_argument("root", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--count", type=int, default=12)
    parser.add_argument("--image-size", type=int, default=160)
    options = parser.parse_args()
    table = open_table(options.name, options.root)
    # spread over the rows, so that every part of the data set is seen
    rows = np.unique(np.linspace(0, len(table) - 1, min(options.count, len(table))).round().astype(np.int64))
    data = TableDataset(table.take(rows), options.image_size, with_masks=table.masks is not None)
    samples = [data[place] for place in range(len(rows))]
    captions = []
    for row, sample in zip(rows.tolist(), samples, strict=True):
        present = [name for name, value in zip(table.label_names, sample["labels"].tolist(), strict=True) if value == 1]
        split = "" if table.splits is None else f", {table.splits[row]}"
        text = textwrap.shorten(sample["text"], 110, placeholder=" ...")
        captions.append(
            f"{sample['study_id']}, {sample['view'] or 'view not said'}{split}\n{', '.join(present)}\n{text}"
        )
    masks = [
        dict(zip(table.mask_names, sample["masks"].numpy().astype(bool), strict=True)) if "masks" in sample else {}
        for sample in samples
    ]
    gallery([sample["image"][0].numpy() for sample in samples], masks, captions, options.out)
    print(f"wrote {options.out}: {len(rows)} of {len(table):,} images")


if __name__ == "__main__":
    main()
