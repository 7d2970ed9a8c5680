"""CPU time and memory of ``dmlm reports build`` on a made-up release of the size of MIMIC-CXR's reports.

``python -m benchmarks.reports_speed [--studies 20000] [--workers 1]`` writes a zip of reports with MIMIC's layout and
headers into a temporary folder, its sentences drawn from the gold set of the tests, and builds it in a process of its
own. The reports are as long as MIMIC's are said to be, about 120 words with their headers.
"""

from __future__ import annotations

import argparse
import random
import resource
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[1]
MIMIC_STUDIES = 227_835


def write(path: Path, studies: int) -> float:
    """Write the zip; returns the mean number of characters of a report."""
    gold = yaml.safe_load((ROOT / "tests" / "reports" / "gold.yaml").read_text(encoding="utf-8"))
    lines = [case["text"] for part in gold.values() for case in part if ":" not in case["text"]]
    draw, size = random.Random(0), 0
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for number in range(studies):
            body = [draw.choice(lines) for _ in range(13)]
            text = (
                "                                 FINAL REPORT\n EXAMINATION:  CHEST (PORTABLE AP)\n \n INDICATION:  "
                "___ year old man with shortness of breath  // evaluate for pneumonia\n \n COMPARISON:  Chest "
                f"radiograph from ___.\n \n FINDINGS: \n \n {' '.join(body[:9])}\n \n "
                f"IMPRESSION: \n \n {' '.join(body[9:])}\n"
            )
            size += len(text)
            archive.writestr(f"files/p10/p{10_000_000 + number}/s{50_000_000 + number}.txt", text)
    return size / studies


def measure(studies: int = 2_000, workers: int = 1) -> dict[str, float]:
    """Build, and return CPU seconds, milliseconds a report, what all of MIMIC would take, sizes and memory."""
    with tempfile.TemporaryDirectory() as folder:
        archive = Path(folder) / "mimic-cxr-reports.zip"
        size = write(archive, studies)
        command = ["dmlm", "reports", "build", str(archive), "--out", f"{folder}/out.jsonl", "--quiet"]
        subprocess.run([sys.executable, "-m", *command, "--workers", str(workers)], check=True)
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds = used.ru_utime + used.ru_stime
        written = (Path(folder) / "out.jsonl").stat().st_size / studies
    return {
        "reports_characters": size,
        "reports_cpu_seconds": seconds,
        "reports_ms_each": 1000 * seconds / studies,
        "reports_mimic_cpu_minutes": seconds / studies * MIMIC_STUDIES / 60,
        "reports_bytes_each": written,
        "reports_peak_mib": used.ru_maxrss / 1024,
    }


def main() -> None:
    """Build, and print seconds, the time that all of MIMIC would take, and the most memory that a process held."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0] if __doc__ else None)
    parser.add_argument("--studies", type=int, default=20_000)
    parser.add_argument("--workers", type=int, default=1)
    options = parser.parse_args()
    found = measure(options.studies, options.workers)
    print(
        f"{options.studies} reports of {found['reports_characters']:.0f} characters: "
        f"{found['reports_cpu_seconds']:.1f} CPU s, {found['reports_ms_each']:.2f} ms each; {MIMIC_STUDIES} would take "
        f"{found['reports_mimic_cpu_minutes']:.1f} CPU min; {found['reports_bytes_each']:.0f} bytes a record; "
        f"most memory of a process {found['reports_peak_mib']:.0f} MiB"
    )


if __name__ == "__main__":
    main()
