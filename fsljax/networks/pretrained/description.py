"""What comes with weights: which network they are of, and what images it was trained on."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fsljax.config.fields import shown
from fsljax.errors import UserError
from fsljax.storage.json_files import parse_json

INTERPOLATIONS = ("nearest", "bilinear", "bicubic", "lanczos")
_WIDTHS = {"tiny": (192, 12, 3), "small": (384, 12, 6), "base": (768, 12, 12), "large": (1024, 24, 16)}
_VIT = re.compile(r"vit_(tiny|small|base|large)_patch(\d+)_(?:(reg4)_)?(dinov2|\d+)(?:\.\w+)?")
_ARCHITECTURES: dict[str, dict[str, Any]] = {
    "resnet18": {"name": "resnet18", "padding": "symmetric"},
    "resnet34": {"name": "resnet34", "padding": "symmetric"},
    "resnet50": {"name": "resnet50", "padding": "symmetric"},
    "resnet101": {"name": "resnet101", "padding": "symmetric"},
    "inception_v3": {"name": "inception_v3", "padding": "symmetric"},
    "mobilenetv2_100": {"name": "mobilenet_v2", "padding": "symmetric"},
    "mobilenet_v2": {"name": "mobilenet_v2", "padding": "symmetric"},
    "mobilenet_v3_large": {"name": "mobilenet_v3_large", "padding": "symmetric", "epsilon": 1e-3},
    "efficientnet_lite0": {"name": "efficientnet_lite0", "padding": "symmetric"},
    "tf_efficientnet_lite0": {"name": "efficientnet_lite0", "padding": "same"},
}  # fmt: skip
# Of timm's `model_args`, what changes nothing in the features that are taken.
_WITHOUT_EFFECT = {
    "img_size",
    "num_classes",
    "drop_rate",
    "drop_path_rate",
    "dynamic_img_size",
    "global_pool",
}


@dataclass(frozen=True)
class Description:
    """Values for fields of a config, by their names; what a description does not tell is missing.

    Attributes:
      network: of its section `network`.
      data: of its section `data`.
      architecture: as the description calls the network; "": it says nothing.
    """

    network: dict[str, Any] = field(default_factory=dict)
    data: dict[str, Any] = field(default_factory=dict)
    architecture: str = ""


def network_of(architecture: str) -> dict[str, Any] | None:
    """Fields of the network that timm or torchvision calls so; None: there is none of it here."""
    if architecture in _ARCHITECTURES:
        return dict(_ARCHITECTURES[architecture])
    found = _VIT.fullmatch(architecture)
    if found is None:
        return None
    size, patch, registers, image = found.groups()
    if registers and image != "dinov2":
        return None
    width, depth, heads = _WIDTHS[size]
    is_dinov2 = image == "dinov2"
    return {
        "name": "vit", "patch_size": int(patch), "width": width, "depth": depth, "heads": heads,
        "mlp_ratio": 4.0, "layer_scale": is_dinov2, "register_tokens": 4 if registers else 0,
        "embed_class": not registers,
    }  # fmt: skip


def of_json(content: bytes | str, source: object) -> Description:
    """The description in a `config.json`, as timm writes it: `architecture`, `pretrained_cfg`.

    The values of `pretrained_cfg` may stand at the top, too, and `padding` beside them.

    Args:
      content: of the file.
      source: where it is, for errors.

    Raises:
      UserError: if it is damaged, or a value in it is none that a network could have been trained with.
    """
    try:
        values = parse_json(content)
    except ValueError as error:
        raise UserError(f"{source} is not valid JSON: {str(error).rstrip('.')}.") from None
    if not isinstance(values, dict):
        raise UserError(f"{source} does not describe weights: it holds no fields.")
    return of_values(values, source)


def of_values(values: Mapping[str, Any], source: object) -> Description:
    """As `of_json`, of the values in it."""
    told = values.get("pretrained_cfg")
    told = {**values, **told} if isinstance(told, dict) else dict(values)
    architecture = told.get("architecture", "")
    if not isinstance(architecture, str):
        architecture = ""
    if not architecture and isinstance(kind := values.get("model_type"), str):
        architecture = kind
    network = network_of(architecture) or {}
    changed = values.get("model_args")
    if isinstance(changed, dict) and set(changed) - _WITHOUT_EFFECT:
        network, architecture = {}, f"{architecture} with {', '.join(sorted(changed))}"
    if network.get("name") == "vit" and values.get("global_pool") == "avg":
        network["pool"] = "average"
    data: dict[str, Any] = {}
    for name, least in (("mean", 0.0), ("std", 1e-6)):
        if told.get(name) is not None:
            network[f"input_{name}"] = _numbers(told[name], least, f"{source}: {name!r}")
    if "padding" in told:
        network["padding"] = _one_of(told["padding"], ("symmetric", "same"), f"{source}: 'padding'")
    if told.get("input_size") is not None:
        data["image_size"] = _side(told["input_size"], f"{source}: 'input_size'")
    if told.get("crop_pct") is not None:
        (data["crop"],) = _numbers([told["crop_pct"]], 0.05, f"{source}: 'crop_pct'")
    if told.get("interpolation") is not None:
        data["interpolation"] = _one_of(told["interpolation"], INTERPOLATIONS, f"{source}: 'interpolation'")
    _one_of(told.get("crop_mode", "center"), ("center",), f"{source}: 'crop_mode'")
    return Description(network, data, architecture)


def beside(path: Path) -> Description | None:
    """The description in the `config.json` beside a file of weights, or in its own header; None: neither.

    Raises:
      UserError: if one is there and damaged.
    """
    described = path.with_name("config.json")
    try:
        if described.is_file():
            values = parse_json(described.read_bytes())
            if isinstance(values, dict) and _describes(values):
                return of_values(values, described)
    except OSError as error:
        raise UserError(f"{described} cannot be read: {error.strerror or error}.") from error
    except ValueError as error:
        raise UserError(f"{described} is not valid JSON: {str(error).rstrip('.')}.") from None
    return _in_header(path)


def _in_header(path: Path) -> Description | None:
    """The description in the header of a `.safetensors` file: the text of a config.json, or its fields."""
    if path.suffix != ".safetensors":
        return None
    from safetensors import safe_open

    try:
        with safe_open(path, "numpy") as file:
            texts = dict(file.metadata() or {})
    except Exception:  # damage is told of where the tensors are read
        return None
    values: dict[str, Any] = {}
    for name, text in texts.items():
        try:
            values[name] = parse_json(text)
        except ValueError:
            values[name] = text
    if isinstance(inner := values.get("config", values.get("config.json")), dict):
        values = inner
    return of_values(values, f"The header of {path}") if _describes(values) else None


def _describes(values: Mapping[str, Any]) -> bool:
    """Whether these are the fields of weights, and not those of a run or of anything else."""
    inner = values.get("pretrained_cfg")
    return isinstance(inner, dict) or isinstance(values.get("architecture"), str) or "mean" in values


def _numbers(given: object, least: float, where: str) -> tuple[float, ...]:
    numbers = given if isinstance(given, list) else None
    if (
        numbers is None
        or len(numbers) not in (1, 3)
        or not all(type(one) in (int, float) and math.isfinite(one) and least <= one <= 1 for one in numbers)
    ):
        raise UserError(f"{where} is {shown(given)}; it must hold numbers up to 1, for pixels from 0 to 1.")
    return tuple(map(float, numbers))


def _side(given: object, where: str) -> int:
    sides = given[-2:] if isinstance(given, list) and len(given) == 3 else None
    if sides is None or sides[0] != sides[1] or type(sides[0]) is not int or not 1 <= sides[0] <= 2**14:
        raise UserError(
            f"{where} is {shown(given)}; it must be channels, height and width, with height and width equal."
        )
    return sides[0]


def _one_of(given: object, choices: tuple[str, ...], where: str) -> str:
    if given not in choices:
        raise UserError(f"{where} is {shown(given)}, which is not supported; it can be {', '.join(choices)}.")
    return str(given)
