# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Finding things from one box
#
# You draw a box around one thing, and the detector finds the others like it. The detector in this repository was
# trained on photographs of playing cards, fruit, blood cells and everyday objects; it has never seen a coin. Nothing
# is trained here either: the box is enrolled as a new class.
#
# The photograph is scikit-image's: 24 Greek coins from Pompeii.
#
# ```
# pip install -e '.[tutorials]'      # in a clone, which holds models/repmet_detection_photos
# ```

# %%
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from skimage import data

import fsljax
from fsljax.api import Detector

MODEL = Path(fsljax.__file__).parents[1] / "models" / "repmet_detection_photos"

coins = np.repeat(data.coins()[..., None], 3, axis=-1)  # the detector sees colour


def show(boxes, labels, title):
    _, axis = plt.subplots(figsize=(7.6, 6))
    axis.imshow(coins)
    for (y_min, x_min, y_max, x_max), label in zip(boxes, labels, strict=True):
        axis.add_patch(
            plt.Rectangle((x_min, y_min), x_max - x_min, y_max - y_min, fill=False, color="orange", lw=2)
        )
        axis.text(x_min, y_min - 2, label, color="orange", fontsize=8)
    axis.set_title(title)
    axis.axis("off")


# %% [markdown]
# ## One box
#
# Boxes are `[y_min, x_min, y_max, x_max]` in pixels of the photograph.

# %%
boxes = [[104, 185, 145, 227]]
detector = Detector.load(MODEL)
detector.enroll([coins], [boxes], ["coin"])
found = detector.detect([coins])
scores = found.scores[0]
show(found.boxes[0], [f"{score:.2f}" for score in scores], f"from one box: {len(scores)} of 24 coins")

# %% [markdown]
# ## Views of the box
#
# With `augment=4` the photograph is also enrolled mirrored, shifted and at other scales. This costs four more looks at
# it, once.

# %%
detector = Detector.load(MODEL)
detector.enroll([coins], [boxes], ["coin"], augment=4)
print(f"one box and four views: {len(detector.detect([coins]).boxes[0])} of 24 coins")

# %% [markdown]
# ## A few more boxes
#
# Coins differ. Two pale ones and a large one say more than three of the same kind. Each box is a representative of its
# own: a region is a coin if it is near *any* of them, as in RepMet.

# %%
others = [[15, 305, 72, 365], [232, 18, 288, 75], [178, 80, 217, 124], [34, 22, 75, 67]]
for count in (1, 2, 4):
    detector = Detector.load(MODEL)
    given = [*boxes, *others[:count]]
    detector.enroll([coins], [given], ["coin"] * len(given), augment=4)
    found = detector.detect([coins])
    print(f"{len(given)} boxes: {len(found.boxes[0])} of 24 coins")
scores = found.scores[0]
show(found.boxes[0], [f"{score:.2f}" for score in scores], f"from five boxes: {len(scores)} of 24 coins")

# %% [markdown]
# ## Which score to believe
#
# `calibrate` chooses the threshold by the enrolled boxes, each found by the others. Lower it to miss less, raise it to
# be wrong less often.

# %%
detector.calibrate()
print(f"threshold {detector.threshold:.2f}")

# %% [markdown]
# ## Another photograph
#
# A cup of coffee is round, too, but no coin. If a detector is too easily convinced, show it photographs *without* the
# class: `enroll(..., background=photographs)`.

# %%
print(f"coins found in a cup of coffee: {len(detector.detect([data.coffee()]).boxes[0])}")

# %% [markdown]
# The same from the command line, with boxes drawn in LabelMe, or in VOC's or COCO's format:
#
# ```
# fsljax enroll models/repmet_detection_photos --annotations=my_photographs/ --calibrate --to=models/coins
# fsljax detect models/coins holiday/ --save=found/
# ```
