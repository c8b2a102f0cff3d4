"""Two hosts: network namespaces with an address each, joined by a cable, in which both have the same name."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from ..tiny_runs import command
from .starting import Outcome, outcomes, start

NAMES = [f"fsljax{os.getpid()}{letter}" for letter in "ab"]


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)


@pytest.fixture(scope="module")
def hosts() -> Iterator[list[list[str]]]:
    """What runs a program on each."""
    if shutil.which("ip") is None:
        pytest.skip("needs the program ip (iproute2)")
    try:
        for name in NAMES:
            ip("netns", "add", name)
        veth = ["type", "veth", "peer", "name", "cable", "netns", NAMES[1]]
        ip("-n", NAMES[0], "link", "add", "cable", *veth)
        for number, name in enumerate(NAMES, 1):
            ip("-n", name, "addr", "add", f"10.9.0.{number}/24", "dev", "cable")
            for device in ("lo", "cable"):
                ip("-n", name, "link", "set", device, "up")
    except subprocess.CalledProcessError as error:
        pytest.skip(f"needs network namespaces: {error.stderr.decode().strip()}")
    try:
        yield [["ip", "netns", "exec", name] for name in NAMES]
    finally:
        for name in NAMES:
            ip("netns", "del", name)


@pytest.mark.slow
def test_two_hosts_train_as_one_with_two_devices(hosts, config_file, tmp_path):
    flags = ["--coordinator=10.9.0.1:4321", "--processes=2", "--workdir=two"]
    commands = [
        host + command(config_file, *flags, f"--process={number}") for number, host in enumerate(hosts)
    ]
    env = {"XLA_FLAGS": "--xla_force_host_platform_device_count=2"}
    alone = command(config_file, "--workdir=one", "--config.mesh.devices=2")
    first, second = outcomes(start(commands, cwd=tmp_path))
    assert (first.status, second) == (0, Outcome(0, "", "")), first.err
    assert outcomes(start([alone], env=env, cwd=tmp_path))[0].status == 0
    assert (tmp_path / "two" / "results.json").read_text() == (tmp_path / "one" / "results.json").read_text()


@pytest.mark.campaign
def test_a_host_that_is_cut_off_ends_both_within_two_minutes(hosts):
    script = """
import sys, time
from fsljax.parallel import processes
processes.begin("10.9.0.1:4322", 2, int(sys.argv[1]))
print("begun", flush=True)
with processes.failures_told():
    while True:
        processes.agreed(False, 1)
        time.sleep(0.1)
"""
    started = start([[*host, sys.executable, "-c", script, str(number)] for number, host in enumerate(hosts)])
    for one in started:
        assert one.stdout is not None and one.stdout.readline() == "begun\n"
    began = time.monotonic()
    ip("-n", NAMES[1], "link", "set", "cable", "down")
    try:
        ended = outcomes(started)
    finally:
        ip("-n", NAMES[1], "link", "set", "cable", "up")
    assert time.monotonic() - began < 120
    for number, one in enumerate(ended):
        assert one.status == 1
        assert one.err.startswith(f"fsljax: Process {1 - number} of this run ended unexpectedly")
        assert one.err.count("\n") == 1
