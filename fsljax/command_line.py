"""The command line: flags, their errors, and exit statuses."""

from __future__ import annotations

import logging as standard_logging
import os
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from absl import app, flags, logging
from ml_collections import ConfigDict, config_flags

from fsljax import methods
from fsljax.config import Experiment, experiments
from fsljax.config.arguments import config_paths, flag_name, is_unordered, set_fields, with_names, with_paths
from fsljax.config.help import as_text
from fsljax.config.reading import as_mapping, flat, nearest
from fsljax.errors import UserError
from fsljax.experiment import MODES, run
from fsljax.parallel import flags as process_flags
from fsljax.parallel import processes
from fsljax.parallel.devices import UNASKED
from fsljax.reporting import streams
from fsljax.storage.paths import given_path
from fsljax.training.signals import Interruption, Stopped, say_at_once

_CONFIG = config_flags.DEFINE_config_file(
    "config", None, "The experiment: a config file, or the name of one that comes with fsljax."
)
_WORKDIR = flags.DEFINE_string(
    "workdir", None, "Folder of the run; by default runs/NAME, where NAME is that of the config."
)
_MODE = flags.DEFINE_enum("mode", "train_and_evaluate", MODES, "What to do.")
_OUTPUT_DIR = flags.DEFINE_string("output_dir", None, "Folder for the results; the workdir by default.")
_STEP = flags.DEFINE_string("step", "best", "Checkpoint to evaluate: best, last, or the number of a step.")


_HELP = [
    dashes + name for dashes in ("-", "--") for name in ("help", "h", "helpshort", "helpfull", "helpxml", "?")
]


_LAUNCH = "python launch.py"


def main(program: str = _LAUNCH, typed: str | None = None) -> None:
    """Runs what the command line asks for.

    Exits with 0: done, or stopped; 1: diverged, or something was not written; 2: asked for the impossible.

    Args:
      program: how it is called, as help shows it.
      typed: what is to be typed to call it so again; None: launch.py with the arguments that it has.
    """
    output = streams.use()
    _quiet_libraries()
    ending = Ending(typed)
    interruption = Interruption(
        ending.at_once
    ).start()  # to the end of the process, past all handlers of exits
    try:
        app.run(partial(_main, output, ending, interruption), flags_parser=partial(_parse, program=program))
    except SystemExit as ended:
        ending.status = ended.code if isinstance(ended.code, int) else 0
        if not ending.status and output.failure is not None:
            print(f"fsljax: Could not write to standard output: {output.failure}.", file=sys.stderr)
            ending.status = 1
        sys.exit(ending.status)


class Ending:
    """How the program ends when a signal asks for that at once.

    Attributes:
      typed: what is to be typed to go on; None: what this program was called by.
      begun: whether the run has begun.
      status: the exit status of a program that has said its last word; None before.
    """

    def __init__(self, typed: str | None = None) -> None:
        self.typed = typed
        self.begun = False
        self.status: int | None = None

    def at_once(self) -> None:
        """Says that the program was stopped, unless it is over, and ends it."""
        if self.status is None:
            processes.tell_stopped()
            say_at_once(stopped_sentence(self.typed) if self.begun else "Stopped before anything began.")
        os._exit(self.status or 0)


def stopped_sentence(typed: str | None = None) -> str:
    """What is said of a run that was stopped; `typed` is the command that goes on, launch.py's by default."""
    again = typed or f"python {' '.join(argv_as_typed())}"
    where = " on all hosts" if process_flags.are_given() else ""
    return f"Stopped. To continue, run the same command again{where}:\n  {again}"


