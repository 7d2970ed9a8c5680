"""Model card of an encoder: data, intended use, limits, metrics."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from dmlm import __version__
from dmlm.io.atomic import write_text
from dmlm.models.encoder import ProbabilisticEncoder

_LIMITS = (
    "For research. Not a medical device, not validated for any clinical decision, and not for patients.",
    "Variances of the embeddings are no calibrated uncertainty.",
    "Performance on other scanners, hospitals and patients than those of the training data is unknown.",
)


@dataclass(frozen=True)
class ModelCard:
    """What a user of the weights must know.

    Args:
        data: What the encoder was trained on, with version and split.
        license: SPDX name of the weights' licence; what the training data allow decides, not this library's licence.
        metrics: Numbers by name, such as the content of a run's ``metrics.json``.
        intended_use: One paragraph.
        limits: Further limits, beside those that every encoder of this library has.
    """

    data: str
    license: str
    metrics: Mapping[str, float] = field(default_factory=dict)
    intended_use: str = "Features and zero-shot scores for research on chest radiographs."
    limits: tuple[str, ...] = ()

    def text(self, encoder: ProbabilisticEncoder) -> str:
        """Return the card in Markdown, with the metadata block that hubs read."""
        parameters = sum(parameter.numel() for parameter in encoder.parameters())
        image, text = type(encoder.image).__name__, type(encoder.text).__name__
        rows = [f"| `{name}` | {value:.4f} |" for name, value in self.metrics.items()]
        lines = [
            f"---\nlicense: {self.license}\nlibrary_name: dmlm\ntags: [chest-x-ray, vision-language, dmlm]\n---",
            "# Chest X-ray encoder",
            f"A probabilistic image and text encoder ({image}, {text}, {parameters / 1e6:.1f} M parameters, width "
            f"{encoder.embed_dim}, images of {encoder.image.image_size} px), written by dmlm {__version__}.",
            f"## Training data\n\n{self.data}",
            f"## Intended use\n\n{self.intended_use}",
            "## Limits\n\n" + "\n".join(f"- {limit}" for limit in (*_LIMITS, *self.limits)),
            "## Metrics\n\n" + ("\n".join(["| metric | value |", "| --- | --- |", *rows]) if rows else "None given."),
            "## Use\n\n```python\nfrom dmlm.models import from_pretrained\n\n"
            'encoder = from_pretrained("FOLDER")  # or dmlm.models.from_hub("owner/name")\n```',
        ]
        return "\n\n".join(lines) + "\n"

    def write(self, folder: str | os.PathLike[str], encoder: ProbabilisticEncoder) -> Path:
        """Write ``README.md`` into a folder that :func:`dmlm.models.save_pretrained` made."""
        target = Path(folder) / "README.md"
        write_text(target, self.text(encoder))
        return target
