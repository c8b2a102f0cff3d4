"""Pictures that a network of ImageNet tells apart: a shape of a colour of its own on a changing ground."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

SHAPES = ("disc", "square", "stripes", "cross", "ring", "triangle", "bars", "dots")


def picture(kind: str, seed: int, side: int = 160) -> Image.Image:
    """A picture of one of `SHAPES`, elsewhere and of another size for each seed."""
    generator = np.random.default_rng([SHAPES.index(kind), seed])
    ground = np.random.default_rng(seed).integers(150, 256, (6, 6, 3), np.uint8)
    image = Image.fromarray(ground).resize((side, side), Image.Resampling.BICUBIC)
    draw = ImageDraw.Draw(image)
    r = int(generator.uniform(0.25, 0.33) * side)
    x, y = (int(generator.uniform(0.4, 0.6) * side) for _ in range(2))
    hue = (np.array([40, 90, 60]) * (SHAPES.index(kind) + 1) + generator.integers(-15, 16, 3)) % 200
    ink = tuple(int(value) for value in hue)
    box = (x - r, y - r, x + r, y + r)
    if kind == "disc":
        draw.ellipse(box, ink)
    elif kind == "square":
        draw.rectangle(box, ink)
    elif kind == "ring":
        draw.ellipse(box, outline=ink, width=r // 4)
    elif kind == "triangle":
        draw.polygon([(x, y - r), (x - r, y + r), (x + r, y + r)], ink)
    elif kind == "cross":
        draw.line((*box[:2], *box[2:]), ink, r // 3)
        draw.line((box[0], box[3], box[2], box[1]), ink, r // 3)
    else:
        for step in range(-r, r + 1, max(r // 3, 1)):
            if kind == "stripes":
                draw.line((x - r, y + step, x + r, y + step), ink, r // 8 + 1)
            elif kind == "bars":
                draw.line((x + step, y - r, x + step, y + r), ink, r // 8 + 1)
            else:
                for across in range(-r, r + 1, max(r // 3, 1)):
                    draw.ellipse((x + step - 5, y + across - 5, x + step + 5, y + across + 5), ink)
    return image.filter(ImageFilter.GaussianBlur(0.7))


def write_folder(root: Path, kinds: Sequence[str], count: int, *, first: int = 0) -> Path:
    """A folder with a folder of JPEG files for each kind."""
    for kind in kinds:
        (root / kind).mkdir(parents=True, exist_ok=True)
        for number in range(first, first + count):
            picture(kind, number).save(root / kind / f"{number:02d}.jpg", quality=92)
    return root
