"""A trained detector, as needed for evaluation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, cached_property, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fsljax.detection.config import Config
from fsljax.detection.data.structures import Array
from fsljax.detection.model.detector import DetectorNetwork
from fsljax.detection.model.enroll import Layer
from fsljax.detection.model.inference import Regions, propose_regions, weighted
from fsljax.detection.model.regions import Examined, compared_boxes, examine
from fsljax.detection.model.roi_head import BACKGROUND, repmet_scores
from fsljax.distances import normalize
from fsljax.networks.variables import Params, Variables
from fsljax.parallel.devices import ONE, Devices

REPRESENTATIVES = "representatives"  # `[classes, k, dim]`, a parameter beside those of the network


@dataclass(frozen=True, eq=False)
class TrainedDetector:
    """A network with its variables.

    Attributes:
      config: config it was trained with.
      network: network with the number of proposals used at test time.
      variables: parameters, including any representatives, and batch statistics.
      classes: number of trained classes.
      step: training step.
      devices: devices that share the images of a batch; all processes must then process the same images.
    """

    config: Config
    network: DetectorNetwork
    variables: Variables
    classes: int
    step: int = 0
    devices: Devices = ONE

    @cached_property
    def network_variables(self) -> Variables:
        """The variables without representatives."""
        return {**self.variables, "params": network_params(self.variables["params"])}

    @cached_property
    def compared_dim(self) -> int:
        """Dimension of the features that new classes are compared by, or embedded from."""
        side, channels = self.config.data.image_size, self.config.data.channels
        images, boxes = jnp.zeros((1, side, side, channels)), jnp.zeros((1, 1, 4))
        look = partial(compared_boxes, self.network, combine=combines(self.config))
        return int(jax.eval_shape(look, self.network_variables, images, boxes).shape[-1])

    @property
    def representatives(self) -> jax.Array | None:
        """`[classes, k, dim]` as they are compared with embeddings; None with a linear head."""
        return compared_representatives(self.config, self.variables["params"])

    def layer(self, name: str) -> Layer:
        """A linear layer of the head: "embedding" or "linear"."""
        params = self.variables["params"]["head"][name]
        return Layer(params["kernel"], params["bias"])

    def propose_regions(self, images: Array, sizes: Array | None = None) -> Regions:
        """Proposes regions of images `[b, height, width, channel]` that may contain an object.

        Args:
          images: in [0, 1].
          sizes: `[b, 2]`, heights and widths without padding; None: there is no padding.
        """
        whole = np.full((len(images), 2), images.shape[1:3], np.float32)
        heights, widths = np.moveaxis(whole if sizes is None else np.asarray(sizes, np.float32), 1, 0)
        regions: Regions = self.by_images(_propose_regions, images, heights, widths)
        return regions

    def scores(self, regions: Regions, classes: np.ndarray | None = None) -> jax.Array:
        """Probabilities `[b, p, 1 + c]` of the trained classes `[c]`, all by default, background first."""
        scores = self._class_scores(regions, classes)
        return weighted(scores, regions.objectness, regions.quality, self.config.eval)

    def _class_scores(self, regions: Regions, classes: np.ndarray | None) -> jax.Array:
        representatives = self.representatives
        if representatives is None:
            logits: Any = self.network.apply(self.network_variables, regions.features, method="linear_logits")
            chosen = np.arange(self.classes) if classes is None else classes
            return jax.nn.softmax(logits[..., np.append(BACKGROUND, 1 + chosen)], axis=-1)
        if classes is not None:
            representatives = representatives[classes]
        loss = self.config.loss
        return repmet_scores(regions.embeddings, representatives, loss.sigma, loss.scale)

    def class_boxes(self, regions: Regions, classes: np.ndarray | None = None) -> jax.Array:
        """Boxes `[b, p, 4]`, or `[b, p, c, 4]` if regressed per class, for the classes of `scores`."""
        own = self.config.head.has_class_boxes() and classes is not None
        return regions.boxes[:, :, classes] if own else regions.boxes

    def examine(self, *columns: Array) -> Examined:
        """The regions of images, as `fsljax.detection.model.regions.examine`, new classes' space included."""
        examined: Examined = self.by_images(_looking(examine, combines(self.config)), *columns)
        return examined

    def compare_boxes(self, images: Array, boxes: Array) -> jax.Array:
        """What boxes `[b, t, 4]` in images are compared by as new classes, or embedded from, `[b, t, …]`."""
        compared: jax.Array = self.by_images(_looking(compared_boxes, combines(self.config)), images, boxes)
        return compared

    def embed_boxes(self, images: Array, boxes: Array) -> jax.Array:
        """Embeddings `[b, t, dim]` of boxes `[b, t, 4]` in images `[b, height, width, channel]`."""
        embeddings: jax.Array = self.by_images(_embed_boxes, images, boxes)
        return embeddings

    def by_images(self, look: Callable[..., Any], *columns: Array) -> Any:
        """What is seen in images, each by itself, as arrays `[n, …]`.

        Args:
          look: compiled, of the network, its variables and columns.
          columns: `[n, …]`, the images and what goes with each.
        """
        if len(self.devices) == 1:
            return look(self.network, self.network_variables, *map(jnp.asarray, columns))
        count, by = len(columns[0]), len(self.devices)
        own = self.devices.share(-(-count // by) * by) % count
        rows = tuple(self.devices.put_rows(np.asarray(column)[own]) for column in columns)
        seen = _by_devices(self.devices, look, self.network)(self._variables_everywhere, rows)
        return jax.tree.map(lambda part: part[:count], seen)

    @cached_property
    def _variables_everywhere(self) -> Variables:
        return self.devices.replicate(self.network_variables)


def compared_representatives(config: Config, params: Params) -> jax.Array | None:
    """`[classes, k, dim]` as they are compared with embeddings; None with a linear head."""
    if config.head.kind != "repmet":
        return None
    representatives: jax.Array = params[REPRESENTATIVES]
    return normalize(representatives) if config.representatives.normalize else representatives


def combines(config: Config) -> bool:
    """Whether new classes are compared in the space "combined"."""
    return config.eval.enrol.space == "combined"


def network_params(params: Params) -> Params:
    """Parameters without representatives."""
    return {name: tree for name, tree in params.items() if name != REPRESENTATIVES}


@cache
def _by_devices(devices: Devices, look: Callable[..., Any], network: DetectorNetwork) -> Callable[..., Any]:
    return devices.over_rows(lambda variables, rows: look(network, variables, *rows))


@cache
def _looking(look: Callable[..., Any], combine: bool) -> Callable[..., Any]:
    """Compiled, of a network, its variables and columns: what `by_images` takes."""
    return jax.jit(partial(look, combine=combine), static_argnums=0)


@partial(jax.jit, static_argnums=0)
def _propose_regions(
    network: DetectorNetwork, variables: Variables, images: jax.Array, heights: jax.Array, widths: jax.Array
) -> Regions:
    return propose_regions(network, variables, images, heights, widths)


@partial(jax.jit, static_argnums=0)
def _embed_boxes(
    network: DetectorNetwork, variables: Variables, images: jax.Array, boxes: jax.Array
) -> jax.Array:
    features = compared_boxes(network, variables, images, boxes, combine=False)
    embeddings: Any = network.apply(variables, features, method="embed")
    return embeddings
