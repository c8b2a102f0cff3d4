"""Sections of a detector's config, which its parts take as their options too."""

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
    """Which images with boxes, which of their classes, and where they are kept."""

    name: str = field("scenes", "module of fsljax.detection.data.sets, or the dotted name of one of your own")
    image_size: int = field(
        128, "pixels a side; of photographs, which are padded to a square", least=1, cap=MOST_PIXELS
    )
    drawings: str = field("omniglot", "of which scenes are made", choices=DRAWINGS)
    base: tuple[str, ...] = field(
        (), "names of the classes that are trained; (): all of a set of photographs"
    )
    novel: tuple[str, ...] = field((), "and of those that are not")
    fill: str = field(
        "black", 'of the padding of photographs; "mean": what input_mean makes 0, as torchvision pads',
        choices=FILLS,
    )  # fmt: skip
    limit: int = field(0, "images of each split, for a dry run; 0: all", least=0)
    train_split: str = field("train", "of a set of photographs")
    test_split: str = field("val", "of a set of photographs")
    novel_split: str = field(
        "", 'of a set of photographs, with objects of the novel classes; "": as test_split'
    )
    years: tuple[int, ...] = field(
        (2007, 2012), "of VOC; the test split is of the first", least=1, empty=False
    )
    folds: int = field(
        0, "into which the base classes of enough images are divided, to choose a detector by; 0: none are",
        least=0, cap=1000,
    )  # fmt: skip
    fold: int = field(0, "whose classes are novel, from 0; images that hold them are not trained on", least=0)
    fold_images: int = field(20, "of a class of the folds, in both splits, at least", least=1)
    drop_bad_boxes: bool = field(
        False, "leave out boxes outside their image or without area, instead of stopping"
    )


@dataclass(frozen=True)
class RepresentativeOptions:
    """Representatives of the classes that are trained."""

    per_class: int = field(5, "k", least=1, cap=10_000)
    reset_every: int = field(0, "steps between clusterings of embeddings; 0: none", least=0)
    reset_until: int = field(0, "step from which they are learned only", least=0)
    reset_images: int = field(2_000, "that are looked at for it", least=1)
    normalize: bool = field(True, "to length 1, as embeddings are by head.normalize")
    rate: float = field(1.0, "by which the learning rate is multiplied for them", least=0)


@dataclass(frozen=True)
class LossOptions:
    """The losses of a detector and their weights; those of the proposals and of the classes have weight 1."""

    hard: int = field(0, "regions of an image whose losses count, those of the largest; 0: all", least=0)
    sigma: float = field(0.5, "of the scores by representatives", above=0)
    scale: float = field(15.0, "of their softmax", above=0)
    version: str = field(
        "margin", 'of the embedding loss; "margin" compares squared distances', choices=VERSIONS
    )
    alpha: float = field(
        0.5, "its margin, in squared distance, or with the other versions in units of 2σ²", least=0
    )
    embedding_sigma: float = field(0.5, "σ of the versions other than the margin's", above=0)
    embedding: float = field(1.0, "weight of the embedding loss", least=0)
    linear: float = field(0.0, "weight of a linear classifier's loss beside representatives", least=0)
    boxes: float = field(1.0, "weight of the boxes' loss", least=0)
    quality: float = field(1.0, "weight of the loss of head.quality", least=0)


@dataclass(frozen=True)
class Train(shared.Train):
    """Steps of the optimiser, and their images."""

    images: int = field(16, "of a step", least=1, cap=MOST_IN_A_STEP)
    flip: bool = field(False, "photographs, half of them from left to right")
    repeat_threshold: float = field(
        0.0, "share of the photographs below which a class is rare, so that those with it are taken more "
        "often (repeat factor sampling); 0: all as often", least=0, most=1,
    )  # fmt: skip


@dataclass(frozen=True)
class Augmentation(shared.Augmentation):
    """How far each photograph of a step is changed; scenes are drawn anew instead."""

    zoom: tuple[float, float] = field(
        (1.0, 1.0), "factors between which the sides of photographs are drawn, uniformly in the logarithm; "
        "of what outgrows the square a part is taken", above=0, cap=16,
    )  # fmt: skip

    def zooms(self) -> bool:
        return tuple(self.zoom) != (1.0, 1.0) or bool(self.stretch)


@dataclass(frozen=True)
class Validation:
    """Of the trained classes, in images that were not trained on."""

    images: int = field(128, "that are looked at", least=1)


