"""Shows a trained detector five new characters, one box each, then finds them in other scenes."""

import sys
from pathlib import Path

import jax
import matplotlib.pyplot as plt
import numpy as np

from fsljax.api import Detector
from fsljax.detection.data.scenes import composition as scenes
from fsljax.detection.data.scenes import drawings as scene_drawings
from fsljax.errors import UserError

MODEL = Path(__file__).resolve().parents[1] / "models/repmet_detection_scenes"
if not MODEL.is_dir():
    sys.exit("This example uses models/repmet_detection_scenes of the repository: run it in a clone.")

detector = Detector.load(MODEL)
try:
    drawings = scene_drawings.load("omniglot")
except UserError as error:
    sys.exit(f"This example draws scenes from Omniglot's characters. {error}")
new = np.arange(0, 400, 80)  # five characters that were never trained
keys = jax.random.split(jax.random.key(0), 2 * len(new))
drawn = scenes.draw_scenes(
    keys,
    drawings.novel,
    new,
    clutter=drawings.base,
    first=np.concatenate([new, new]),  # who is in a scene for certain, in row 0 of its boxes
)
images, boxes = np.asarray(drawn.image), np.asarray(drawn.boxes)

names = [f"character {number}" for number in range(1, 1 + len(new))]
detector.enroll(images[: len(new)], boxes[: len(new), 0], names)
detections = list(zip(*detector.detect(images[len(new) :]), strict=True))
for found_boxes, scores, labels in detections:
    print(f"{len(found_boxes)} found")
    for box, score, label in zip(found_boxes, scores, labels, strict=True):
        print(f"  {label} {score:.2f} at {box.round().astype(int).tolist()}")

detector.save("runs/five_detected_characters")

figure, axes = plt.subplots(2, len(new), figsize=(2.4 * len(new), 5.2), layout="constrained")
shown = [(boxes[place, :1], None, [name]) for place, name in enumerate(names)]
drawn_boxes = zip(axes.flat, images, [*shown, *detections], strict=True)
for place, (axis, image, (shown_boxes, _, labels)) in enumerate(drawn_boxes):
    axis.imshow(1 - image[..., 0], cmap="gray", vmin=0, vmax=1)
    axis.set(xticks=[], yticks=[], title="shown in one box" if place < len(new) else "found")
    for (top, left, bottom, right), label in zip(shown_boxes, labels, strict=True):
        colour = f"C{names.index(label)}"
        axis.add_patch(plt.Rectangle((left, top), right - left, bottom - top, fill=False, ec=colour, lw=2))
figure.savefig("runs/detection.png", dpi=80)
