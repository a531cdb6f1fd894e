"""A real HTTP server of files on this machine, which can be slow, cut transfers off, redirect and fail.

As GitHub's, it has ETags and serves parts of a file (Range with If-Range).
"""

import hashlib
import re
import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tests.local_server import LocalServer, QuietHandler, serving


class Releases(LocalServer):
    """The server. Its lists are consumed request by request; each request is recorded as (path, first byte)."""

    def __init__(self) -> None:
        super().__init__(_Handler)
        self.files: dict[str, bytes] = {}
        self.requests: list[tuple[str, int]] = []
        self.cut_after: list[int] = []  # bytes after which the next transfers break off
        self.errors: list[int] = []  # status codes of the next requests
        self.stall = 0.0  # seconds without a byte after a cut, before the connection is closed
        self.delay = 0.0  # seconds before each tenth of a file
        self.redirects: dict[str, str] = {}  # from a path to a URL
        self.serves_parts = True
        self.says_size = True
        self.shift = 0  # bytes by which a part is another than was asked for

    def handle_error(self, *_: Any) -> None:
        """Print nothing of a client that was killed."""


class _Handler(QuietHandler, BaseHTTPRequestHandler):
    server: Releases

    def do_GET(self) -> None:
        server, path = self.server, urlsplit(self.path).path
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        start = int(asked[1]) if asked else 0
        server.requests.append((path, start))
        content = server.files.get(path.rpartition("/")[2])
        if server.errors:
            self._end(server.errors.pop(0))
            return
        if path in server.redirects:
            self._end(302, Location=server.redirects[path])
            return
        if content is None:
            self._end(404)
            return
        tag = f'"{hashlib.md5(content).hexdigest()}"'
        if not server.serves_parts or self.headers.get("If-Range", tag) != tag:
            start = 0
        if start >= len(content) > 0:
            self._end(416, **{"Content-Range": f"bytes */{len(content)}"})
            return
        self.send_response(206 if start else 200)
        self.send_header("ETag", tag)
        if server.says_size:
            self.send_header("Content-Length", str(len(content) - start))
        if start:
            self.send_header("Content-Range", f"bytes {start + server.shift}-{len(content) - 1}/{len(content)}")
        self.end_headers()
        end = server.cut_after.pop(0) if server.cut_after else len(content)
        step = max(1, len(content) // 10)
        for place in range(start, min(end, len(content)), step):
            time.sleep(server.delay)
            self.wfile.write(content[place : min(place + step, end)])
            self.wfile.flush()
        if end < len(content):
            time.sleep(server.stall)
        self.close_connection = True

    def _end(self, status: int, **headers: str) -> None:
        self.start(status, {"Content-Length": "0", **headers})


@contextmanager
def serve(certificate: Path | None = None) -> Iterator[Releases]:
    """Serve in a thread of this process until the block ends, encrypted with a certificate and its key in one file."""
    server = Releases()
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        server.socket, server.scheme = context.wrap_socket(server.socket, server_side=True), "https"
    with serving(server):
        yield server
