"""The sections shared by every experiment; a method adds its own fields and sections."""

from __future__ import annotations

from dataclasses import dataclass

from fsljax.config.fields import (
    MOST_PIXELS,
    MOST_ROUNDS,
    MOST_UNITS,
    field,
    section,
    seed,
)

SPLIT_BY = ("classes", "examples")
MERGE = ("", "pairs", "alphabets")
BACKGROUND = ("all", "small1", "small2")
TRACKERS = ("tensorboard", "wandb", "mlflow")
OPTIMIZERS = ("adam", "adamw", "sgd")
SCHEDULES = ("constant", "cosine", "halving")
TRAIN_ON = ("train", "train_and_validation")
TRAINABLE = ("all", "last_stage", "head")
PADDINGS = ("symmetric", "same")
INTERPOLATIONS = ("", "nearest", "bilinear", "bicubic", "lanczos")
KERNELS = ("auto", "cpu", "xla")
POOLS = ("token", "average")


@dataclass(frozen=True)
class Data:
    """Which images to use, how they are split, and where they are stored."""

    name: str = field(
        "omniglot", "data source: a module of fsljax.data.sources, or the dotted name of your own"
    )
    data_dir: str = field("", 'TFDS folder; "": TFDS_DATA_DIR if set, else the default of TFDS', free=True)
    path: str = field("", "path of a folder of images", free=True)
    image_size: int = field(
        28, "size in pixels a side; 0 in a config file: as the weights specify", least=1, cap=MOST_PIXELS
    )
    crop: float = field(
        0.0, "side of the square centre crop as a fraction of the shorter side; 1: all of it; 0: as the "
        "weights specify, else the default of the data set", least=0, most=1,
    )  # fmt: skip
    interpolation: str = field(
        "", "filter used to resize photographs; \"\": as the weights specify, else the data set's own",
        choices=INTERPOLATIONS,
    )  # fmt: skip
    channels: int = field(1, "1: greyscale, 3: colour", choices=(1, 3))
    train_on: str = field("train", "split to train on", choices=TRAIN_ON)
    split_by: str = field(
        "classes", '"classes": splits have disjoint classes (few-shot); "examples": they share all classes',
        choices=SPLIT_BY,
    )  # fmt: skip
    fractions: tuple[float, ...] = field(
        (0.64, 0.16, 0.2), "training, validation and test fractions of the classes or examples, for data "
        "without published splits: folders and drawings",
        least=0, cap=1, empty=False,
    )  # fmt: skip
    validation_fraction: float = field(
        0.1,
        "fraction of the training split used for validation if a published data set has none",
        above=0,
        below=1,
    )
    split_seed: int = seed(0, "seed of random splits")
    max_classes: int = field(
        0,
        "number of classes to use, chosen by the seed; 0: all. Like merge, requires split_by='examples'",
        least=0,
    )
    symmetries: int = field(
        4, "classes made from each Omniglot character: 1; 4: rotations by 90 degrees; 8: also mirrored",
        choices=(1, 4, 8),
    )  # fmt: skip
    background: str = field(
        "all", "background set for Lake's one-shot task: all alphabets, or a minimal set of five",
        choices=BACKGROUND,
    )  # fmt: skip
    merge: str = field(
        "", 'merge "pairs" of classes, or "alphabets" (Omniglot), into one class', choices=MERGE
    )
    host_budget_gb: float = field(
        8.0,
        "published data sets larger than this stay encoded in memory (1 GB is 10⁹ bytes)",
        least=0,
        free=True,
    )
    device_budget_gb: float = field(
        4.0, "training images or features larger than this are streamed to the device", least=0, free=True
    )
    workers: int = field(
        0,
        "number of processes that decode streamed images; 0: threads of this process",
        least=0,
        cap=1024,
        free=True,
    )
    prefetch: int = field(
        2, "number of streamed batches each worker reads ahead", least=0, cap=1024, free=True
    )