def _main(output: streams.Output, ending: Ending, interruption: Interruption, argv: Sequence[str]) -> None:
    ending.begun = True
    try:
        if process_flags.are_given():
            output.keep_from_libraries()  # gloo says there who is connected
        process_flags.begin(_devices_asked_for(), say_at_once)
        if not processes.is_first():
            logging.set_verbosity(logging.ERROR)  # process 0 warns
        with processes.failures_told():
            _run(interruption)
        processes.end()
    except UserError as error:
        processes.fail(str(error), error.exit_status)
        _fail(str(error), error.exit_status)
    except Stopped:
        print(stopped_sentence(ending.typed), file=sys.stderr)
        processes.end()
        sys.exit(0)


def _devices_asked_for() -> int:
    """What the config has, which is not checked yet: devices begin before data and weights are looked at."""
    asked = as_mapping(_CONFIG.value).get("mesh")
    count = asked.get("devices") if isinstance(asked, Mapping) else None
    return count if isinstance(count, int) else UNASKED


def _run(interruption: Interruption) -> None:
    config = _CONFIG.value
    if not isinstance(config.name, str):
        raise UserError(f"config.name is {config.name!r}; it must be text.")
    folder = given_path(_WORKDIR.value or Path("runs") / config.name, "--workdir")
    results = given_path(_OUTPUT_DIR.value, "--output_dir") if _OUTPUT_DIR.value else None
    run(
        config, mode=_MODE.value, folder=folder, output=results, step=_STEP.value,
        interruption=interruption, kept=set_fields(sys.argv),
    )  # fmt: skip


def argv_as_typed() -> list[str]:
    """The command line, quoted for a shell."""
    import shlex

    return [shlex.quote(argument) for argument in sys.argv]


def _parse(argv: list[str], program: str = _LAUNCH) -> list[str]:
    """The arguments that are no flags: none. Where it ends the program instead, it says why, or helps."""
    asked = [argument for argument in argv if argument.partition("=")[0] not in _HELP]
    if len(asked) < len(argv):
        full = any(argument.lstrip("-").startswith("helpfull") for argument in argv)
        print(_usage(program, full=full and not config_paths(asked)))
        if config_paths(asked):
            _parse(asked, program)
            print(f"\nFields of {config_paths(asked)[0]}:\n{_fields()}")
        sys.exit(0)
    try:
        config = experiments.load(_one_path(argv))
    except UserError as error:
        _fail(str(error), error.exit_status)
    try:
        rest = flags.FLAGS(with_names(with_paths(argv), config))
    except Exception as error:  # ml_collections raises many types
        _fail(_wrong_flag(argv, config, error))
    if unordered := [argument for argument in argv[1:] if is_unordered(argument)]:
        _fail(f'{unordered[0]} has no order: give values in quotes and parentheses, such as "(1, 5)".')
    if len(rest) > 1:
        _fail(f"{rest[1]!r} is not a flag: give values as --config.train.steps=100.")
    if _CONFIG.value.get("name") in (None, ""):
        with _CONFIG.value.unlocked():
            _CONFIG.value.name = Path(_one_path(argv).partition(":")[0]).stem
    return rest


def _usage(program: str, *, full: bool = False) -> str:
    asked = [_MODE] if flags.FLAGS["mode"].default == "train_and_evaluate" else []
    names = [flag.name for flag in (_CONFIG, _WORKDIR, *asked, _OUTPUT_DIR, _STEP)] + process_flags.NAMES
    common = ["", "Fields of every experiment:", as_text(Experiment()), ""] if full else []
    return "\n".join(
        [
            f"{program} --config=FILE[:EXPERIMENT] [--config.FIELD=VALUE …]"
            if asked
            else f"{program} --workdir=FOLDER [--config=FILE[:EXPERIMENT]] [--config.FIELD=VALUE …]",
            "",
            "Trains and evaluates an experiment. To resume a run that was stopped, give the same command."
            if asked
            else "Evaluates a trained run. Without --config it uses the config that is stored in --workdir.",
            "",
            *(f"  --{name:<13}{flags.FLAGS[name].help}" for name in names),
            *common,
            "",
            "`fsljax configs` lists the configs that come with fsljax.",
            "With --config, --help also lists all fields of that config.",
        ]
    )


