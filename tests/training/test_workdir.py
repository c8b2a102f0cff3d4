"""Whose a workdir is, and who is using it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fsljax.config import read
from fsljax.errors import UserError
from fsljax.methods import protonet
from fsljax.training import workdir

PARTS = {"train": "a", "validation": "b", "test": "c"}


def test_a_second_run_is_refused_and_a_later_one_is_not(tmp_path: Path):
    refused = pytest.raises(UserError, match="Another run is using")
    with workdir.exclusive(tmp_path), refused, workdir.exclusive(tmp_path):
        pass
    with workdir.exclusive(tmp_path):
        pass


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(UserError, match=r"file/run.* cannot be written"),
        workdir.exclusive(tmp_path / "file/run"),
    ):
        pass


def test_another_training_config_is_refused_by_what_differs(tmp_path: Path):
    config = protonet.default_config()
    workdir.claim(tmp_path, read(protonet.Config, config), PARTS)
    workdir.claim(tmp_path, read(protonet.Config, config), PARTS)
    config.eval.episodes = 7
    config.data.data_dir = "/elsewhere"
    workdir.claim(tmp_path, read(protonet.Config, config), PARTS)
    config.train.way = 30
    with pytest.raises(UserError, match=r"train\.way is 60 there and 30 here"):
        workdir.claim(tmp_path, read(protonet.Config, config), PARTS)


def test_a_field_that_came_later_has_its_default_in_a_workdir_without_it(tmp_path: Path):
    config = protonet.default_config()
    workdir.claim(tmp_path, read(protonet.Config, config), PARTS)
    stored = json.loads((tmp_path / "config.json").read_text())
    del stored["network"]["trainable"], stored["network"]["input_mean"]
    (tmp_path / "config.json").write_text(json.dumps(stored))
    workdir.check_same(tmp_path, read(protonet.Config, config))
    config.network.trainable = "last_stage"
    with pytest.raises(UserError, match=r"network\.trainable is 'all' there and 'last_stage' here"):
        workdir.check_same(tmp_path, read(protonet.Config, config))


def test_a_field_of_the_method_that_came_later_is_compared_too(tmp_path: Path):
    config = protonet.default_config()
    workdir.claim(tmp_path, read(protonet.Config, config), PARTS)
    stored = json.loads((tmp_path / "config.json").read_text())
    del stored["train"]["support_turns"], stored["loss"]
    (tmp_path / "config.json").write_text(json.dumps(stored))
    workdir.check_same(tmp_path, read(protonet.Config, config))
    config.train.support_turns = 3
    config.loss.temperature = 2.0
    differing = r"support_turns is 1 there and 3 here; loss\.temperature is 1\.0 there and 2\.0 here"
    with pytest.raises(UserError, match=differing):
        workdir.check_same(tmp_path, read(protonet.Config, config))


def test_a_field_that_this_version_does_not_know_is_told(tmp_path: Path):
    workdir.claim(tmp_path, protonet.Config(), PARTS)
    stored = json.loads((tmp_path / "config.json").read_text())
    stored["eval"]["of_old"] = 3
    (tmp_path / "config.json").write_text(json.dumps(stored))
    workdir.check_same(tmp_path, protonet.Config())
    stored["train"]["of_another"] = 7
    (tmp_path / "config.json").write_text(json.dumps(stored))
    with pytest.raises(UserError, match=r"train\.of_another is 7 there and no field here"):
        workdir.check_same(tmp_path, protonet.Config())


def test_other_images_than_the_run_began_with_are_refused(tmp_path: Path):
    config = protonet.default_config()
    workdir.claim(tmp_path, read(protonet.Config, config), PARTS)
    with pytest.raises(UserError, match="holds a run on other images"):
        workdir.claim(tmp_path, read(protonet.Config, config), PARTS | {"test": "d"})
    assert workdir.same_images(tmp_path, PARTS)
    assert not workdir.same_images(tmp_path, PARTS | {"train": "d"})
    assert workdir.same_images(tmp_path / "of a version that kept none", PARTS)


def test_a_run_that_came_to_nothing_makes_room_for_one_of_its_experiment_alone(tmp_path: Path):
    config = protonet.default_config()
    config.name = "mine"
    workdir.claim(tmp_path, read(protonet.Config, config), PARTS)
    config.name = "another"
    workdir.release(tmp_path, config)
    assert (tmp_path / "config.json").exists()
    config.name = "mine"
    workdir.release(tmp_path, config)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("content", ["{", "[]", '{"name": "mine"}', '{"dependencies": {}}'])
def test_a_file_that_no_run_wrote_stays(tmp_path: Path, content: str):
    (tmp_path / "config.json").write_text(content)
    config = protonet.default_config()
    config.name = "mine"
    workdir.release(tmp_path, config)
    assert (tmp_path / "config.json").read_text() == content


def test_a_damaged_config_is_named(tmp_path: Path):
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(UserError, match=r"config\.json cannot be read"):
        workdir.claim(tmp_path, protonet.Config(), PARTS)


def test_json_is_replaced_whole(tmp_path: Path):
    path = tmp_path / "results.json"
    workdir.write_json(path, {"a": 1})
    with pytest.raises(TypeError):
        workdir.write_json(path, {"a": object()})
    assert json.loads(path.read_text()) == {"a": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["results.json"]


def test_results_that_cannot_be_read_count_as_none(tmp_path: Path):
    assert workdir.read_results(tmp_path) == {}
    (tmp_path / "results.json").write_text('{"test": ')
    assert workdir.read_results(tmp_path) == {}
