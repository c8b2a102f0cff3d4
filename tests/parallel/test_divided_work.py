"""Embedding, clustering and episodes by two processes: what one with two devices finds, to the bit."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np

SCRIPT = Path(__file__).parent / "divided_work.py"


def test_two_processes_find_what_one_with_two_devices_does(tmp_path: Path):
    with socket.socket() as given:
        given.bind(("localhost", 0))
        port = given.getsockname()[1]
    results = {name: tmp_path / f"{name}.npz" for name in ("together_0", "together_1", "alone")}
    running = []
    for name, (processes, process) in zip(results, ((2, 0), (2, 1), (1, 0)), strict=True):
        environment = os.environ | {
            "PYTHONPATH": str(SCRIPT.parents[2]),
            "XDG_CACHE_HOME": str(tmp_path / name),
        }
        arguments = [port, processes, process, results[name]]
        running.append(
            subprocess.Popen(
                [sys.executable, str(SCRIPT), *map(str, arguments)],
                env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            )
        )  # fmt: skip
    try:
        for process in running:
            said, _ = process.communicate(timeout=400)
            assert process.returncode == 0, said
    finally:
        for process in running:
            process.kill()
    alone = np.load(results["alone"])
    for name in ("together_0", "together_1"):
        ours = np.load(results[name])
        assert set(ours.files) == set(alone.files)
        for part in alone.files:
            np.testing.assert_array_equal(ours[part], alone[part], err_msg=part)
