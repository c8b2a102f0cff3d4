"""Starts the processes of a run on this machine, and collects what they say."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
SECONDS = 300

_BEGIN = """
import os, sys, time
import numpy as np
from fsljax.errors import UserError
from fsljax.parallel import processes
process, count, port = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
def begin(**options):
    processes.begin(f"127.0.0.1:{port}", count, process, **options)
"""


class Outcome(NamedTuple):
    """How a process ended: its exit status, standard output and standard error."""

    status: int
    out: str
    err: str


def free_port() -> int:
    """A port of this machine that nothing uses."""
    with socket.create_server(("", 0)) as server:
        return int(server.getsockname()[1])


def start(
    commands: Sequence[Sequence[str]], *, env: Mapping[str, str] | None = None, cwd: Path | None = None
) -> list[subprocess.Popen[str]]:
    """Starts programs on CPUs, all at once."""
    told = os.environ | {"JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT), "COLUMNS": "200"} | dict(env or {})
    return [
        subprocess.Popen(
            list(command), env=told, cwd=cwd, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        for command in commands
    ]


def start_script(
    script: str, count: int = 2, *, env: Mapping[str, str] | None = None
) -> list[subprocess.Popen[str]]:
    """Starts a script as each process of a run; it has `begin(…)`, `process`, `count`, `port`."""
    source, port = _BEGIN + textwrap.dedent(script), str(free_port())
    return start(
        [[sys.executable, "-c", source, str(number), str(count), port] for number in range(count)], env=env
    )


def outcomes(started: Sequence[subprocess.Popen[str]], seconds: float = SECONDS) -> list[Outcome]:
    """Waits for all to end; kills those that do not."""
    ended = []
    try:
        for process in started:
            out, err = process.communicate(timeout=seconds)
            ended.append(Outcome(process.returncode, out, err))
    finally:
        for process in started:
            if process.poll() is None:
                process.kill()
                print(*process.communicate(), sep="\n")
    return ended


def run_script(script: str, count: int = 2, *, env: Mapping[str, str] | None = None) -> list[Outcome]:
    """Runs a script as each process of a run, to the end of all."""
    return outcomes(start_script(script, count, env=env))
