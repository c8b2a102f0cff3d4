"""Methods by name."""

from __future__ import annotations

import numpy as np
import pytest

from fsljax import methods
from fsljax.data.dataset import ImageDataset, Splits
from fsljax.errors import UserError
from fsljax.methods import protonet


@pytest.fixture
def splits() -> Splits:
    """Three classes of 20 blank images in each part."""
    images = np.zeros((60, 28, 28, 1), np.uint8)
    part = ImageDataset(images, np.repeat(np.arange(3, dtype=np.int32), 20), ("a", "b", "c"))
    return Splits(part, part, part)


def test_the_method_is_that_of_the_config(splits: Splits):
    config = protonet.default_config()
    config.train.way = config.validation.way = 3
    config.eval.ways = (3,)
    method = methods.build(config, splits)
    assert isinstance(method, protonet.ProtoNet)
    assert method.config is config
    for name in ("training_data", "init", "train_step", "validate", "evaluate"):
        assert callable(getattr(method, name))


@pytest.mark.parametrize("name", ["matching", "", "os.path", "../protonet", "protonet.ProtoNet"])
def test_a_method_that_does_not_exist_is_named(name: str, splits: Splits):
    config = protonet.default_config()
    config.method = name
    for attempt in (methods.check, lambda config: methods.build(config, splits)):
        with pytest.raises(UserError, match=rf"config\.method is {name!r}, but there is no module"):
            attempt(config)


def test_a_config_is_checked_by_its_method():
    config = protonet.default_config()
    methods.check(config)
    config.train.way = 1
    with pytest.raises(UserError, match=r"config\.train\.way"):
        methods.check(config)
