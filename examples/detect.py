"""Shows a trained detector five new characters, one box each, then finds them in other scenes."""

import jax
import numpy as np

from fsljax.api import Detector
from fsljax.data import scene_drawings, scenes

detector = Detector.load("models/repmet_detection_scenes")
drawings = scene_drawings.load("omniglot")
new = np.arange(0, 400, 80)  # five characters that were never trained
keys = jax.random.split(jax.random.key(0), len(new) + 3)
drawn = scenes.draw_scenes(
    keys,
    drawings.novel,
    new,
    clutter=drawings.base,
    first=np.concatenate([new, new[:3]]),  # who is in a scene for certain, in row 0 of its boxes
)
images, boxes = np.asarray(drawn.image), np.asarray(drawn.boxes)

names = [drawings.novel_names[number] for number in new]
detector.enroll(images[: len(new)], boxes[: len(new), 0], names)
for found, scores, labels in zip(*detector.detect(images[len(new) :]), strict=True):
    print(f"{len(found)} found")
    for box, score, label in zip(found, scores, labels, strict=True):
        print(f"  {label} {score:.2f} at {box.round().astype(int).tolist()}")

detector.save("runs/five_detected_characters")
