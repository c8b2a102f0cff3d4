"""Tells where the time of the detector's training step goes: tracing, compiling, running, and which kernels.

    python benchmarks/detector_step.py --steps 1 50

For each number of steps a call: seconds of tracing and lowering, seconds of XLA's compilation, milliseconds a
step afterwards, and the instructions of the compiled program. Then, for the first number, the time of each
function's kernels, as the profiler counts it. Scenes of `configs/repmet_detection_scenes.py`, of glyphs.

    python benchmarks/detector_step.py --peer_python=PATH

times a larger one instead, in turns with torchvision's Faster R-CNN: see `detector_duel.py`.
"""

from __future__ import annotations

import argparse
import collections
import re
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import detector_duel
import duel
import numpy as np

if TYPE_CHECKING:
    from fsljax.detection.data.scenes.drawings import SceneDrawings
    from fsljax.training.method import Method
    from fsljax.training.state import TrainState

STEPS_TIMED, STEPS_PROFILED = 50, 10
SHOWN = 25
CHARACTERS, DRAWINGS, STROKES, WAY = 800, 15, 4, 5
INSTRUCTION = re.compile(r"\s+(?:ROOT )?%?[\w.-]+ = .*? ([a-z][\w-]*)\(")
STRUCTURAL = (
    "while", "conditional", "fusion", "sort", "gather", "scatter", "custom-call", "call", "copy", "topk",
    "convolution", "dot", "dynamic-update-slice", "reduce", "transpose",
)  # fmt: skip


def drawings() -> SceneDrawings:
    """Characters of a few straight strokes, a little different in each drawing."""
    import jax.numpy as jnp
    from PIL import Image, ImageDraw

    from fsljax.detection.data.scenes.composition import Drawings
    from fsljax.detection.data.scenes.drawings import SIDE, SceneDrawings

    generator = np.random.default_rng(0)
    ends = generator.uniform(0.1 * SIDE, 0.9 * SIDE, (CHARACTERS, 1, STROKES, 4))
    ends = ends + generator.normal(size=(CHARACTERS, DRAWINGS, STROKES, 4), scale=2.0)
    images = np.zeros((CHARACTERS, DRAWINGS, SIDE, SIDE), np.uint8)
    for place in np.ndindex(CHARACTERS, DRAWINGS):
        picture = Image.new("L", (SIDE, SIDE))
        pen = ImageDraw.Draw(picture)
        for line in ends[place]:
            pen.line(line.tolist(), fill=255, width=3)
        images[place] = np.asarray(picture)
    names = tuple(map(str, range(CHARACTERS)))
    few = Drawings(jnp.asarray(images[:WAY]))
    return SceneDrawings(Drawings(jnp.asarray(images)), few, few, names, names[:WAY])


def made() -> tuple[Method, TrainState, Any]:
    """The detector of scenes, its first state, and its training data on the device."""
    import jax

    from configs.repmet_detection_scenes import get_config
    from fsljax import methods
    from fsljax.detection.data.sets.scenes import Scenes

    config: Any = methods.check(get_config())
    method = methods.build(config, Scenes(drawings(), config.scenes))
    began = time.perf_counter()
    state = jax.block_until_ready(jax.jit(method.init)(jax.random.key(0)))
    print(f"first state, with its compilation: {time.perf_counter() - began:.1f} s", flush=True)
    return method, state, jax.device_put(method.training_data(state.inference_variables()))


