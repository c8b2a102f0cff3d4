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
# # Few-shot classification of your own photographs
#
# You have a few photographs of each thing, and want a program that names new ones. Nothing is trained here: a network
# that ImageNet taught embeds each photograph, and a new photograph gets the class of the nearest prototype.
#
# ```
# pip install -e '.[pretrained,tutorials]'
# ```
#
# With a folder of your own, set `folder` below to it, with one subfolder per class, and skip the next cell. Here the
# photographs are squares cut from five pictures that scikit-image ships: bricks, grass, gravel, the moon, and stained
# tissue under a microscope.

# %%
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from PIL import Image
from skimage import data

from fsljax.api import Classifier

pictures = {
    "brick": data.brick(),
    "grass": data.grass(),
    "gravel": data.gravel(),
    "moon": data.moon(),
    "tissue": data.immunohistochemistry(),
}
folder = Path(tempfile.mkdtemp()) / "surfaces"
generator = np.random.default_rng(0)
for name, picture in pictures.items():
    (folder / name).mkdir(parents=True)
    for number in range(25):
        top, left = generator.integers(0, 512 - 64, 2)
        square = Image.fromarray(picture).convert("L").crop((left, top, left + 64, top + 64))
        square.save(folder / name / f"{number:02}.png")

classes = sorted(path.name for path in folder.iterdir())
photographs = {name: sorted((folder / name).iterdir()) for name in classes}

figure, axes = plt.subplots(1, len(classes), figsize=(10, 2.4))
for axis, name in zip(axes, classes, strict=True):
    axis.imshow(Image.open(photographs[name][0]), cmap="gray")
    axis.set_title(name)
    axis.axis("off")

# %% [markdown]
# ## One photograph per class
#
# `enroll` takes paths, Pillow images or arrays. One photograph of each class is enrolled; the last twenty of each are
# for testing.

# %%
classifier = Classifier.pretrained("efficientnet_lite0")
for name in classes:
    classifier.enroll(photographs[name][:1], name)

test = [path for name in classes for path in photographs[name][5:]]
truth = np.array([name for name in classes for _ in photographs[name][5:]])
one_shot = classifier.predict(test)
print(f"1 shot: {100 * np.mean(one_shot == truth):.0f} % of {len(test)} photographs are named correctly")

# %% [markdown]
# ## Four more of each
#
# Enrolling again adds to what is there: each prototype becomes the mean of five photographs.

# %%
for name in classes:
    classifier.enroll(photographs[name][1:5], name)
predictions = classifier.predict(test)
print(f"5 shots: {100 * np.mean(predictions == truth):.0f} %")
for name in classes:
    print(f"  {name:7} {100 * np.mean(predictions[truth == name] == name):.0f} %")

# %% [markdown]
# ## How certain, and what if it is none of them?
#
# `predict_proba` gives the probability of each class, given that it is one of them. Whether it is one of them at all
# is a second question: `confidence` answers it, and `calibrate` sets the threshold below which `predict` returns
# `None`. Without further photographs it uses the enrolled ones, leaving each out in turn.

# %%
calibration = classifier.calibrate(false_accept=0.05)
print(f"threshold {classifier.unknown:.2f}")

coins = Image.fromarray(data.coins())
strangers = [
    coins.crop((left, top, left + 64, top + 64)) for top in (20, 90, 160) for left in range(0, 300, 64)
]
answers = classifier.predict(strangers)
known = classifier.predict(test)
print(f"{sum(answer is None for answer in answers)} of {len(strangers)} photographs of coins are refused")
print(
    f"{sum(answer is None for answer in known)} of {len(test)} photographs of known surfaces are refused, too"
)

# %%
shown = [*(path for name in classes for path in photographs[name][5:7]), *strangers[:2]]
figure, axes = plt.subplots(2, 6, figsize=(10, 4))
rows = zip(axes.T.flat, shown, classifier.predict(shown), classifier.confidence(shown), strict=True)
for axis, one, answer, confidence in rows:
    axis.imshow(Image.open(one) if isinstance(one, Path) else one, cmap="gray")
    axis.set_title(f"{answer or 'unknown'}\n{confidence:.2f}", fontsize=9)
    axis.axis("off")

# %% [markdown]
# ## Keep it
#
# The saved folder holds the network's name and the enrolled classes. `load` goes on from there, in another program or
# on another machine.

# %%
classifier.save(folder.parent / "surfaces_model")
again = Classifier.load(folder.parent / "surfaces_model")
assert list(again.predict(test)) == list(known)
again.classes

# %% [markdown]
# ## The same from the command line
#
# ```
# python launch.py --config=configs/folder.py --config.data.path=DIR
# fsljax predict runs/folder new.jpg
# ```
#
# This also compares several classifier heads, says which classes are confused and which files look mislabelled, and
# writes a report to pass on.
