"""Files and folders on a command line, and the ones among them that cannot be read."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from fsljax.cli.images import answers_to, images_of, natural, say_what_failed
from fsljax.errors import UserError


def test_names_are_sorted_as_people_do():
    names = ["b1", "a10", "a2", "A1", "a02", "a", "10", "9", "a2b", "x" + "9" * 5000]
    assert sorted(names, key=natural) == [
        "9", "10", "a", "A1", "a02", "a2", "a2b", "a10", "b1", "x" + "9" * 5000
    ]  # fmt: skip


def test_a_folder_gives_all_images_below_and_files_keep_their_order(photographs: Path):
    last = str(photographs / "stripes/2.png")
    images = images_of([last, str(photographs / "dark"), str(photographs)], [])
    paths = [os.path.relpath(image.path, photographs) for image in images]
    dark, stripes = ([f"{name}/{number}.png" for number in (1, 2, 10)] for name in ("dark", "stripes"))
    assert paths == ["stripes/2.png", *dark, *dark, *stripes]
    assert not any(image.failure for image in images)


def test_what_is_no_image_is_told_and_loses_no_other(photographs: Path, tmp_path: Path, capsys):
    cut, empty, pipe = tmp_path / "cut.png", tmp_path / "empty", tmp_path / "pipe"
    cut.write_bytes((photographs / "dark/1.png").read_bytes()[:100])
    empty.mkdir()
    os.mkfifo(pipe)
    given = [cut, tmp_path / "none.png", empty, pipe, photographs / "dark/1.png", "\0"]
    images = images_of(list(map(str, given)), [])
    asked: list[list[str]] = []

    def ask(paths: list[str]) -> list[int]:
        asked.append(paths)
        if len(paths) > 1:
            raise UserError("The image cannot be read.")
        return [7]

    assert answers_to(images, ask) == [None, None, None, None, 7, None]
    assert [image.failure is None for image in images] == [False] * 4 + [True, False]
    assert images[0].failure == "image file is truncated"
    assert images[1].failure == "No such file or directory"
    assert "no readable images" in str(images[2].failure) and "pipe" in str(images[3].failure)
    assert len(asked) == 2
    assert say_what_failed(images) == 1
    said = capsys.readouterr().err
    assert said.startswith("fsljax: 5 of 6 images could not be read: ") and said.count("\n") == 1


def test_what_is_wrong_with_the_model_is_not_blamed_on_images(photographs: Path):
    def ask(paths: list[str]) -> list[int]:
        raise UserError("No class is enrolled.")

    with pytest.raises(UserError, match="No class"):
        answers_to(images_of([str(photographs)], []), ask)


def test_many_are_asked_a_few_at_a_time(photographs: Path):
    sizes: list[int] = []

    def ask(paths: list[str]) -> list[str]:
        sizes.append(len(paths))
        return paths

    images = images_of([str(photographs)], [])
    assert answers_to(images, ask, at_once=4) == [image.path for image in images]
    assert sizes == [4, 2]
