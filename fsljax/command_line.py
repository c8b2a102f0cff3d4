"""The command line: flags, their errors, and exit statuses."""

from __future__ import annotations

import logging as standard_logging
import sys
from collections.abc import Sequence
from pathlib import Path

from absl import app, flags, logging
from ml_collections import ConfigDict, config_flags

from fsljax import methods
from fsljax.config.experiments import names
from fsljax.config.help import as_text
from fsljax.config.reading import as_mapping, flat, nearest
from fsljax.errors import UserError
from fsljax.experiment import MODES, run
from fsljax.training.signals import Stopped

_CONFIG = config_flags.DEFINE_config_file("config", None, "The experiment, such as configs/quickstart.py.")
_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the run; runs/<config name> by default.")
_MODE = flags.DEFINE_enum("mode", "train_and_evaluate", MODES, "What to do.")
_OUTPUT_DIR = flags.DEFINE_string("output_dir", None, "Where evaluation writes; the workdir by default.")


_HELP = ("--help", "-help", "-h", "--helpshort")


def main() -> None:
    """Runs what the command line asks for, and exits: 0 done or stopped, 1 diverged, 2 impossible."""
    _quiet_libraries()
    app.run(_main, flags_parser=_parse)


def _main(argv: Sequence[str]) -> None:
    try:
        config = _CONFIG.value
        if not isinstance(config.name, str):
            raise UserError(f"config.name is {config.name!r}; it must be text.")
        folder = Path(_WORKDIR.value or Path("runs") / config.name).expanduser()
        output = Path(_OUTPUT_DIR.value).expanduser() if _OUTPUT_DIR.value else None
        run(config, mode=_MODE.value, folder=folder, output=output)
    except UserError as error:
        _fail(str(error), error.exit_status)
    except Stopped:
        print("Stopped. To go on, run the same command again:", file=sys.stderr)
        print(f"  python {' '.join(argv_as_typed())}", file=sys.stderr)
        sys.exit(0)


def argv_as_typed() -> list[str]:
    """The command line, quoted for a shell."""
    import shlex

    return [shlex.quote(argument) for argument in sys.argv]


def _parse(argv: list[str]) -> list[str]:
    """The arguments that are no flags: none. Where it ends the program instead, it says why, or helps."""
    asked = [argument for argument in argv if argument not in _HELP]
    if len(asked) < len(argv):
        print(_usage())
        if _config_path(asked):
            _parse(asked)
            print(f"\nFields of {_config_path(asked)}:\n{_fields()}")
        sys.exit(0)
    path = _config_path(argv).split(":")[0]
    if path and not Path(path).is_file():
        _fail(f"There is no config file at {path}. {_instead(Path(path))}")
    try:
        rest = flags.FLAGS(argv)
        if len(rest) > 1:
            _fail(f"{rest[1]!r} is no flag: values are given as --config.train.steps=100.")
        if _CONFIG.value is None:
            _fail(f"Give an experiment with --config=FILE. {_configs_at_hand()}")
        if not isinstance(_CONFIG.value, ConfigDict):
            _fail(f"{_config_path(argv)}: get_config() must return an ml_collections.ConfigDict.")
        if _CONFIG.value.get("name") in (None, ""):
            with _CONFIG.value.unlocked():
                _CONFIG.value.name = Path(path).stem
        return rest
    except UserError as error:
        _fail(str(error), error.exit_status)
    except (AttributeError, KeyError) as error:
        _fail(_misspelt(argv, error))
    except flags.UnrecognizedFlagError as error:
        _fail(_misspelt(argv, error))
    except (flags.Error, TypeError, ValueError) as error:
        _fail(str(error).strip().splitlines()[-1].removeprefix("flag "))
    except SyntaxError as error:
        _fail(f"{error.filename}, line {error.lineno}: {error.msg}.")
    except Exception as error:  # a config file is a program, and may fail as any
        _fail(f"The config {path} cannot be read: {error or type(error).__name__}")
    raise AssertionError("not reached")


def _usage() -> str:
    names = [flag.name for flag in (_CONFIG, _WORKDIR, _MODE, _OUTPUT_DIR)]
    lines = [f"  --{name:<12}{flags.FLAGS[name].help}" for name in names]
    return "\n".join(
        [
            "python launch.py --config=FILE[:EXPERIMENT] [--config.FIELD=VALUE …]",
            *lines,
            "  --help        This; with --config all fields of that config, too.",
        ]
    )


def _fields() -> str:
    """The fields of the config that was given, with their meanings."""
    try:
        return as_text(methods.check(_CONFIG.value))
    except UserError as error:
        _fail(str(error), error.exit_status)
    raise AssertionError("not reached")


def _misspelt(argv: list[str], error: Exception) -> str:
    """Names the override that the config does not have, and the nearest one it has."""
    path = _config_path(argv)
    try:
        config = _load(path)
    except Exception:  # the file itself is at fault
        return f"The config {path} cannot be read: {error}"
    fields = list(flat(as_mapping(config)))
    for argument in argv[1:]:
        name = argument.lstrip("-").split("=")[0].removeprefix("config.")
        if argument.lstrip("-").startswith("config.") and name not in fields:
            return f"Unknown field config.{name} of {path}.{nearest(name, fields)}"
    return str(error).strip("'\"")


def _load(path: str) -> ConfigDict:
    import runpy

    file, _, argument = path.partition(":")
    make = runpy.run_path(file)["get_config"]
    return make(argument) if argument else make()


def _config_path(argv: list[str]) -> str:
    for position, argument in enumerate(argv):
        name, equals, value = argument.lstrip("-").partition("=")
        if name == "config":
            return value if equals else (argv[position + 1] if position + 1 < len(argv) else "")
    return ""


def _instead(missing: Path) -> str:
    """Where the experiment of a file that is missing is, or what files there are."""
    given = names(missing.parent).get(missing.stem) if missing.parent.name == "configs" else None
    return f"That experiment is --config={given}." if given else _configs_at_hand()


def _configs_at_hand() -> str:
    files = sorted(path.name for path in Path("configs").glob("*.py"))
    return f"In configs/ there are: {', '.join(files)}." if files else "Run from the project's folder."


def _fail(message: str, status: int = 2) -> None:
    print(f"fsljax: {message}", file=sys.stderr)
    sys.exit(status)


def _quiet_libraries() -> None:
    """Libraries log every checkpoint they open; what is worth reading comes through as warnings."""
    logging.use_absl_handler()
    logging.set_verbosity(logging.WARNING)
    standard_logging.getLogger("jax").setLevel(standard_logging.WARNING)
