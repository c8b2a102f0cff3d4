"""`fsljax COMMAND …`: finds the command, and tells how it ended."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Callable
from pathlib import Path

from fsljax.arguments import Parser
from fsljax.cli import startup
from fsljax.errors import UserError

COMMANDS = {
    "train": "Train and evaluate an experiment.",
    "evaluate": "Evaluate a trained run.",
    "predict": "Classify images with a model.",
    "enroll": "Add new classes to a model, each from a folder of images.",
    "detect": "Find objects with a detector.",
    "reproduce": "Run the experiments behind a table of the documentation, and print it.",
    "export": "Export the model of a run.",
    "compare": "Compare several runs.",
    "sweep": "Train an experiment with several values of its fields.",
    "configs": "List the configs that come with fsljax.",
}
_RUNS = ("train", "evaluate")
_HEED_SIGNALS_THEMSELVES = ("reproduce", "export", "sweep")


def main() -> int:
    """Runs the command that is asked for.

    Returns:
      the exit status, 0: done; 1: something was not done, or not written; 2: asked for the impossible; 130:
      stopped by a signal (a run that is trained and can go on: 0).
    """
    typed = sys.argv[1:]
    command, arguments = (typed[0], typed[1:]) if typed else ("", [])
    startup.begin(0 if command in _RUNS else startup.INTERRUPTED)
    if command in _RUNS:
        from fsljax.cli.running import run

        _begin_workers_with_main_of_package()
        return run(command, arguments, called(), shlex.join([*called().split(), *typed]))
    return _told(command, arguments)


def called() -> str:
    """How this program was called."""
    return "python -m fsljax" if Path(sys.argv[0]).name == "__main__.py" else "fsljax"


def _run(command: str, arguments: list[str]) -> int:
    if command in ("", "help", "-h", "--help", "-?"):
        print(_help(), file=sys.stdout if command else sys.stderr)
        return 0 if command else 2
    if command == "--version":
        from fsljax import __version__

        print(f"fsljax {__version__}")
        return 0
    return _found(command)(arguments)


def _found(command: str) -> Callable[[list[str]], int]:
    # Each imports what it needs: none waits for what another would.
    if command == "predict":
        from fsljax.cli import predict

        return predict.main
    if command == "enroll":
        from fsljax.cli import enroll

        return enroll.main
    if command == "detect":
        from fsljax.cli import detect

        return detect.main
    if command == "reproduce":
        return _reproduce
    if command == "export":
        return _export
    if command == "compare":
        from fsljax import compare

        return compare.run
    if command == "sweep":
        return _sweep
    if command == "configs":
        return _configs
    from fsljax.config.reading import nearest

    raise UserError(
        f"Unknown command {command!r}.{nearest(command, list(COMMANDS))} "
        f"The commands are {', '.join(COMMANDS)}."
    )


def _reproduce(arguments: list[str]) -> int:
    from fsljax import reproduce

    startup.end()
    return reproduce.main(arguments)


def _export(arguments: list[str]) -> int:
    from fsljax import export

    startup.end()
    return export.run(arguments, program=f"{called()} export")


def _sweep(arguments: list[str]) -> int:
    from fsljax import sweep

    startup.end()
    return sweep.run(arguments)


def _configs(arguments: list[str]) -> int:
    parser = Parser("configs", COMMANDS["configs"])
    parser.add_argument(
        "text", metavar="TEXT", nargs="?", default="", help="list only configs whose name contains TEXT"
    )
    given = parser.parse_args(arguments)

    from fsljax.config import shipped

    listed = shipped.listed(given.text)
    if not listed:
        raise UserError(f"No config name contains {given.text!r}: run fsljax configs to list them all.")
    print(shipped.as_text(listed))
    print(
        f"\nTrain one with {called()} train --config=NAME; its fields: {called()} train --config=NAME --help"
    )
    return 0


class _Ending:
    """How the program ends when a signal asks for that.

    Attributes:
      status: the exit status of a program that has said its last word; None before.
    """

    def __init__(self) -> None:
        self.status: int | None = None

    def at_once(self) -> None:
        """Says that the program was stopped, unless it is over, and ends it."""
        from fsljax.training.signals import say_at_once

        if self.status is None:
            say_at_once("Stopped.")
        os._exit(startup.INTERRUPTED if self.status is None else self.status)


def _told(command: str, arguments: list[str]) -> int:
    """Exit status of a command; an error becomes a sentence."""
    from fsljax.reporting import streams
    from fsljax.training.signals import Interruption

    output = streams.use()
    ending = _Ending()
    if command not in _HEED_SIGNALS_THEMSELVES:
        Interruption(ending.at_once).start()  # to the end of the process
    try:
        status = _run(command, arguments)
    except UserError as error:
        print(f"fsljax: {error}", file=sys.stderr)
        status = error.exit_status
    except SystemExit as ended:  # argparse's
        status = ended.code if isinstance(ended.code, int) else 0
    output.flush()
    if output.failure is not None:
        print(f"fsljax: Could not write to standard output: {output.failure}.", file=sys.stderr)
    ending.status = status or int(output.failure is not None)
    return ending.status


def _help() -> str:
    lines = [f"  {name:<11}{meaning}" for name, meaning in COMMANDS.items()]
    more = f"Options of a command: {called()} COMMAND --help"
    return "\n".join([f"{called()} COMMAND …", "", *lines, "", more])


def _begin_workers_with_main_of_package() -> None:
    """Processes that read images import the main file of this one; that of the package ignores signals."""
    this = sys.modules["__main__"]
    this.__spec__ = None
    this.__file__ = str(Path(__file__).parents[1] / "__main__.py")
