"""Sections of a detector's config, which its parts take as their options too."""

from __future__ import annotations

from dataclasses import dataclass

from fsljax import config as shared
from fsljax.config import Experiment, Network, field, section, seed
from fsljax.config.fields import MOST_IN_A_STEP, MOST_PIXELS, MOST_ROUNDS, MOST_UNITS
from fsljax.detection.config.scenes import SceneOptions
from fsljax.losses.repmet import VERSIONS

DRAWINGS = ("omniglot", "glyphs")
HEADS = ("repmet", "linear")
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
class PyramidOptions:
    """The feature pyramid."""

    channels: int = field(256, "of each level", least=1, cap=MOST_UNITS)
    extra_levels: int = field(1, "above the backbone's stages, for proposals alone", least=0, cap=14)


@dataclass(frozen=True)
class ProposalOptions:
    """How regions are proposed, and what is learned from."""

    sizes: tuple[float, ...] = field(
        (32.0, 64.0, 128.0, 256.0, 512.0), "anchors' sides in pixels, as many for every level, finest first",
        above=0, cap=1e6, empty=False,
    )  # fmt: skip
    ratios: tuple[float, ...] = field((0.5, 1.0, 2.0), "of height to width", above=0, cap=1000, empty=False)
    high: float = field(0.7, "an anchor is positive from this IoU on", least=0, most=1)
    low: float = field(0.3, "and negative below this one", least=0, most=1)
    sampled: int = field(256, "anchors of an image that are learned from", least=1, cap=10**6)
    positive_fraction: float = field(0.5, "largest share of positives among them", above=0, most=1)
    before_nms: int = field(1000, "boxes of best score of each level that are looked at", least=1, cap=10**6)
    iou_threshold: float = field(0.7, "two proposals overlap less", least=0, most=1)
    keep: int = field(300, "proposals of an image", least=1, cap=MOST_IN_A_STEP)
    keep_in_test: int = field(300, "the same in tests", least=1, cap=MOST_IN_A_STEP)


@dataclass(frozen=True)
class RoIOptions:
    """Which regions the head learns from, and how their features are pooled."""

    sampled: int = field(128, "regions of an image", least=1, cap=MOST_IN_A_STEP)
    positive_fraction: float = field(0.25, "largest share of positives among them", above=0, most=1)
    high: float = field(0.5, "a region is positive from this IoU on", least=0, most=1)
    low: float = field(0.5, "and background below this one", least=0, most=1)
    jittered: int = field(
        0,
        "regions around each true box that are added to the proposals, beside that box itself",
        least=0,
        cap=1000,
    )
    jitter: float = field(
        0.1, "by what share of its sides such a region's borders move at most", least=0, cap=1
    )
    output_size: int = field(7, "places a side that RoIAlign gives", least=1, cap=100)
    samples: int = field(2, "of RoIAlign a side in each place", least=1, cap=100)
    canonical_size: float = field(
        224.0, "pixels a side of a region that is pooled from the canonical level; one of twice the size is "
        "pooled from the next", least=1,
    )  # fmt: skip
    canonical_level: int = field(2, "0 is the finest", least=0, cap=14)


@dataclass(frozen=True)
class HeadOptions:
    """The head over regions."""

    kind: str = field("repmet", "representatives of the classes, or a linear layer", choices=HEADS)
    hidden: int = field(1024, "units of each of its two dense layers", least=1, cap=MOST_UNITS)
    dim: int = field(256, "of the embedding", least=1, cap=MOST_UNITS)
    normalize: bool = field(True, "embeddings to length 1")
    quality: bool = field(
        False, "predict how well a region's box fits what it holds, as its IoU, whatever the class"
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
