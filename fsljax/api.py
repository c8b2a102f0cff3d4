"""The API for applications: trained networks that learn new classes from a few images each."""

from __future__ import annotations

from fsljax.classification.classifier import Classifier
from fsljax.detection.object_detector import Detected, Detector

__all__ = ["Classifier", "Detected", "Detector"]