@dataclass(frozen=True)
class Network:
    """The network that embeds images.

    In a config file `name`, `padding`, `input_mean` and `input_std` may be empty: the weights specify them.
    """

    name: str = field(
        "conv4", "backbone: a module of fsljax.networks.backbones, or the dotted name of your own"
    )
    filters: int = field(64, "conv4: filters of each convolution", least=1, cap=MOST_UNITS)
    blocks: int = field(4, "conv4: number of blocks", least=1, cap=14)
    patch_size: int = field(14, "vit: patch height and width in pixels", least=1, cap=MOST_PIXELS)
    width: int = field(384, "vit: dimension of each token", least=1, cap=MOST_UNITS)
    depth: int = field(12, "vit: number of blocks", least=1, cap=200)
    heads: int = field(6, "vit: attention heads of each block", least=1, cap=MOST_UNITS)
    mlp_ratio: float = field(
        4.0, "vit: hidden units of each block's MLP as a multiple of width", above=0, cap=64
    )
    layer_scale: bool = field(True, "vit: scale each residual branch by learned factors (DINOv2)")
    register_tokens: int = field(
        0, "vit: number of register tokens besides the class token", least=0, cap=MOST_UNITS
    )
    embed_class: bool = field(True, "vit: class and register tokens have position embeddings")
    pool: str = field("token", "vit: features of the class token, or the average over patches", choices=POOLS)
    momentum: float = field(0.99, "momentum of batch norm's running averages", least=0, below=1)
    epsilon: float = field(
        1e-5, "added to variances in the batch norm of ResNets and MobileNets", least=0, most=1
    )
    kernels: str = field(
        "auto", "layer implementations: written for the CPU, or XLA's own", choices=KERNELS, free=True
    )
    init_from: str = field("", "workdir or shipped model whose network initialises training")
    weights: str = field(
        "", "initial weights: a file with parameter names of torchvision or timm; a name, such as "
        "efficientnet_lite0; or a hub repository, such as timm/resnet50.tv_in1k",
    )  # fmt: skip
    weights_revision: str = field("", "revision of the hub repository; filled in if empty", free=True)
    weights_digest: str = field(
        "", "SHA-256 of the weights file; filled in along with what the weights specify", free=True
    )
    unless_described: tuple[str, ...] = field(
        (), "fields whose values apply only if the weights do not specify them", free=True
    )
    trainable: str = field("all", "part of the network to train; the rest stays frozen", choices=TRAINABLE)
    frozen_statistics: bool = field(False, "batch norm normalises by its running averages, which stay fixed")
    padding: str = field(
        "symmetric", '"symmetric": as in PyTorch; "same": as in TensorFlow', choices=PADDINGS
    )
    input_mean: tuple[float, ...] = field(
        (0.0,),
        "mean subtracted from pixels in [0, 1]: one number, or one per channel",
        least=0,
        cap=1,
        empty=False,
    )
    input_std: tuple[float, ...] = field(
        (1.0,), "standard deviation that pixels are then divided by", above=0, empty=False
    )
    embedding: tuple[int, ...] = field(
        (), "units of each dense layer after the backbone", least=1, cap=MOST_UNITS
    )
    normalize: bool = field(False, "normalise embeddings to length 1")
    feature_dropout: float = field(0.0, "dropout rate of a frozen backbone's features", least=0, below=1)
    views: int = field(
        0,
        "augmented views of each image for a frozen backbone; 0: the original image only",
        least=0,
        cap=1000,
    )


@dataclass(frozen=True)
class Train:
    """Optimiser, learning rate and number of steps."""

    steps: int = field(10_000, "number of training steps of the whole run", least=1, cap=MOST_ROUNDS)
    optimizer: str = field("adam", "optimiser, one of optax's", choices=OPTIMIZERS)
    learning_rate: float = field(1e-3, "peak learning rate", above=0, factor=True)
    weight_decay: float = field(0.0, "weight decay of adamw and sgd", least=0)
    schedule: str = field("cosine", "learning rate schedule", choices=SCHEDULES)
    warmup_steps: int = field(0, "steps of linear warm-up from 0; a shorter run ends during warm-up", least=0)
    halving_steps: int = field(2_000, "steps between halvings, for the halving schedule", least=1)
    restarts: tuple[int, ...] = field(
        (), "steps at which the cosine schedule restarts, each time at half the previous peak", least=1
    )
    ema: float = field(
        0.0, "decay of the exponential moving average of the weights; 0: no averaging", least=0, below=1
    )
    log_every: int = field(50, "steps between logged metrics", least=1, free=True)
    steps_per_dispatch: int = field(
        50, "steps dispatched together on accelerators; a CPU runs one at a time", least=1, free=True
    )
    patience: int = field(
        0,
        "stop after this many validations in a row without a new best; 0: train all steps",
        least=0,
        free=True,
    )


