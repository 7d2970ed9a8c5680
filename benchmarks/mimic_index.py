"""How long `MIMICCXRDataModule` takes to open an index of the full size, and how much memory.

Writes tables of 377,110 images, 227,835 studies and 65,379 patients with made-up identifiers, the folders of the
patients, a few image files and an archive of short reports; opens them in a process of its own.

    python benchmarks/mimic_index.py FOLDER
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import numpy as np

from dmlm.datasets.mimic_cxr import OFFICIAL_SIZES, TOTALS
from dmlm.datasets.mimic_cxr_tables import LABEL_NAMES
from dmlm.datasets.synthesize.films import write_csv
from dmlm.datasets.synthesize.mimic import METADATA_HEADER

_PROBE = """
import json, resource, sys, time
start, used = time.perf_counter(), time.process_time()
from dmlm.datamodules import MIMICCXRDataModule
loaded, base = time.perf_counter(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
data = MIMICCXRDataModule(sys.argv[1], views=sys.argv[2], num_workers=0, empty_reports=sys.argv[3])
data.setup()
done = time.perf_counter()
data.train_dataset.table.text(0)
print(json.dumps({
    "rows": len(data.table), "import_s": round(loaded - start, 2), "setup_s": round(done - loaded, 2),
    "cpu_s": round(time.process_time() - used, 2), "import_mb": base // 1024,
    "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
}))
"""


def write_index(root: Path) -> None:
    """Write an index of the full size."""
    rng = np.random.default_rng(0)
    patients = TOTALS["patients"]
    subjects = np.sort(rng.choice(np.arange(10_000_000, 20_000_000), patients, replace=False))
    # every patient has a study, every study an image; the rest falls where it falls
    owner = np.sort(np.concatenate([np.arange(patients), rng.integers(patients, size=TOTALS["studies"] - patients)]))
    studies = rng.choice(np.arange(50_000_000, 60_000_000), TOTALS["studies"], replace=False)
    extra = rng.integers(len(studies), size=TOTALS["images"] - len(studies))
    image_study = np.sort(np.concatenate([np.arange(len(studies)), extra]))
    names = [rng.bytes(20).hex("-", 4) for _ in range(TOTALS["images"])]
    views = np.array(["AP", "PA", "LATERAL", "LL", ""])[rng.choice(5, len(names), p=[0.39, 0.255, 0.22, 0.093, 0.042])]
    rows = [
        (
            name,
            subjects[owner[study]],
            studies[study],
            "CHEST (PA AND LAT)",
            view,
            3056,
            2544,
            21800506,
            "213014.531",
            "CHEST (PA AND LAT)",
            "postero-anterior",
            "Erect",
        )
        for name, study, view in zip(names, image_study.tolist(), views.tolist(), strict=True)
    ]
    write_csv(root / "mimic-cxr-2.0.0-metadata.csv.gz", METADATA_HEADER, rows)
    parts = [{"val": "validate"}.get(part, part) for part, count in OFFICIAL_SIZES.items() for _ in range(count)]
    split = [(row[0], row[2], row[1], part) for row, part in zip(rows, parts, strict=True)]
    write_csv(root / "mimic-cxr-2.0.0-split.csv.gz", ("dicom_id", "study_id", "subject_id", "split"), split)
    cells = np.array(["", "", "", "1.0", "0.0", "-1.0"])
    labels = cells[rng.integers(6, size=(TOTALS["studies"] - 8, len(LABEL_NAMES)))].tolist()
    labelled = [(subjects[owner[place]], studies[place], *row) for place, row in enumerate(labels)]
    write_csv(root / "mimic-cxr-2.0.0-chexpert.csv.gz", ("subject_id", "study_id", *LABEL_NAMES), labelled)
    for subject in subjects.tolist():
        (root / "files" / f"p{str(subject)[:2]}" / f"p{subject}").mkdir(parents=True)
    for row in rows:
        # a few files are enough: the data module looks at 64 spread over the rows it keeps, so all of those exist
        row_path = root / "files" / f"p{str(row[1])[:2]}" / f"p{row[1]}" / f"s{row[2]}" / f"{row[0]}.jpg"
        if row[4] in ("AP", "PA") or row[0] == names[0]:
            row_path.parent.mkdir(exist_ok=True)
            row_path.touch()
    with zipfile.ZipFile(root / "mimic-cxr-reports.zip", "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        text = " FINDINGS: \n \n There is no focal consolidation. \n \n IMPRESSION: \n \n No acute process.\n"
        for place, study in enumerate(studies.tolist()):
            subject = subjects[owner[place]]
            archive.writestr(f"files/p{str(subject)[:2]}/p{subject}/s{study}.txt", text * (1 + place % 4))


def main() -> None:
    """Write the index unless it is there, and measure."""
    parser = argparse.ArgumentParser(description="Time and memory of opening MIMIC-CXR at full size.")
    parser.add_argument("folder", type=Path)
    folder: Path = parser.parse_args().folder
    if not (folder / "mimic-cxr-reports.zip").exists():
        start = time.perf_counter()
        folder.mkdir(parents=True, exist_ok=True)
        write_index(folder)
        print(f"wrote the index in {time.perf_counter() - start:.0f} s")
    for views, policy in (("frontal", "keep"), ("frontal", "drop")):
        command = [sys.executable, "-c", _PROBE, str(folder), views, policy]
        answer = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        print(f"views={views} empty_reports={policy}:", json.loads(answer))


if __name__ == "__main__":
    main()
