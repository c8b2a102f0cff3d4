"""Losses of metric learning: pure functions of arrays."""

from fsljax.distances import cosine_distance, squared_euclidean
from fsljax.losses.prototypical import PrototypicalOutput, prototypes, prototypical_loss

__all__ = [
    "PrototypicalOutput",
    "cosine_distance",
    "prototypes",
    "prototypical_loss",
    "squared_euclidean",
]
