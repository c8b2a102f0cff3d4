"""Ships a run: python -m fsljax.export --workdir=runs/NAME --to=models/NAME

Copies the config and the best checkpoint's parameters and batch statistics, without optimiser state: what
`--mode=evaluate` and `fsljax.api.Classifier` need.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path

from fsljax.errors import UserError
from fsljax.reporting import streams
from fsljax.training import workdir
from fsljax.training.checkpoints import Checkpoints


def export(run: Path, target: Path) -> Path:
    """Writes the model of a run to a new folder.

    Returns:
      the checkpoint written.

    Raises:
      UserError: if there is no run, no checkpoint in it, something in the target folder already, or no way
        to write there.
    """
    try:
        run, target = run.expanduser(), target.expanduser()
        if not (run / workdir.CONFIG).exists():
            raise UserError(f"There is no run in {run}: give the --workdir of one.")
        if target.exists() and not target.is_dir():
            raise UserError(f"{target} is a file: give a new folder.")
        if target.exists() and any(target.iterdir()):
            raise UserError(f"{target} is not empty: give a new folder.")
    except (OSError, RuntimeError) as error:  # RuntimeError: ~NAME of nobody
        raise UserError(f"{run} cannot be shipped to {target} ({error}): correct the paths.") from error
    checkpoints = Checkpoints(run)
    model = checkpoints.restore_model()
    try:
        target.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(run / workdir.CONFIG, target / workdir.CONFIG)
        shipped = Checkpoints(target)
        shipped.write_model(model, checkpoints.selections()[model.step])
        shipped.close()
    except (OSError, ValueError) as error:  # ValueError: orbax's error for a full disk
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise UserError(f"{target} cannot be written ({reason}): give another folder.") from error
    return shipped.path(model.step)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m fsljax.export", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--workdir", type=Path, required=True, help="the run")
    parser.add_argument("--to", type=Path, required=True, help="a new folder")
    arguments = parser.parse_args()
    streams.use()
    try:
        print(export(arguments.workdir, arguments.to))
    except UserError as error:
        print(f"fsljax: {error}", file=sys.stderr)
        sys.exit(error.exit_status)
    except KeyboardInterrupt:
        print(f"Stopped: {arguments.to} may be there in part.", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()
