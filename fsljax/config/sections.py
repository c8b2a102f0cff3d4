"""The sections that every experiment has; a method adds fields and sections of its own."""

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
    """Which images, how they are divided, and where they are kept."""

    name: str = field("omniglot", "module of fsljax.data.sources, or the dotted name of one of your own")
    data_dir: str = field("", 'TFDS folder; "" is TFDS_DATA_DIR, else TFDS\'s own default', free=True)
    path: str = field("", "of a folder of images", free=True)
    image_size: int = field(
        28, "pixels a side; in a config file 0: as the weights say", least=1, cap=MOST_PIXELS
    )
    crop: float = field(
        0.0, "share of the shorter side that is kept, a square from the centre; 1: all; 0: as the weights "
        "say, else as the data set is read", least=0, most=1,
    )  # fmt: skip
    interpolation: str = field(
        "", "filter that brings photographs to size; \"\": as the weights say, else the data set's own",
        choices=INTERPOLATIONS,
    )  # fmt: skip
    channels: int = field(1, "grey or colour", choices=(1, 3))
    train_on: str = field("train", "what is trained on", choices=TRAIN_ON)
    split_by: str = field(
        "classes", '"classes": the parts have different ones (few-shot); "examples": they share all of them',
        choices=SPLIT_BY,
    )  # fmt: skip
    fractions: tuple[float, ...] = field(
        (0.64, 0.16, 0.2), "of classes or examples, where the data do not say: of a folder, and of drawings",
        least=0, cap=1, empty=False,
    )  # fmt: skip
    validation_fraction: float = field(
        0.1, "of train, where a published set has no validation part", above=0, below=1
    )
    split_seed: int = seed(0, "of what is divided at random")
    max_classes: int = field(0, "chosen by the seed; 0: all. With split_by='examples', as is merge", least=0)
    symmetries: int = field(
        4, "classes made of a character of Omniglot: 1; 4, turned by quarters; 8, these and mirrored",
        choices=(1, 4, 8),
    )  # fmt: skip
    background: str = field(
        "all", "what Lake's one-shot task is learned from: all, or a minimal set of five alphabets",
        choices=BACKGROUND,
    )  # fmt: skip
    merge: str = field("", '"pairs" of classes or "alphabets" (Omniglot) become one class', choices=MERGE)
    host_budget_gb: float = field(
        8.0, "larger published sets stay encoded (1 GB is 10⁹ bytes)", least=0, free=True
    )
    device_budget_gb: float = field(
        4.0, "images or features to train on that take more are streamed", least=0, free=True
    )
    workers: int = field(
        0, "processes that decode streamed images; 0: threads of this one", least=0, cap=1024, free=True
    )
    prefetch: int = field(2, "batches of them read ahead, by each worker", least=0, cap=1024, free=True)


@dataclass(frozen=True)
class Network:
    """The network that embeds images.

    In a config file `name`, `padding`, `input_mean` and `input_std` may be empty: as the weights say.
    """

    name: str = field("conv4", "module of fsljax.networks.backbones, or the dotted name of one of your own")
    filters: int = field(64, "of each convolution of conv4", least=1, cap=MOST_UNITS)
    blocks: int = field(4, "of conv4", least=1, cap=14)
    patch_size: int = field(14, "of vit, pixels a side", least=1, cap=MOST_PIXELS)
    width: int = field(384, "of vit: of each token", least=1, cap=MOST_UNITS)
    depth: int = field(12, "of vit: blocks", least=1, cap=200)
    heads: int = field(6, "of vit: of each block's attention", least=1, cap=MOST_UNITS)
    mlp_ratio: float = field(4.0, "of vit: width of a block's hidden layer, in widths", above=0, cap=64)
    layer_scale: bool = field(True, "of vit: what a block adds is scaled (DINOv2)")
    register_tokens: int = field(0, "of vit, beside the class token", least=0, cap=MOST_UNITS)
    embed_class: bool = field(True, "of vit: class and register tokens have position embeddings")
    pool: str = field(
        "token", "of vit: its features are the class token's, or the patches' average", choices=POOLS
    )
    momentum: float = field(0.99, "of batch norm's running averages", least=0, below=1)
    epsilon: float = field(
        1e-5, "that batch norm of ResNets and MobileNets adds to variances", least=0, most=1
    )
    kernels: str = field(
        "auto", "implementations: written for the CPU, or XLA's own", choices=KERNELS, free=True
    )
    init_from: str = field("", "a workdir or shipped model whose network training begins with")
    weights: str = field(
        "", "that training begins with: a file with the names of torchvision or timm; a name, such as "
        "efficientnet_lite0; or a repository of the hub, such as timm/resnet50.tv_in1k",
    )  # fmt: skip
    weights_revision: str = field("", "of their repository; found, where it is left empty", free=True)
    weights_digest: str = field("", "SHA-256 of their file; found, and with it what they say", free=True)
    unless_described: tuple[str, ...] = field(
        (), "fields whose values here hold only for weights that say nothing of them", free=True
    )
    trainable: str = field("all", "what is trained; the rest stays as it begins", choices=TRAINABLE)
    frozen_statistics: bool = field(False, "batch norm keeps its running averages, and normalises by them")
    padding: str = field("symmetric", "as PyTorch's networks; \"same\": TensorFlow's", choices=PADDINGS)
    input_mean: tuple[float, ...] = field(
        (0.0,), "taken from pixels in [0, 1]: one number, or one a channel", least=0, cap=1, empty=False
    )
    input_std: tuple[float, ...] = field((1.0,), "and what they are then divided by", above=0, empty=False)
    embedding: tuple[int, ...] = field(
        (), "units of the dense layers after the backbone", least=1, cap=MOST_UNITS
    )
    normalize: bool = field(False, "embeddings to length 1")
    feature_dropout: float = field(
        0.0, "share of a frozen backbone's features left out of a step", least=0, below=1
    )
    views: int = field(
        0, "changed views of each image for a frozen backbone; 0: the plain image", least=0, cap=1000
    )


