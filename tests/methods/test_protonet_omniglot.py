"""A short training on the real Omniglot."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from fsljax.training.checkpoints import Checkpoints
from fsljax.training.logs import read_history

ROOT = Path(__file__).parents[2]
STEPS = 300
# So short a training has no use for drawings beyond those there are.
NO_AUGMENTATION = [f"--config.augment.{name}=0" for name in ("rotation", "scale", "shear", "shift")]


@pytest.mark.slow
def test_300_steps_tell_20_unseen_characters_apart_from_one_drawing_of_each(
    tfds_data_dir: Path, tmp_path: Path
):
    workdir = tmp_path / "run"
    done = subprocess.run(
        [
            sys.executable,
            "launch.py",
            "--config=configs/protonet_1_5.py",
            "--mode=train",
            f"--workdir={workdir}",
            f"--config.data.data_dir={tfds_data_dir}",
            "--config.data.train_on=train",
            f"--config.train.steps={STEPS}",
            "--config.train.warmup_steps=50",
            f"--config.checkpoint.every={STEPS}",
            "--config.validation.way=20",
            *NO_AUGMENTATION,
        ],
        capture_output=True, text=True, cwd=ROOT, timeout=3000,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    history = read_history(workdir)
    losses = [row["train/loss"] for row in history if "train/loss" in row]
    assert losses[-1] < 0.5 * losses[0]
    validation = {row["step"]: row["validation/accuracy"] for row in history if "validation/accuracy" in row}
    assert set(validation) == {STEPS}
    assert 0.85 < validation[STEPS] < 1
    assert Checkpoints(workdir).selections() == {STEPS: validation[STEPS]}
