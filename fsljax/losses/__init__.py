"""Metric-learning losses: pure functions of arrays."""

from fsljax.distances import cosine_distance, squared_euclidean
from fsljax.losses.magnet import MagnetOutput, magnet_loss
from fsljax.losses.prototypical import PrototypicalOutput, prototypes, prototypical_loss
from fsljax.losses.repmet import RepMetOutput, repmet_loss
from fsljax.losses.triplet import TripletOutput, triplet_loss

__all__ = [
    "MagnetOutput",
    "PrototypicalOutput",
    "RepMetOutput",
    "TripletOutput",
    "cosine_distance",
    "magnet_loss",
    "prototypes",
    "prototypical_loss",
    "repmet_loss",
    "squared_euclidean",
    "triplet_loss",
]
