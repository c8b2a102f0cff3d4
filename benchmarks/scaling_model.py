"""What a step, a refresh and an evaluation are expected to take on many GPUs: computed, not measured.

It starts from what was measured on one GPU, and from what devices of a compiled step send each other; each
assumption is printed with the tables. Weak scaling: each GPU has as much to do, whatever their number.
"""

from __future__ import annotations

import math
import os
import sys
from dataclasses import dataclass

import duel

GPUS = (8, 64, 1024)
COMPILED_FOR = 2

GPUS_A_HOST = 8
NVLINK, INFINIBAND, PCIE = (
    360e9,
    40e9,
    25e9,
)  # bytes a second of a GPU and direction: 80 % of 450, of 50; PCIe 5
FIRST, HOP = 10e-6, 5e-6  # seconds: of a collective within a host, and of each doubling of the hosts
REACHED = 14.8e12  # FLOP a second in a step
FORWARD_RATE = 35_000  # images a second by ResNet-18 at 64 px
SET, CLASSES, DIM, EVERY = 1_281_167, 1_000, 512, 500  # of a refresh: the size of ImageNet
CLUSTERING = 0.0087 / (102 * 60 * 1024)  # seconds of a point's number, k = 3
TEST_IMAGES, CONV4_RATE, EPISODES, EPISODE_RATE = 33_840, 1.6e6, 10_000, 2_433

ASSUMED = """measured:
  prototypical step, 60-way 1-shot 5-query: 1.41 ms on an H100 (1.31 on an H200), 50 a call: 14.8 TFLOP/s, 3 %
    of the 495 that an H100 has in TF32; the steps below that were not measured are taken to reach as much
  RepMet's step on features: 0.44 ms; k-means of 102 × 60 × 1,024: 8.7 ms (H200)
  Conv-4 embeds 1.6 million images a second on an H100, the network alone (PyTorch's)
  20-way 5-shot episodes: 2,433 a second on two CPU cores, embedding included
  number and bytes of the collectives: from the programs that XLA compiles for two devices of a CPU
assumed:
  8 GPUs a host; NVLink 360 GB/s and InfiniBand 40 GB/s for a GPU (80 % of 450 and of 50), PCIe 25 GB/s
  all-reduce: reduce-scatter and all-gather within the host, a ring between hosts on each of 8 rails; a
    collective takes 10 µs in a host at least, and 5 µs more, each way, for each doubling of the hosts
  collectives wait for compute, and compute for them: nothing overlaps
  ResNet-18 embeds 35,000 images of 64 px a second on a GPU"""


@dataclass(frozen=True)
class Step:
    """A step as it was compiled.

    Attributes:
      work: whose it is.
      flop: of a device.
      sent: kinds and bytes of the collectives, for `COMPILED_FOR` devices.
    """

    work: str
    flop: float
    sent: tuple[tuple[str, int], ...]

    def compute(self, gpus: int) -> float:
        return (self.flop + pairs(self.work, gpus)) / REACHED

    def collective(self, gpus: int) -> float:
        return sum(seconds(kind, grown(kind, size, gpus), gpus) for kind, size in self.sent)

    def bytes(self, gpus: int) -> int:
        return round(sum(grown(kind, size, gpus) for kind, size in self.sent))


def grown(kind: str, size: int, gpus: int) -> float:
    """Bytes of a collective: what is gathered has a part of each GPU."""
    return size if kind == "all-reduce" else size * gpus / COMPILED_FOR


def seconds(kind: str, size: float, gpus: int) -> float:
    """Of a collective by itself."""
    hosts = math.ceil(gpus / GPUS_A_HOST)
    within = size * (GPUS_A_HOST - 1) / GPUS_A_HOST / NVLINK
    between = size / GPUS_A_HOST * (hosts - 1) / hosts / INFINIBAND
    passes = 2 if kind == "all-reduce" else 1
    return FIRST + passes * (HOP * math.log2(hosts) + within + between)


def pairs(work: str, gpus: int) -> float:
    """FLOP of what every GPU computes of the whole batch: distances of embeddings, and their gradients."""
    batch = 48 * gpus
    others = {"magnet": 12 * gpus, "triplet": batch}.get(work, 0)
    episode = 60 * gpus * 300 * gpus * 64 if work == "one episode" else 0
    return 3 * 2 * (batch * others * DIM + episode)


