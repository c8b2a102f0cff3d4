"""What `on_gpu.sh` measures: which processes, by whom, and how long each may take."""

from __future__ import annotations

from dataclasses import dataclass

TURNS = 5
LIMIT = 75  # seconds
SLOW = 170  # for many convolutions: XLA tries the algorithms of each and of its gradients
OURS, TORCH = "fsljax", "PyTorch"
GRAPHS = "channels_last, CUDA graphs"


@dataclass(frozen=True)
class Row:
    """A process that serves figures, see `duel.serve`.

    Attributes:
      work: what it does.
      who: by what.
      command: script in `benchmarks`, and its arguments.
      limit: seconds that it may take until it is ready to measure.
      turns: how often it measures.
    """

    work: str
    who: str
    command: tuple[str, ...]
    limit: int = LIMIT
    turns: int = TURNS


def _kmeans(work: str, name: str, turns: int = TURNS) -> list[Row]:
    return [
        Row(f"k-means: {work}", OURS, ("kmeans.py", "--serve", "fsljax", name), turns=turns),
        Row(f"k-means: {work}", TORCH, ("gpu_peers.py", f"lloyd:{name}"), turns=turns),
    ]


def _networks(kind: str, works: dict[str, str], who: str, script: str, limit: int = LIMIT) -> list[Row]:
    return [Row(f"{kind}: {work}", who, (script, f"{kind}:{name}"), limit) for name, work in works.items()]


LEARNING = {
    "conv4": "Conv-4, 360 images, 28 px",
    "resnet18": "ResNet-18, 48 images, 64 px",
    "mobilenet_v2": "MobileNetV2, 48 images, 224 px",
}
EMBEDDING = {
    "conv4": "Conv-4, 28 px",
    "resnet18": "ResNet-18, 224 px",
    "mobilenet_v2": "MobileNetV2, 224 px",
}
STEPS = {
    "prototypical": "step: prototypical, 60-way 1-shot 5-query",
    "magnet": "step: Magnet, 48 images, ResNet-18, 64 px",
    "repmet": "step: RepMet, 102 × 3 × 1,024, batch of 48",
}
# What compiles as long as each other stands together.
GROUPS = [
    [
        Row(STEPS["prototypical"], OURS, ("gpu_ours.py", "steps:prototypical")),
        Row(STEPS["prototypical"], TORCH, ("torch_peer.py", "train_step", GRAPHS)),
        Row(STEPS["repmet"], OURS, ("gpu_ours.py", "steps:repmet")),
        Row(STEPS["repmet"], TORCH, ("torch_peer.py", "repmet_step", "products, CUDA graphs")),
        Row(STEPS["magnet"], TORCH, ("torch_peer.py", "magnet_step", GRAPHS)),
        *_kmeans("50,000 × 64, k = 64", "middle"),
        *_kmeans("1,000,000 × 64, k = 256", "large", 2),  # whose inertia takes seconds
        *_kmeans("102 × 60 × 1,024, k = 3", "magnet"),
    ],
    [
        Row(STEPS["magnet"], OURS, ("gpu_ours.py", "steps:magnet"), SLOW),
        Row("step: detector, 16 scenes, 128 px", OURS, ("gpu_ours.py", "steps:detector"), SLOW),
        *_networks("gradient", LEARNING, OURS, "gpu_ours.py", SLOW),
    ],
    [
        Row("detection: 8 scenes, 128 px", OURS, ("gpu_ours.py", "detection:scenes")),
        *_networks("embedding", EMBEDDING, OURS, "gpu_ours.py"),
        *_networks("embedding", EMBEDDING, TORCH, "gpu_peers.py"),
    ],
]
