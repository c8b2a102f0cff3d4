"""Enrolled classes as arrays, and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from fsljax.data.labels import Label
from fsljax.detection.enrolled.classes import Classes
from fsljax.detection.enrolled.photographs import Photograph, Regions

_COLUMNS = {
    "boxes": np.float32,
    "refined": np.float32,
    "objectness": np.float32,
    "weight": np.float32,
    "features": np.float16,
}


def arrays_of(classes: Classes, dim: int) -> dict[str, np.ndarray]:
    """What `classes_of` reads; features of photographs, which are many, in float16."""
    labels, photographs = list(classes.representatives), classes.photographs
    nothing = np.zeros((0, dim), np.float32)
    negatives = [classes.negatives.get(label, nothing) for label in labels]
    threshold = np.nan if classes.threshold is None else classes.threshold
    shapes = _shapes(dim)
    given = [labels.index(label) for one in photographs for label in one.labels]
    return {
        "representatives": np.concatenate([nothing, *classes.representatives.values()]),
        "counts": np.array([len(of) for of in classes.representatives.values()], np.int64),
        "negatives": np.concatenate([nothing, *negatives]),
        "negatives_of_class": np.array([len(of) for of in negatives], np.int64),
        "numbers": np.array([classes.clusters, classes.epochs], np.int64),
        "threshold": np.array(threshold, np.float64),
        **{
            f"regions_{name}": np.concatenate(
                [
                    np.zeros((0, *shapes[name]), kind),
                    *(np.asarray(getattr(one.regions, name), kind) for one in photographs),
                ]
            )
            for name, kind in _COLUMNS.items()
        },
        "photograph_regions": np.array([len(one.boxes) for one in photographs], np.int64),
        "photograph_boxes": np.array([len(one.labels) for one in photographs], np.int64),
        "photograph_numbers": np.array([one.number for one in photographs], np.int64),
        "photograph_is_view": np.array([one.is_view for one in photographs], bool),
        "photograph_labels": np.array(given, np.int64),
        "photograph_lacks": np.array(
            [[label in one.lacks for label in labels] for one in photographs], bool
        ).reshape(len(photographs), len(labels)),
    }


def classes_of(labels: Sequence[Label], arrays: Mapping[str, np.ndarray], dim: int) -> Classes:
    """The classes of these labels; earlier versions kept their representatives alone.

    Raises:
      ValueError, KeyError, IndexError: the arrays do not fit together.
    """
    if not labels and not len(arrays["counts"]):
        return Classes()  # whatever space they would have been compared in
    representatives = _divided(arrays["representatives"], arrays["counts"], (dim,))
    if len(representatives) != len(labels):
        raise ValueError("labels and representatives do not match")
    by_label = dict(zip(labels, representatives, strict=True))
    if "numbers" not in arrays:
        return Classes(by_label)
    negatives = _divided(arrays["negatives"], arrays["negatives_of_class"], (dim,))
    clusters, epochs = map(int, arrays["numbers"])
    threshold = float(arrays["threshold"])
    if not np.isnan(threshold) and not 0 <= threshold <= 1:
        raise ValueError(f"the threshold is {threshold}")
    return Classes(
        by_label,
        {label: of for label, of in zip(labels, negatives, strict=True) if len(of)},
        _photographs(labels, arrays, dim),
        clusters,
        epochs,
        None if np.isnan(threshold) else threshold,
    )


def _photographs(
    labels: Sequence[Label], arrays: Mapping[str, np.ndarray], dim: int
) -> tuple[Photograph, ...]:
    counts = arrays["photograph_regions"]
    # Earlier versions had no weights.
    there = {"regions_weight": np.ones_like(arrays["regions_objectness"]), **arrays}
    columns = [_divided(there[f"regions_{name}"], counts, shape) for name, shape in _shapes(dim).items()]
    given = _divided(arrays["photograph_labels"], arrays["photograph_boxes"], ())
    numbers, views = arrays["photograph_numbers"], arrays["photograph_is_view"]
    lacks = arrays["photograph_lacks"]
    if lacks.shape != (len(counts), len(labels)):
        raise ValueError("photographs and classes do not match")
    return tuple(
        Photograph(
            Regions(*regions),
            tuple(labels[int(place)] for place in of_boxes),
            tuple(labels[int(place)] for place in np.flatnonzero(lacked)),
            int(number),
            bool(is_view),
        )
        for *regions, of_boxes, lacked, number, is_view in zip(
            *columns, given, lacks, numbers, views, strict=True
        )
    )


def _shapes(dim: int) -> dict[str, tuple[int, ...]]:
    """Of a region's columns."""
    return {"boxes": (4,), "refined": (4,), "objectness": (), "weight": (), "features": (dim,)}


def _divided(rows: np.ndarray, counts: np.ndarray, shape: tuple[int, ...]) -> list[np.ndarray]:
    """Rows of finite numbers, divided into as many as each has."""
    ends = np.cumsum(counts)
    if rows.shape != (int(ends[-1]) if len(ends) else 0, *shape) or (np.asarray(counts) < 0).any():
        raise ValueError(f"an array has the shape {list(rows.shape)}")
    if not np.isfinite(rows).all():
        raise ValueError("an array holds values that are not finite")
    kind = np.float32 if rows.dtype.kind == "f" else np.int64
    return [np.asarray(part, kind) for part in np.split(rows, ends)[: len(ends)]]
