"""The commands of the pages: their experiments exist, and so do the fields they set, with those values."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys

import pytest

from .pages import PAGES, ROOT, commands, name

CHECKING = """
import json, os, sys
from fsljax import command_line, methods

command_line.run = lambda config, kept, **_: methods.check(config, kept=kept, find_weights=False)
told = []
for arguments in json.loads(sys.argv[1]):
    read, written = os.pipe()
    if not os.fork():
        os.dup2(written, 1), os.dup2(written, 2)
        sys.argv = ["launch.py", *arguments]
        command_line.main()
    os.close(written)
    with open(read, encoding="utf-8") as answer:
        text = answer.read()
    told.append((os.waitstatus_to_exitcode(os.wait()[1]), text))
print(json.dumps(told))
"""


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
