"""The commands of the pages: their experiments exist, and so do the fields they set, with those values."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys

import pytest

from ..in_turn import program
from .pages import PAGES, ROOT, commands, name

CHECKING = program(
    "launch.py",
    "command_line.main()",
    "from fsljax import command_line, methods\n"
    "command_line.run = lambda config, kept, **_: methods.check(config, kept=kept, find_weights=False)",
)


@pytest.mark.slow
def test_every_command_can_be_given():
    lines = {line: name(page) for page in PAGES for line in commands(page)}
    assert len(lines) > 30
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", CHECKING, json.dumps([*map(shlex.split, lines)])],
        capture_output=True, text=True, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}, timeout=120,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    wrong = [
        f"{page}: {line}\n{text}"
        for (line, page), (status, text) in zip(lines.items(), json.loads(done.stdout), strict=True)
        if status
    ]
    assert not wrong, "\n".join(wrong)
