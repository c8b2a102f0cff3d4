"""Which head keeps the classes of a network, by the method that trained it."""

from __future__ import annotations

import jax

from fsljax.classification.heads import Head, Prototypes, Representatives, new_head
from fsljax.classification.stored_config import PRETRAINED, ClassifierConfig
from fsljax.errors import UserError, first_few
from fsljax.networks.variables import Params


def enrolled_by(config: ClassifierConfig, params: Params, representatives: int | None) -> Head:
    """What keeps the classes of a network, by the method that trained it.

    Args:
      config: of the network.
      params: of the network, and of the method.
      representatives: of a class at most; None: as the config says.

    Raises:
      UserError: representatives are asked of another method's network, or fewer than none.
    """
    if config.method != "repmet":
        if representatives is not None:
            raise _no_representatives(config.method)
        if config.method == PRETRAINED:
            return new_head("logistic")
        return Prototypes(config.loss.distance, config.loss.temperature)
    if representatives is not None and representatives < 0:
        raise UserError(f"representatives is {representatives}; it must be 0 or more.")
    loss = config.loss
    return Representatives(
        sigma=float(jax.nn.softplus(params["sigma"])) if "sigma" in params else loss.sigma,
        alpha=loss.alpha,
        version=loss.version,
        squared=loss.squared,
        per_class=config.eval.support_representatives if representatives is None else representatives,
    )


def with_representatives(known: Head, method: str) -> Representatives:
    """The classes, or a UserError: the method that trained the network gives them no representatives."""
    if not isinstance(known, Representatives):
        raise _no_representatives(method)
    return known


def _no_representatives(method: str) -> UserError:
    return UserError(
        f"This network was trained by {method!r}, whose classes have no representatives: load "
        "one that was trained by 'repmet'."
    )


def changed_head(head: Head, name: str, distance: str) -> Head:
    """Another head, with the classes of one.

    Raises:
      UserError: if there is no such head, or the embeddings of a class were not kept.
    """
    changed = new_head(name, distance=distance)
    lost = [label for label in head.labels if label not in head.supports]
    if lost:
        raise UserError(
            f"The head cannot be changed: the embeddings of {first_few([str(label) for label in lost])} were "
            "not kept, for they were trained, or enrolled by an earlier version. Enrol their images."
        )
    for label in head.labels:
        changed.add([label] * len(head.supports[label]), head.supports[label])
    return changed