@dataclass(frozen=True)
class Train:
    """Steps of the optimiser."""

    steps: int = field(10_000, "of the whole run", least=1, cap=MOST_ROUNDS)
    optimizer: str = field("adam", "optax's", choices=OPTIMIZERS)
    learning_rate: float = field(1e-3, "at its highest", above=0, factor=True)
    weight_decay: float = field(0.0, "of adamw and sgd", least=0)
    schedule: str = field("cosine", "of the learning rate", choices=SCHEDULES)
    warmup_steps: int = field(0, "from 0 to the learning rate; a shorter run ends on the way", least=0)
    halving_steps: int = field(2_000, "of the halving schedule", least=1)
    restarts: tuple[int, ...] = field(
        (), "steps at which the cosine restarts, at half the rate before", least=1
    )
    ema: float = field(
        0.0, "share of the averaged weights kept at each step; 0: no averaging", least=0, below=1
    )
    patience: int = field(
        0, "validations in a row without a new best after which training ends early; 0: it runs to its last "
        "step", least=0, free=True,
    )  # fmt: skip
    log_every: int = field(50, "steps between lines of figures", least=1, free=True)
    steps_per_dispatch: int = field(50, "on accelerators; a CPU takes one at a time", least=1, free=True)


@dataclass(frozen=True)
class Augmentation:
    """How far each image is changed; every amount but the crop is drawn uniformly from ± what stands here."""

    rotation: float = field(0.0, "degrees", least=0, cap=360)
    scale: float = field(0.0, "share, of height and width together", least=0, cap=0.99)
    stretch: float = field(0.0, "share, of width against height", least=0, cap=0.99)
    shear: float = field(0.0, "share", least=0, cap=10)
    shift: float = field(0.0, "pixels", least=0)
    elastic: float = field(
        0.0, "pixels, the largest displacement where a smooth random field is drawn", least=0
    )
    elastic_points: int = field(
        4,
        "points a side where that field is drawn; cubics between them may overshoot by half",
        least=2,
        cap=1000,
    )
    flip: bool = field(False, "mirror left and right with probability ½")
    brightness: float = field(0.0, "share of the full range that is added", least=0, cap=1)
    contrast: float = field(
        0.0, "share by which distances from the image's mean are multiplied", least=0, cap=1
    )
    crop_scale: float = field(
        1.0, "the smallest share of the area that is brought to the size of the whole; 1: no cropping",
        above=0, most=1,
    )  # fmt: skip
    saturation: float = field(0.0, "share by which the saturation of colours is multiplied", least=0, cap=1)
    hue: float = field(0.0, "share of a full turn of the hue", least=0, cap=1)
    stop_at: int = field(
        0, "training step from which images stay as they are, so that the network ends on what it will be "
        "tested on; 0: changed to the end", least=0,
    )  # fmt: skip

    def moves(self) -> bool:
        """Whether any image is moved or bent, other than by cropping."""
        return any((self.rotation, self.scale, self.stretch, self.shear, self.shift, self.elastic))


@dataclass(frozen=True)
class Checkpoint:
    """When the state is written."""

    every: int = field(500, "steps between checkpoints, each after validation", least=1)
    keep_last: int = field(2, "beside the best", least=1, cap=MOST_ROUNDS)


@dataclass(frozen=True)
class Log:
    """Where the figures of training go besides the workdir, which always gets those for TensorBoard."""

    to: str = field(
        "tensorboard", "where figures are sent while training; TensorBoard files are always written",
        choices=TRACKERS,
    )  # fmt: skip
    project: str = field("fsljax", "project of Weights & Biases, or experiment of MLflow")


@dataclass(frozen=True)
class Mesh:
    """The devices that a run divides its work over; they change how fast it is, and not what it finds."""

    devices: int = field(
        -1, "of all processes together; 0: all there are; -1: all accelerators, or one CPU of each process",
        least=-1, cap=MOST_ROUNDS,
    )  # fmt: skip
    divide_classes: bool = field(
        False, "the representatives of RepMet and the clusters of Magnet are divided over the devices, too"
    )


@dataclass(frozen=True)
class Experiment:
    """What every config holds."""

    name: str = field("", "of the experiment; the default workdir is runs/<name>")
    method: str = field("", "module of fsljax.methods, or the dotted name of one of your own")
    seed: int = seed(0, "of the run")
    data: Data = section(Data)
    network: Network = section(Network)
    train: Train = section(Train)
    augment: Augmentation = section(Augmentation)
    checkpoint: Checkpoint = section(Checkpoint, free=True)
    mesh: Mesh = section(Mesh, free=True)
    log: Log = section(Log, free=True)
