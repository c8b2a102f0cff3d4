"""The section of a detector's config that says what drawn scenes look like."""

from __future__ import annotations

from dataclasses import dataclass

from fsljax.config import field
from fsljax.config.fields import MOST_PIXELS


@dataclass(frozen=True)
class SceneOptions:
    """What scenes look like. Where two numbers stand, amounts are drawn uniformly between them."""

    size: int = field(128, "pixels a side", least=1, cap=MOST_PIXELS)
    characters: tuple[int, int] = field(
        (1, 6), "of a scene, the distractors not counted; one that finds no free place is left out, which "
        "never happens to the first", least=0, cap=1000,
    )  # fmt: skip
    distractors: tuple[int, int] = field((1, 3), "added where distractors are asked for", least=0, cap=1000)
    sides: tuple[float, float] = field(
        (20.0, 60.0), "pixels of the longer side of a character after turning, drawn uniformly in the "
        "logarithm; but drawings are enlarged to the double at most", above=0, cap=MOST_PIXELS,
    )  # fmt: skip
    rotation: float = field(20.0, "degrees, to either side", least=0, cap=360)
    max_iou: float = field(
        0.25,
        "how far the boxes of two characters overlap at most, as intersection over union",
        least=0,
        most=1,
    )
    max_covered: float = field(0.5, "the same as a share of the smaller box", least=0, most=1)
    fragments: tuple[int, int] = field(
        (4, 16),
        "of strokes, each from a round window no wider than a third of a character's ink",
        least=0,
        cap=1000,
    )
    strength: tuple[float, float] = field(
        (0.7, 1.0), "of the ink of each character and fragment", least=0, most=1
    )
    contrast: tuple[float, float] = field((0.5, 0.9), "of ink against paper", least=0, most=1)
    paper: tuple[float, float] = field((0.0, 0.2), "brightness of the paper", least=0, most=1)
    inverted: float = field(0.0, "probability of dark ink on bright paper", least=0, most=1)
    shading: float = field(
        0.1,
        "how far the brightness changes at most from edge to edge, in height and in width",
        least=0,
        cap=1,
    )
    noise: tuple[float, float] = field((0.01, 0.06), "standard deviation", least=0, cap=1)
