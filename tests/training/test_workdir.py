"""Whose a workdir is, and who is using it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fsljax.config import read
from fsljax.errors import UserError
from fsljax.methods import protonet
from fsljax.storage.json_files import read_checked, write_json
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
    stored = read_checked(tmp_path / "config.json")
    del stored["network"]["trainable"], stored["network"]["input_mean"]
    (tmp_path / "config.json").write_text(json.dumps(stored))
    workdir.check_same(tmp_path, read(protonet.Config, config))
    config.network.trainable = "last_stage"
    with pytest.raises(UserError, match=r"network\.trainable is 'all' there and 'last_stage' here"):
        workdir.check_same(tmp_path, read(protonet.Config, config))


def test_a_field_of_the_method_that_came_later_is_compared_too(tmp_path: Path):
    config = protonet.default_config()
    workdir.claim(tmp_path, read(protonet.Config, config), PARTS)
    stored = read_checked(tmp_path / "config.json")
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
    stored = read_checked(tmp_path / "config.json")
    stored["eval"]["of_old"] = 3
    (tmp_path / "config.json").write_text(json.dumps(stored))
    workdir.check_same(tmp_path, protonet.Config())
    stored["train"]["of_another"] = 7
    (tmp_path / "config.json").write_text(json.dumps(stored))
    with pytest.raises(UserError, match=r"train\.of_another is 7 there and not a field here"):
        workdir.check_same(tmp_path, protonet.Config())


def test_other_images_than_the_run_began_with_are_refused(tmp_path: Path):
    config = protonet.default_config()
    workdir.claim(tmp_path, read(protonet.Config, config), PARTS)
    with pytest.raises(UserError, match="holds a run on images that have changed"):
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
    write_json(path, {"a": 1})
    with pytest.raises(TypeError):
        write_json(path, {"a": object()})
    assert read_checked(path) == {"a": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["results.json"]


FIGURES = {"5way": {"accuracy": 0.9, "ci95": 0.1, "episodes": 10}}


def test_results_without_a_digest_are_read(tmp_path: Path):
    assert workdir.read_results(tmp_path) == {}
    results = {"step": 3, "test": FIGURES | {"1way": {"accuracy": 0.5, "ci95": float("nan")}}}
    (tmp_path / "results.json").write_text(json.dumps(results))
    assert str(workdir.read_results(tmp_path)) == str(results)


@pytest.mark.parametrize(
    "content",
    [
        '{"test": ', "[]", "{}", "null", "[" * 100_000, '{"test": ' + "[" * 500 + "]" * 500 + "}",
        '{"test": []}', '{"test": {"5way": 1}}', '{"test": {"5way": {"accuracy": "0.9"}}}',
        '{"test": {"5way": {"accuracy": true}}}', '{"test": {"5way": {"accuracy": null}}}',
        '{"test": {"5way": {"accuracy": 9.0}}}', '{"test": {"5way": {"map": Infinity}}}',
        '{"test": {"5way": {"episodes": 1' + "0" * 400 + "}}}",
    ],
    ids=range(14),
)  # fmt: skip
def test_results_that_cannot_be_read_count_as_none_after_a_warning(tmp_path: Path, caplog, content: str):
    (tmp_path / "results.json").write_text(content)
    assert workdir.read_results(tmp_path) == {}
    assert len(caplog.records) == 1
    with pytest.raises(UserError, match=r"results\.json .*\."):
        workdir.results_of(tmp_path)


def test_a_changed_digit_in_a_stored_file_is_told(tmp_path: Path, caplog):
    workdir.claim(tmp_path, protonet.Config(), PARTS)
    write_json(tmp_path / "results.json", {"step": 3, "test": FIGURES})
    for name, old, new in (
        ("config.json", '"image_size": 28', '"image_size": 29'),
        ("images.json", '"c"', '"d"'),
        ("results.json", "0.9", "0.8"),
    ):
        text = (tmp_path / name).read_text()
        assert old in text
        (tmp_path / name).write_text(text.replace(old, new))
    with pytest.raises(UserError, match=r"config\.json cannot be read: it was changed after it was written"):
        workdir.read_config(tmp_path)
    with pytest.raises(
        UserError, match=r"images\.json cannot be read: it was changed .*restore it, or delete"
    ):
        workdir.same_images(tmp_path, PARTS)
    assert workdir.read_results(tmp_path) == {}
    assert "results.json was changed after it was written" in caplog.text


@pytest.mark.parametrize("content", ["", "{", "[]", "[" * 100_000, "\0", '{"a": NaN}'])
def test_damaged_fingerprints_of_images_do_not_switch_their_check_off(tmp_path: Path, content: str):
    workdir.claim(tmp_path, protonet.Config(), PARTS)
    (tmp_path / "images.json").write_text(content)
    with pytest.raises(UserError, match=r"images\.json cannot be read: .*restore it, or delete it"):
        workdir.claim(tmp_path, protonet.Config(), PARTS)
    (tmp_path / "images.json").unlink()
    workdir.claim(tmp_path, protonet.Config(), PARTS)


def test_a_folder_that_may_not_be_entered_is_told(tmp_path: Path):
    with pytest.raises(UserError, match="File name too long"):
        workdir.read_config(tmp_path / ("x" * 300))
    with pytest.raises(UserError, match="null"):
        workdir.has_config(tmp_path / "a\0b")
