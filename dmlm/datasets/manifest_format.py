"""What a user says about a CSV: which column holds what, and what to do with rows that cannot be used."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from dmlm.datasets.problems import OnError
from dmlm.errors import ConfigError

NUMBER: Final = re.compile(r"[+-]?[0-9]+([.][0-9]*)?")
"""A label that is a number, such as a grade."""


def spelling(name: str) -> str:
    """Return what all spellings of a label share, whatever their case and underscores; ``1`` and ``1.0`` are one."""
    plain = " ".join(name.replace("_", " ").split()).casefold()
    return str(float(plain)) if NUMBER.fullmatch(plain) else plain


@dataclass(frozen=True)
class ManifestFormat:
    """Which column of a CSV holds what. Header names are compared without surrounding spaces.

    A column that keeps its default name may be absent, except the image's and, without labels or masks, the text's; a
    column that is named otherwise must exist; None means not to use one.

    Args:
        image_column: Path of the image, relative to ``root``.
        text_column: Free-text report.
        split_column: ``train``, ``val`` (``valid``, ``validate``, ``validation``, ``dev``) or ``test``; where absent,
            splits are drawn by patient.
        patient_column: Patient; where absent, every study counts as a patient of its own.
        study_column: Study; where absent or blank, the image's path stands for it.
        unseen_column: 1 where a study shows what training never does, for :class:`dmlm.tasks.UncertaintyModule`; such
            studies may be in the test split only.
        label_columns: One column per label with 1 (present), 0 (absent), -1 (uncertain) or blank (unknown).
        label_column: One column with the names of the labels that are present, separated by ``|``; blank is unknown.
        label_names: With ``label_columns``: what to call them. With ``label_column``: which names count, in this
            order (others are ignored, so ``No Finding`` can mean "none of these"); empty means all that occur.
        mask_columns: One column per mask with the path of its picture (0 and 1, or 0 and 255, the field of the image),
            relative to ``root``. A blank cell is refused: a black picture says that nothing is there.
        mask_names: What to call the masks; empty means as their columns.
        one_label: Whether each row must have exactly one label that is present (classes exclude each other).
        where: Only rows whose column (key) has one of these values are read.
        root: Folder of the images; None means the folder of the CSV.
        allow_outside_root: Whether paths may lead out of ``root``.
        store: Folder that ``dmlm data prepare`` wrote from the file; images are looked up there by what the column
            says, and their files need not be there.
        ratios: Shares of train, val and test where splits are drawn.
        seed: Seed of that draw.
        split_file: JSON file that keeps drawn splits: used if it exists, written if not; None records the draw in the
            cache folder.
        allow_leaks: Whether a patient may be in two splits.
        on_error: ``raise`` refuses a file with bad rows, ``skip`` leaves these rows out and logs how many and why.
    """

    image_column: str = "path"
    text_column: str | None = "text"
    split_column: str | None = "split"
    patient_column: str | None = "patient_id"
    study_column: str | None = "study_id"
    unseen_column: str | None = None
    label_columns: tuple[str, ...] = ()
    label_column: str | None = None
    label_names: tuple[str, ...] = ()
    mask_columns: tuple[str, ...] = ()
    mask_names: tuple[str, ...] = ()
    one_label: bool = False
    where: Mapping[str, Sequence[str]] = field(default_factory=dict)
    root: str | None = None
    allow_outside_root: bool = False
    store: str | None = None
    ratios: tuple[float, float, float] = (0.8, 0.1, 0.1)
    seed: int = 0
    split_file: str | None = None
    allow_leaks: bool = False
    on_error: OnError = "raise"

    def __post_init__(self) -> None:
        if self.label_columns and self.label_column:
            msg = "give label_columns (one column per label) or label_column (one column with names), not both"
            raise ConfigError(msg)
        if self.label_names and not (self.label_columns or self.label_column):
            msg = "label_names needs label_columns or label_column, which say where the labels are"
            raise ConfigError(msg)
        if self.label_columns and self.label_names and len(self.label_columns) != len(self.label_names):
            msg = f"label_names has {len(self.label_names)} names for {len(self.label_columns)} label_columns"
            raise ConfigError(msg)
        if self.mask_names and len(self.mask_columns) != len(self.mask_names):
            msg = f"mask_names has {len(self.mask_names)} names for {len(self.mask_columns)} mask_columns"
            raise ConfigError(msg)
        for option in ("label_columns", "label_names", "mask_columns", "mask_names"):
            names = getattr(self, option)
            if len(set(names)) != len(names):
                msg = f"{option} names something twice: {', '.join(names)}"
                raise ConfigError(msg)
        named = self.label_names or self.label_columns
        alike = [name for name in named if [spelling(other) for other in named].count(spelling(name)) > 1]
        if alike:
            option = "label_names" if self.label_names else "label_columns"
            msg = f"{option} spells one label in several ways: {', '.join(alike)}; name each label once"
            raise ConfigError(msg)

    @property
    def has_labels(self) -> bool:
        """Whether any column holds labels."""
        return bool(self.label_columns or self.label_column)

    @property
    def all_label_columns(self) -> tuple[str, ...]:
        """Columns that hold labels, of either kind."""
        return (self.label_column,) if self.label_column else tuple(self.label_columns)