def _fields() -> str:
    """The fields of the config that was given, with their meanings."""
    try:
        return as_text(methods.check(_CONFIG.value, find_weights=False))
    except UserError as error:
        _fail(str(error), error.exit_status)
    raise AssertionError("not reached")


def _one_path(argv: list[str]) -> str:
    """What `--config` is given.

    Raises:
      UserError: it is not given, or twice.
    """
    paths = config_paths(argv)
    if len(set(paths)) > 1:
        raise UserError(f"--config is given twice, as {paths[0]} and as {paths[1]}: give one.")
    if paths and paths[0]:
        return paths[0]
    unknown = [name for name in map(flag_name, argv[1:]) if name and not _is_known(name)]
    if unknown and not unknown[0].startswith("config."):
        raise UserError(_unknown_flag(unknown[0]))
    beside = f" along with --{unknown[0]}" if unknown else ""
    raise UserError(f"Give an experiment with --config=FILE{beside}. {experiments.at_hand()}")


def _is_known(name: str) -> bool:
    return name in flags.FLAGS or name.removeprefix("no") in flags.FLAGS


def _unknown_flag(name: str) -> str:
    known = [flag.name for flag in (_CONFIG, _WORKDIR, _MODE, _OUTPUT_DIR)]
    meant = nearest(name, known + [_STEP.name] + [one for one in process_flags.NAMES if one[:3] == name[:3]])
    there, beside = (", ".join(f"--{one}" for one in names) for names in (known, process_flags.NAMES))
    more = f"For evaluation: --{_STEP.name}. For several processes: {beside}."
    return f"Unknown flag --{name}.{meant} The flags are {there}. {more}"


def _wrong_flag(argv: list[str], config: ConfigDict, error: Exception) -> str:
    """What is wrong with flags that could not be read: a field that the config does not have, or a value."""
    fields = flat(as_mapping(config))
    for argument in argv[1:]:
        name, _, value = argument.lstrip("-").partition("=")
        if name in process_flags.NAMES and f"--{name}={value}:" in str(error):
            return f"--{name}={value} cannot be read: it must be a whole number, 0 or more."
        if not flag_name(argument).startswith(("config.", "noconfig.")):
            continue
        field = name.partition(".")[2]
        section = [known for known in fields if known.startswith(f"{field}.")]
        if "a value for --config" in str(error):
            return f"Give --config=FILE before --{name}."
        if section:
            return (
                f"config.{field} is a section: give one of its fields, such as --config.{section[0]}=VALUE."
            )
        if field not in fields:
            return f"Unknown field config.{field} of {_one_path(argv)}.{nearest(field, list(fields))}"
        if isinstance(error, flags.IllegalFlagValueError) and f"{name}={value}" in str(error):
            return f"--{name}={value} cannot be read: it must be {_kind(fields[field])}."
    if isinstance(error, flags.UnrecognizedFlagError):
        return _unknown_flag(error.flagname)
    words = (str(error).strip().splitlines() or [type(error).__name__])[-1]
    return f"{words.removeprefix('flag ').removeprefix('ERROR:: ').rstrip('.')}."


def _kind(value: object) -> str:
    """What a field takes, by the value that it has."""
    if isinstance(value, tuple | list):
        return f'values in quotes and parentheses, such as "{tuple(value)}"'
    nouns = {bool: "True or False", int: "a whole number", float: "a number"}
    return f"{nouns.get(type(value), 'a value')}, such as {value!r}"


def _fail(message: str, status: int = 2) -> None:
    print(f"fsljax: {message}", file=sys.stderr)
    sys.exit(status)


def _quiet_libraries() -> None:
    """Libraries log every checkpoint they open; what is worth reading comes through as warnings."""
    logging.use_absl_handler()
    logging.set_verbosity(logging.WARNING)
    standard_logging.getLogger("jax").setLevel(standard_logging.WARNING)
