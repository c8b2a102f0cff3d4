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
# # Magnet clusters and the classes within classes
#
# Labels are often coarser than the data: "bird", where the photographs show gulls and herons. A classifier trained on
# such labels has no reason to keep gulls and herons apart. The Magnet loss (Rippel et al., 2016) gives every class
# several clusters, and pulls examples to their own cluster only.
#
# Here 200 characters, drawn from the fonts that matplotlib ships, are merged at random into 100 classes of two. Both
# networks below see only the 100 labels. Afterwards we ask how well each tells the 200 characters apart.
#
# ```
# pip install -e '.[tutorials]'
# ```

# %%
import json
import tempfile
from pathlib import Path

import jax
import matplotlib.pyplot as plt
import numpy as np

from fsljax import methods
from fsljax.api import Classifier
from fsljax.clustering import kmeans_per_class
from fsljax.configs import magnet_glyphs_2, softmax_glyphs_2
from fsljax.data import load
from fsljax.experiment import run

runs = Path(tempfile.mkdtemp())

# %% [markdown]
# ## Train both
#
# A config is a function that returns an `ml_collections.ConfigDict`; fields are changed before the run starts, as
# `--config.train.steps=600` does on the command line. 600 steps take about a minute on two CPU cores.

# %%
configs = {"magnet": magnet_glyphs_2.get_config(), "softmax": softmax_glyphs_2.get_config()}
for name, config in configs.items():
    config.data.merge = "pairs"
    config.train.steps = 600
    run(config, mode="train_and_evaluate", folder=runs / name)

# %% [markdown]
# ## Hierarchy recovery
#
# Each test image is given the character of its nearest training image. (A training image's character is used here for
# the first time.)

# %%
for name in configs:
    results = json.loads((runs / name / "results.json").read_text())["test"]
    recovered = results["hierarchy_recovery"]
    print(
        f"{name:8} {100 * recovered['accuracy']:.1f} ± {100 * recovered['ci95']:.1f} % of characters recovered"
    )

# %% [markdown]
# ## What the clusters hold
#
# Embed the training images, cluster each class by itself, and show the images nearest each centroid. Where Magnet
# worked, each of a class's two clusters holds one of its two characters.

# %%
train = load(methods.check(configs["magnet"])).train
network = Classifier.load(runs / "magnet")
embeddings = network.embed(train.images)
clusters = kmeans_per_class(
    jax.random.key(0), embeddings, train.labels, num_classes=train.num_classes, clusters_per_class=2
)

figure, axes = plt.subplots(3, 8, figsize=(9, 3.8))
for row, label in enumerate(range(3)):
    for cluster in range(2):
        distances = np.linalg.norm(embeddings - np.asarray(clusters.centroids[label, cluster]), axis=1)
        distances[train.labels != label] = np.inf
        for place, image in enumerate(np.argsort(distances)[:4]):
            axis = axes[row, 4 * cluster + place]
            axis.imshow(train.images[image, ..., 0], cmap="gray_r")
            axis.axis("off")
    axes[row, 0].set_title(f"class {label}, cluster 0", fontsize=8, loc="left")
    axes[row, 4].set_title("cluster 1", fontsize=8, loc="left")

# %%
assignments = np.asarray(clusters.assignments)
purity = []
for label in range(train.num_classes):
    for cluster in range(2):
        characters = train.fine_labels[(train.labels == label) & (assignments == cluster)]
        if len(characters):
            purity.append(np.bincount(characters).max() / len(characters))
print(f"on average {100 * np.mean(purity):.1f} % of a cluster's images show the same character")

# %% [markdown]
# ## Next
#
# - `python launch.py --config=configs/magnet_hierarchy.py:omniglot_2_12_4 --config.data.merge=alphabets` recovers
#   Omniglot's characters from its alphabets.
# - The number of clusters, α and the batch (12 clusters of 4 examples) are fields of the config: `--help` lists them.