class Program:
    """A compiled number of steps.

    Attributes:
      count: steps a call.
      compiled: the call.
      text: of the compiled program.
    """

    def __init__(self, method: Method, state: TrainState, data: Any, count: int):
        from fsljax.training import devices
        from fsljax.training.steps import on_device

        self.count = count
        began = time.perf_counter()
        lowered = devices.compile_steps(on_device(method), count).lower(state, data)  # type: ignore[attr-defined]
        lowering = time.perf_counter() - began
        began = time.perf_counter()
        self.compiled = lowered.compile()
        compiling = time.perf_counter() - began
        self.text: str = self.compiled.as_text()
        print(
            f"\n{count} steps a call: traced and lowered in {lowering:.1f} s, compiled in {compiling:.1f} s\n"
            f"  instructions: {instructions(self.text)}",
            flush=True,
        )

    def run(self, state: TrainState, data: Any, steps: int) -> TrainState:
        import jax

        for _ in range(-(-steps // self.count)):
            state, _ = self.compiled(state, data)
        return jax.block_until_ready(state)


def instructions(text: str) -> dict[str, int]:
    """How many of each kind a compiled program has; those within fusions and reductions are not counted."""
    text = re.sub(r"/\*.*?\*/", "", text)
    within = {
        name
        for line in text.splitlines()
        if " call(" not in line
        for name in re.findall(r"(?:calls|to_apply)=%?([\w.-]+)", line)
    }
    counts: collections.Counter[str] = collections.Counter()
    name = ""
    for line in text.splitlines():
        if started := re.match(r"(?:ENTRY )?%?([\w.-]+) \(", line):
            name = started[1]
        elif name not in within and (
            found := re.match(r"\s+(?:ROOT )?%?[\w.-]+ = .*? ([a-z][\w-]*)\(", line)
        ):
            kind = found[1]
            target = re.search(r'custom_call_target="([^"]+)"', line)
            counts[f"{kind} {target[1]}" if target else kind] += 1
    shown = {kind: count for kind, count in counts.most_common() if kind.split()[0] in STRUCTURAL}
    return {"all": sum(counts.values())} | shown


def functions(text: str) -> dict[str, str]:
    """Of each instruction of a compiled program, the innermost function of ours that it is from."""
    names = dict(re.findall(r'^(\d+) "(.*)"$', _section(text, "FunctionNames"), re.M))
    files = dict(re.findall(r'^(\d+) "(.*)"$', _section(text, "FileNames"), re.M))
    places = {
        number: (files.get(file, ""), names.get(function, ""))
        for number, file, function in re.findall(
            r"^(\d+) \{file_name_id=(\d+) function_name_id=(\d+)", _section(text, "FileLocations"), re.M
        )
    }
    frames = {
        number: (place, parent)
        for number, place, parent in re.findall(
            r"^(\d+) \{file_location_id=(\d+)(?: parent_frame_id=(\d+))?", _section(text, "StackFrames"), re.M
        )
    }

    def ours(frame: str) -> str:
        seen: set[str] = set()
        while frame in frames and frame not in seen:
            seen.add(frame)
            place, parent = frames[frame]
            file, function = places.get(place, ("", ""))
            if "fsljax/" in file:
                return f"{file.rsplit('fsljax/', 1)[1]}:{function.split('.<locals>')[0]}"
            frame = parent
        return "elsewhere"

    found = {}
    for line in text.splitlines():
        named = re.match(r"\s+(?:ROOT )?%?([\w.-]+) = ", line)
        if named and (frame := re.search(r"stack_frame_id=(\d+)", line)):
            found[named[1]] = ours(frame[1])
        elif named and (path := re.search(r'op_name="([^"]+)"', line)):
            found[named[1]] = path[1]
    return found


def _section(text: str, name: str) -> str:
    found = re.search(rf"^{name}\n(.*?)\n\n", text, re.M | re.S)
    return found[1] if found else ""


def profiled(call: Callable[[], object]) -> list[tuple[str, str, float]]:
    """Line, name and milliseconds of whatever the device did during a call."""
    import jax

    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder):
            call()
        (path,) = Path(folder).rglob("*.xplane.pb")
        planes = jax.profiler.ProfileData.from_file(str(path)).planes
        return [
            (line.name, _instruction(event), event.duration_ns / 1e6)
            for plane in planes
            if plane.name.startswith("/device:")
            for line in plane.lines
            for event in line.events
        ]


def _instruction(event: Any) -> str:
    """What the kernel is of; within a graph of kernels the kernel's own name says it best."""
    named = str(dict(event.stats).get("hlo_op") or event.name)
    return event.name if named.startswith("command_buffer") else named


def show_kernels(program: Program, events: list[tuple[str, str, float]], steps: int, step: float) -> None:
    """Prints what took the time of so many steps of so many seconds each."""
    of_streams = [(name, ms) for line, name, ms in events if line.startswith("Stream")]
    print(f"\nlines of the profile: {collections.Counter(line for line, _, _ in events).most_common()}")
    whole = sum(ms for _, ms in of_streams)
    number = len(of_streams) / steps
    print(f"{number:.0f} kernels and copies a step, {whole / steps:.3f} ms of {1000 * step:.3f}")
    origin = {re.sub(r"[.-]", "_", name): of for name, of in functions(program.text).items()}
    for title, key in (
        ("by function", lambda name: origin.get(re.sub(r"[.-]", "_", name), f"({name[:40]})")),
        ("by kernel", lambda name: f"{name[:60]} {origin.get(re.sub(r'[.-]', '_', name), '')}"),
    ):
        totals: dict[str, float] = collections.defaultdict(float)
        counts: collections.Counter[str] = collections.Counter()
        for name, ms in of_streams:
            totals[key(name)] += ms
            counts[key(name)] += 1
        rows = [
            [name, f"{ms / steps:.4f}", f"{counts[name] / steps:.1f}"]
            for name, ms in sorted(totals.items(), key=lambda item: -item[1])[:SHOWN]
        ]
        duel.print_table([title, "ms a step", "times"], rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--steps", type=int, nargs="+", default=[1, 50], help="steps a call")
    parser.add_argument("--no_profile", action="store_true")
    parser.add_argument("--hlo", type=Path, help="takes the text of the first compiled program")
    detector_duel.add_arguments(parser)
    arguments = parser.parse_args()
    if arguments.peer_python:
        detector_duel.run("step", arguments.peer_python, arguments.rounds)
        return
    import jax

    from fsljax.training.host_memory import keep_freed_memory

    keep_freed_memory()
    method, state, data = made()
    print(f"{jax.devices()[0].device_kind}, JAX {jax.__version__}")
    for number, count in enumerate(arguments.steps):
        program = Program(method, state, data, count)
        state = program.run(state, data, STEPS_TIMED)
        began = time.perf_counter()
        state = program.run(state, data, STEPS_TIMED)
        step = (time.perf_counter() - began) / (-(-STEPS_TIMED // count) * count)
        print(f"  {1000 * step:.2f} ms a step", flush=True)
        if number == 0 and arguments.hlo:
            arguments.hlo.write_text(program.text)
        if number == 0 and not arguments.no_profile:
            steps = -(-STEPS_PROFILED // count) * count
            copied = jax.block_until_ready(jax.tree.map(jax.numpy.copy, state))
            work = partial(program.run, copied, data, steps)
            show_kernels(program, profiled(work), steps, step)


if __name__ == "__main__":
    main()
