"""What a file of detection episodes must hold to be one: types, counts, and where boxes can be."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from fsljax.config import read
from fsljax.detection.config import SceneOptions

KINDS = ("scenes", "images")
_LARGEST_SIDE = 1e6  # of an image, where nothing says how large it is
_WORD = 2**32


def check_episodes(stored: Mapping[str, Any], count: int | None) -> None:
    """Looks at the head of a file, and at its first episodes.

    Args:
      stored: what the JSON holds.
      count: of episodes; None: all.

    Raises:
      ValueError: something is not what it must be, saying where.
      UserError: the options of scenes are none.
    """
    _need(stored.get("kind") in KINDS, f"the kind must be {' or '.join(KINDS)}")
    _need(_is_whole(stored.get("seed"), 2**64), "the seed must be a whole number")
    _need(_is_text(stored.get("content")), "the content must be text")
    _need(isinstance(stored.get("options"), dict), "the options must be an object of named values")
    for name in ("way", "shots", "queries"):
        _need(_is_whole(stored.get(name), 10**6, least=1), f"{name} must be a whole number from 1")
    _need(stored["queries"] % stored["way"] == 0, "every class must have the same number of queries")
    names = _listed(stored.get("class_names"), None, "class_names")
    _need(all(map(_is_text, names)), "each of class_names must be text")
    side = _LARGEST_SIDE
    if stored["kind"] == "scenes":
        side = read(SceneOptions, stored["options"], complete=False).size
    episodes = _listed(stored.get("episodes"), None, "episodes")
    _need(len(episodes) > 0, "it holds no episodes")
    for number, episode in enumerate(episodes[:count]):
        try:
            _check_episode(episode, stored, side)
        except ValueError as error:
            raise ValueError(f"episode {number}: {error}") from error


def _check_episode(episode: Any, stored: Mapping[str, Any], side: float) -> None:
    _need(isinstance(episode, dict), "it must hold classes, supports and queries")
    way, is_source = stored["way"], _is_key if stored["kind"] == "scenes" else _is_text
    classes = _listed(episode.get("classes"), way, "classes")
    known = len(stored["class_names"])
    _need(all(_is_whole(one, known) for one in classes), f"each class must be a number below {known}")
    _need(len(set(classes)) == way, "its classes must differ")
    for of_class in _listed(episode.get("supports"), way, "supports"):
        for support in _listed(of_class, stored["shots"], "supports of a class"):
            source, box = _listed(support, 2, "parts of a support")
            _need(is_source(source), f"no image is called {_shown(source)}")
            _check_box(box, side)
    for query in _listed(episode.get("queries"), stored["queries"], "queries"):
        source, objects = _listed(query, 2, "parts of a query")
        _need(is_source(source), f"no image is called {_shown(source)}")
        _need(objects != [], "a query shows none of the classes")
        for one in _listed(objects, None, "objects of a query"):
            label, *marks, box = _listed(one, 3, "parts of an object")
            _need(_is_whole(label, way), f"a label is {_shown(label)}; it must be a number below {way}")
            _need(all(map(_is_mark, marks)), "an object's marks must be 0 or 1")
            _check_box(box, side)


def _check_box(box: Any, side: float) -> None:
    sides = _listed(box, 4, "sides of a box")
    if not all(type(one) in (int, float) and abs(one) < math.inf for one in sides):
        raise ValueError(f"a box is {_shown(box)}; it must hold four numbers")
    if not (sides[0] < sides[2] and sides[1] < sides[3]):
        raise ValueError(f"the box {_shown(box)} has no area")
    if min(sides) < 0 or max(sides) > side:
        raise ValueError(f"the box {_shown(box)} lies outside its image")


def _listed(value: Any, count: int | None, what: str) -> Sequence[Any]:
    if not isinstance(value, list) or (count is not None and len(value) != count):
        found = f"{len(value):,}" if isinstance(value, list) else _shown(value)
        raise ValueError(f"{what}: {found}, but there must be {'a list' if count is None else f'{count:,}'}")
    return value


def _is_key(source: Any) -> bool:
    """Whether it is the two words of a scene's key."""
    return isinstance(source, list) and len(source) == 2 and all(_is_whole(word, _WORD) for word in source)


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and value != ""


def _is_mark(value: Any) -> bool:
    return isinstance(value, bool) or _is_whole(value, 2)


def _is_whole(value: Any, below: int, *, least: int = 0) -> bool:
    return type(value) is int and least <= value < below


def _need(holds: bool, otherwise: str) -> None:
    if not holds:
        raise ValueError(otherwise)


def _shown(value: Any) -> str:
    shown = repr(value)
    return shown if len(shown) <= 60 else f"{shown[:60]}…"
