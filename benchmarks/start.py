"""Times the start of a command: to the end of its first step, and `import fsljax`.

    python benchmarks/start.py

The data are those of configs/protonet_1_5.py, from TFDS_DATA_DIR, and are cached before anything is timed.
Let nothing else run meanwhile.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import duel

CONFIG = "configs/protonet_1_5.py"
FIRST_STEP = "step 1"


def to_first_step(compiled: str) -> float:
    """Seconds from the start of a training to the line that tells of its first step.

    Args:
      compiled: folder of compiled programs.
    """
    with tempfile.TemporaryDirectory() as folder:
        command = [
            sys.executable, "launch.py", f"--config={CONFIG}", f"--workdir={folder}/run", "--mode=train",
            "--config.train.steps=1",
        ]  # fmt: skip
        environment = os.environ | {"JAX_COMPILATION_CACHE_DIR": compiled, "PYTHONUNBUFFERED": "1"}
        began = time.perf_counter()
        with subprocess.Popen(
            command,
            cwd=duel.ROOT,
            env=environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        ) as process:
            assert process.stdout is not None
            said = []
            for line in process.stdout:
                said.append(line)
                if FIRST_STEP in line:
                    took = time.perf_counter() - began
                    process.stdout.read()
                    return took
    sys.exit(f"{' '.join(command)} did not tell of its first step:\n{''.join(said)}")


def importing() -> float:
    """Seconds of `import fsljax` in a process that is there already."""
    timed = "import time; t = time.perf_counter(); import fsljax; print(time.perf_counter() - t)"
    return float(subprocess.check_output([sys.executable, "-c", timed], cwd=duel.ROOT))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--rounds", type=int, default=3)
    rounds = range(parser.parse_args().rounds)
    seconds: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        to_first_step(f"{folder}/warm")
        seconds["start to the first step, compiled before"] = [
            to_first_step(f"{folder}/warm") for _ in rounds
        ]
        seconds["start to the first step, nothing compiled"] = [
            to_first_step(f"{folder}/{n}") for n in rounds
        ]
    seconds["import fsljax"] = [importing() for _ in rounds]
    for row, measured in seconds.items():
        duel.record_alone(row, measured)
    rows = [
        [
            row,
            duel.milliseconds(sorted(of)[len(of) // 2]),
            " – ".join(map(duel.milliseconds, (min(of), max(of)))),
        ]
        for row, of in seconds.items()
    ]
    duel.print_table([Path(CONFIG).stem, "ms", "least – most"], rows)


if __name__ == "__main__":
    main()
