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
from fsljax.training import workdir
from fsljax.training.checkpoints import Checkpoints


def export(run: Path, target: Path) -> Path:
    """Writes the model of a run to a new folder.

    Returns:
      the checkpoint written.

    Raises:
      UserError: if there is no run, no checkpoint in it, or something in the target folder already.
    """
    if not (run / workdir.CONFIG).exists():
        raise UserError(f"There is no run in {run}.")
    if target.exists() and any(target.iterdir()):
        raise UserError(f"{target} is not empty: give a new folder.")
    checkpoints = Checkpoints(run)
    model = checkpoints.restore_model()
    target.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(run / workdir.CONFIG, target / workdir.CONFIG)
    shipped = Checkpoints(target)
    shipped.write_model(model, checkpoints.selections()[model.step])
    shipped.close()
    return shipped.path(model.step)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m fsljax.export", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--workdir", type=Path, required=True, help="the run")
    parser.add_argument("--to", type=Path, required=True, help="a new folder")
    arguments = parser.parse_args()
    try:
        print(export(arguments.workdir, arguments.to))
    except UserError as error:
        sys.exit(f"fsljax: {error}")


if __name__ == "__main__":
    main()
