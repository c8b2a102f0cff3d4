"""Detectors with published weights: torchvision's Faster R-CNN without any training."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fsljax.config import config_dict, read
from fsljax.detection.config import Config, Eval
from fsljax.detection.config.torchvision import as_torchvision
from fsljax.detection.data.structures import Detections
from fsljax.detection.model.build import build_network
from fsljax.detection.model.detector import DetectorNetwork
from fsljax.detection.model.inference import detections, propose_regions, suppression_of
from fsljax.detection.model.trained import TrainedDetector
from fsljax.networks import load_weights, pretrained
from fsljax.networks.variables import Variables

COCO_CLASSES = 90  # numbered as COCO's categories less 1, with gaps


def published_detector(
    weights: str | Path, layout: str = "resnet50_fpn", *, classes: int = COCO_CLASSES
) -> TrainedDetector:
    """Loads a detector from a state dict of torchvision.

    Args:
      weights: the file, written by `torch.save` or safetensors.
      layout: one of `fsljax.detection.config.torchvision.LAYOUTS`.
      classes: number of classes of its head, without background.

    Raises:
      UserError: if there is no such file or layout, or they do not match.
    """
    values = as_torchvision(config_dict(Config()), layout)
    values.head.kind = "linear"
    values.network.weights = str(weights)
    values.network.unless_described = ("network.epsilon",)
    values.data.image_size = 320  # parameters are of no size
    config = read(Config, pretrained.described(values, images=False).to_dict())
    network = build_network(config, classes, in_test=True)
    images = jnp.zeros((1, config.data.image_size, config.data.image_size, 3))
    shapes = jax.eval_shape(partial(network.init, running_average=True), jax.random.key(0), images)
    zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
    variables = load_weights(pretrained.located(config.network), zeros)
    return TrainedDetector(config, network, variables, classes)


def detect(
    detector: TrainedDetector, images: Sequence[np.ndarray], *, min_size: int = 800, max_size: int = 1333
) -> list[Detections]:
    """Detections of the trained classes, with boxes in pixels of the given images.

    Each image is scaled so that its shorter side is `min_size`, or its longer side `max_size` if that gives a
    smaller image, and padded to multiples of 32, like torchvision's `GeneralizedRCNNTransform`. Each
    resulting shape is compiled once.

    Args:
      detector: a detector with a linear head.
      images: each `[height, width, 3]`, uint8, or floats in [0, 1].
      min_size, max_size: in pixels; torchvision uses 800 and 1333, or 320 and 640 for its 320 model.
    """
    batch, sizes = padded([resized(image, min_size, max_size) for image in images], 32)
    options = detector.config.eval
    found = detect_batch(
        detector.network, detector.network_variables, jnp.asarray(batch), jnp.asarray(sizes), options
    )
    given = np.array([image.shape[:2] for image in images], np.float32)
    scales = np.tile(given / sizes, 2)[:, None]
    return list(found._replace(boxes=np.asarray(found.boxes) * scales).of_images())


def resized(image: np.ndarray, min_size: int, max_size: int) -> np.ndarray:
    """An image, float32 in [0, 1], resized by bilinear interpolation without antialiasing.

    Args:
      image: `[height, width, channel]`, uint8, or floats in [0, 1].
      min_size: shorter side in pixels, unless the longer side would exceed `max_size`.
      max_size: maximum longer side in pixels.
    """
    pixels = image.astype(np.float32) / 255 if image.dtype == np.uint8 else image.astype(np.float32)
    sides = pixels.shape[:2]
    scale = min(min_size / min(sides), max_size / max(sides))
    for axis, side in enumerate(sides):
        length = max(1, int(side * scale))
        at = np.clip((np.arange(length) + 0.5) * (side / length) - 0.5, 0, side - 1)
        before = np.floor(at).astype(int)
        nearness = (at - before).astype(np.float32)[(slice(None),) + (None,) * (pixels.ndim - 1 - axis)]
        first, second = (np.take(pixels, n, axis) for n in (before, np.minimum(before + 1, side - 1)))
        pixels = first + (second - first) * nearness
    return pixels


def padded(images: Sequence[np.ndarray], multiple: int) -> tuple[np.ndarray, np.ndarray]:
    """Images `[n, height, width, channel]` zero-padded on the right and below, and their sizes `[n, 2]`.

    Args:
      images: each `[height, width, channel]`.
      multiple: divisor of the padded height and width.
    """
    sizes = np.array([image.shape[:2] for image in images])
    height, width = (-(-int(side) // multiple) * multiple for side in sizes.max(axis=0))
    batch = np.zeros((len(images), height, width, images[0].shape[2]), np.float32)
    for into, image in zip(batch, images, strict=True):
        into[: image.shape[0], : image.shape[1]] = image
    return batch, sizes.astype(np.float32)


@partial(jax.jit, static_argnums=(0, 4))
def detect_batch(
    network: DetectorNetwork, variables: Variables, images: jax.Array, sizes: jax.Array, options: Eval
) -> Detections:
    """Detections `[b, keep]` of the classes of a linear head, compiled.

    Args:
      network, variables: those of the detector at test time.
      images: `[b, height, width, channel]` in [0, 1].
      sizes: `[b, 2]`, heights and widths without padding.
      options: options of suppression.
    """
    regions = propose_regions(network, variables, images, sizes[:, 0], sizes[:, 1])
    logits: Any = network.apply(variables, regions.features, method="linear_logits")
    scores = jax.nn.softmax(logits, axis=-1)
    suppression = suppression_of(options, score_threshold=options.score_threshold)
    return jax.vmap(partial(detections, suppression=suppression))(regions.boxes, regions.valid, scores)
