"""Processes made by fork: where JAX would wait for ever, a sentence."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import jax.numpy as jnp
import pytest

from fsljax.errors import UserError
from fsljax.networks.forked import check_not_forked

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork")

PROGRAM = """
import os, sys, warnings
warnings.simplefilter("ignore")
import numpy as np
from fsljax.api import Classifier
from fsljax.errors import UserError
from fsljax.methods import protonet
from fsljax.training.checkpoints import Model

def in_child(work):
    child = os.fork()
    if not child:
        try:
            print("computed", work(), flush=True)
        except UserError as error:
            print(error, flush=True)
        os._exit(0)
    os.waitpid(child, 0)

def use():
    import jax
    from fsljax.networks import build
    config = protonet.default_config()
    config.network.filters = 2
    images = np.zeros((1, 28, 28, 1), np.float32)
    variables = build(config).init(jax.random.key(0), images, running_average=True)
    classifier = Classifier(config, Model(1, jax.device_get(variables)))
    return classifier.enroll(images, "a")

in_child(lambda: use().classes)
classifier = use()
for work in (lambda: classifier.predict(np.zeros((1, 28, 28))), lambda: classifier.forget("a"),
             lambda: Classifier(classifier._network._stored, classifier._network.model),
             lambda: classifier.save(sys.argv[1]), lambda: Classifier.load(sys.argv[1])):
    in_child(work)
print(classifier.classes)
"""


@pytest.mark.filterwarnings("ignore:os.fork")
@pytest.mark.filterwarnings("ignore:This process")
def test_a_process_made_by_fork_knows_that_jax_cannot_compute_there():
    jnp.ones(1).block_until_ready()
    check_not_forked()
    child = os.fork()
    if not child:
        try:
            check_not_forked()
        except UserError:
            os._exit(7)
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    check_not_forked()


@pytest.mark.slow
def test_a_fork_before_the_first_computation_works_and_one_after_it_says_why_not(tmp_path: Path):
    run = subprocess.run(
        [sys.executable, "-c", PROGRAM, tmp_path / "saved"], capture_output=True, text=True, timeout=120
    )
    first, *others, last = run.stdout.splitlines()
    assert (run.returncode, first, last) == (0, "computed ['a']", "['a']"), run.stderr
    assert len(others) == 5
    for told in others:
        assert "was forked after JAX had computed" in told and "get_context('spawn')" in told
    assert not (tmp_path / "saved").exists()
