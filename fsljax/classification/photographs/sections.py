"""Sections of the report on photographs: the best head, and what the user should look at."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fsljax.classification.photographs.checks import Duplicate, Mislabelled
from fsljax.classification.photographs.pool import Pool
from fsljax.reporting.pictures import data_uri
from fsljax.reporting.sections import Section, render

_THUMB_SIDE = 72
_MOST_SHOWN = 50


def sentences_section(sentences: Sequence[str]) -> Section:
    """What was found, in words."""
    return Section("In words", render("sentences", sentences=sentences))


def mislabelled_section(pool: Pool, found: Sequence[Mislabelled]) -> Section:
    """Photographs that look mislabelled, each beside one of the class that it looks like."""
    title = "Photographs that look mislabelled"
    if not found:
        return Section(title, "<p>No photograph looks mislabelled.</p>")
    rows = []
    for row, predicted, probability in found[:_MOST_SHOWN]:
        example = _nearest(pool, row, predicted)
        rows.append(
            {
                "pictures": [_picture(pool, row), _picture(pool, example)],
                "names": [pool.class_names[pool.labels[row]], pool.class_names[predicted]],
                "files": [pool.files[row], pool.files[example]],
                "figure": f"{100 * probability:.0f} %",
            }
        )
    header = ("photograph", "looks like", "probability")
    text = (
        f"{_counted(len(found), 'photograph')} classified as another class from all other photographs. Next "
        f"to each is the nearest photograph of that class.{_cut(len(found))}"
    )
    return Section(title, render("photographs", header=header, rows=rows), text)


def duplicates_section(pool: Pool, found: Sequence[Duplicate]) -> Section:
    """Photographs that lie in two classes."""
    title = "The same photograph in two classes"
    if not found:
        return Section(title, "<p>No photograph is in two classes.</p>")
    rows = [
        {
            "pictures": [_picture(pool, row) for row in pair[:2]],
            "names": [pool.class_names[pool.labels[row]] for row in pair[:2]],
            "files": [pool.files[row] for row in pair[:2]],
            "figure": "the same" if pair.exact else f"{pair.cosine:.3f}",
        }
        for pair in found[:_MOST_SHOWN]
    ]
    header = ("photograph", "and", "cosine")
    text = (
        f"{_counted(len(found), 'pair')} of photographs of different classes with identical pixels, or "
        f"nearly identical embeddings: only one of the classes can be right.{_cut(len(found))}"
    )
    return Section(title, render("photographs", header=header, rows=rows), text)


def _counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'s' * (count != 1)}"


def _cut(count: int) -> str:
    return f" The first {_MOST_SHOWN} are shown." if count > _MOST_SHOWN else ""


def _picture(pool: Pool, row: int) -> str:
    return data_uri(pool.images[row], side=_THUMB_SIDE)


def _nearest(pool: Pool, row: int, label: int) -> int:
    members = np.flatnonzero((pool.labels == label) & (np.arange(len(pool.labels)) != row))
    far = np.sum(np.square(pool.embeddings[members] - pool.embeddings[row]), axis=1)
    return int(members[np.argmin(far)])
