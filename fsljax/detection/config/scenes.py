"""The section of a detector's config that defines what composed scenes look like."""

from __future__ import annotations

from dataclasses import dataclass

from fsljax.config import field
from fsljax.config.fields import MOST_PIXELS


@dataclass(frozen=True)
class SceneOptions:
    """What scenes look like. Pairs of numbers are ranges from which amounts are drawn uniformly."""

    size: int = field(128, "height and width in pixels", least=1, cap=MOST_PIXELS)
    characters: tuple[int, int] = field(
        (1, 6), "number of characters per scene, not counting distractors; a character for which there is "
        "no free place is skipped, except for the first", least=0, cap=1000,
    )  # fmt: skip
    distractors: tuple[int, int] = field(
        (1, 3), "number of distractors, if they are requested", least=0, cap=1000
    )
    sides: tuple[float, float] = field(
        (20.0, 60.0), "longer side of a character after rotation in pixels, log-uniform; but drawings are "
        "enlarged at most twofold", above=0, cap=MOST_PIXELS,
    )  # fmt: skip
    rotation: float = field(20.0, "maximum rotation in degrees, in either direction", least=0, cap=360)
    max_iou: float = field(
        0.25,
        "maximum IoU of the boxes of two characters",
        least=0,
        most=1,
    )
    max_covered: float = field(
        0.5, "maximum overlap of two boxes as a fraction of the smaller one", least=0, most=1
    )
    fragments: tuple[int, int] = field(
        (4, 16),
        "number of stroke fragments, each within a round window at most a third as wide as a character's ink",
        least=0,
        cap=1000,
    )
    strength: tuple[float, float] = field(
        (0.7, 1.0), "strength of the ink of each character and fragment", least=0, most=1
    )
    contrast: tuple[float, float] = field((0.5, 0.9), "contrast between ink and paper", least=0, most=1)
    paper: tuple[float, float] = field((0.0, 0.2), "brightness of the paper", least=0, most=1)
    inverted: float = field(0.0, "probability of dark ink on bright paper", least=0, most=1)
    shading: float = field(
        0.1,
        "maximum change in brightness from edge to edge, vertically and horizontally",
        least=0,
        cap=1,
    )
    noise: tuple[float, float] = field((0.01, 0.06), "standard deviation of the noise", least=0, cap=1)
