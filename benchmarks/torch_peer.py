"""The same work in PyTorch, for benchmarks: needs PyTorch and NumPy alone, float32 throughout."""

from __future__ import annotations

import platform
import sys
from collections.abc import Callable

import duel
import numpy as np
import torch
from step_duel import ON_ACCELERATORS
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval

from fsljax.training.host_memory import keep_freed_memory

ON_GPU = torch.cuda.is_available()


def conv4(filters: int = 64, *, bias: bool = False) -> nn.Sequential:
    blocks: list[nn.Module] = []
    for channels in (1, filters, filters, filters):
        blocks += [
            nn.Conv2d(channels, filters, 3, padding=1, bias=bias), nn.BatchNorm2d(filters), nn.ReLU(),
            nn.MaxPool2d(2),
        ]  # fmt: skip
    return nn.Sequential(*blocks, nn.Flatten())


def memory_format(name: str) -> torch.memory_format:
    return torch.channels_last if "channels_last" in name else torch.contiguous_format


def compiled_if_named(function: Callable[..., Tensor], name: str) -> Callable[..., Tensor]:
    if "CUDA graphs" in name:
        if not ON_GPU:
            sys.exit("There is no GPU.")
        return torch.compile(function, mode="reduce-overhead")
    return torch.compile(function) if "compiled" in name else function


def serve_steps(step: Callable[[], None], count: int) -> None:
    """Serves turns of `count` steps on a CPU, of as many as ours takes on a GPU."""
    count *= ON_ACCELERATORS if ON_GPU else 1

    def steps() -> None:
        for _ in range(count):
            step()
        if ON_GPU:
            torch.cuda.synchronize()

    steps()
    device = torch.cuda.get_device_name() if ON_GPU else "cpu"
    version = f"PyTorch {torch.__version__}, Python {platform.python_version()}, {device}"
    duel.serve(lambda: {"step": duel.seconds(steps) / count}, {"version": version})


def serve_train_step(name: str) -> None:
    from train_step import CLASSES, IMAGES_A_CLASS, QUERIES, SHOT, SIZE, STEPS_A_TURN, WAY

    torch.manual_seed(0)
    layout = memory_format(name)
    network = conv4().to(memory_format=layout)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3, fused=True)
    images = torch.randint(0, 256, (CLASSES, IMAGES_A_CLASS, 1, SIZE, SIZE), dtype=torch.uint8)
    own_class = torch.arange(WAY).repeat_interleave(QUERIES)

    def loss_of(batch: Tensor) -> Tensor:
        embeddings = network(batch).view(WAY, SHOT + QUERIES, -1)
        prototypes = embeddings[:, :SHOT].mean(1)
        queries = embeddings[:, SHOT:].reshape(WAY * QUERIES, -1)
        distances = (queries[:, None] - prototypes[None]).square().sum(-1)
        return functional.cross_entropy(-distances, own_class)

    compiled = compiled_if_named(loss_of, name)

    def step() -> None:
        classes = torch.randperm(CLASSES)[:WAY]
        drawn = torch.rand(WAY, IMAGES_A_CLASS).argsort(1)[:, : SHOT + QUERIES]
        batch = images[classes[:, None], drawn].flatten(0, 1).float() / 255
        optimizer.zero_grad(set_to_none=True)
        compiled(batch.contiguous(memory_format=layout)).backward()
        optimizer.step()

    serve_steps(step, STEPS_A_TURN)


def serve_evaluate(name: str) -> None:
    from evaluate import CLASSES, EPISODES, IMAGES_A_CLASS, QUERIES, SHOT, SIZE, WAY, measure_and_serve

    torch.manual_seed(0)
    layout = memory_format(name)
    folded: list[nn.Module] = []
    for layer in conv4(bias=True).eval():
        if isinstance(layer, nn.BatchNorm2d):
            folded[-1] = fuse_conv_bn_eval(folded[-1], layer)  # type: ignore[type-var]
        else:
            folded.append(layer)
    network: nn.Module = nn.Sequential(*folded).eval().to(memory_format=layout)
    if "compiled" in name:
        network = torch.compile(network)  # type: ignore[assignment]
    images = torch.randint(0, 256, (CLASSES * IMAGES_A_CLASS, 1, SIZE, SIZE), dtype=torch.uint8)
    own_class = torch.arange(WAY)[:, None]

    @torch.inference_mode()
    def embed() -> Tensor:
        batches = images.split(512 if "512" in name else 64)
        return torch.cat(
            [network((batch.float() / 255).contiguous(memory_format=layout)) for batch in batches]
        )

    @torch.inference_mode()
    def accuracies(embeddings: Tensor) -> np.ndarray:
        parts = []
        chunk = 150
        centred = embeddings - embeddings.mean(0)
        for start in range(0, EPISODES, chunk):
            count = min(chunk, EPISODES - start)
            classes = torch.rand(count, CLASSES).topk(WAY, dim=1).indices
            drawn = torch.rand(count, WAY, IMAGES_A_CLASS).argsort(2)[..., : SHOT + QUERIES]
            episodes = centred[classes[..., None] * IMAGES_A_CLASS + drawn]
            prototypes = episodes[:, :, :SHOT].mean(2)
            queries = episodes[:, :, SHOT:].flatten(1, 2)
            scores = queries @ prototypes.mT - 0.5 * prototypes.square().sum(-1)[:, None]
            right = scores.argmax(-1).view(count, WAY, QUERIES) == own_class
            parts.append(right.float().mean((1, 2)))
        return torch.cat(parts).numpy()

    measure_and_serve(embed, accuracies, f"PyTorch {torch.__version__}")


