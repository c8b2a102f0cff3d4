"""Times a step that is shared by two processes, each on a core of its own, against one on one core.

    python benchmarks/scaling.py [--work=prototypical --work=magnet …]
    python benchmarks/scaling.py --one_device --against=PATH   # the step of one device, of another checkout
    python benchmarks/scaling.py --model                       # what is expected of many GPUs

Weak scaling: each process has as much to do as the one. Two processes that know nothing of each other run
beside: what they lose, they lose to the machine, which they share. The collectives of the compiled step are
counted, and timed by themselves over the loopback. All take turns in one run; let nothing else run meanwhile.
"""

from __future__ import annotations

import argparse
import os
import socket
import statistics
import sys
from pathlib import Path
from typing import Any

import duel
from scaled_work import WORKS, made

STEPS_A_TURN = 4
REPEATED = 20  # of what takes a few milliseconds
BAR_SCALING, BAR_ONE_DEVICE = 0.85, 0.99


def serve_one(work: str) -> None:
    """The step of one device, as any version of this code has it."""
    import hashlib

    import jax

    from fsljax.training.devices import compile_steps
    from fsljax.training.steps import on_device

    method = made(work, 1)
    state = jax.jit(method.init)(jax.random.key(0))
    data = jax.device_put(method.training_data(state.inference_variables()))
    if method.refresh_every:
        state = method.refresh(state, data)
    lowered = compile_steps(on_device(method), 1).lower(state, data)  # type: ignore[attr-defined]
    program = lowered.compile()

    def steps() -> None:
        nonlocal state
        for _ in range(STEPS_A_TURN):
            state, _ = program(state, data)
        jax.block_until_ready(state)

    steps()
    digest = hashlib.sha256(lowered.as_text().encode()).hexdigest()[:12]
    about = {"version": f"JAX {jax.__version__}", "program": digest}
    duel.serve(lambda: {"step": duel.seconds(steps) / STEPS_A_TURN}, about)


def serve_shared(work: str, port: str, process: int) -> None:
    """The step of two processes, and its collectives by themselves."""
    from fsljax.parallel import processes

    processes.begin(f"127.0.0.1:{port}", 2, process)
    import collectives
    import jax

    from fsljax.parallel.devices import UNASKED, chosen
    from fsljax.training.devices import compile_steps, how_spread, spread
    from fsljax.training.steps import on_device, placed

    devices = chosen(UNASKED)
    method = made(work, len(devices))
    state = jax.jit(method.init)(jax.random.key(0))
    given = method.training_data(state.inference_variables())
    if method.refresh_every:
        state = method.refresh(state, given)
    data = placed(given, 10.0, devices)
    lies, state = how_spread(state), spread(state, devices)
    compiled: Any = compile_steps(
        on_device(method), 1, devices, episodes=method.episodes_per_step, state=lies
    )
    program = compiled.lower(state, data).compile()
    found = collectives.read(program.as_text(), len(devices))
    again = {
        "collectives": collectives.alone(found, devices),
        "in one buffer": collectives.alone(found, devices, flat=True),
    }

    def steps() -> None:
        nonlocal state
        for _ in range(STEPS_A_TURN):
            state, _ = program(state, data)
        jax.block_until_ready(state)

    def measure() -> dict[str, float]:
        measured = {"step": duel.seconds(steps) / STEPS_A_TURN}
        for name, work in again.items():
            work()
            measured[name] = duel.seconds(lambda work=work: [work() for _ in range(REPEATED)]) / REPEATED
        return measured

    measure()
    about = {"collectives": collectives.told(found), "bytes": sum(one.bytes() for one in found)}
    duel.serve(measure, about | {"version": f"JAX {jax.__version__}"})
    processes.end()