@dataclass(frozen=True)
class Augmentation:
    """Random augmentation; every amount except crop_scale is drawn uniformly from ± the value given here."""

    rotation: float = field(0.0, "rotation in degrees", least=0, cap=360)
    scale: float = field(0.0, "change in size as a fraction, height and width together", least=0, cap=0.99)
    stretch: float = field(0.0, "change in aspect ratio as a fraction", least=0, cap=0.99)
    shear: float = field(0.0, "shear as a fraction", least=0, cap=10)
    shift: float = field(0.0, "translation in pixels", least=0)
    elastic: float = field(
        0.0, "elastic deformation: maximum displacement in pixels at the control points", least=0
    )
    elastic_points: int = field(
        4,
        "control points per side; cubic interpolation between them may overshoot by half",
        least=2,
        cap=1000,
    )
    flip: bool = field(False, "flip horizontally with probability ½")
    brightness: float = field(0.0, "offset as a fraction of the full range", least=0, cap=1)
    contrast: float = field(0.0, "change in contrast about the image's mean, as a fraction", least=0, cap=1)
    crop_scale: float = field(
        1.0, "smallest fraction of the area that a random resized crop covers; 1: no cropping",
        above=0, most=1,
    )  # fmt: skip
    saturation: float = field(0.0, "change in colour saturation as a fraction", least=0, cap=1)
    hue: float = field(0.0, "hue shift as a fraction of a full turn", least=0, cap=1)
    stop_at: int = field(
        0, "step from which images are no longer augmented, so that training ends on images like those "
        "of the test; 0: augment to the end", least=0,
    )  # fmt: skip

    def moves(self) -> bool:
        """Whether images are transformed geometrically, other than by cropping."""
        return any((self.rotation, self.scale, self.stretch, self.shear, self.shift, self.elastic))


@dataclass(frozen=True)
class Checkpoint:
    """When checkpoints are written and how many are kept."""

    every: int = field(500, "steps between checkpoints, each written after validation", least=1)
    keep_last: int = field(
        2, "number of latest checkpoints to keep besides the best", least=1, cap=MOST_ROUNDS
    )


@dataclass(frozen=True)
class Log:
    """Where the figures of training go besides the workdir, which always gets those for TensorBoard."""

    to: str = field(
        "tensorboard", "where metrics are sent during training; TensorBoard files are always written",
        choices=TRACKERS,
    )  # fmt: skip
    project: str = field("fsljax", "project of Weights & Biases, or experiment of MLflow")


@dataclass(frozen=True)
class Mesh:
    """The devices a run is distributed over; they affect its speed, not its results."""

    devices: int = field(
        -1, "number of devices over all processes; 0: all; -1: all accelerators, or one CPU per process",
        least=-1, cap=MOST_ROUNDS,
    )  # fmt: skip
    divide_classes: bool = field(
        False, "also shard RepMet's representatives and Magnet's clusters over the devices"
    )


@dataclass(frozen=True)
class Experiment:
    """The fields and sections that every config has."""

    name: str = field("", "name of the experiment; the default workdir is runs/<name>")
    method: str = field("", "method: a module of fsljax.methods, or the dotted name of your own")
    seed: int = seed(0, "random seed of the run")
    data: Data = section(Data)
    network: Network = section(Network)
    train: Train = section(Train)
    augment: Augmentation = section(Augmentation)
    checkpoint: Checkpoint = section(Checkpoint, free=True)
    mesh: Mesh = section(Mesh, free=True)
    log: Log = section(Log, free=True)
