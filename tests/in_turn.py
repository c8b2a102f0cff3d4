"""Many command lines in one process, which imports what they share once: a fork of it for each."""

from __future__ import annotations

import textwrap

_PROGRAM = """
import json, os, sys
{before}
told = []
for arguments in json.loads(sys.argv[1]):
    read, written = os.pipe()
    if not os.fork():
        os.dup2(written, 1), os.dup2(written, 2)
        sys.argv = [{called!r}, *arguments]
{each}
    os.close(written)
    with open(read, encoding="utf-8") as answer:
        text = answer.read()
    told.append((os.waitstatus_to_exitcode(os.wait()[1]), text))
print(json.dumps(told))
"""


def program(called: str, each: str, before: str = "") -> str:
    """Source of a program that is given command lines as JSON, and prints their exit statuses and texts so.

    Args:
      called: the name of the program of which they are command lines.
      each: what a fork does with `sys.argv`; it must end the process.
      before: what is done once, before all forks.
    """
    return _PROGRAM.format(called=called, before=before, each=textwrap.indent(each, " " * 8))
