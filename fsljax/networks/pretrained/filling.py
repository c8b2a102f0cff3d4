"""Fills fields of a config from the description of its weights."""

from __future__ import annotations

import sys
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from fsljax.config import Data, Network
from fsljax.config.reading import as_mapping
from fsljax.errors import UserError
from fsljax.networks.pretrained.finding import (
    NO_DIGEST,
    Pretrained,
    is_missing_file,
    resolve,
    unknown_architecture,
)
from fsljax.networks.pretrained.torchvision_files import published_file
from fsljax.storage.json_files import read_checked
from fsljax.storage.paths import given_path

# Where neither the weights nor the config say anything: torchvision's networks of ImageNet.
_ASSUMED: dict[str, Any] = {
    "network.input_mean": (0.485, 0.456, 0.406),
    "network.input_std": (0.229, 0.224, 0.225),
    "network.padding": "symmetric",
    "data.image_size": 224,
}
_TOLD = (*_ASSUMED, "data.crop", "data.interpolation")
_OF_WEIGHTS = {
    "network": ("name", "padding", "epsilon", "input_mean", "input_std", "patch_size", "width", "depth",
                "heads", "mlp_ratio", "layer_scale", "register_tokens", "embed_class", "pool"),
    "data": ("image_size", "crop", "interpolation"),
}  # fmt: skip
_PLAIN = {"network.input_mean": (0.0,), "network.input_std": (1.0,), "network.padding": "symmetric"}


def described(config: ConfigDict, *, kept: Collection[str] = (), images: bool = True) -> ConfigDict:
    """The config with the settings that its weights specify; weights are downloaded if necessary.

    A field is filled if it is empty or has its default value, or if `network.unless_described` names it, but
    not if it is in `kept`. A line on standard error reports where the config and the weights differ, and what
    is assumed for weights without a description. The name, revision and digest of the weights are filled in
    too; a config that already has them is unchanged.

    Args:
      config: a config with the sections `network` and `data`; not modified.
      kept: dotted names of fields set by the user, such as "network.input_mean".
      images: whether images are resized as the weights expect; not so for a detector.

    Raises:
      UserError: if the weights are not available, or belong to a different network than the config's.
    """
    filled = _copied(config)
    network = filled.network
    pinned = network.weights_digest if "network.weights_digest" in kept else ""
    is_done = bool(network.weights_digest) and not pinned
    if network.weights and not network.init_from and not is_done and _can_be_looked_for(filled):
        own = "" if _is_open(filled, "network.name", kept) else network.name
        found = resolve(network.weights, revision=network.weights_revision, network=own)
        if pinned and found.digest != pinned:
            raise UserError(
                f"The SHA-256 of the weights {network.weights} is {found.digest}, not "
                f"config.network.weights_digest, {pinned}."
            )
        _fill(filled, found, kept, images)
    elif network.init_from and network.unless_described:
        _fill_from_run(filled, kept, images)
    for name, value in _PLAIN.items():
        if _is_empty(_value(filled, name)):
            _put(filled, name, value)
    network.unless_described = ()
    return filled


def without_gaps(config: ConfigDict) -> ConfigDict:
    """The config with placeholders for fields that its weights specify; itself, if there are none."""
    values = as_mapping(config)
    sections = [values.get(section) for section in ("network", "data")]
    if not all(isinstance(section, Mapping) for section in sections):
        return config
    filled = ConfigDict(values)
    gaps = _gaps(filled)
    for name in gaps:
        _put(filled, name, _default(name))
    return filled if gaps else config


def as_begun(config: ConfigDict, stored: Mapping[str, Any], kept: Collection[str] = ()) -> ConfigDict:
    """The config of a resumed run: filled as when it started, whatever the weights specify now.

    Args:
      config: as given now, with `network.weights` or `network.init_from`.
      stored: the stored values of the run.
      kept: as in `described`.
    """
    before = stored.get("network", {}), stored.get("data", {})
    if not all(isinstance(section, dict) for section in before):
        return config
    network = config.network
    if not (network.weights or network.init_from) or any(
        before[0].get(name, "") != network[name] for name in ("weights", "init_from")
    ):
        return config
    digest = before[0].get("weights_digest") or (NO_DIGEST if network.weights else "")
    if network.weights_digest and network.weights_digest != digest:
        return config
    filled = _copied(config)
    if digest != NO_DIGEST:
        _take(filled, *before, kept)
    filled.network.update({"weights_digest": digest, "unless_described": ()})
    filled.network.weights_revision = before[0].get("weights_revision", "")
    return filled


def located(network: Network) -> Path:
    """The file of the weights that a filled config names.

    Raises:
      UserError: if there is no such file, or it differs from the one the config was filled from.
    """
    if network.weights_digest in ("", NO_DIGEST):
        path = given_path(network.weights, "config.network.weights")
        if not path.is_file():
            raise UserError(f"There is no weights file at {network.weights} (config.network.weights).")
        return path
    found = resolve(network.weights, revision=network.weights_revision, network=network.name)
    if found.digest != network.weights_digest:
        raise UserError(
            f"The weights {network.weights} (config.network.weights) are no longer those that this run "
            f"started with: their SHA-256 is {found.digest[:12]}…, but was {network.weights_digest[:12]}…. "
            "Restore them, or give another --workdir."
        )
    return found.path


