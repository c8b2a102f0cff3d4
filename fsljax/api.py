"""What an application calls: a trained network that learns new classes from a few images each."""

from __future__ import annotations

from fsljax.classification.classifier import Classifier
from fsljax.detection.object_detector import Detected, Detector

__all__ = ["Classifier", "Detected", "Detector"]
