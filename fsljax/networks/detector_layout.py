"""The names and shapes in which torchvision publishes its Faster R-CNN with a feature pyramid.

Its boxes are x before y and its regions are flattened channels first; ours are y before x, channels last.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import NamedTuple

import numpy as np

from fsljax.networks.layouts import LEAVES, flat_arrays, torch_names
from fsljax.networks.variables import Variables

Place = tuple[str, ...]

TRUNK = "backbone.body."
_FPN, _RPN, _HEAD = "backbone.fpn.", "rpn.head.", "roi_heads.box_head."
_SCORES, _BOXES = "roi_heads.box_predictor.cls_score", "roi_heads.box_predictor.bbox_pred"
_OTHER_TASKS = ("roi_heads.mask_", "roi_heads.keypoint_")  # of Mask and Keypoint R-CNN
_FLATTENED = re.escape(_HEAD) + r"(fc6|\d+)\.weight"
_YX = (1, 0, 3, 2)  # of (dx, dy, dw, dh)
_OLD = (  # names before torchvision 0.13
    (re.compile(r"(backbone\.fpn\.(?:inner|layer)_blocks\.\d+)\.(weight|bias)"), r"\1.0.\2"),
    (re.compile(r"(rpn\.head\.conv)\.(weight|bias)"), r"\1.0.0.\2"),
)
_FIELDS = {  # which field of a config gives the network a part, by what such names begin with
    r"rpn\.head\.conv\.[1-9]": "proposals.convolutions",
    r"roi_heads\.box_head\.\d+\.0\.": "head.convolutions",
    r"roi_heads\.box_head\.fc7": "head.dense",
    r"backbone\.fpn\.(inner|layer)_blocks\.\d+\.1\.": "pyramid.norm",
    r"backbone\.fpn\.(inner|layer)_blocks\.\d+\.0\.bias": "pyramid.norm",
}


class DetectorLayout(NamedTuple):
    """What a state dict of a detector gives a network.

    Attributes:
      places: where each of the tensors that are wanted has its place, by its name there.
      tensors: those that are there, by their present names, ordered as they are here.
      dropped: the names of those that the network has no use for.
      sentence: what is said of these; "": nothing was expected to be taken of them.
    """

    places: dict[str, Place]
    tensors: dict[str, np.ndarray]
    dropped: frozenset[str]
    sentence: str


def is_of_detector(names: Collection[str]) -> bool:
    """Whether a state dict with these names is of a detector of torchvision's."""
    return any(name.startswith(TRUNK) for name in names)


def detector_layout(variables: Variables, tensors: dict[str, np.ndarray]) -> DetectorLayout:
    """How a detector's tensors fill a network: all of a detector, or the trunk of anything else.

    Scores, and boxes for each class, are of the classes that the weights were trained on: they are taken
    where the network has as many. Box changes that are the same for every class are in no such file.

    Args:
      variables: "params" and "batch_stats" of the network.
      tensors: of the file.
    """
    tensors = {_present_name(name): tensor for name, tensor in tensors.items()}
    shapes: dict[Place, tuple[int, ...]] = {
        place: np.shape(array) for place, array in flat_arrays(variables).items()
    }
    places = {_of_trunk(name): place for name, place in torch_names(variables).items()}
    if not any(place[1] == "pyramid" for place in shapes):
        others = frozenset(name for name in tensors if not name.startswith(TRUNK))
        return DetectorLayout(places, tensors, others, "only the backbone of its detector is used")
    convolutions = sum(place[1] == "head" and place[-2:] == ("conv", "kernel") for place in shapes)
    places |= {name: place for place in shapes if (name := _published_name(place, convolutions))}
    channels = shapes["params", "pyramid", "output0", "conv", "kernel"][-1]
    ordered = {name: _in_our_order(name, tensor, channels) for name, tensor in tensors.items()}
    dropped = {name for name in ordered if name.startswith(_OTHER_TASKS)}
    sentence = ""
    of_file = {name for name in ordered if name.startswith((_SCORES, _BOXES))}
    fitting = {
        name for name in of_file if name in places and ordered[name].shape[:1] == shapes[places[name]][-1:]
    }
    if not {name for name in of_file if name.startswith(_SCORES)} <= fitting:
        fitting = set()  # boxes of as many, but other classes
    if of_file - fitting and f"{_SCORES}.bias" in ordered:
        classes = len(ordered[f"{_SCORES}.bias"]) - 1
        what = "boxes" if fitting else "scores and boxes"
        sentence = f"its {what} of {classes} classes are skipped"
    dropped |= of_file - fitting
    for name in of_file - fitting:
        places.pop(name, None)
    return DetectorLayout(places, ordered, frozenset(dropped), sentence)


def advice(name: str) -> str:
    """What to do about a tensor that is missing in a network or in a file; "": nothing is known."""
    for pattern, field in _FIELDS.items():
        if re.match(pattern, name):
            return f"set --config.{field} to match the weights."
    return ""


def _present_name(name: str) -> str:
    for pattern, present in _OLD:
        if pattern.fullmatch(name):
            return pattern.sub(present, name)
    return name


def _of_trunk(name: str) -> str:
    """MobileNets' bodies are their `features`."""
    return TRUNK + name.removeprefix("features.")


def _published_name(place: Place, convolutions: int) -> str:
    """The name of a tensor of the pyramid, the proposals' head or the regions' head; "": it has none."""
    if place[1] not in ("pyramid", "proposals", "head"):
        return ""
    part, module = place[1:3]
    kind, inner = LEAVES.get(place[-1], place[-1]), int("norm" in place)
    if part == "pyramid":
        block = module.replace("lateral", "inner_blocks.").replace("output", "layer_blocks.")
        return f"{_FPN}{block}.{inner}.{kind}"
    if module.startswith("shared"):
        return f"{_RPN}conv.{module.removeprefix('shared') or 0}.0.{kind}"
    if part == "proposals":
        return f"{_RPN}{'cls_logits' if module == 'objectness' else 'bbox_pred'}.{kind}"
    if module.startswith("conv"):
        return f"{_HEAD}{module.removeprefix('conv')}.{inner}.{kind}"
    first = f"{_HEAD}{convolutions + 1 if convolutions else 'fc6'}"  # after what flattens, which has a number
    names = {"hidden0": first, "hidden1": f"{_HEAD}fc7", "linear": _SCORES, "changes": _BOXES}
    return f"{names[module]}.{kind}" if module in names else ""


def _in_our_order(name: str, tensor: np.ndarray, channels: int) -> np.ndarray:
    """A tensor whose rows and columns are ordered as they are here.

    Args:
      name: its present name.
      tensor: as it is published.
      channels: of each level of the pyramid.
    """
    if name.startswith((f"{_RPN}bbox_pred.", f"{_BOXES}.")) and tensor.ndim and len(tensor) % 4 == 0:
        of_boxes = tensor.reshape(-1, 4, *tensor.shape[1:])[:, _YX]
        of_boxes = of_boxes[1:] if name.startswith(_BOXES) else of_boxes  # background's own come first
        return of_boxes.reshape(-1, *tensor.shape[1:])
    if re.fullmatch(_FLATTENED, name) and tensor.ndim == 2 and tensor.shape[1] % channels == 0:
        return tensor.reshape(len(tensor), channels, -1).swapaxes(1, 2).reshape(tensor.shape)
    return tensor
