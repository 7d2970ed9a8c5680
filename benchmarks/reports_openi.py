"""The rules against the MeSH terms of the Open-i reports (Indiana University), coded by people from the same reports.

``python -m benchmarks.reports_openi --data NLMCXR_reports.tgz``. Reports whose id has an even hash were looked at when
the words and the map below were written; the others were only counted.
"""

from __future__ import annotations

import argparse
import hashlib
import re
import tarfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast
from xml.etree import ElementTree

from dmlm.reports.rules import RuleEngine
from dmlm.reports.schema import StructuredReport

MESH = {
    "Cardiomegaly": r"Cardiomegaly|Cardiac Shadow/.*enlarged|Heart/.*enlarged|Heart (Atria|Ventricles)/.*enlarged",
    "Atelectasis": r"Pulmonary Atelectasis",
    "Pleural Effusion": r"Pleural Effusion|Costophrenic Angle/.*blunted|Hydropneumothorax|Hemothorax|Hemopneumothorax",
    "Pneumothorax": r"Pneumothorax|Hydropneumothorax|Hemopneumothorax",
    "Edema": r"Pulmonary Edema",
    "Pulmonary Congestion": r"Pulmonary Congestion",
    "Emphysema": r"Emphysema|Pulmonary Emphysema|Bullous Emphysema|Blister",
    "Chronic Obstructive Pulmonary Disease": r"Pulmonary Disease, Chronic Obstructive",
    "Hernia": r"Hernia",
    "Scoliosis": r"Scoliosis",
    "Kyphosis": r"Kyphosis",
    "Osteopenia": r"Bone Diseases, Metabolic|Osteoporosis",
    "Fracture": r"Fractures, Bone|Deformity/(.*vertebra|rib|clavicle|spine|humerus)",
    "Nodule": r"Nodule|(Opacity|Density)/.*round",
    "Mass": r"Mass$|Mass/",
    "Granuloma": r"Calcified Granuloma|Granuloma",
    "Support Devices": (
        r"Catheters|Implanted Medical Device|Surgical Instruments|Tube, Inserted|Medical Device|Stents|Sutures"
    ),
    "Hyperinflation": r"Lung/.*hyperdistention|Diaphragm/.*flattened|Lung, Hyperlucent",
    "Low Lung Volumes": r"Lung/.*hypoinflation",
    "Tortuous Aorta": r"Aorta(, Thoracic)?/.*(tortuous|enlarged)|Aortic Aneurysm",
    "Atherosclerosis": r"Atherosclerosis|Calcinosis/(aorta|blood vessels|coronary)",
    "Degenerative Changes": (
        r"(Thoracic|Lumbar|Cervical) [Vv]ertebrae/.*degenerative|(Spine|Shoulder|Bone and Bones)/.*degenerative"
        r"|Osteophyte|Spondylosis|Arthritis|Hyperostosis"
    ),
    "Scarring": r"Cicatrix",
    "Pleural Thickening": r"Thickening/.*pleura",
    "Lung Opacity": r"Opacity|Airspace Disease|Density/(lung|retrocardiac)",
    "Infiltration": r"Infiltrate",
    "Consolidation": r"Consolidation",
    "Pneumonia": r"Pneumonia$|Pneumonia/",
    "Elevated Diaphragm": r"Diaphragm/.*elevated|Diaphragmatic Eventration",
    "Fibrosis": r"Pulmonary Fibrosis|Fibrosis|Lung Diseases, Interstitial",
    "Calcified Lymph Nodes": r"Calcinosis/.*(lymph nodes|hilum|mediastinum)",
    "No Finding": r"normal$",
}
FEWEST = 10
"""Reports of a half that must have a finding for it to count in the mean."""


@dataclass(frozen=True)
class Row:
    """One report with the findings that its MeSH terms name."""

    mesh: frozenset[str]
    report: StructuredReport
    is_held_out: bool