class Block(nn.Module):
    """Two 3×3 convolutions beside a shortcut."""

    def __init__(self, inputs: int, outputs: int, stride: int):
        super().__init__()
        self.inner = nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(),
            nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False), nn.BatchNorm2d(outputs),
        )  # fmt: skip
        self.shortcut = (
            nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))
            if stride > 1
            else nn.Identity()
        )

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(self.inner(x) + self.shortcut(x))


def resnet18() -> nn.Sequential:
    layers: list[nn.Module] = [
        nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d(3, 2, 1)
    ]  # fmt: skip
    inputs = 64
    for stage, outputs in enumerate((64, 128, 256, 512)):
        layers += [Block(inputs, outputs, 2 if stage else 1), Block(outputs, outputs, 1)]
        inputs = outputs
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())


def serve_magnet_step(name: str) -> None:
    from magnet_step import CLASSES, CLUSTERS, EXAMPLES, IMAGES_A_CLASS, SIZE, STEPS_A_TURN

    torch.manual_seed(0)
    layout = memory_format(name)
    network = resnet18().to(memory_format=layout)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3, fused=True)
    images = torch.randint(0, 256, (CLASSES * IMAGES_A_CLASS, 3, SIZE, SIZE), dtype=torch.uint8)
    other = ~torch.eye(CLUSTERS, dtype=torch.bool)[:, None]

    def loss_of(batch: Tensor) -> Tensor:
        embeddings = network(batch).view(CLUSTERS, EXAMPLES, -1)
        means = embeddings.mean(1)
        distances = (embeddings[:, :, None] - means).square().sum(-1)
        own = (embeddings - means[:, None]).square().sum(-1)
        scale = 0.5 * (CLUSTERS * EXAMPLES - 1) / own.sum()
        impostors = torch.where(other, -distances * scale, -torch.inf).logsumexp(-1)
        return functional.relu(own * scale + 1 + impostors).mean()

    compiled = compiled_if_named(loss_of, name)

    def step() -> None:
        drawn = torch.randint(len(images), (CLUSTERS * EXAMPLES,))
        batch = images[drawn].float() / 255
        optimizer.zero_grad(set_to_none=True)
        compiled(batch.contiguous(memory_format=layout)).backward()
        optimizer.step()

    serve_steps(step, STEPS_A_TURN)


def serve_repmet_step(name: str) -> None:
    import repmet_step as task

    torch.manual_seed(0)
    head = nn.Linear(task.FEATURES, task.DIM)
    representatives = nn.Parameter(torch.randn(task.CLASSES, task.REPRESENTATIVES, task.DIM))
    optimizer = torch.optim.Adam([*head.parameters(), representatives], lr=1e-3, fused=True)
    features = torch.randn(task.CLASSES, task.IMAGES_A_CLASS, task.FEATURES)

    def loss_of(batch: Tensor, labels: Tensor) -> Tensor:
        embeddings = head(batch)
        centres = functional.normalize(representatives, dim=-1).view(-1, task.DIM)
        if "products" in name:
            lengths = embeddings.square().sum(-1)[:, None] + centres.square().sum(-1)
            squares = lengths - 2 * embeddings @ centres.T
        else:
            squares = (embeddings[:, None] - centres).square().sum(-1)
        logs = (
            (-squares / (2 * task.SIGMA**2))
            .view(len(batch), task.CLASSES, task.REPRESENTATIVES)
            .logsumexp(-1)
        )
        return functional.relu(functional.cross_entropy(logs, labels, reduction="none") + task.ALPHA).mean()

    compiled = compiled_if_named(loss_of, name)

    def step() -> None:
        classes = torch.randperm(task.CLASSES)[: task.BATCH_CLASSES]
        drawn = torch.rand(task.BATCH_CLASSES, task.IMAGES_A_CLASS).argsort(1)[:, : task.EXAMPLES]
        optimizer.zero_grad(set_to_none=True)
        batch = features[classes[:, None], drawn].flatten(0, 1)
        compiled(batch, classes.repeat_interleave(task.EXAMPLES)).backward()
        optimizer.step()

    serve_steps(step, task.STEPS_A_TURN)


