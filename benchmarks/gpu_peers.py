"""PyTorch's side of `on_gpu.sh` where `torch_peer.py` has none: needs PyTorch, torchvision and NumPy alone.

python benchmarks/gpu_peers.py WORK
"""

from __future__ import annotations

import sys
from collections.abc import Callable

import duel
import kmeans
import numpy as np
import torch
from gpu_ours import EMBEDDED, EMBEDDED_AT_ONCE, LARGE_SIZE, SIZES
from torch import Tensor, nn
from torch_peer import conv4


def network_of(work: str) -> nn.Module:
    if work == "conv4":
        return conv4().to(memory_format=torch.channels_last)
    import torchvision

    network = getattr(torchvision.models, work)(weights=None)
    if work == "resnet18":
        network.fc = nn.Identity()
    else:
        network.classifier = nn.Identity()
    return network.to(memory_format=torch.channels_last)


def embedding(work: str) -> None:
    """Images a second from the device's memory, by CUDA graphs of a compiled network."""
    side, channels = (SIZES[work], 1) if work == "conv4" else (LARGE_SIZE, 3)
    count = EMBEDDED * (16 if work == "conv4" else 1)
    network = torch.compile(network_of(work).eval(), mode="reduce-overhead")
    images = torch.randint(0, 256, (count, channels, side, side), dtype=torch.uint8)
    batches = images.contiguous(memory_format=torch.channels_last).split(EMBEDDED_AT_ONCE)

    @torch.inference_mode()
    def alone() -> None:
        for batch in batches:
            network(batch.float() / 255).clone()  # the next replay writes where this one wrote
        torch.cuda.synchronize()

    for _ in range(3):
        alone()
    serve(lambda: {"images a second, network alone": count / duel.seconds(alone)})


def lloyd(name: str) -> None:
    """Lloyd's iterations from given centroids, compiled; products in full float32, as ours."""
    work = kmeans.WORKS[name]
    points_at_host = kmeans.make_points(work)
    initial = torch.from_numpy(kmeans.first_centroids(work, points_at_host)).cuda()
    shape = (max(work.classes, 1), work.points, work.dim)
    points = torch.from_numpy(points_at_host).cuda().view(shape)
    initial = initial.view(shape[0], work.k, work.dim)
    ones = torch.ones(shape[:2])
    torch.set_float32_matmul_precision("highest")

    @torch.compile(mode="max-autotune-no-cudagraphs" if work.points > 500_000 else "reduce-overhead")
    def move(centroids: Tensor) -> Tensor:
        lengths = centroids.square().sum(-1)
        nearest = torch.baddbmm(lengths[:, None], points, centroids.mT, alpha=-2).argmin(-1)
        sums = torch.zeros_like(centroids).scatter_add(1, nearest[..., None].expand(shape), points)
        counts = torch.zeros(centroids.shape[:2]).scatter_add(1, nearest, ones)
        return torch.where(counts[..., None] > 0, sums / counts.clamp(min=1)[..., None], centroids)

    found = initial

    @torch.inference_mode()
    def fit() -> None:
        nonlocal found
        found = initial
        for _ in range(work.iterations):
            found = move(found).clone()
        torch.cuda.synchronize()

    def measure() -> dict[str, float]:
        seconds = duel.seconds(fit)
        centroids = found.cpu().numpy()
        parts = points_at_host.reshape(shape)
        total = sum(kmeans.inertia(part, one) for part, one in zip(parts, np.asarray(centroids), strict=True))
        return {"seconds": seconds, "inertia": total}

    fit()
    fit()
    serve(measure)


def serve(measure: Callable[[], dict[str, float]]) -> None:
    duel.serve(measure, {"version": f"PyTorch {torch.__version__}, {torch.cuda.get_device_name()}"})


if __name__ == "__main__":
    torch.set_default_device("cuda")
    torch.set_float32_matmul_precision("high")  # as XLA does by itself
    torch.backends.cudnn.benchmark = True
    kind, _, work = sys.argv[1].partition(":")
    {"embedding": embedding, "lloyd": lloyd}[kind](work)
