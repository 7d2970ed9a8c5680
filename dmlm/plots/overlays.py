"""Films with coloured outlines of findings and their reports beneath, as one PNG. Drawn with Pillow and OpenCV."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dmlm.errors import ConfigError
from dmlm.io.atomic import atomic_path

if TYPE_CHECKING:
    from PIL import ImageFont

COLOURS = (
    (230, 159, 0),
    (86, 180, 233),
    (0, 200, 150),
    (240, 228, 66),
    (60, 120, 255),
    (255, 94, 60),
    (225, 130, 190),
    (170, 255, 110),
    (190, 150, 255),
    (255, 255, 255),
)
"""Colours of outlines, apart for colour-blind eyes as far as ten can be (the first ones: Okabe and Ito)."""

_GAP, _LINE, _FONT = 10, 15, 12
_PAPER, _INK = (18, 18, 22), (225, 225, 225)


def outlined(
    image: NDArray[np.uint8], masks: Mapping[str, NDArray[Any]], colours: Mapping[str, tuple[int, int, int]]
) -> NDArray[np.uint8]:
    """Draw the outlines of masks on a film.

    Args:
        image: Grey values, uint8 ``[H, W]``.
        masks: Place of each finding, ``[H, W]``, true or false.
        colours: Red, green and blue per finding.

    Returns:
        uint8 ``[H, W, 3]``.
    """
    import cv2

    picture = np.repeat(image[..., None], 3, axis=2)
    for name, mask in masks.items():
        lines, _ = cv2.findContours(np.asarray(mask, dtype=np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(picture, lines, -1, colours[name], max(1, image.shape[0] // 320), cv2.LINE_AA)
    return picture


def gallery(
    images: Sequence[NDArray[np.uint8]],
    masks: Sequence[Mapping[str, NDArray[Any]]],
    captions: Sequence[str],
    path: str | os.PathLike[str],
    columns: int = 4,
) -> None:
    """Write films side by side: each plain and, where any has a mask, with outlines and a legend; its text beneath.

    Args:
        images: Grey values, uint8 ``[H, W]`` each, all of one size.
        masks: Per image the place of each finding, ``[H, W]``.
        captions: Text beneath each image; line breaks are kept.
        path: PNG file.
        columns: Films per row.

    Raises:
        ConfigError: If there is no image, or the lists differ in length.
    """
    from PIL import Image, ImageDraw, ImageFont

    if not images or not len(images) == len(masks) == len(captions):
        msg = (
            f"gallery: expected as many masks and captions as images, got {len(images)}, {len(masks)}, {len(captions)}"
        )
        raise ConfigError(msg)
    names = list(dict.fromkeys(name for place in masks for name in place))
    colours = {name: COLOURS[index % len(COLOURS)] for index, name in enumerate(names)}
    font = ImageFont.load_default(_FONT)
    height, width = images[0].shape
    cell = 2 * width + 4 if names else width
    texts = [_wrapped(caption, cell, font) for caption in captions]
    rows = [range(start, min(start + columns, len(images))) for start in range(0, len(images), columns)]
    heights = [height + _LINE * (1 + max(len(texts[place]) for place in row)) + 2 * _GAP for row in rows]
    page = Image.new("RGB", (min(columns, len(images)) * (cell + _GAP) + _GAP, sum(heights) + _GAP), _PAPER)
    draw = ImageDraw.Draw(page)
    top = _GAP
    for row, tall in zip(rows, heights, strict=True):
        for column, place in enumerate(row):
            left = _GAP + column * (cell + _GAP)
            page.paste(Image.fromarray(images[place]).convert("RGB"), (left, top))
            if names:
                page.paste(Image.fromarray(outlined(images[place], masks[place], colours)), (left + width + 4, top))
            x, y = float(left), top + height + 3
            for name in masks[place]:
                draw.text((x, y), name, fill=colours[name], font=font)
                x += font.getlength(name) + 8
            for number, line in enumerate(texts[place], start=1):
                draw.text((left, y + number * _LINE), line, fill=_INK, font=font)
        top += tall
    with atomic_path(path) as target:
        page.save(target, format="PNG")


def _wrapped(text: str, width: int, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> list[str]:
    """Break lines at spaces so that each fits into ``width`` pixels; a longer word has a line of its own."""
    lines: list[str] = []
    for part in text.splitlines():
        line = ""
        for word in part.split():
            longer = f"{line} {word}" if line else word
            if line and font.getlength(longer) > width:
                lines.append(line)
                longer = word
            line = longer
        lines.append(line)
    return lines
