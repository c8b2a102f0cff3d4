"""The names under which networks are published: ours, and those of other libraries."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

import numpy as np
from flax.traverse_util import flatten_dict

from fsljax.config import modules
from fsljax.networks.variables import Variables

BACKBONES = "fsljax.networks.backbones"

LEAVES = {"kernel": "weight", "bias": "bias", "scale": "weight", "shift": "bias",
          "mean": "running_mean", "variance": "running_var"}  # fmt: skip


def flat_arrays(variables: Variables) -> dict[tuple[str, ...], Any]:
    """All arrays of "params" and "batch_stats" (which a network may lack) by their places."""
    flat: dict[tuple[str, ...], Any] = flatten_dict(
        {name: variables.get(name, {}) for name in ("params", "batch_stats")}
    )
    return flat


def torch_names(variables: Variables, renamed: dict[str, str] | None = None) -> dict[str, tuple[str, ...]]:
    """Where each tensor of a PyTorch state dict has its place: `{"layer1.0.conv1.weight": ("params", …)}`.

    Args:
      variables: "params" and "batch_stats" of a backbone, or of anything that holds one under "backbone".
      renamed: names of modules in the state dict, `{ours: theirs}`; those that are not in it are ours.
    """
    all_places = flat_arrays(variables)
    has_backbone = any("backbone" in place for place in all_places)
    names = {}
    for place in all_places:
        if has_backbone and "backbone" not in place:
            continue
        inside = place[place.index("backbone") + 1 : -1] if has_backbone else place[1:-1]
        module = ".".join(inside)
        module = (renamed or {}).get(module, module)
        names[f"{module}.{LEAVES.get(place[-1], place[-1])}".removeprefix(".")] = place
    return names


def names_in_file(variables: Variables, there: Collection[str]) -> dict[str, tuple[str, ...]]:
    """`torch_names` in the layout of which most names are there; in ours where they are as many.

    Args:
      variables: as of `torch_names`.
      there: the names in the file.
    """
    best = torch_names(variables)
    own = {name.rpartition(".")[0] for name in best}
    for theirs in _layouts():
        if own == set(theirs):
            names = torch_names(variables, theirs)
            if len(names.keys() & set(there)) > len(best.keys() & set(there)):
                best = names
    return best


def with_registers_as_in_timm(tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """DINOv2's own files with registers embed the class token's position; in timm's that is added already."""
    classes, positions = tensors.get("cls_token"), tensors.get("pos_embed")
    if "register_tokens" not in tensors or classes is None or positions is None:
        return tensors
    if positions.ndim != 3 or positions.shape[1] < 2 or classes.shape != positions[:, :1].shape:
        return tensors
    others = {name: tensor for name, tensor in tensors.items() if name != "register_tokens"}
    return others | {
        "reg_token": tensors["register_tokens"],
        "cls_token": classes + positions[:, :1],
        "pos_embed": positions[:, 1:],
    }


def _layouts() -> Iterator[dict[str, str]]:
    for name in modules.names(BACKBONES):
        backbone = modules.find(BACKBONES, name, field="network.name")
        if hasattr(backbone, "layouts"):
            yield from backbone.layouts().values()