def serve_detection_ops(name: str) -> None:
    import detection_ops as task

    boxes, scores = map(torch.from_numpy, task.crowd())
    maps, rois = task.pyramid()
    # Channels last for gathering cells, first for `grid_sample`, each as it likes them.
    levels = [torch.from_numpy(of) for of in maps]
    if "grid_sample" in name:
        levels = [of.permute(2, 0, 1).contiguous() for of in levels]
    leaves = [of.clone().requires_grad_() for of in levels]

    def suppress() -> Tensor:
        areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
        left, kept = scores.argsort(descending=True, stable=True), []
        while len(left) and len(kept) < task.KEEP:
            best, left = left[0], left[1:]
            kept.append(best)
            others = boxes[left]
            sides = torch.minimum(boxes[best, 2:], others[:, 2:]) - torch.maximum(
                boxes[best, :2], others[:, :2]
            )
            shared = sides.clamp(min=0).prod(1)
            left = left[shared <= task.IOU * (areas[best] + areas[left] - shared)]
        return torch.stack(kept)

    def gathered(level: Tensor, y: Tensor, x: Tensor) -> Tensor:
        height, width, _ = level.shape
        y, x = y.clamp(0, height - 1)[:, :, None], x.clamp(0, width - 1)[:, None]
        top, left = y.long().clamp(max=height - 2), x.long().clamp(max=width - 2)
        below, right = (y - top)[..., None], (x - left)[..., None]
        points = (
            level[top, left] * ((1 - below) * (1 - right))
            + level[top, left + 1] * ((1 - below) * right)
            + level[top + 1, left] * (below * (1 - right))
            + level[top + 1, left + 1] * (below * right)
        )
        return points.view(-1, task.BINS, task.SAMPLES, task.BINS, task.SAMPLES, task.CHANNELS).mean((2, 4))

    def sampled(level: Tensor, y: Tensor, x: Tensor) -> Tensor:
        _, height, width = level.shape
        down, across = torch.broadcast_tensors(
            ((2 * y + 1) / height - 1)[:, :, None], ((2 * x + 1) / width - 1)[:, None]
        )
        grid = torch.stack([across, down], -1).view(1, -1, task.BINS * task.SAMPLES, 2)
        points = functional.grid_sample(level[None], grid, padding_mode="border", align_corners=False)[0]
        means = functional.avg_pool2d(points, task.SAMPLES)
        return means.view(task.CHANNELS, -1, task.BINS, task.BINS).permute(1, 2, 3, 0)

    read = sampled if "grid_sample" in name else gathered

    def align(of_levels: list[Tensor]) -> Tensor:
        parts, places = [], []
        for level, (own, y, x) in zip(of_levels, task.grids(rois), strict=True):
            parts.append(read(level, torch.from_numpy(y), torch.from_numpy(x)))
            places.append(torch.from_numpy(own))
        return torch.cat(parts)[torch.cat(places).argsort()]

    def measure() -> dict[str, float]:
        with torch.inference_mode():
            forward = duel.seconds(lambda: align(levels))
            threads = torch.get_num_threads()
            torch.set_num_threads(1)  # its short operations wait for one another else
            suppression = duel.seconds(suppress)
            torch.set_num_threads(threads)
        features = align(leaves)
        outer = torch.ones_like(features)
        gradient = duel.seconds(lambda: torch.autograd.grad(features, leaves, outer))
        return {"nms": suppression, "roi_align": forward, "gradient": gradient}

    measure()
    version = f"PyTorch {torch.__version__}, Python {platform.python_version()}"
    sums = task.checksums(suppress().numpy(), align(levels).numpy())
    duel.serve(measure, {"version": version} | sums)


if __name__ == "__main__":
    if duel.TUNED in sys.argv[2]:
        keep_freed_memory()
    if ON_GPU:
        torch.set_default_device("cuda")
        torch.set_float32_matmul_precision("high")  # as XLA does by itself
        torch.backends.cudnn.benchmark = True
    serve = {
        "train_step": serve_train_step,
        "evaluate": serve_evaluate,
        "magnet_step": serve_magnet_step,
        "repmet_step": serve_repmet_step,
        "detection_ops": serve_detection_ops,
    }
    serve[sys.argv[1]](sys.argv[2])
