"""Sections of a detector's config, which are also the options of its parts."""

from __future__ import annotations

from dataclasses import dataclass

from fsljax import config as shared
from fsljax.config import Experiment, Network, field, section, seed
from fsljax.config.fields import MOST_IN_A_STEP, MOST_PIXELS, MOST_ROUNDS
from fsljax.detection.config.parts import HEADS as HEADS
from fsljax.detection.config.parts import HeadOptions, ProposalOptions, PyramidOptions, RoIOptions
from fsljax.detection.config.scenes import SceneOptions
from fsljax.losses.repmet import VERSIONS

DRAWINGS = ("omniglot", "glyphs")
FILLS = ("black", "mean")
SPACES = ("embedding", "features", "combined")
SUPPRESSIONS = ("hard", "soft")


@dataclass(frozen=True)
class Data(shared.Data):
    """Which annotated images and classes to use, and where they are stored."""

    name: str = field(
        "scenes", "data set: a module of fsljax.detection.data.sets, or the dotted name of your own"
    )
    image_size: int = field(
        128, "size in pixels a side; photographs are padded to a square", least=1, cap=MOST_PIXELS
    )
    drawings: str = field("omniglot", "drawings that scenes are composed of", choices=DRAWINGS)
    base: tuple[str, ...] = field(
        (), "names of the base classes, which are trained; (): all classes of a set of photographs"
    )
    novel: tuple[str, ...] = field((), "names of the novel classes, which are not trained")
    fill: str = field(
        "black", 'padding of photographs; "mean": the value that input_mean maps to 0, as in torchvision',
        choices=FILLS,
    )  # fmt: skip
    limit: int = field(0, "maximum number of images per split, for a dry run; 0: all", least=0)
    train_split: str = field("train", "training split of a set of photographs")
    test_split: str = field("val", "test split of a set of photographs")
    novel_split: str = field(
        "", 'split of a set of photographs with objects of the novel classes; "": same as test_split'
    )
    years: tuple[int, ...] = field(
        (2007, 2012), "years of VOC; the test split is from the first", least=1, empty=False
    )
    folds: int = field(
        0, "number of folds of the base classes with enough images, for model selection; 0: no folds",
        least=0, cap=1000,
    )  # fmt: skip
    fold: int = field(
        0, "index of the fold treated as novel, from 0; images with its classes are not trained on", least=0
    )
    fold_images: int = field(
        20, "minimum number of images of each class in the folds, in both splits", least=1
    )
    drop_bad_boxes: bool = field(False, "skip boxes outside their image or without area instead of stopping")


@dataclass(frozen=True)
class RepresentativeOptions:
    """Representatives of the trained classes."""

    per_class: int = field(5, "number of representatives per class, k", least=1, cap=10_000)
    reset_every: int = field(
        0, "steps between resets to cluster means of the embeddings; 0: no resets", least=0
    )
    reset_until: int = field(0, "step from which representatives are only learned, no longer reset", least=0)
    reset_images: int = field(2_000, "number of images used for each reset", least=1)
    normalize: bool = field(True, "normalise representatives to length 1, as head.normalize does embeddings")
    rate: float = field(1.0, "learning rate multiplier of the representatives", least=0)


@dataclass(frozen=True)
class LossOptions:
    """The losses of a detector and their weights; proposal and classification losses have weight 1."""

    hard: int = field(
        0, "online hard example mining: regions with the largest losses kept per image; 0: all", least=0
    )
    sigma: float = field(0.5, "σ of the scores from representatives", above=0)
    scale: float = field(15.0, "scale of the softmax over these scores", above=0)
    version: str = field(
        "margin", 'version of the embedding loss; "margin" compares squared distances', choices=VERSIONS
    )
    alpha: float = field(
        0.5,
        "margin of the embedding loss: a squared distance, or in units of 2σ² for other versions",
        least=0,
    )
    embedding_sigma: float = field(0.5, 'σ of embedding loss versions other than "margin"', above=0)
    embedding: float = field(1.0, "weight of the embedding loss", least=0)
    linear: float = field(0.0, "weight of the loss of an auxiliary linear classifier", least=0)
    boxes: float = field(1.0, "weight of the box regression loss", least=0)
    quality: float = field(1.0, "weight of the IoU prediction loss (head.quality)", least=0)


