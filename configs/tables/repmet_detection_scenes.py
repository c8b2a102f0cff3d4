"""Few-shot detection in scenes: RepMet and its baselines."""

from fsljax.reproduce import DetectionTable


def get_table() -> DetectionTable:
    return DetectionTable("repmet_detection_scenes")
