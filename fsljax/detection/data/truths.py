"""The objects that are in images."""

from __future__ import annotations

from typing import NamedTuple

import jax


class Truths(NamedTuple):
    """The objects of a batch of images.

    Attributes:
      boxes: `[b, t, 4]`.
      labels: int `[b, t]`, classes from 0.
      mask: bool `[b, t]`, False for padding.
      difficult: bool `[b, t]`; what lies on such an object is neither an object nor background. None: there
        is none.
    """

    boxes: jax.Array
    labels: jax.Array
    mask: jax.Array
    difficult: jax.Array | None = None

    def wanted(self) -> jax.Array:
        """Which are to be found, bool `[b, t]`."""
        return self.mask if self.difficult is None else self.mask & ~self.difficult