@dataclass(frozen=True)
class Train(shared.Train):
    """Optimiser, learning rate, number of steps and images per step."""

    images: int = field(16, "batch size in images", least=1, cap=MOST_IN_A_STEP)
    flip: bool = field(False, "flip photographs horizontally with probability ½")
    repeat_threshold: float = field(
        0.0, "repeat factor sampling: photographs of classes found in less than this fraction of the "
        "photographs are drawn more often; 0: all equally often", least=0, most=1,
    )  # fmt: skip


@dataclass(frozen=True)
class Augmentation(shared.Augmentation):
    """Random augmentation of photographs; scenes are composed anew for each step instead."""

    zoom: tuple[float, float] = field(
        (1.0, 1.0), "range of the random scale of photographs, log-uniform; photographs that outgrow the "
        "square are cropped", above=0, cap=16,
    )  # fmt: skip

    def zooms(self) -> bool:
        return tuple(self.zoom) != (1.0, 1.0) or bool(self.stretch)


@dataclass(frozen=True)
class Validation:
    """Validation on the trained classes, in images that were not trained on."""

    images: int = field(128, "number of validation images", least=1)


@dataclass(frozen=True)
class EnrollOptions:
    """How new classes are enrolled and fine-tuned."""

    space: str = field(
        "embedding", 'space in which new classes are compared: "features": the input of the embedding '
        'layer; "combined": both, and the last two backbone stages averaged over the region',
        choices=SPACES,
    )  # fmt: skip
    per_shot: int = field(
        2, "representatives per support image, including that of the support box itself", least=1, cap=1000
    )
    overlap: float = field(
        0.7, "minimum IoU with the support box for a region to give a representative", least=0, below=1
    )
    views: int = field(
        0, "augmented views of each support image that also give representatives: mirrored, smaller, larger, "
        "moved",
        least=0, most=8,
    )  # fmt: skip
    clusters: int = field(
        0, "maximum number of representatives per class, as cluster means; 0: keep all", least=0, cap=10_000
    )
    high: float = field(0.5, "fine-tuning: minimum IoU of a positive region", least=0, most=1)
    low: float = field(0.3, "fine-tuning: regions below this IoU are background", least=0, most=1)
    object: float = field(
        0.1, "fine-tuning: but regions with this objectness or more are ignored, since the image may hold "
        "objects without a box",
        least=0, most=1,
    )  # fmt: skip
    positive_fraction: float = field(
        0.25, "fine-tuning: total weight of positive regions in the loss of an image", least=0, below=1
    )
    rate: float = field(5e-4, "fine-tuning: learning rate of Adam", least=0)
    layer: bool = field(False, "fine-tuning: also train the embedding layer")
    sigma: float = field(
        0.0, "σ of the scores; 0: the trained σ. New classes lie further from their representatives", least=0
    )
    alpha: float = field(0.5, "fine-tuning: margin of the embedding loss", least=0)
    embedding: float = field(1.0, "fine-tuning: weight of the embedding loss", least=0)


