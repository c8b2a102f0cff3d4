"""Heads, which compare enrolled classes from the embeddings of a few images each."""

from __future__ import annotations

from fsljax.classification.heads.centered import Centered
from fsljax.classification.heads.common import Compared, Head
from fsljax.classification.heads.logistic import Logistic
from fsljax.classification.heads.posteriors import Posteriors
from fsljax.classification.heads.prototypes import Prototypes
from fsljax.classification.heads.refitted import Refitted
from fsljax.classification.heads.representatives import Representatives
from fsljax.errors import UserError

HEADS = ("prototype", "centered", "logistic", "representatives")
"""Names of the heads available for pretrained networks."""


def new_head(name: str, *, distance: str = "cosine") -> Head:
    """An empty head for embeddings of a network trained on other classes.

    Args:
      name: "prototype": the nearest class mean by `distance`. "centered": likewise, after subtracting the
        mean of all embeddings. "logistic": multinomial logistic regression. "representatives": RepMet's
        posteriors, with each embedding as a representative.
      distance: distance to prototypes, "cosine" or "squared_euclidean".

    Raises:
      UserError: if there is no such head or distance.
    """
    if name not in HEADS:
        raise UserError(f"head is {name!r}; it can be {', '.join(map(repr, HEADS))}.")
    if distance not in ("cosine", "squared_euclidean"):
        raise UserError(f"distance is {distance!r}; it can be 'cosine' or 'squared_euclidean'.")
    if name == "prototype":
        return Prototypes(distance, None, unit=distance == "cosine")
    if name == "centered":
        return Refitted(Centered())
    return Refitted(Logistic() if name == "logistic" else Posteriors())


__all__ = ["HEADS", "Centered", "Compared", "Head", "Logistic", "Posteriors", "Prototypes", "Refitted",
           "Representatives", "new_head"]  # fmt: skip
