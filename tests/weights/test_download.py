"""Downloads from a real server on this machine: whole, cut off, slow, changed, wrong, redirected, refused, offline."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from io import StringIO
from pathlib import Path

import pytest
from filelock import FileLock
from rich.console import Console
from typer.testing import CliRunner, Result

from t2tbuild.cli import app, download_progress
from t2tbuild.cli.download_progress import DownloadProgress
from t2tbuild.errors import DownloadError, InputError
from t2tbuild.spec import catalog
from t2tbuild.weights import download as downloads
from t2tbuild.weights import released
from t2tbuild.weights.download import Expected, download
from t2tbuild.weights.released import fetch_released, find_released, released_weights
from t2tbuild.weights.remote import require_known
from tests.releases import Releases, serve

CONTENT = b"PK\x03\x04" + bytes(range(256)) * 400
DIGEST = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Releases]:
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(downloads, "FIRST_DELAY", 0.01)
    monkeypatch.setenv("T2TBUILD_CACHE", str(tmp_path / "cache"))
    with serve() as server:
        server.files["weights.pth"] = CONTENT
        monkeypatch.setenv("T2TBUILD_RELEASES", server.url)
        yield server


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "weights.pth"


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.suffix != ".lock")


def test_a_whole_file_and_its_digest(server: Releases, target: Path) -> None:
    seen: list[tuple[int, int | None]] = []
    download(f"{server.url}/weights.pth", target, Expected(), lambda *place: seen.append(place))
    assert target.read_bytes() == CONTENT
    assert names(target.parent) == ["weights.pth", "weights.pth.sha256"]
    assert (target.parent / "weights.pth.sha256").read_text() == f"{DIGEST}  weights.pth\n"  # for sha256sum -c
    assert seen[0] == (0, len(CONTENT))
    assert seen[-1] == (len(CONTENT), len(CONTENT))
    download(f"{server.url}/weights.pth", target, Expected())
    assert len(server.requests) == 1


def test_what_was_cut_off_is_continued_where_it_ended(server: Releases, target: Path) -> None:
    server.cut_after = [30_000, 70_000]
    download(f"{server.url}/weights.pth", target, Expected())
    assert target.read_bytes() == CONTENT
    assert [start for _, start in server.requests] == [0, 30_000, 70_000]


def test_a_later_command_continues(server: Releases, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(downloads, "ATTEMPTS", 1)
    server.cut_after, server.errors = [50_000], []
    original = server.files["weights.pth"]
    seen = []

    def cut_the_power(done: int, _: int | None) -> None:
        seen.append(done)
        if done >= 50_000:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        download(f"{server.url}/weights.pth", target, Expected(), cut_the_power)
    assert names(target.parent) == ["weights.pth.part", "weights.pth.part.json"]
    download(f"{server.url}/weights.pth", target, Expected())
    assert server.requests[-1] == ("/weights.pth", seen[-1])
    assert target.read_bytes() == original


def test_a_file_that_changed_meanwhile_is_received_from_the_start(server: Releases, target: Path) -> None:
    target.parent.mkdir()
    (target.parent / "weights.pth.part").write_bytes(b"old" * 1000)
    state = {"url": downloads._identity(f"{server.url}/weights.pth"), "version": '"of the old file"'}
    (target.parent / "weights.pth.part.json").write_text(json.dumps(state))
    download(f"{server.url}/weights.pth", target, Expected())
    assert server.requests == [("/weights.pth", 3000)]
    assert target.read_bytes() == CONTENT


def test_a_server_without_parts_starts_again(server: Releases, target: Path) -> None:
    server.serves_parts, server.cut_after = False, [30_000]
    download(f"{server.url}/weights.pth", target, Expected())
    assert target.read_bytes() == CONTENT


def test_a_complete_part_needs_no_more_bytes(server: Releases, target: Path) -> None:
    """A kill between the last byte and the move to its place."""
    target.parent.mkdir()
    (target.parent / "weights.pth.part").write_bytes(CONTENT)
    tag = f'"{hashlib.md5(CONTENT).hexdigest()}"'
    (target.parent / "weights.pth.part.json").write_text(
        json.dumps({"url": downloads._identity(f"{server.url}/weights.pth"), "version": tag})
    )
    download(f"{server.url}/weights.pth", target, Expected())
    assert server.requests == [("/weights.pth", len(CONTENT))]
    assert target.read_bytes() == CONTENT


def test_a_slow_server_is_waited_for_and_a_stalled_one_is_asked_again(
    server: Releases, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(downloads, "TIMEOUT", 0.3)
    server.delay, server.cut_after, server.stall = 0.05, [50_000], 0.6  # half a second in all, then nothing
    download(f"{server.url}/weights.pth", target, Expected())
    assert [start for _, start in server.requests] == [0, 50_000]
    assert target.read_bytes() == CONTENT


def test_a_file_of_unknown_size(server: Releases, target: Path) -> None:
    server.says_size = False
    download(f"{server.url}/weights.pth", target, Expected())
    assert target.read_bytes() == CONTENT


def test_a_wrong_size_is_refused_before_it_is_received(server: Releases, target: Path) -> None:
    with pytest.raises(DownloadError, match=r"has 102,404 bytes, the released file has 86,212,823"):
        download(f"{server.url}/weights.pth", target, Expected(size=86_212_823))
    assert names(target.parent) == []
    server.says_size = False  # and after it
    with pytest.raises(DownloadError, match=r"has 102,404 bytes, the released file has 7$"):
        download(f"{server.url}/weights.pth", target, Expected(size=7))
    assert names(target.parent) == []


def test_a_wrong_digest_is_refused(server: Releases, target: Path) -> None:
    download(f"{server.url}/weights.pth", target, Expected(sha256=DIGEST[:8]))
    with pytest.raises(DownloadError, match=f"its SHA-256 is {DIGEST}, that of the released file begins with f7378dd5"):
        download(f"{server.url}/weights.pth", target.with_name("other"), Expected(sha256="f7378dd5"))
    assert names(target.parent) == ["weights.pth", "weights.pth.sha256"]


def test_a_later_download_must_have_the_digest_of_the_first(server: Releases, target: Path) -> None:
    download(f"{server.url}/weights.pth", target, Expected())
    server.files["weights.pth"] = CONTENT[::-1]
    with pytest.raises(
        DownloadError, match=f"at its first download it was {DIGEST}; the file has changed on the server"
    ):
        download(f"{server.url}/weights.pth", target, Expected(), force=True)
    assert target.read_bytes() == CONTENT
    target.unlink()
    with pytest.raises(DownloadError, match="the file has changed on the server"):
        download(f"{server.url}/weights.pth", target, Expected())
    assert names(target.parent) == ["weights.pth.sha256"]


def test_a_redirect_is_followed_also_in_the_middle(server: Releases, target: Path) -> None:
    server.redirects["/release/weights.pth"] = f"{server.url}/storage/weights.pth"
    server.cut_after = [30_000]
    download(f"{server.url}/release/weights.pth", target, Expected())
    assert target.read_bytes() == CONTENT
    assert server.requests[-1] == ("/storage/weights.pth", 30_000)


def test_errors_that_pass_are_tried_again_and_others_are_not(server: Releases, target: Path) -> None:
    server.errors = [503, 429]
    download(f"{server.url}/weights.pth", target, Expected())
    server.requests.clear()
    with pytest.raises(DownloadError, match=r"HTTP 404 Not Found; if the file has moved, name a mirror in T2TBUILD_R"):
        download(f"{server.url}/none.pth", target.with_name("none.pth"), Expected())
    assert len(server.requests) == 1
    server.errors = [500] * 10
    with pytest.raises(DownloadError, match=r"HTTP 500 Internal Server Error \(4 attempts\); without internet, put"):
        download(f"{server.url}/weights.pth", target, Expected(), force=True)


def test_errors_that_stay_are_not_tried_again(
    server: Releases, target: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(downloads, "FIRST_DELAY", 100.0)
    with pytest.raises(DownloadError, match=r"nowhere\.pth: no such file; correct T2TBUILD_RELEASES, or put the file"):
        download((tmp_path / "nowhere.pth").as_uri(), target, Expected())
    with pytest.raises(DownloadError, match="is not a valid URL") as caught:
        download("http://me:hush@127.0.0.1:x1/weights.pth", target, Expected())
    assert "hush" not in str(caught.value)
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    message = "its certificate is not trusted: self-signed certificate; name"
    with serve(make_certificate(tmp_path)) as encrypted, pytest.raises(DownloadError, match=message):
        download(f"{encrypted.url}/weights.pth", target, Expected())
    assert server.requests == []


def test_another_part_than_was_asked_for_is_not_kept(server: Releases, target: Path) -> None:
    server.cut_after, server.shift = [30_000], 1
    with pytest.raises(DownloadError, match="the server sends another part than was asked for"):
        download(f"{server.url}/weights.pth", target, Expected())
    assert names(target.parent) == []
    download(f"{server.url}/weights.pth", target, Expected())
    assert target.read_bytes() == CONTENT


def test_a_password_is_not_written(server: Releases, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(downloads, "ATTEMPTS", 1)
    server.cut_after = [30_000, 0]
    url = f"{server.url}/weights.pth?token=hush"
    with pytest.raises(DownloadError, match="cut off"):
        download(url, target, Expected())
    assert "hush" not in target.with_name("weights.pth.part.json").read_text()
    download(url, target, Expected())
    assert server.requests[-1] == ("/weights.pth", 30_000)


def test_waiting_for_another_process_is_reported(
    server: Releases, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(downloads, "NOTICE_SECONDS", 0.02)
    target.parent.mkdir()
    lock, messages = FileLock(f"{target}.lock", thread_local=False), list[str]()
    lock.acquire()

    def release(message: str) -> None:
        messages.append(message)
        lock.release()

    download(f"{server.url}/weights.pth", target, Expected(), on_wait=release)
    assert re.fullmatch(r"weights\.pth: another process is downloading it, .*weights\.pth\.lock", messages[0])
    assert target.read_bytes() == CONTENT


@pytest.mark.usefixtures("server")
def test_a_server_that_does_not_answer(target: Path) -> None:
    with pytest.raises(DownloadError, match=r"127.0.0.1:1/weights.pth: connection refused \(4 attempts\)"):
        download("http://127.0.0.1:1/weights.pth", target, Expected())


def test_an_encrypted_release_is_not_continued_in_the_clear(
    server: Releases, target: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even for one hop, after which all is encrypted again."""
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "certificate.pem"))
    with serve(make_certificate(tmp_path)) as encrypted:
        encrypted.files["weights.pth"] = CONTENT
        encrypted.redirects["/moved/weights.pth"] = f"{encrypted.url}/weights.pth"
        encrypted.redirects["/release/weights.pth"] = f"{server.url}/hop/weights.pth"
        server.redirects["/hop/weights.pth"] = f"{encrypted.url}/weights.pth"
        with pytest.raises(DownloadError, match=f"is redirected to {server.url}/hop/weights.pth, which is not https$"):
            download(f"{encrypted.url}/release/weights.pth", target, Expected())
        assert (server.requests, names(target.parent)) == ([], [])
        download(f"{server.url}/hop/weights.pth", target, Expected())  # it becomes encrypted, and may
        download(f"{encrypted.url}/moved/weights.pth", target, Expected(), force=True)
    assert target.read_bytes() == CONTENT