def read(path: Path) -> tuple[list[Row], dict[str, float]]:
    """Read and structure all reports that have text and were indexed; also counts and milliseconds per report."""
    engine, rows = RuleEngine(), []
    patterns = {name: re.compile(pattern) for name, pattern in MESH.items()}
    facts: dict[str, float] = {"reports": 0, "without text": 0, "not indexed": 0, "milliseconds": 0.0}
    with tarfile.open(path) as archive:
        for member in archive:
            if not member.name.endswith(".xml"):
                continue
            tree = ElementTree.parse(cast(IO[bytes], archive.extractfile(member)))
            parts = [(node.get("Label"), node.text) for node in tree.iter("AbstractText") if node.text]
            text = "\n\n".join(f"{label}: {body}" for label, body in parts)
            study = cast(ElementTree.Element, tree.find("uId")).get("id", "")
            start = time.process_time()
            report = engine.structure(text, study)
            facts["milliseconds"] += 1000 * (time.process_time() - start)
            facts["reports"] += 1
            terms = [(node.text or "").strip() for node in tree.iter("major")]
            if not {"FINDINGS", "IMPRESSION"} & {label for label, _ in parts}:
                facts["without text"] += 1
            elif any(term.startswith("No Indexing") for term in terms):
                facts["not indexed"] += 1
            else:
                named = (name for name, pattern in patterns.items() if any(pattern.match(term) for term in terms))
                is_odd = int(hashlib.sha256(study.encode()).hexdigest(), 16) % 2 == 1
                rows.append(Row(frozenset(named), report, is_odd))
    facts["milliseconds"] /= facts["reports"]
    return rows, facts


def table(rows: list[Row]) -> None:
    """Print precision, recall and F1 per finding, and what the rules say where the MeSH terms do and do not name it."""
    print("| finding | reports | precision | recall | F1 | F1, uncertain = present | named: uncertain | named: absent "
          "| not named: uncertain | not named: absent |")  # fmt: skip
    print("| --- " * 10 + "|")
    strict, lenient = [], []
    counts = {name: Counter((name in row.mesh, row.report.verdicts.get(name, "none")) for row in rows) for name in MESH}
    for name, count in sorted(counts.items(), key=lambda pair: -_named(pair[1])):
        precision, recall, f1 = _score(count, ("present",))
        loose = _score(count, ("present", "uncertain"))[2]
        if _named(count) >= FEWEST:
            strict.append(f1)
            lenient.append(loose)
        print(
            f"| {name} | {_named(count)} | {precision:.2f} | {recall:.2f} | {f1:.2f} | {loose:.2f} "
            f"| {count[True, 'uncertain']} | {count[True, 'absent']} | {count[False, 'uncertain']} "
            f"| {count[False, 'absent']} |"
        )
    print(
        f"\nMacro F1 over {len(strict)} findings with at least {FEWEST} reports: {sum(strict) / len(strict):.3f} "
        f"(uncertain counted as present: {sum(lenient) / len(lenient):.3f})"
    )


def _named(count: Counter[tuple[bool, str]]) -> int:
    return sum(value for (is_named, _), value in count.items() if is_named)


def _score(count: Counter[tuple[bool, str]], states: tuple[str, ...]) -> tuple[float, float, float]:
    right = sum(count[True, state] for state in states)
    wrong = sum(count[False, state] for state in states)
    precision, recall = right / max(right + wrong, 1), right / max(_named(count), 1)
    return precision, recall, 2 * precision * recall / max(precision + recall, 1e-12)


def main() -> None:
    """Print all reports and both halves."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0] if __doc__ else None)
    parser.add_argument("--data", type=Path, required=True, help="NLMCXR_reports.tgz")
    rows, facts = read(parser.parse_args().data)
    print(", ".join(f"{name} {value:.4g}" for name, value in facts.items()))
    halves = [[row for row in rows if row.is_held_out == is_odd] for is_odd in (False, True)]
    for name, part in (("all", rows), ("looked at", halves[0]), ("held out", halves[1])):
        print(f"\n{name}: {len(part)} reports\n")
        table(part)


if __name__ == "__main__":
    main()
