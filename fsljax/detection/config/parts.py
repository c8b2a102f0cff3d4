"""The parts of a detector other than its backbone, as sections of its config."""

from __future__ import annotations

from dataclasses import dataclass

from fsljax.config import field
from fsljax.config.fields import MOST_IN_A_STEP, MOST_PIXELS, MOST_UNITS

ANCHORS = ("centres", "corners")
HEADS = ("repmet", "linear")


@dataclass(frozen=True)
class PyramidOptions:
    """The feature pyramid."""

    channels: int = field(256, "channels of each level", least=1, cap=MOST_UNITS)
    extra_levels: int = field(
        1, "levels above the backbone's stages, used for proposals only", least=0, cap=14
    )
    norm: bool = field(
        False, "batch norm after each convolution instead of a bias, with fixed running averages"
    )


@dataclass(frozen=True)
class ProposalOptions:
    """How regions are proposed, and which anchors are trained on."""

    sizes: tuple[float, ...] = field(
        (32.0, 64.0, 128.0, 256.0, 512.0), "anchor sizes in pixels, the same number per level, finest first",
        above=0, cap=1e6, empty=False,
    )  # fmt: skip
    ratios: tuple[float, ...] = field(
        (0.5, 1.0, 2.0), "ratios of height to width of anchors", above=0, cap=1000, empty=False
    )
    anchors: str = field(
        "centres", "\"centres\": anchors are centred on a level's cells; \"corners\": on the upper left "
        "corners of the cells, rounded to integers, as in torchvision", choices=ANCHORS,
    )  # fmt: skip
    convolutions: int = field(
        1, "number of 3×3 convolutions before objectness and box deltas", least=1, cap=14
    )
    high: float = field(0.7, "minimum IoU of a positive anchor", least=0, most=1)
    low: float = field(0.3, "anchors below this IoU are negative", least=0, most=1)
    sampled: int = field(256, "number of anchors per image sampled for the loss", least=1, cap=10**6)
    positive_fraction: float = field(
        0.5, "maximum fraction of positives among sampled anchors", above=0, most=1
    )
    before_nms: int = field(
        1000, "number of highest-scoring boxes per level passed to NMS", least=1, cap=10**6
    )
    iou_threshold: float = field(0.7, "IoU threshold of NMS", least=0, most=1)
    before_nms_in_test: int = field(0, "before_nms at test time; 0: the same", least=0, cap=10**6)
    score_threshold: float = field(0.0, "minimum probability of a proposal", least=0, most=1)
    by_level: bool = field(False, "apply NMS to each level separately")
    least_side: float = field(
        1.0, "minimum height and width of a proposal in pixels", least=0, cap=MOST_PIXELS
    )
    keep: int = field(300, "maximum number of proposals per image", least=1, cap=MOST_IN_A_STEP)
    keep_in_test: int = field(300, "keep at test time", least=1, cap=MOST_IN_A_STEP)


@dataclass(frozen=True)
class RoIOptions:
    """Which regions the head is trained on, and how their features are pooled."""

    sampled: int = field(128, "number of regions per image sampled for the loss", least=1, cap=MOST_IN_A_STEP)
    positive_fraction: float = field(
        0.25, "maximum fraction of positives among sampled regions", above=0, most=1
    )
    high: float = field(0.5, "minimum IoU of a positive region", least=0, most=1)
    low: float = field(0.5, "regions below this IoU are background", least=0, most=1)
    jittered: int = field(
        0,
        "jittered copies of each ground-truth box added to the proposals, besides the box itself",
        least=0,
        cap=1000,
    )
    jitter: float = field(
        0.1, "maximum shift of a jittered region's borders as a fraction of its sides", least=0, cap=1
    )
    output_size: int = field(7, "height and width of RoIAlign's output in cells", least=1, cap=100)
    samples: int = field(2, "RoIAlign samples per side in each cell", least=1, cap=100)
    canonical_size: float = field(
        224.0, "side in pixels of a region pooled from the canonical level; a region of twice the size is "
        "pooled from the next level", least=1,
    )  # fmt: skip
    canonical_level: int = field(2, "pyramid level for canonical_size; 0 is the finest", least=0, cap=14)
    level_tolerance: float = field(
        0.0, "added to a region's level before rounding down; torchvision uses 1e-6", least=0, most=1
    )
    aligned: bool = field(
        True, "cell i is centred at i + ½; False: at i, and regions are at least one cell high and wide, as "
        "in torchvision's Faster R-CNN",
    )  # fmt: skip


@dataclass(frozen=True)
class HeadOptions:
    """The head that classifies regions."""

    kind: str = field(
        "repmet", '"repmet": representatives of the classes; "linear": a linear layer', choices=HEADS
    )
    convolutions: int = field(
        0,
        "number of 3×3 convolutions before the dense layers, with batch norm if pyramid.norm",
        least=0,
        cap=14,
    )
    dense: int = field(2, "number of dense layers", choices=(1, 2))
    hidden: int = field(1024, "units of each dense layer", least=1, cap=MOST_UNITS)
    dim: int = field(256, "dimension of the embedding", least=1, cap=MOST_UNITS)
    normalize: bool = field(True, "normalise embeddings to length 1")
    quality: bool = field(
        False, "predict the IoU of each region's box with its object, independent of the class"
    )
    class_boxes: bool = field(
        False, "a linear head regresses boxes per class instead of one box for all classes"
    )

    def has_class_boxes(self) -> bool:
        """Whether boxes are regressed per class."""
        return self.class_boxes and self.kind == "linear"