def interval(values: list[float]) -> tuple[float, float]:
    """Of their median, 95 %: by ranks, without assuming how values spread; all of them where they are few."""
    from math import comb

    n, ranks, below = len(values), sorted(values), 0.0
    for rank in range(n // 2):
        below += comb(n, rank) / 2**n
        if below > 0.025:
            return ranks[max(rank - 1, 0)], ranks[n - 1 - max(rank - 1, 0)]
    return ranks[0], ranks[-1]


def told(name: str, ratios: list[float], bar: float) -> None:
    low, high = interval(ratios)
    middle = statistics.median(ratios)
    print(f"{name} {middle:.3f} ({low:.3f} – {high:.3f}), {len(ratios)} turns; at least {bar} is wanted")


def run(contestants: list[duel.Contestant], rounds: int) -> list[duel.Contestant]:
    """Of `duel.run`, where all must be there."""
    ready = duel.run(contestants, rounds)
    return ready if len(ready) == len(contestants) else sys.exit("Without it there is nothing to compare.")


def of_one_device(work: str, against: Path, rounds: int, starts: int) -> None:
    """Ours against another checkout's, each in several processes, one after another: where their memory lies
    makes them differ, too."""
    this = [sys.executable, str(Path(__file__).absolute()), "--serve", work]
    roots = {"this checkout": duel.ROOT, "the other": against.absolute()}
    ratios, times = [], {name: [] for name in roots}
    for start in range(starts):
        contestants = [duel.Contestant(name, [*this, "--root", str(root)]) for name, root in roots.items()]
        ran = run(contestants[:: -1 if start % 2 else 1], rounds)
        ours, theirs = sorted(ran, key=lambda one: list(roots).index(one.name))
        ratios += [other["step"] / own["step"] for own, other in zip(ours.rounds, theirs.rounds, strict=True)]
        for one in ran:
            times[one.name] += [turn["step"] for turn in one.rounds]
    rows = [[name, duel.milliseconds(statistics.median(of))] for name, of in times.items()]
    duel.print_table([work, "ms a step"], rows)
    same = ours.about["program"] == theirs.about["program"]
    print(f"the programs given to XLA are {'the same to the byte' if same else 'not the same'}")
    told("the other's time / ours:", ratios, BAR_ONE_DEVICE)


def of_two_processes(work: str, rounds: int) -> None:
    this = [sys.executable, str(Path(__file__).absolute()), "--serve", work]
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    alone = [[*this, "--core", str(core)] for core in (0, 1)]
    shared = [[*own, "--port", port, "--process", str(core)] for core, own in enumerate(alone)]
    contestants = run(
        [
            duel.Contestant("1 process, 1 core", alone[0]),
            duel.Contestant("2 processes, unrelated", alone[0], alone[1:]),
            duel.Contestant("2 processes, one run", shared[0], shared[1:]),
        ],
        rounds,
    )
    one, apart, together = contestants
    rows = [
        [each.name, duel.milliseconds(each.median("step")), f"{duel.ratio(each, one, 'step'):.3f}"]
        for each in contestants
    ]
    duel.print_table([work, "ms a step", "1 process's / its time"], rows)
    print(f"{together.about['bytes']:,} bytes a step: {together.about['collectives']}")
    by_itself = [duel.milliseconds(together.median(name)) for name in ("collectives", "in one buffer")]
    waiting = statistics.median(
        own["step"] - other["step"] for own, other in zip(together.rounds, apart.rounds, strict=True)
    )
    print(
        f"collectives by themselves {by_itself[0]} ms (all-reduces in one buffer {by_itself[1]}); "
        f"the step takes {1000 * waiting:.1f} ms more than that of unrelated processes"
    )
    ratios = [alone["step"] / own["step"] for alone, own in zip(one.rounds, together.rounds, strict=True)]
    told("weak scaling", ratios, BAR_SCALING)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument(
        "--work", action="append", choices=WORKS, help="prototypical by default, all in the model; repeat it"
    )
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--one_device", action="store_true")
    parser.add_argument("--starts", type=int, default=4, help="of both processes, with --one_device")
    parser.add_argument("--against", type=Path, help="a checkout whose step is the measure")
    parser.add_argument("--model", action="store_true")
    for name in ("serve", "root", "core", "port", "process"):
        parser.add_argument(f"--{name}", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        serve(arguments)
        return
    if arguments.model:
        import scaling_model

        scaling_model.main(arguments.work or WORKS)
        return
    if arguments.one_device and arguments.against is None:
        parser.error("--one_device needs --against=PATH")
    os.environ["JAX_PLATFORMS"] = "cpu"
    for work in arguments.work or ["prototypical"]:
        if arguments.one_device:
            of_one_device(work, arguments.against, arguments.rounds, arguments.starts)
        else:
            of_two_processes(work, arguments.rounds)


def serve(arguments: argparse.Namespace) -> None:
    if arguments.root:
        sys.path.insert(0, arguments.root)
    if arguments.core:
        os.sched_setaffinity(0, {int(arguments.core)})  # before any library counts the cores
    from fsljax.training.host_memory import keep_freed_memory

    keep_freed_memory()
    if arguments.port:
        serve_shared(arguments.serve, arguments.port, int(arguments.process))
    else:
        serve_one(arguments.serve)


if __name__ == "__main__":
    main()
