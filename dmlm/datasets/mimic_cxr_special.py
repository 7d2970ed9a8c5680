"""The studies of MIMIC-CXR whose conclusion its makers choose by hand, because no rule finds it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from dmlm.datasets.csv_columns import read_columns
from dmlm.errors import DatasetFormatError


@dataclass(frozen=True)
class SpecialCases:
    """Studies whose text is chosen by hand.

    Args:
        names: Study -> name of the section to take.
        ranges: Study -> first character and the one behind the last; ``(0, 0)`` means no text.
    """

    names: Mapping[str, str]
    ranges: Mapping[str, tuple[int, int]]


NO_SPECIAL_CASES: Final = SpecialCases({}, {})

RELEASED_CASES: Final = SpecialCases(
    names={
        "50058765": "indication",
        "50743547": "examination",
        "50808053": "technique",
        "50913680": "recommendations",
        "51491012": "history",
        "51966317": "indication",
        "53202765": "technique",
        "53356173": "examination",
        "54365831": "indication",
        "54654948": "indication",
        "55124749": "indication",
        "55157853": "examination",
        "56451190": "note",
        "56482935": "recommendations",
        "57936451": "indication",
        "58157373": "recommendations",
        "58375018": "recommendations",
        "59067458": "recommendations",
        "59087630": "recommendations",
        "59215320": "examination",
        "59279892": "technique",
        "59363654": "examination",
        "59768032": "recommendations",
    },
    ranges={
        "50196495": (59, 399),
        "50525523": (201, 349),
        "51410602": (47, 320),
        "52119491": (179, 454),
        "52648681": (292, 631),
        "52674888": (145, 296),
        "53182247": (59, 412),
        "53488209": (149, 475),
        "53514462": (73, 377),
        "54875119": (234, 988),
        "54986978": (59, 306),
        "55258338": (192, 568),
        "56412866": (522, 822),
        "56579911": (59, 218),
        "56760320": (219, 457),
        "57150433": (61, 394),
        "57564132": (233, 554),
        "59003148": (262, 505),
        "59330497": (140, 655),
        "59505494": (59, 450),
        "59562049": (158, 348),
        "59889364": (172, 453),
        "59982525": (313, 717),
        # reports that say nothing about the films
        "50798377": (0, 0),
        "52035334": (0, 0),
        "53071062": (0, 0),
        "53607029": (0, 0),
        "54168089": (0, 0),
        "54231141": (0, 0),
        "56724958": (0, 0),
        "58235663": (0, 0),
    },
)
"""The 54 studies as the makers publish them (``txt`` of the repository MIT-LCP/mimic-cxr): 23 sections, 31 ranges."""


def read_special_cases(path: Path) -> SpecialCases:
    """Read special studies from a CSV with the columns ``study,section,start,end``.

    A row holds either a section's name or a range of characters. ``study`` is ``s50414267`` or ``50414267``.

    Raises:
        DatasetFormatError: If a row holds neither or both, a range is no range, or a study is listed twice.
    """
    table = read_columns(path, ("study", "section", "start", "end"))
    names: dict[str, str] = {}
    ranges: dict[str, tuple[int, int]] = {}
    rows = zip(*(table[name] for name in ("study", "section", "start", "end")), strict=True)
    for line, (raw, section, start, end) in enumerate(rows, start=2):
        study = raw.removeprefix("s")
        if study in names or study in ranges:
            msg = f"{path}, line {line}: study '{raw}' is listed twice; keep one row"
            raise DatasetFormatError(msg)
        if section and not start and not end:
            names[study] = section
        elif not section and start.isdigit() and end.isdigit() and int(start) <= int(end):
            ranges[study] = (int(start), int(end))
        else:
            msg = (
                f"{path}, line {line}: expected a section, or start and end as whole numbers with start <= end, "
                f"got '{section},{start},{end}'"
            )
            raise DatasetFormatError(msg)
    return SpecialCases(names, ranges)
