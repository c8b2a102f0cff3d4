"""Output that cannot be written, or whose encoding lacks a character, ends no program."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from fsljax.reporting.streams import Output

PROGRAM = r"""
import sys
from fsljax.reporting import streams
output = streams.use()
for number in range(20_000):
    print("step", number, "of 20000: 49.1 % \u00b1 4.1 \u2500 \u2026 \u00e9 \u2603 \udcff")
print("noted", file=sys.stderr)
sys.exit(f"failed: {output.failure}" if output.failure else 0)
"""

full_device = pytest.mark.skipif(not Path("/dev/full").exists(), reason="has no /dev/full")


def run(arguments: str = "", **environment: str) -> subprocess.CompletedProcess[bytes]:
    """The program, in a shell whose redirections may follow."""
    return subprocess.run(
        ["bash", "-c", f'set -o pipefail; "$0" -c "$1" {arguments}', sys.executable, PROGRAM],
        capture_output=True, env=os.environ | environment, check=False, timeout=60,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("encoding", "first"),
    [
        ("utf-8", "step 0 of 20000: 49.1 % ± 4.1 ─ … é ☃ \\udcff"),
        ("cp1252", "step 0 of 20000: 49.1 % ± 4.1 - … é \\u2603 \\udcff"),
        ("ascii", "step 0 of 20000: 49.1 % +- 4.1 - ... \\xe9 \\u2603 \\udcff"),
    ],
)
def test_characters_that_an_encoding_lacks_are_written_otherwise(encoding: str, first: str):
    done = run(PYTHONIOENCODING=encoding)
    assert done.returncode == 0, done.stderr
    assert done.stdout.decode(encoding).splitlines()[0] == first


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_reader_may_leave(unbuffered: str):
    done = run("| head -1", PYTHONUNBUFFERED=unbuffered, PYTHONIOENCODING="utf-8")
    assert done.returncode == 0, done.stderr
    assert done.stderr == b"noted\n"
    assert done.stdout.startswith(b"step 0 of") and done.stdout.count(b"\n") == 1


@full_device
def test_a_full_disk_is_told_at_the_end():
    done = run(">/dev/full")
    assert done.returncode == 1
    assert done.stderr.decode() == "noted\nfailed: No space left on device\n"


@full_device
@pytest.mark.parametrize("redirection", ["2>/dev/full", "2>&-", "2>&1 >/dev/null | true"])
def test_without_standard_error_a_program_goes_on(redirection: str):
    done = run(redirection)
    assert done.returncode == 0
    assert done.stderr == b""


@pytest.mark.parametrize("redirection", [">&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_without_standard_output_a_program_goes_on(redirection: str):
    assert run(redirection).returncode == 0


def test_what_a_stream_has_is_there():
    stream = Output(io.StringIO())
    assert stream.write("two") == 3
    stream.flush()
    assert stream.getvalue() == "two"
    assert not stream.isatty()
