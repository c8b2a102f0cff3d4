"""Teaches a trained network five new characters from one drawing each, then names others."""

import sys
from pathlib import Path

from fsljax.api import Classifier
from fsljax.data.sources import glyphs

MODEL = Path(__file__).resolve().parents[1] / "models/protonet_1_5"
if not MODEL.is_dir():
    sys.exit("This example uses models/protonet_1_5 of the repository: run it in a clone.")

classifier = Classifier.load(MODEL)
test = glyphs.load_splits().test
new = [test.images[test.labels == label] for label in range(5)]  # 20 drawings each, uint8 [20, 28, 28, 1]

for name, drawings in zip(test.class_names, new, strict=False):
    classifier.enroll(drawings[:1], name)
for name, drawings in zip(test.class_names, new, strict=False):
    answers = classifier.predict(drawings[1:])
    print(f"{name}: {sum(answers == name)} of {len(answers)} right")

classifier.save("runs/five_characters")
