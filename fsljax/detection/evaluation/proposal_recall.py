"""How many objects of new classes are among the proposals: what no rule of naming can do better than."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from fsljax.detection.data.episode_file import DetectionEpisodes
from fsljax.detection.model.regions import Examined
from fsljax.detection.ops.boxes import iou
from fsljax.evaluation.paired import accuracy_and_ci95

_FEW = 100
_OVERLAP = 0.5


Found = dict[tuple[object, ...], tuple[bool, bool]]
"""Of each object, by its image, class and box, whether the best 100 proposals hold it, and whether all do."""


def found_objects(
    episodes: DetectionEpisodes, numbers: np.ndarray, queries: Examined, proposals: int
) -> Found:
    """The objects of some episodes' queries; one that is in several episodes is the same in all.

    Args:
      episodes: with boxes in pixels.
      numbers: int `[g]`.
      queries: regions of these episodes' queries, of which the last are the proposals, best first.
      proposals: how many.
    """
    truth, known = episodes.ground_truth, queries.boxes.shape[2] - proposals
    boxes, labels, counted = (
        np.asarray(part)[numbers] for part in (truth.boxes, truth.labels, truth.non_difficult_mask())
    )
    few, every = map(
        np.asarray,
        _covered(queries.boxes[:, :, known:], queries.valid[:, :, known:], jnp.asarray(boxes)),
    )
    found: Found = {}
    for at in map(tuple, np.argwhere(counted)):
        image = np.ravel(episodes.query[numbers[at[0]], at[1]]).tolist()
        label = int(episodes.classes[numbers[at[0]], labels[at]])
        found[(*image, label, *boxes[at].tolist())] = bool(few[at]), bool(every[at])
    return found


def recall_figures(found: Found) -> dict[str, float]:
    """Recall at an IoU of 0.5 with the 100 best proposals of an image, and with all; how many objects."""
    rows = np.array(list(found.values()), bool).reshape(-1, 2)
    figures: dict[str, float] = {}
    for name, column in zip(("recall_at_100", "recall"), rows.T if len(rows) else (), strict=False):
        figures[name], figures[f"{name}_ci95"] = accuracy_and_ci95(column)
    return {**figures, "objects": len(found)}


@jax.jit
def _covered(boxes: jax.Array, valid: jax.Array, true_boxes: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Bool `[g, q, t]`, whether one of the first 100 boxes `[g, q, p, 4]` lies on an object, and of all."""

    def of_image(boxes: jax.Array, valid: jax.Array, true_boxes: jax.Array) -> tuple[jax.Array, jax.Array]:
        near = (iou(boxes, true_boxes) >= _OVERLAP) & valid[:, None]
        return jnp.any(near[:_FEW], axis=0), jnp.any(near, axis=0)

    few, every = jax.vmap(jax.vmap(of_image))(boxes, valid, true_boxes)
    return few, every
