"""Prints how large a detector's training on photographs is on the way, watching launch.py from outside.

    python benchmarks/detector_memory.py --path DIR --weights FILE --steps 2000

DIR holds COCO's layout and FILE MobileNetV2 of ImageNet, as `configs/repmet_detection_coco128.py` takes them.
Every 100 steps: the resident set then, its largest value since the line before, and the steps a second.
`--default_heap` leaves the C library's allocator as it is, for comparison.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

PROJECT = Path(__file__).parents[1]
CONFIG = PROJECT / "configs/repmet_detection_coco128.py"
AS_IT_COMES = "from fsljax.command_line import main; main()"
SECONDS = 0.1


def command(options: argparse.Namespace, workdir: Path) -> list[str]:
    program = ["-c", AS_IT_COMES] if options.default_heap else [str(PROJECT / "launch.py")]
    return [
        *(sys.executable, *program, f"--config={CONFIG}", "--mode=train", f"--workdir={workdir}"),
        *(f"--config.data.path={options.path}", f"--config.network.weights={options.weights}"),
        *(f"--config.train.steps={options.steps}", f"--config.data.image_size={options.image_size}"),
    ]


def last_step(history: Path) -> int:
    rows = (
        [line for line in history.read_text().splitlines() if "train/loss" in line]
        if history.exists()
        else []
    )
    return int(json.loads(rows[-1])["step"]) if rows else 0


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--path", required=True)
    parser.add_argument("--weights", required=True)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--every", type=int, default=100)
    parser.add_argument("--image_size", type=int, default=320)
    parser.add_argument("--default_heap", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as workdir, tempfile.TemporaryFile() as said:
        history = Path(workdir) / "history.jsonl"
        run = subprocess.Popen(command(options, Path(workdir)), stdout=said, stderr=said, cwd=PROJECT)
        process, shown, peak, highest = psutil.Process(run.pid), 0, 0, 0
        began, shown_at = time.monotonic(), time.monotonic()
        while run.poll() is None:
            try:
                now = process.memory_info().rss
            except psutil.NoSuchProcess:
                break
            peak, highest = max(peak, now), max(highest, now)
            step = last_step(history)
            if step >= shown + options.every or (step == options.steps and step > shown):
                speed = (step - shown) / (time.monotonic() - shown_at)
                print(
                    f"step {step:5d}  {now / 1e9:5.2f} GB  peak {peak / 1e9:5.2f} GB  {speed:.2f} steps/s",
                    flush=True,
                )
                shown, shown_at, peak = step, time.monotonic(), 0
            time.sleep(SECONDS)
        if run.wait():
            said.seek(0)
            sys.exit(said.read().decode())
        print(f"the whole run: at most {highest / 1e9:.2f} GB, {time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()
