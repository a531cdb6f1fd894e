"""Download a file: resumed where it was interrupted, checked by size and SHA-256, moved to its place when complete.

Beside FILE lie FILE.sha256 (the digest, kept at the first download or the first use, which later ones must equal),
FILE.part and FILE.part.json (what has been received, and of which version of the file), and FILE.lock. Torch-free.
"""

import contextlib
import functools
import hashlib
import http.client
import json
import os
import re
import ssl
import time
import urllib.error
import urllib.request
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from t2tbuild import manifest
from t2tbuild._version import __version__
from t2tbuild.errors import DownloadError, InputError
from t2tbuild.files import atomic_write, redact

OnProgress = Callable[[int, int | None], None]
"""Called with the bytes received so far, and with those of the whole file, None if the server does not say."""

SCHEMES = ("http", "https", "file")
TIMEOUT = 30.0  # seconds without a byte
NOTICE_SECONDS = 10.0  # of waiting for another process
ATTEMPTS = 4  # in a row that receive nothing
FIRST_DELAY = 0.5  # seconds before the second of them; doubled each time
CHUNK = 1 << 20
RETRYABLE = (408, 425, 429, 500, 502, 503, 504)  # HTTP errors that another attempt may not meet


@dataclass(frozen=True)
class Expected:
    """What is known of a file: its size, the first hexadecimal digits of its SHA-256, and how such files begin."""

    size: int | None = None
    sha256: str = ""
    magic: tuple[bytes, ...] = ()


class _InterruptedTransferError(Exception):
    """The transfer broke off; another attempt may continue it."""


def download(
    url: str,
    target: Path,
    expected: Expected,
    on_progress: OnProgress | None = None,
    *,
    force: bool = False,
    on_wait: Callable[[str], None] = lambda message: warnings.warn(message, stacklevel=2),
) -> None:
    """Download a URL (http, https, file) to `target`, unless another process has done so meanwhile.

    An interrupted download is continued. Proxies are those of the environment (https_proxy, no_proxy). `force` replaces
    an existing file. `on_wait` gets a message where another process has held the file for NOTICE_SECONDS. Raises
    DownloadError if the file cannot be received, or if its size or digest is not the expected or kept one, and
    InputError if `target` cannot be written.
    """
    if urlsplit(url).scheme not in SCHEMES:
        raise InputError(f"{redact(url)}: not a URL of {', '.join(SCHEMES)}")
    from filelock import FileLock, Timeout  # imports asyncio, which reading weights from files does not need

    with _report_write_errors(target.parent):
        target.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(_beside(target, ".lock"))
        try:
            lock.acquire(timeout=NOTICE_SECONDS)
        except Timeout:
            on_wait(f"{target.name}: another process is downloading it, and is waited for; it holds {lock.lock_file}")
            lock.acquire()
    try:
        if target.is_file() and not force:
            verify_kept(target, expected)
            return
        _receive(url, target, expected, on_progress)
        with _report_write_errors(target.parent):
            _accept(url, target, expected)
    finally:
        lock.release()


def verify_kept(target: Path, expected: Expected) -> None:
    """Compare a cached file with its kept digest; keep the digest of a file that a user has put there.

    Raises DownloadError if the file is damaged or is not the expected one.
    """
    kept, state = kept_digest(target), target.stat()
    digest = _sha256(target, state.st_mtime_ns, state.st_size)
    hint = f"remove {target} and {_beside(target, '.sha256').name} and download it again"
    if kept and digest != kept:
        raise DownloadError(f"{target}: its SHA-256 is {digest}, at its first use it was {kept}; {hint}")
    if reason := _difference(expected, state.st_size, digest) or _wrong_beginning(expected, target):
        raise DownloadError(f"{target}: {reason}; {hint}")
    if not kept:
        with contextlib.suppress(OSError):  # a shared folder may be read-only
            _keep_digest(target, digest)


def kept_digest(target: Path) -> str:
    """Return the digest that was kept beside a file; empty if there is none."""
    try:
        found = re.match(r"[0-9a-f]{64}", _beside(target, ".sha256").read_text(encoding="utf-8"))
    except OSError:
        return ""
    return found[0] if found else ""


