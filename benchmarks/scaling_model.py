"""What a step, a refresh and an evaluation are expected to take on many GPUs: computed, not measured.

It starts from what was measured on one GPU, and from what devices of a compiled step send each other; each
assumption is printed with the tables. Weak scaling: each GPU has as much to do, whatever their number.
"""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Sequence
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
MEASURED = {"prototypical": 1.41e-3, "one episode": 1.41e-3} | dict.fromkeys(
    ("softmax", "triplet", "magnet", "repmet"), 4.11e-3
)  # seconds of a step on one GPU, of 48 images by ResNet-18 PyTorch's
REACHED = 8e12  # FLOP a second, of what was not measured
FORWARD_RATE = 25_000  # images a second by ResNet-18 at 64 px
SET, CLASSES, DIM, EVERY = 1_281_167, 1_000, 512, 500  # of a refresh: the size of ImageNet
CLUSTERING = 0.0087 / (102 * 60 * 1024)  # seconds of a point's number, k = 3
TEST_IMAGES, CONV4_RATE, BATCH = 33_840, 1.6e6, 128  # Omniglot's test part

ASSUMED = """measured on one GPU:
  60-way 1-shot 5-query step, Conv-4: 1.41 ms on an H100 (1.31 on an H200), 50 a call; 13 TFLOP/s, 3 % of the
    495 that an H100 has in TF32
  48 images of 64 px by ResNet-18: 4.11 ms, PyTorch's Magnet step on an H200 (not ours); 8 TFLOP/s
  k-means of 102 × 60 × 1,024, k = 3: 8.7 ms on an H200
  Conv-4 embeds 1.6 million images a second on an H100, PyTorch's network alone
counted:
  FLOP: by XLA, of a step of one device; collectives: of the step that XLA compiles for two devices of a CPU
assumed:
  the detector reaches 8 TFLOP/s, and so does what each GPU computes of the whole batch: 9 FLOP for each
    number in the differences of embeddings, with gradients, and 3 for each triplet
  ResNet-18 embeds 25,000 images of 64 px a second on a GPU (8 TFLOP/s)
  8 GPUs a host; NVLink 360 GB/s and InfiniBand 40 GB/s for a GPU (80 % of 450 and of 50), PCIe 25 GB/s
  all-reduce: reduce-scatter and all-gather within the host, a ring between hosts on each of 8 rails; a
    collective takes 10 µs in a host at least, and 5 µs more, each way, for each doubling of the hosts
  nothing overlaps, and no GPU waits for another that is slower"""


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
        own = MEASURED.get(self.work, self.flop / REACHED)
        return own + (compared(self.work, gpus) - compared(self.work, 1)) / REACHED

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


def compared(work: str, gpus: int) -> float:
    """FLOP of what every GPU computes of the whole batch: its embeddings compared with each other."""
    batch = 48 * gpus
    if work == "magnet":
        return 9 * batch * 12 * gpus * DIM
    if work == "triplet":
        return 9 * batch**2 * DIM + 3 * batch**3
    return 9 * (300 * gpus) * (60 * gpus) * 64 if work == "one episode" else 0


def compiled(work: str) -> Step:
    import collectives
    import jax
    import scaled_work

    from fsljax.parallel.devices import chosen
    from fsljax.training.devices import compile_steps, how_spread, spread
    from fsljax.training.steps import on_device, placed

    devices = chosen(COMPILED_FOR)
    method = scaled_work.made(work, len(devices), kernels="xla")
    state = jax.jit(method.init)(jax.random.key(0))
    data = placed(method.training_data(state.inference_variables()), 10.0, devices)
    lies, state = how_spread(state), spread(state, devices)
    steps = compile_steps(on_device(method), 1, devices, episodes=method.episodes_per_step, state=lies)
    lowered = steps.lower(state, data)  # type: ignore[attr-defined]
    text = lowered.compile({"xla_backend_optimization_level": 0}).as_text()  # it is read, not run
    sent = tuple((one.kind, one.bytes()) for one in collectives.read(text, len(devices)))

    alone = scaled_work.made(work, 1, kernels="xla")
    state = jax.jit(alone.init)(jax.random.key(0))
    given = alone.training_data(state.inference_variables())
    counted = compile_steps(on_device(alone), 1).lower(state, given).cost_analysis()  # type: ignore[attr-defined]
    print(f"{work}: {counted['flops']:.3g} FLOP, {sent}", file=sys.stderr, flush=True)
    return Step(work, counted["flops"], sent)


def shown(step: Step) -> list[str]:
    cells = [step.work, f"{step.flop / 1e9:.1f}", str(len(step.sent)), f"{step.bytes(GPUS[0]) / 1e6:.2f}"]
    for gpus in GPUS:
        compute, collective = step.compute(gpus), step.collective(gpus)
        cells += [
            f"{1000 * compute:,.2f} + {1000 * collective:.2f}",
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
    """Of Omniglot's test part: milliseconds of the embedding, in batches that each GPU takes whole."""
    batches = [(gpus, math.ceil(TEST_IMAGES / (BATCH * gpus))) for gpus in (1, *GPUS)]
    return [[f"{gpus:,}", str(count), f"{1000 * count * BATCH / CONV4_RATE:.2f}"] for gpus, count in batches]


def main(works: Sequence[str]) -> None:
    os.environ["JAX_PLATFORMS"] = "cpu"
    os.environ["XLA_FLAGS"] = f"--xla_force_host_platform_device_count={COMPILED_FOR}"
    print(ASSUMED)
    rows = [shown(compiled(work)) for work in works]
    columns = [title for gpus in GPUS for title in (f"{gpus:,}: compute + collectives, ms", "of one's")]
    duel.print_table(["step", "GFLOP", "collectives", f"MB, {GPUS[0]} GPUs", *columns], rows)
    print(f"\nMagnet's refresh of {SET:,} images, {CLASSES:,} classes, {DIM} dimensions, k = 3; seconds")
    duel.print_table(
        ["GPUs", "embedding", "clustering", "to all hosts", "together", f"ms a step, every {EVERY}"],
        refreshes(),
    )
    print(f"\nevaluation: {TEST_IMAGES:,} images embedded by Conv-4")
    duel.print_table(["GPUs", f"rounds of {BATCH} for each", "ms"], evaluations())