@dataclass(frozen=True)
class EnrollOptions:
    """How new classes are enrolled, and how they learn further."""

    space: str = field(
        "embedding", 'where new classes are compared: "features" are what the embedding is made of; '
        '"combined": both, and the last two stages of the backbone averaged over the region',
        choices=SPACES,
    )  # fmt: skip
    per_shot: int = field(
        2, "representatives from each support image, the support box's own among them", least=1, cap=1000
    )
    overlap: float = field(
        0.7, "IoU with the support box from which a region gives a representative", least=0, below=1
    )
    views: int = field(
        0, "of each support beside itself: mirrored, smaller, larger, moved; each gives representatives",
        least=0, most=8,
    )  # fmt: skip
    clusters: int = field(
        0, "representatives of a class at most, the means of clusters; 0: all", least=0, cap=10_000
    )
    high: float = field(0.5, "in fine-tuning, a region is of the class from this IoU on", least=0, most=1)
    low: float = field(0.3, "and background below this one", least=0, most=1)
    object: float = field(
        0.1, "unless its objectness is this or more: the image may hold further objects that no box tells of",
        least=0, most=1,
    )  # fmt: skip
    positive_fraction: float = field(
        0.25, "weight of all regions of the class in the loss of an image", least=0, below=1
    )
    rate: float = field(5e-4, "learning rate, of Adam", least=0)
    layer: bool = field(False, "whether the embedding layer learns, too")
    sigma: float = field(
        0.0, "of the scores; 0: the trained one. New classes lie further from their representatives", least=0
    )
    alpha: float = field(0.5, "margin of the embedding loss", least=0)
    embedding: float = field(1.0, "and its weight", least=0)


@dataclass(frozen=True)
class Eval:
    """Of the trained classes in images, and of new ones in episodes."""

    images: int = field(1000, "that are looked at", least=1)
    classes: int = field(100, "drawn at random, for a setting of its own", least=1)
    training_images: bool = field(False, "a setting of its own on these: whether they are overfitted")
    least_boxes: int = field(
        0, "of the trained classes, a figure of its own over those with so many boxes; 0: there is none",
        least=0,
    )  # fmt: skip
    least_side: float = field(
        16.0, "pixels: the root of a box's area from which it counts as no small one", least=0
    )
    iou_threshold: float = field(0.3, "of suppression", least=0, most=1)
    score_threshold: float = field(0.0, "least score of a detection", least=0, most=1)
    keep: int = field(100, "detections of an image", least=1, cap=MOST_IN_A_STEP)
    objectness: float = field(
        0.0, "power of a region's objectness by which its scores are multiplied; 0: they are not", least=0,
        cap=100,
    )  # fmt: skip
    quality: float = field(0.0, "the same of its predicted IoU (head.quality)", least=0, cap=100)
    candidates: int = field(
        512, "pairs of region and class of best score that suppression looks at", least=1, cap=10**6
    )
    smallest_box: float = field(0.0, "pixels a side of a detection, at least", least=0, cap=MOST_PIXELS)
    suppression: str = field("hard", "soft-NMS lowers scores instead", choices=SUPPRESSIONS)
    soft_sigma: float = field(
        0.0, "of soft-NMS; 0: scores fall linearly with overlaps above iou_threshold", least=0
    )
    soft_threshold: float = field(0.001, "least score after soft-NMS", least=0, most=1)
    seed: int = seed(0, "of the images and episodes")
    episodes: int = field(500, "the first ones of the file; 0: none are run", least=0, cap=MOST_ROUNDS)
    shots: tuple[int, ...] = field(
        (1,), "supports; several are run on the same regions", least=1, cap=MOST_IN_A_STEP, empty=False
    )
    fine_tune_epochs: tuple[int, ...] = field(
        (0,), "each in settings of its own", least=0, cap=10_000, empty=False
    )
    way: int = field(5, "classes of an episode that is made here; those of a file have their own", least=1)
    supports: int = field(
        10, "of a class in an episode that is made here, of which fewer shots are the first", least=1
    )
    queries: int = field(10, "of a class in an episode that is made here", least=1)
    base_classes: bool = field(False, "the trained classes compete in episodes too, in settings of their own")
    novel_shots: tuple[int, ...] = field(
        (), "boxes of each new class from the training split, by which new classes are found beside the "
        "trained ones in the whole test split; (): it is not run", least=1, cap=MOST_IN_A_STEP,
    )  # fmt: skip
    seeds: tuple[int, ...] = field((0,), "of the drawing of novel_shots", least=0, empty=False)
    shots_file: str = field(
        "", "published lists of novel_shots instead, TXT of VOC or JSON of COCO: a path with {shots}, "
        "{class} and perhaps {seed}",
    )  # fmt: skip
    novel_rule: str = field("voc", "by whose rule novel_shots are counted", choices=("voc", "coco"))
    distractors: bool = field(False, "queries with other novel characters, too, in settings of their own")
    ceiling: bool = field(False, "the same with the true boxes instead of proposals")
    baseline: str = field("", "workdir of a detector with a linear head, by which the baselines are run")
    distance_sigma: float = field(0.9, "σ of the baseline by distances, at which it is best", above=0)
    episodes_file: str = field("", 'written where it is missing; "": in the cache folder')
    enrol: EnrollOptions = section(EnrollOptions)


@dataclass(frozen=True)
class Config(Experiment):
    """RepMet's detector; defaults are as published where a CPU does not forbid it."""

    method: str = field("repmet_detector", "module of fsljax.methods, or the dotted name of one of your own")
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