def _fill(config: ConfigDict, found: Pretrained, kept: Collection[str], images: bool) -> None:
    told = {f"network.{name}": value for name, value in found.network.items() if name in config.network}
    if images:
        told |= {f"data.{name}": value for name, value in found.data.items() if name in config.data}
    _check_name(config, found, kept)
    differing = []
    for name, value in told.items():
        if _is_open(config, name, kept):
            _put(config, name, value)
        elif not _same(_value(config, name), value):
            differing.append(f"config.{name} is {_value(config, name)}, but they specify {_shown(value)}")
    if differing:
        print(
            f"The config differs from what the weights {found.name} specify: {'; '.join(differing)}.",
            file=sys.stderr,
        )
    unsaid = [name for name in _ASSUMED if name not in told and (images or name != "data.image_size")]
    for name in unsaid:
        if _is_empty(_value(config, name)):
            _put(config, name, _ASSUMED[name])
    if set(unsaid) - {"network.padding"}:  # which does not say how images were
        taken = ", ".join(f"{name.partition('.')[2]} {_shown(_value(config, name))}" for name in unsaid)
        print(
            f"{found.path} does not say what images its network was trained on; assumed: {taken}. Set these "
            "config fields if it was trained on other images.",
            file=sys.stderr,
        )
    config.network.weights_revision = found.revision
    config.network.weights_digest = found.digest


def _fill_from_run(config: ConfigDict, kept: Collection[str], images: bool) -> None:
    """Fills a config as the run was filled whose network it begins with."""
    try:
        stored = read_checked(
            given_path(config.network.init_from, "config.network.init_from") / "config.json"
        )
    except (FileNotFoundError, UserError):  # which is told of where the run is read
        return
    network, data = stored.get("network"), stored.get("data")
    if isinstance(network, dict) and isinstance(data, dict) and network.get("weights_digest"):
        _take(config, network, data if images else {}, kept)


def _take(
    config: ConfigDict, network: Mapping[str, Any], data: Mapping[str, Any], kept: Collection[str]
) -> None:
    """Takes what weights say of themselves from a config that they have filled."""
    for section, values in (("network", network), ("data", data)):
        for name in _OF_WEIGHTS[section]:
            if name in values and name in config[section] and _is_open(config, f"{section}.{name}", kept):
                value = values[name]
                _put(config, f"{section}.{name}", tuple(value) if isinstance(value, list) else value)


def _check_name(config: ConfigDict, found: Pretrained, kept: Collection[str]) -> None:
    """Raises a UserError if the weights are of another network than the config's, or of an unknown one."""
    if _is_open(config, "network.name", kept):
        default = config.network.name == Network().name and found.described
        if "name" not in found.network and (default or not config.network.name):
            raise UserError(unknown_architecture(found.name, found.architecture))
    elif "name" in found.network and config.network.name != found.network["name"]:
        raise UserError(
            f"config.network.name is {config.network.name!r}, but the weights {found.name} are of "
            f"{found.network['name']}: give --config.network.name={found.network['name']}, or other weights."
        )


def _is_open(config: ConfigDict, name: str, kept: Collection[str]) -> bool:
    """Whether a field waits for what the weights say."""
    value = _value(config, name)
    if name in (f"network.{own}" for own in ("weights", "weights_digest", "weights_revision")):
        return False
    waits = name in ("network.name", *_TOLD) and _is_empty(value)
    if name in kept:
        return waits
    return waits or name in config.network.unless_described or value == _default(name)


def _default(name: str) -> object:
    section, _, field = name.partition(".")
    kind: Any = Network() if section == "network" else Data()
    return getattr(kind, field, None)


def _can_be_looked_for(config: ConfigDict) -> bool:
    """Whether there are weights; of a file that is not there and not needed here its reader tells."""
    weights = config.network.weights
    return bool(_gaps(config)) or not is_missing_file(weights) or published_file(weights) is not None


def _gaps(config: ConfigDict) -> list[str]:
    """Fields that wait for what the weights say."""
    return [name for name in ("network.name", *_ASSUMED) if _is_empty(_value(config, name))]


def _is_empty(value: object) -> bool:
    """Whether it is "", () or 0; of other types, arrays too, nothing is."""
    return type(value) in (str, tuple, int, float) and not value


def _copied(config: ConfigDict) -> ConfigDict:
    return ConfigDict(as_mapping(config))


def _value(config: ConfigDict, name: str) -> Any:
    section, _, field = name.partition(".")
    value = config[section].get(field, _default(name))
    return tuple(value) if isinstance(value, list) else value


def _put(config: ConfigDict, name: str, value: Any) -> None:
    section, _, field = name.partition(".")
    with config.ignore_type():
        config[section][field] = value


def _same(ours: object, theirs: object) -> bool:
    if isinstance(ours, tuple) and isinstance(theirs, tuple):
        length = max(len(ours), len(theirs))
        ours, theirs = (one * length if len(one) == 1 else one for one in (ours, theirs))
    return ours == theirs


def _shown(value: object) -> str:
    if isinstance(value, tuple):
        return f"({', '.join(f'{one:.4g}' for one in value)})"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