@dataclass(frozen=True)
class Eval:
    """Evaluation of the trained classes in images, and of new classes in episodes."""

    images: int = field(1000, "number of test images", least=1)
    classes: int = field(100, "number of classes drawn at random for a setting of their own", least=1)
    training_images: bool = field(False, "also evaluate on training images, to measure overfitting")
    least_boxes: int = field(
        0, "also report mean AP over the trained classes with at least this many boxes; 0: do not",
        least=0,
    )  # fmt: skip
    least_side: float = field(
        16.0, "minimum square root of a box's area, in pixels, for it not to count as small", least=0
    )
    iou_threshold: float = field(0.3, "IoU threshold of non-maximum suppression", least=0, most=1)
    score_threshold: float = field(0.0, "minimum score of a detection", least=0, most=1)
    keep: int = field(100, "maximum number of detections per image", least=1, cap=MOST_IN_A_STEP)
    objectness: float = field(
        0.0, "scores are multiplied by a region's objectness to this power; 0: they are not", least=0,
        cap=100,
    )  # fmt: skip
    quality: float = field(0.0, "the same exponent for its predicted IoU (head.quality)", least=0, cap=100)
    candidates: int = field(
        512,
        "number of highest-scoring pairs of region and class considered by suppression",
        least=1,
        cap=10**6,
    )
    smallest_box: float = field(
        0.0, "minimum height and width of a detection in pixels", least=0, cap=MOST_PIXELS
    )
    suppression: str = field(
        "hard",
        '"hard": remove overlapping boxes; "soft": lower their scores (soft-NMS)',
        choices=SUPPRESSIONS,
    )
    soft_sigma: float = field(
        0.0, "σ of soft-NMS; 0: scores decay linearly with overlaps above iou_threshold", least=0
    )
    soft_threshold: float = field(0.001, "minimum score after soft-NMS", least=0, most=1)
    seed: int = seed(0, "seed for drawing images and episodes")
    episodes: int = field(500, "number of episodes, the first in the file; 0: none", least=0, cap=MOST_ROUNDS)
    shots: tuple[int, ...] = field(
        (1,),
        "support boxes per class; several numbers are evaluated on the same regions",
        least=1,
        cap=MOST_IN_A_STEP,
        empty=False,
    )
    fine_tune_epochs: tuple[int, ...] = field(
        (0,), "epochs of fine-tuning; each number is a setting of its own", least=0, cap=10_000, empty=False
    )
    way: int = field(5, "classes per generated episode; episodes from a file keep their own", least=1)
    supports: int = field(
        10, "support images per class in a generated episode; fewer shots use the first of them", least=1
    )
    queries: int = field(10, "query images per class in a generated episode", least=1)
    base_classes: bool = field(False, "also evaluate episodes in which the trained classes compete")
    novel_shots: tuple[int, ...] = field(
        (), "boxes per new class, from the training split, to enrol new classes with and detect them "
        "alongside the trained ones in the whole test split; (): not run", least=1, cap=MOST_IN_A_STEP,
    )  # fmt: skip
    seeds: tuple[int, ...] = field((0,), "seeds for drawing novel_shots", least=0, empty=False)
    shots_file: str = field(
        "", "published lists to use for novel_shots, TXT of VOC or JSON of COCO: a path with {shots}, "
        "{class} and optionally {seed}",
    )  # fmt: skip
    novel_rule: str = field(
        "voc", "data set whose evaluation rule is used for novel_shots", choices=("voc", "coco")
    )
    distractors: bool = field(False, "also evaluate queries that contain other novel characters")
    ceiling: bool = field(False, "also evaluate with ground-truth boxes instead of proposals")
    baseline: str = field("", "workdir of a detector with a linear head, used for the baselines")
    distance_sigma: float = field(0.9, "σ of the distance baseline; the default is its best value", above=0)
    episodes_file: str = field("", 'file of the episodes, written if missing; "": in the cache folder')
    enrol: EnrollOptions = section(EnrollOptions)


@dataclass(frozen=True)
class Config(Experiment):
    """RepMet's detector; defaults are as published unless that is too slow on a CPU."""

    method: str = field(
        "repmet_detector", "method: a module of fsljax.methods, or the dotted name of your own"
    )
    data: Data = section(Data)
    network: Network = section(Network)
    train: Train = section(Train)
    augment: Augmentation = section(Augmentation)
    scenes: SceneOptions = section(SceneOptions)
    pyramid: PyramidOptions = section(PyramidOptions)
    proposals: ProposalOptions = section(ProposalOptions)
    rois: RoIOptions = section(RoIOptions)
    head: HeadOptions = section(HeadOptions)
    representatives: RepresentativeOptions = section(RepresentativeOptions)
    loss: LossOptions = section(LossOptions)
    validation: Validation = section(Validation)
    eval: Eval = section(Eval, free=True)