def _receive(url: str, target: Path, expected: Expected, on_progress: OnProgress | None) -> None:
    """Receive the whole file into the .part beside `target`, in as many attempts as make progress."""
    part, attempt = _beside(target, ".part"), 1
    while True:
        before = part.stat().st_size if part.exists() else 0
        try:
            _attempt(url, part, expected, on_progress)
        except _InterruptedTransferError as error:
            after = part.stat().st_size if part.exists() else 0
            attempt = 1 if after > before else attempt + 1
            if attempt > ATTEMPTS:
                have = f"the first {after:,} bytes are kept, and the next download continues there; " if after else ""
                raise DownloadError(
                    f"{redact(url)}: {error} ({ATTEMPTS} attempts); {have}without internet, put the file into "
                    f"{target.parent}"
                ) from None
            time.sleep(FIRST_DELAY * 2 ** (attempt - 2))
        else:
            return


def _attempt(url: str, part: Path, expected: Expected, on_progress: OnProgress | None) -> None:
    """Receive the rest of a file. Raises _InterruptedTransferError where another attempt may continue."""
    start, version = _resumable(part, url)
    headers = {"User-Agent": f"t2tbuild/{__version__}", "Accept-Encoding": "identity"}
    if start:
        headers |= {"Range": f"bytes={start}-", "If-Range": version}
    try:
        request = urllib.request.Request(url, headers=headers)  # noqa: S310 - the scheme was checked
        opener = urllib.request.build_opener(_Redirects(url))  # a new one reads the proxies as they are now
        with opener.open(request, timeout=TIMEOUT) as response:
            start, total = _parse_content_range(response, start, part)
            if total is not None and (reason := _difference(expected, total, "")):
                raise DownloadError(f"{redact(url)}: {reason}")
            received = _write(response, part, start, total, url, on_progress)
    except urllib.error.HTTPError as error:
        with error:
            _handle_http_error(error, url, part, start)
        return
    except http.client.InvalidURL as error:
        raise DownloadError(f"{redact(url)}: is not a valid URL: {redact(_reason(error))}") from None
    except urllib.error.URLError as error:
        if reason := _final_reason(error.reason, part.parent):
            raise DownloadError(f"{redact(url)}: {reason}") from None
        raise _InterruptedTransferError(_reason(error.reason)) from None
    except (OSError, http.client.HTTPException) as error:
        raise _InterruptedTransferError(_reason(error)) from None
    if total is not None and received < total:
        raise _InterruptedTransferError(f"cut off after {received:,} of {total:,} bytes")


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects to http and https, those of an encrypted URL to https only, at every hop.

    Whoever can change one answer that is not encrypted chooses all that follow.
    """

    def __init__(self, url: str) -> None:
        self._url, self._schemes = url, ("https",) if urlsplit(url).scheme == "https" else ("http", "https")

    def redirect_request(
        self, req: urllib.request.Request, fp: Any, code: int, msg: str, headers: http.client.HTTPMessage, newurl: str
    ) -> urllib.request.Request | None:
        if urlsplit(newurl).scheme not in self._schemes:
            fp.close()
            reason = f"which is not {' or '.join(self._schemes)}"
            raise DownloadError(f"{redact(self._url)}: is redirected to {redact(newurl)}, {reason}")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _handle_http_error(error: urllib.error.HTTPError, url: str, part: Path, start: int) -> None:
    """Return if the server has nothing beyond `start`, which is then the whole file; else raise."""
    if error.code == 416 and start:
        whole = re.fullmatch(r"bytes \*/(\d+)", error.headers.get("Content-Range", ""))
        if whole and int(whole[1]) == start:
            return
        _discard(part)
        raise _InterruptedTransferError("the file has changed on the server") from None
    status = f"HTTP {error.code} {error.reason}".rstrip()
    if error.code in RETRYABLE:
        raise _InterruptedTransferError(status) from None
    message = f"{redact(url)}: {status}; if the file has moved, name a mirror in T2TBUILD_RELEASES"
    raise DownloadError(f"{message}, or put the file into {part.parent}") from None


def _resumable(part: Path, url: str) -> tuple[int, str]:
    """Return the bytes that a .part has and the version of the file that they belong to; 0 and "" if it is unknown."""
    try:
        state = json.loads(_beside(part, ".json").read_text(encoding="utf-8"))
        size, version = part.stat().st_size, state["version"]
        if state["url"] == _identity(url) and isinstance(version, str) and version:
            return size, version
    except (OSError, ValueError, KeyError, TypeError):
        pass
    return 0, ""


def _parse_content_range(response: Any, start: int, part: Path) -> tuple[int, int | None]:
    """Return where the bytes of a response begin in the file, and the size of the file, None if it is unknown."""
    if response.status == 206:
        place = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", ""))
        if place is None or int(place[1]) != start:
            _discard(part)  # else each later download would ask for the same
            raise DownloadError(f"{redact(response.geturl())}: the server sends another part than was asked for")
        return start, None if place[2] == "*" else int(place[2])
    length = response.headers.get("Content-Length", "")
    return 0, int(length) if length.isdigit() else None


def _write(response: Any, part: Path, start: int, total: int | None, url: str, on_progress: OnProgress | None) -> int:
    """Append a response to a .part, from `start` on; return the size of the .part."""
    tag, date = response.headers.get("ETag", ""), response.headers.get("Last-Modified", "")
    version = date if not tag or tag.startswith("W/") else tag  # a weak tag does not identify bytes
    with _report_write_errors(part.parent):
        if not start:
            atomic_write(_beside(part, ".json"), json.dumps({"url": _identity(url), "version": version}))
        stream = part.open("r+b" if start else "wb")
    done = start
    with stream:
        stream.truncate(start)
        stream.seek(start)
        if on_progress is not None:
            on_progress(done, total)
        while data := response.read1(CHUNK):
            with _report_write_errors(part.parent):
                stream.write(data)
            done += len(data)
            if on_progress is not None:
                on_progress(done, total)
        with _report_write_errors(part.parent):
            stream.flush()
            os.fsync(stream.fileno())
    return done


def _accept(url: str, target: Path, expected: Expected) -> None:
    """Check the .part and move it to `target`, after its digest was kept."""
    part, kept = _beside(target, ".part"), kept_digest(target)
    state = part.stat()
    digest = _sha256(part, state.st_mtime_ns, state.st_size)
    reason = _difference(expected, state.st_size, digest) or _wrong_beginning(expected, part)
    if not reason and kept and kept != digest:
        reason = (
            f"its SHA-256 is {digest}, at its first download it was {kept}; the file has changed on the server: ask "
            f"why, and remove {_beside(target, '.sha256')} only if you trust the new one"
        )
    if reason:
        _discard(part)
        raise DownloadError(f"{redact(url)}: {reason}")
    if not kept:
        _keep_digest(target, digest)
    part.replace(target)
    _discard(part)


def _difference(expected: Expected, size: int, digest: str) -> str:
    """Return why a file is not the expected one; empty if it is, or if nothing is known. `digest` may be empty."""
    if expected.size is not None and size != expected.size:
        return f"has {size:,} bytes, the released file has {expected.size:,}"
    if digest and not digest.startswith(expected.sha256):
        return f"its SHA-256 is {digest}, that of the released file begins with {expected.sha256}"
    return ""


def _wrong_beginning(expected: Expected, path: Path) -> str:
    """Return why a file is of another kind, such as the page of a portal that asks for a password; empty if not."""
    with path.open("rb") as stream:
        beginning = stream.read(24)
    if not expected.magic or beginning.startswith(expected.magic):
        return ""
    return f"is no file of weights: it begins with {beginning!r}; a proxy or a portal may have answered"


def _keep_digest(target: Path, digest: str) -> None:
    """Keep a digest in the format of sha256sum, which checks it with -c."""
    atomic_write(_beside(target, ".sha256"), f"{digest}  {target.name}\n")


@functools.lru_cache(maxsize=32)
def _sha256(path: Path, _modified: int, _size: int) -> str:
    """Return the digest of a file, which is read once as long as its time and size are the same."""
    return manifest.file_digest(path)


def _identity(url: str) -> str:
    """Return a text that is equal for equal URLs, without their passwords."""
    return f"{redact(url)} {hashlib.sha256(url.encode()).hexdigest()[:16]}"


def _discard(part: Path) -> None:
    part.unlink(missing_ok=True)
    _beside(part, ".json").unlink(missing_ok=True)


def _beside(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)


def _final_reason(error: object, folder: Path) -> str:
    """Return why another attempt cannot succeed; empty where it may."""
    match error:
        case ssl.SSLCertVerificationError():
            hint = "name the certificate of a proxy or a mirror in SSL_CERT_FILE"
            return f"its certificate is not trusted: {error.verify_message}; {hint}"
        case FileNotFoundError():
            return f"no such file; correct T2TBUILD_RELEASES, or put the file into {folder}"
        case _:
            return ""


def _reason(error: object) -> str:
    text = getattr(error, "strerror", None) or str(error)
    return f"{text[:1].lower()}{text[1:]}" if text else type(error).__name__


@contextlib.contextmanager
def _report_write_errors(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        hint = "free some space, or name another folder in T2TBUILD_CACHE"
        raise InputError(f"{folder}: cannot be written: {error.strerror or error}; {hint}") from None