def test_a_redirect_to_another_protocol_is_refused(server: Releases, target: Path) -> None:
    server.redirects["/release/weights.pth"] = "ftp://127.0.0.1:1/weights.pth"
    with pytest.raises(DownloadError, match=r"is redirected to ftp://127\.0\.0\.1:1/.*, which is not http or https"):
        download(f"{server.url}/release/weights.pth", target, Expected())


def make_certificate(folder: Path) -> Path:
    """Return a file with a new key and its own certificate for 127.0.0.1."""
    if (openssl := shutil.which("openssl")) is None:
        pytest.skip("openssl is not installed")
    file = str(folder / "certificate.pem")
    subject = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-noenc"]
    command = [openssl, "req", "-x509", *key, *subject, "-keyout", f"{file}.key", "-out", file]
    subprocess.run(command, check=True, capture_output=True)
    Path(file).write_text(Path(file).read_text() + Path(f"{file}.key").read_text())
    return Path(file)


def test_the_proxy_of_the_environment_is_used(server: Releases, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", server.url)
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    download("http://releases.invalid/main/weights.pth", target, Expected())
    assert server.requests == [("/main/weights.pth", 0)]


def test_two_processes_share_one_download(server: Releases, target: Path) -> None:
    server.delay = 0.02
    both = [threading.Thread(target=download, args=(f"{server.url}/weights.pth", target, Expected())) for _ in range(2)]
    for one in both:
        one.start()
    for one in both:
        one.join()
    assert server.requests == [("/weights.pth", 0)]
    assert target.read_bytes() == CONTENT


def test_a_folder_that_cannot_be_written(server: Releases, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"cannot be written: .*; free some space, or name another folder in T2TBUILD"):
        download(f"{server.url}/weights.pth", tmp_path / "file" / "weights.pth", Expected())
    with pytest.raises(InputError, match=r"ftp://x/weights.pth: not a URL of http, https, file"):
        download("ftp://x/weights.pth", tmp_path / "weights.pth", Expected())


# Released weights


def test_the_manifest_is_complete() -> None:
    known = released_weights()
    assert set(catalog.names("specs")) >= {one.spec for one in known.values()}
    assert all(one.url.startswith("https://") for one in known.values())
    assert len({one.file for one in known.values()}) == len(known) == 18
    assert known["t2t_vit_14"].bytes == 86_212_823
    assert known["t2t_vit_14.cifar10"].num_classes == 10
    assert {one.licence for one in known.values()} == {"BSD-3-Clause-Clear", "Apache-2.0"}
    for name, one in known.items():  # the digits that OpenMMLab puts into its file names
        assert one.sha256 == (one.file.rpartition("-")[2].removesuffix(".pth") if name.endswith("mmpretrain") else "")


@pytest.mark.usefixtures("server")
def test_the_mirror_may_be_a_folder_or_a_url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mirror").mkdir()
    (tmp_path / "mirror" / find_released("t2t_vit_7").file).write_bytes(CONTENT)
    for number, mirror in enumerate((str(tmp_path / "mirror"), (tmp_path / "mirror").as_uri())):
        monkeypatch.setenv("T2TBUILD_CACHE", str(tmp_path / f"cache{number}"))
        monkeypatch.setenv("T2TBUILD_RELEASES", mirror)
        path = fetch_released("t2t_vit_7")
        assert path == tmp_path / f"cache{number}" / "released" / "71.7_T2T_ViT_7.pth.tar"
        assert path.read_bytes() == CONTENT
    monkeypatch.delenv("T2TBUILD_RELEASES")
    assert find_released("t2t_vit_7").location.startswith("https://github.com/yitu-opensource/T2T-ViT/releases/")


@pytest.mark.parametrize("variable", ["T2TBUILD_OFFLINE", "HF_HUB_OFFLINE"])
def test_offline_only_the_cache_is_used(server: Releases, monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    server.files["71.7_T2T_ViT_7.pth.tar"] = CONTENT
    monkeypatch.setenv(variable, "1")
    with pytest.raises(InputError, match=r"released:t2t_vit_7 is not cached, and downloads are turned off"):
        fetch_released("t2t_vit_7")
    monkeypatch.setenv(variable, "0")
    path = fetch_released("t2t_vit_7")
    monkeypatch.setenv(variable, "1")
    assert fetch_released("t2t_vit_7") == path
    assert len(server.requests) == 1


def test_a_file_that_the_user_puts_into_the_cache_is_trusted_once(server: Releases) -> None:
    path = find_released("t2t_vit_7").path
    path.parent.mkdir(parents=True)
    path.write_bytes(CONTENT)
    assert fetch_released("t2t_vit_7") == path
    assert server.requests == []
    path.write_bytes(CONTENT[:-1])
    with pytest.raises(DownloadError, match=f"at its first use it was {DIGEST}; remove {path} and 71.7_T2T"):
        fetch_released("t2t_vit_7")
    known = find_released("t2t_vit_14").path
    known.write_bytes(CONTENT)
    with pytest.raises(DownloadError, match="has 102,404 bytes, the released file has 86,212,823"):
        fetch_released("t2t_vit_14")


def test_the_page_of_a_portal_is_no_file_of_weights(server: Releases) -> None:
    server.files["71.7_T2T_ViT_7.pth.tar"] = b"<!DOCTYPE html><p>Please log in"
    with pytest.raises(
        DownloadError, match=r"is no file of weights: it begins with b'<!DOCTYPE html><p>Please'; a proxy"
    ):
        fetch_released("t2t_vit_7")
    assert names(find_released("t2t_vit_7").path.parent) == []
    server.files["71.7_T2T_ViT_7.pth.tar"] = CONTENT
    assert fetch_released("t2t_vit_7").read_bytes() == CONTENT


def test_a_name_that_does_not_exist() -> None:
    with pytest.raises(
        InputError, match=r"'t2t_vit_15' has no released weights; did you mean t2t_vit_1\d\? there are t2t"
    ):
        find_released("t2t_vit_15")
    with pytest.raises(InputError, match="released: names no model here; write released:NAME"):
        require_known("released")


# The command


def t2tbuild(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


def test_the_command_downloads_and_prints_the_place_and_the_licence(server: Releases) -> None:
    server.files["71.7_T2T_ViT_7.pth.tar"] = CONTENT
    done = t2tbuild("download", "t2t_vit_7")
    assert done.stdout == f"{find_released('t2t_vit_7').path}\n"
    assert "downloading t2t_vit_7 (0.1 MB)" in done.stderr
    assert "weights of Shanghai Yitu Technology Co., Ltd., licence BSD-3-Clause-Clear; t2tbuild's own" in done.stderr
    again = t2tbuild("download", "t2t_vit_7", "--json")
    (entry,) = json.loads(again.stdout)
    assert (entry["bytes"], entry["sha256"], entry["cached"]) == (len(CONTENT), DIGEST, True)
    assert "downloading" not in again.stderr
    assert len(server.requests) == 1
    assert t2tbuild("download", "t2t_vit_7", "--force").exit_code == 0
    assert len(server.requests) == 2


def test_the_progress_has_speed_and_eta(monkeypatch: pytest.MonkeyPatch) -> None:
    """A bar on a terminal, and lines elsewhere."""
    terminal, piped = (
        Console(file=StringIO(), force_terminal=one, color_system=None, width=100) for one in (True, False)
    )
    monkeypatch.setattr(download_progress, "PRINT_INTERVAL", 0.0)
    for console in (terminal, piped):
        with DownloadProgress(console, "t2t_vit_14") as progress:
            for done in (20_000_000, 40_000_000, 60_000_000):
                time.sleep(0.02)
                progress.update(done, 86_212_823)
            progress.bar.refresh()
    assert isinstance(terminal.file, StringIO)
    assert isinstance(piped.file, StringIO)
    shown, lines = terminal.file.getvalue(), piped.file.getvalue().splitlines()
    assert re.search(r"t2t_vit_14 .*60\.0/86\.2 MB .*MB/s.* ETA", shown)
    assert lines[0] == "downloading t2t_vit_14 (86.2 MB), from 20.0 MB on"
    assert lines[-1] == "t2t_vit_14: 60.0 MB received, ETA 0s"


def test_the_command_lists_what_there_is(server: Releases) -> None:
    server.files["71.7_T2T_ViT_7.pth.tar"] = CONTENT
    fetch_released("t2t_vit_7")
    rows = t2tbuild("download", "--list").stdout
    (line,) = [row for row in rows.splitlines() if "t2t_vit_7 " in row]
    assert [cell.strip() for cell in line.split("│")[1:7]] == [
        *("t2t_vit_7", "71.7%", "imagenet-1k", "0.1 MB", "yes", "BSD-3-Clause-Clear")
    ]
    entries = json.loads(t2tbuild("download", "--list", "--json").stdout)
    assert [one["name"] for one in entries] == list(released_weights())
    assert [one["name"] for one in entries if one["cached"]] == ["t2t_vit_7"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "name what to download: t2t_vit_7, t2t_vit_10"),
        (["t2t_vit_7", "--list"], "--list lists all names; leave out t2t_vit_7"),
        (["t2t_vit_7", "t2t_vit_99"], "'t2t_vit_99' has no released weights"),
        (["hf-hub:nobody"], "'nobody' is not a repository of the Hub; write ORG/NAME"),
        (["hf-hub:a/b@"], "'a/b@': the revision is empty"),
        (["hf-hub:a/--b"], "'a/--b' is not a repository"),
    ],
)
def test_wrong_arguments_are_one_message(server: Releases, arguments: list[str], message: str) -> None:
    done = t2tbuild("download", *arguments)
    assert isinstance(done.exception, InputError)
    assert str(done.exception).startswith(message)
    assert server.requests == []


def test_the_cache_is_in_the_platforms_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("T2TBUILD_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    if os.uname().sysname == "Linux":
        assert released.cache_folder() == tmp_path / "t2tbuild"
