"""Methods by name."""

from __future__ import annotations

from types import ModuleType

import numpy as np
import pytest
from ml_collections import ConfigDict

from fsljax import methods
from fsljax.data.dataset import ImageDataset, Splits
from fsljax.errors import UserError
from fsljax.methods import protonet, repmet_detector, softmax


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
    typed = methods.check(config)
    method = methods.build(typed, splits)
    assert isinstance(method, protonet.ProtoNet)
    assert method.config is typed
    for name in ("training_data", "init", "draw", "learn", "validate", "evaluate"):
        assert callable(getattr(method, name))


@pytest.mark.parametrize("name", ["matching", "", "../protonet", "protonet.ProtoNet", "nowhere.at_all", None])
def test_a_method_that_does_not_exist_is_named(name: str, splits: Splits):
    config = protonet.default_config()
    config.method = name
    for attempt in (methods.check, lambda config: methods.build(methods.check(config), splits)):
        with pytest.raises(
            UserError, match=rf"config\.method is {name!r}, but there is no module .* It can be 'magnet', "
        ):
            attempt(config)


def test_a_config_as_its_file_gives_it_is_checked_on_the_way(splits: Splits):
    config = protonet.default_config()
    config.train.way = config.validation.way = 3
    config.eval.ways = (3,)
    assert methods.build(config, splits).config == methods.check(config)
    config.train.way = 1
    with pytest.raises(UserError, match=r"config\.train\.way is 1"):
        methods.build(config, splits)


def test_a_module_that_is_no_method_is_told_what_it_lacks():
    config = protonet.default_config()
    config.method = "os.path"
    with pytest.raises(
        UserError, match=r"config\.method names, defines no Config and no default_config and no check"
    ):
        methods.check(config)


def test_a_config_is_checked_by_its_method():
    config = protonet.default_config()
    methods.check(config)
    config.train.way = 1
    with pytest.raises(UserError, match=r"config\.train\.way"):
        methods.check(config)


def test_a_misspelt_field_is_told_with_the_nearest_right_one():
    config = protonet.default_config().unlock()
    config.train.querries = 3
    with pytest.raises(UserError, match=r"Unknown field config\.train\.querries .* mean train\.queries\?"):
        methods.check(config)


def test_a_config_without_a_field_is_told_where_to_begin():
    with pytest.raises(UserError, match=r"is missing: .*protonet\.default_config\(\)"):
        methods.check(ConfigDict({"method": "protonet"}))
    with pytest.raises(UserError, match=r"config\.method is None"):
        methods.check(ConfigDict({}))


def test_a_default_config_takes_no_new_field():
    with pytest.raises(AttributeError, match="shfit"):
        protonet.default_config().augment.shfit = 0.1
    with pytest.raises(KeyError, match="querries"):
        protonet.default_config().train.update({"querries": 2})


@pytest.mark.parametrize(
    ("module", "field", "value", "sentence"),
    [
        (protonet, "data.name", "omniglott", r"config\.data\.name is 'omniglott'.* Did you mean omniglot\?"),
        (protonet, "network.name", "conv44", r"config\.network\.name is 'conv44'.* Did you mean conv4\?"),
        (softmax, "eval.metrics", ("nmy",), r"config\.eval\.metrics is 'nmy'.* Did you mean nmi\?"),
        (repmet_detector, "data.name", "coko", r"config\.data\.name is 'coko'.* Did you mean coco\?"),
    ],
)
def test_a_module_that_is_not_there_is_told_before_data_are_loaded(
    module: ModuleType, field: str, value: object, sentence: str
):
    config = module.default_config()
    config.update_from_flattened_dict({field: value})
    with pytest.raises(UserError, match=sentence):
        methods.check(config)
