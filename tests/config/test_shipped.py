"""Configs that come with fsljax, by their names."""

from __future__ import annotations

from pathlib import Path

import pytest

from fsljax.config import experiments, shipped
from fsljax.config.arguments import with_paths
from fsljax.errors import UserError

FOLDER = Path(__file__).parents[2] / "configs"


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder that holds nothing."""
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ("quickstart", f"{FOLDER}/quickstart.py"),
        ("quickstart.py", f"{FOLDER}/quickstart.py"),
        ("fsljax.configs/quickstart", f"{FOLDER}/quickstart.py"),
        ("fsljax.configs.quickstart", f"{FOLDER}/quickstart.py"),
        ("protonet_lake:small1", f"{FOLDER}/protonet_lake.py:small1"),
        ("configs/quickstart.py", "configs/quickstart.py"),
        ("quikstart", "quikstart"),
        ("a" * 300, "a" * 300),
        ("", ""),
    ],
)
def test_a_name_stands_for_a_shipped_config(given: str, wanted: str):
    assert shipped.located(given) == wanted


def test_a_file_or_folder_of_that_name_comes_first(tmp_path: Path):
    (tmp_path / "quickstart").mkdir()
    (tmp_path / "folder.py").touch()
    assert shipped.located("quickstart") == "quickstart"
    assert shipped.located("folder.py") == "folder.py"
    assert shipped.located("fsljax.configs/quickstart") == f"{FOLDER}/quickstart.py"
    with pytest.raises(UserError, match=r"quickstart is a folder, .* --config=fsljax.configs/quickstart\."):
        experiments.load("quickstart")


def test_flags_get_the_path():
    assert with_paths(["x", "--config=quickstart", "--config.name=quickstart"]) == [
        "x", f"--config={FOLDER}/quickstart.py", "--config.name=quickstart",
    ]  # fmt: skip
    assert with_paths(["x", "-config", "quickstart"]) == ["x", "-config", f"{FOLDER}/quickstart.py"]


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (
            "quikstart",
            "no config file at quikstart. Did you mean quickstart? `fsljax configs` lists them all.",
        ),
        ("configs/quickstart.py", "The one that comes with fsljax is --config=quickstart."),
        ("repmet_pets_r18F_1_12_4", "That experiment is --config=repmet_fine_grained:pets_r18F_1_12_4."),
        ("unlike_all_others", "fsljax comes with quickstart and others: `fsljax configs` lists them all."),
        (
            "repmet_fine_grained:pets",
            "It has flowers_1_12_4, flowers_3_12_4, flowers_mnv2F_1_12_4 and 16 more; "
            "`fsljax configs` lists them all.",
        ),
    ],
)
def test_a_name_that_is_none_is_answered_with_the_nearest_few(given: str, told: str):
    with pytest.raises(UserError) as error:
        experiments.load(given)
    assert str(error.value).endswith(told)
    assert len(str(error.value)) < 250


def test_all_are_listed_in_groups_with_a_line_each():
    text = shipped.as_text(shipped.listed())
    for file in FOLDER.glob("*.py"):
        assert any(line.split()[0] == file.stem for line in text.splitlines() if line), file
    assert "    protonet_lake:small1" in text.splitlines()
    named = {one.name for one in shipped.listed("tiny_imagenet")}
    assert named == {
        "magnet_hierarchy", "protonet_few_shot", "softmax_hierarchy", "softmax_tiny_imagenet",
        "triplet_hierarchy",
    }  # fmt: skip
    assert shipped.listed("protonet_few_shot:cub")[0].experiments == ("cub",)


def test_configs_can_be_imported_in_a_checkout():
    from fsljax.configs import quickstart

    assert quickstart.get_config().name == "quickstart"
