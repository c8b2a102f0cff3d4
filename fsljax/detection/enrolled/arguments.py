"""What an application asks of a detector, checked."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Sequence
from numbers import Integral, Real

from fsljax.data.labels import Label, spelled_as
from fsljax.errors import UserError


def checked_count(name: str, given: object, most: int | None = None) -> int:
    """A whole number, 0 or more; True: the most there are.

    Raises:
      UserError: it is none.
    """
    if most is not None and given is True:
        return most
    if not isinstance(given, Integral) or int(given) < 0 or (most is not None and int(given) > most):
        upper = " or more" if most is None else f" to {most}"
        raise UserError(f"{name} is {given!r}: give a whole number, 0{upper}.")
    return int(given)


def check_search(threshold: object, most: object) -> None:
    """Raises a UserError for a threshold or a number of detections that cannot be."""
    if not isinstance(threshold, Real) or not isinstance(most, Integral):
        raise UserError(f"threshold is {threshold!r} and most {most!r}: give a number and an integer.")
    if not 0 <= float(threshold) <= 1 or int(most) < 1:
        raise UserError(
            f"threshold is {threshold} and most {most}: give a threshold from 0 to 1, and 1 or more."
        )


def enrolled_labels(labels: Sequence[Label], known: Collection[Label]) -> list[Label]:
    """The labels once each, as they were enrolled.

    Raises:
      UserError: one was not.
    """
    spelled = spelled_as(labels, known)
    for label in spelled:
        if not isinstance(label, Hashable) or label not in known:
            raise UserError(f"{label!r} is not enrolled; the enrolled classes are {list(known)}.")
    return list(dict.fromkeys(spelled))
