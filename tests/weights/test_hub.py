"""Weights from the Hub and to it: huggingface_hub itself, against a server on this machine, and offline its cache."""

import struct
import time
from collections.abc import Iterator
from pathlib import Path

import huggingface_hub
import pytest
from huggingface_hub import constants

from t2tbuild.errors import DownloadError, InputError, UploadError
from t2tbuild.weights.hub import fetch_repository, parse_repository, require_token, upload_folder
from t2tbuild.weights.label_names import read_label_names
from t2tbuild.weights.resolve import resolve_weights
from tests.hub import COMMIT, TOKEN, Hub, serve_hub


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))  # read from the environment at the import
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    with serve_hub() as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        yield server


def test_a_repository_is_a_folder_of_weights(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    config = b'{"label_names": ["cat", "dog"]}'
    weights = struct.pack("<Q", 2) + b"{}"  # safetensors without a tensor
    hub.repositories["us/cats"] = {"model.safetensors": weights, "config.json": config, "pytorch_model.bin": b"old"}
    source = resolve_weights("hf-hub:us/cats")
    assert source.checkpoint is not None
    assert (source.checkpoint / "model.safetensors").read_bytes() == weights
    assert not (source.checkpoint / "pytorch_model.bin").exists()
    assert read_label_names("hf-hub:us/cats") == ("cat", "dog")
    assert resolve_weights("hf-hub:us/cats@main").checkpoint == source.checkpoint
    hub.requests.clear()
    monkeypatch.setenv("T2TBUILD_OFFLINE", "1")
    assert resolve_weights("hf-hub:us/cats").checkpoint == source.checkpoint
    assert resolve_weights(f"hf-hub:us/cats@{COMMIT}").checkpoint == source.checkpoint
    assert hub.requests == []
    with pytest.raises(InputError, match=r"hf-hub:us/dogs is not cached, and downloads are turned off"):
        resolve_weights("hf-hub:us/dogs")


def test_a_cache_as_huggingface_hub_lays_it_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Blobs by their digest, snapshots of links, and the commit of each branch."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    repository = tmp_path / "models--us--cats"
    snapshot = repository / "snapshots" / COMMIT
    for folder in (snapshot, repository / "blobs", repository / "refs"):
        folder.mkdir(parents=True)
    (repository / "blobs" / "abc").write_bytes(b"weights")
    (repository / "refs" / "main").write_text(COMMIT)
    (snapshot / "pytorch_model.bin").symlink_to("../../blobs/abc")
    assert fetch_repository("us/cats") == snapshot


def test_what_the_hub_does_not_have_is_one_message(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.repositories["us/empty"] = {"README.md": b""}
    with pytest.raises(
        InputError, match=r"^hf-hub:us/none: no such repository, or a private one; check the name, or log"
    ):
        fetch_repository("us/none")
    with pytest.raises(
        InputError, match=r"hf-hub:us/empty: the repository has no model.safetensors or pytorch_model.bin"
    ):
        fetch_repository("us/empty")
    with pytest.raises(InputError, match=r"hf-hub:us/empty@v9: no such revision; name a branch, a tag or a commit"):
        fetch_repository("us/empty@v9")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:1")
    monkeypatch.setattr(time, "sleep", lambda _: None)  # between the attempts of huggingface_hub: 24 seconds
    unreachable = r"the Hub cannot be reached: .*; try again"
    if huggingface_hub.__version__ < "2":  # it goes on with a client that it has closed, and raises that
        unreachable = "model.safetensors cannot be downloaded: .*"
    with pytest.raises(DownloadError, match=f"hf-hub:us/empty: {unreachable}"):
        fetch_repository("us/empty")


@pytest.mark.parametrize(
    "name", ["cats", "us/cats/1", "us/-cats", "us/cats.", "us/a--b", "us/a..b", "us/a b", "us/c.git"]
)
def test_a_name_that_the_hub_does_not_allow(name: str) -> None:
    with pytest.raises(InputError, match="is not a repository of the Hub; write ORG/NAME"):
        parse_repository(name)


def test_a_name_with_a_revision() -> None:
    assert parse_repository("my_org/T2T.vit-14@v1.0") == ("my_org/T2T.vit-14", "v1.0")


def test_a_folder_becomes_a_repository(hub: Hub, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "README.md").write_text("---\nlicense: mit\n---\n")
    (folder / "model.safetensors").write_bytes(b"weights")
    uploaded = upload_folder(folder, "us/cats", private=True, replace_card=False)
    assert (uploaded.url, uploaded.kept_card) == (f"{hub.url}/us/cats", False)
    assert hub.repositories["us/cats"]["model.safetensors"] == b"weights"
    assert hub.private == {"us/cats"}

    hub.repositories["us/cats"]["README.md"] = b"edited on the Hub"
    (folder / "model.safetensors").write_bytes(b"better weights")
    assert upload_folder(folder, "us/cats", private=True, replace_card=False).kept_card
    assert hub.repositories["us/cats"] == {"README.md": b"edited on the Hub", "model.safetensors": b"better weights"}
    assert not upload_folder(folder, "us/cats", private=True, replace_card=True).kept_card
    assert hub.repositories["us/cats"]["README.md"].startswith(b"---\nlicense: mit")


def test_a_token_is_needed(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_of_another")
    with pytest.raises(InputError, match=r"us/cats: the Hub refuses the token \(HTTP 401\)"):
        upload_folder(tmp_path, "us/cats", private=False, replace_card=False)
    assert hub.repositories == {}
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(
        InputError, match=r"publishing needs a token that may write; log in with: hf auth login, or set"
    ):
        require_token()
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    require_token()
    monkeypatch.setenv("T2TBUILD_OFFLINE", "1")
    with pytest.raises(InputError, match="publishing needs a network, and it is turned off"):
        require_token()
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:1")
    with pytest.raises(UploadError, match=r"us/cats: cannot be published: ConnectError: .*; try again"):
        upload_folder(tmp_path, "us/cats", private=False, replace_card=False)
