"""`fsljax train` and `fsljax evaluate`: what launch.py does, under another name."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path

_STORED_RUN = Path(__file__).with_name("stored_run.py")


def run(command: str, arguments: list[str], program: str, typed: str) -> int:
    """Trains, evaluates, or both, and ends the program with the exit status of launch.py.

    Args:
      command: "train" or "evaluate".
      arguments: flags, those of launch.py.
      program: how this program was called.
      typed: the whole command line, quoted for a shell.
    """
    if command == "evaluate":
        if any(_is_flag(argument, "mode") for argument in arguments):
            print("fsljax: fsljax evaluate takes no --mode: leave it out.", file=sys.stderr)
            return 2
        arguments = _with_config(arguments)

    from fsljax.training.host_memory import keep_freed_memory

    keep_freed_memory()  # before anything large is allocated and threads start
    _find_modules_in_current_folder()

    from absl import flags

    from fsljax import command_line

    if command == "evaluate":
        flags.FLAGS.set_default("mode", "evaluate")
    sys.argv = [f"{program} {command}", *arguments]  # ml_collections looks there, too
    command_line.main(f"{program} {command}", typed)
    raise AssertionError("not reached")


def _find_modules_in_current_folder() -> None:
    """A config may name modules of one's own, which Python finds here for `python -m` alone."""
    with contextlib.suppress(OSError):  # a folder that is gone
        here = str(Path.cwd())
        if not {"", here} & set(sys.path):
            sys.path.append(here)


def _with_config(arguments: list[str]) -> list[str]:
    """The arguments with the config that a workdir keeps, where none is given."""
    given = [number for number, argument in enumerate(arguments) if _is_flag(argument, "config")]
    workdirs = [number for number, argument in enumerate(arguments) if _is_flag(argument, "workdir")]
    if given or not workdirs:
        return arguments
    _, equals, folder = arguments[workdirs[0]].partition("=")
    if not equals:
        folder = next(iter(arguments[workdirs[0] + 1 :]), "")
    return [f"--config={_STORED_RUN}:{folder}", *arguments] if folder else arguments


def _is_flag(argument: str, name: str) -> bool:
    return argument.partition("=")[0] in (f"-{name}", f"--{name}")