def compiled(work: str) -> Step:
    import collectives
    import jax
    import scaling

    from fsljax.parallel.devices import chosen
    from fsljax.training.devices import compile_steps, how_spread, spread
    from fsljax.training.steps import on_device, placed

    devices = chosen(COMPILED_FOR)
    method = scaling.made(work, len(devices), kernels="xla")
    state = jax.jit(method.init)(jax.random.key(0))
    data = placed(method.training_data(state.inference_variables()), 10.0, devices)
    lies, state = how_spread(state), spread(state, devices)
    steps = compile_steps(on_device(method), 1, devices, episodes=method.episodes_per_step, state=lies)
    lowered = steps.lower(state, data)  # type: ignore[attr-defined]
    text = lowered.compile({"xla_backend_optimization_level": 0}).as_text()  # it is read, not run
    sent = tuple((one.kind, one.bytes()) for one in collectives.read(text, len(devices)))

    alone = scaling.made(work, 1, kernels="xla")
    state = jax.jit(alone.init)(jax.random.key(0))
    given = alone.training_data(state.inference_variables())
    counted = compile_steps(on_device(alone), 1).lower(state, given).cost_analysis()  # type: ignore[attr-defined]
    print(f"{work}: {counted['flops']:.3g} FLOP, {sent}", file=sys.stderr, flush=True)
    return Step(work, counted["flops"], sent)


def shown(step: Step) -> list[str]:
    cells = [step.work, f"{step.flop / 1e9:.1f}", str(len(step.sent))]
    for gpus in GPUS:
        compute, collective = step.compute(gpus), step.collective(gpus)
        cells += [
            f"{duel.milliseconds(compute)} + {duel.milliseconds(collective)}",
            f"{step.compute(1) / (compute + collective):.0%}",
        ]
    return cells


def refreshes() -> list[list[str]]:
    """Magnet's, of as many images as ImageNet has: seconds of each part, and milliseconds a step."""
    rows = []
    for gpus in (1, *GPUS):
        embedding = SET / FORWARD_RATE / gpus
        clustering = CLUSTERING * SET * DIM / min(gpus, CLASSES)
        gathered = SET * DIM * 4
        handed = (seconds("all-gather", gathered, gpus) if gpus > 1 else 0) + gathered / PCIE
        total = embedding + clustering + handed
        rows.append(
            [f"{gpus:,}", *(f"{value:.2f}" for value in (embedding, clustering, handed, total)),
             f"{1000 * total / EVERY:.1f}"]
        )  # fmt: skip
    return rows


def evaluations() -> list[list[str]]:
    """Omniglot's test part, and 10,000 20-way 5-shot episodes."""
    rows = []
    for gpus in (1, *GPUS):
        batches = math.ceil(TEST_IMAGES / (128 * gpus))
        embedding = batches * 128 / CONV4_RATE
        episodes = EPISODES / EPISODE_RATE
        rows.append([f"{gpus:,}", f"{1000 * embedding:.2f}", f"{episodes:.1f}"])
    return rows


def main() -> None:
    os.environ["JAX_PLATFORMS"] = "cpu"
    os.environ["XLA_FLAGS"] = f"--xla_force_host_platform_device_count={COMPILED_FOR}"
    import scaling

    print(ASSUMED)
    rows = [shown(compiled(work)) for work in scaling.WORKS]
    columns = [title for gpus in GPUS for title in (f"{gpus:,}: compute + collectives, ms", "of 1")]
    duel.print_table(["step", "GFLOP", "collectives", *columns], rows)
    print(f"\nMagnet's refresh of {SET:,} images, {CLASSES:,} classes, {DIM} dimensions, k = 3; seconds")
    duel.print_table(
        ["GPUs", "embedding", "clustering", "to all hosts", "together", f"ms a step, every {EVERY}"],
        refreshes(),
    )
    print("\nevaluation")
    duel.print_table(["GPUs", "embedding, ms", "episodes, s"], evaluations())
