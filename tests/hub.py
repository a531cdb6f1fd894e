"""A Hugging Face Hub on this machine: the requests of huggingface_hub that create, fill and read a repository."""

import base64
import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from typing import Any

from tests.local_server import LocalServer, QuietHandler, serving

TOKEN = "hf_of_the_tests"
COMMIT = "1" * 40


class Hub(LocalServer):
    """The server. `repositories` has the files of each repository by name; `requests` are (method, path)."""

    def __init__(self) -> None:
        super().__init__(_Handler)
        self.repositories: dict[str, dict[str, bytes]] = {}
        self.private: set[str] = set()
        self.requests: list[tuple[str, str]] = []


class _Handler(QuietHandler, BaseHTTPRequestHandler):
    server: Hub

    def do_HEAD(self) -> None:
        self._resolve(body=False)

    def do_GET(self) -> None:
        self._resolve(body=True)

    def _resolve(self, *, body: bool) -> None:
        self.server.requests.append((self.command, self.path))
        parts = self.path.lstrip("/").split("/")
        if len(parts) != 5 or parts[2] != "resolve":
            self._end(404, b"")
            return
        repository, revision, file = "/".join(parts[:2]), parts[3], parts[4]
        files = self.server.repositories.get(repository)
        if files is None:
            self._end(404, b"", **{"X-Error-Code": "RepoNotFound"})
        elif revision not in ("main", COMMIT):
            self._end(404, b"", **{"X-Error-Code": "RevisionNotFound"})
        elif file not in files:
            self._end(404, b"", **{"X-Error-Code": "EntryNotFound", "X-Repo-Commit": COMMIT})
        else:
            digest = hashlib.sha256(files[file]).hexdigest()
            self._end(200, files[file], body=body, **{"X-Repo-Commit": COMMIT, "ETag": f'"{digest}"'})

    def do_POST(self) -> None:
        server, path = self.server, self.path.partition("?")[0]
        server.requests.append(("POST", path))
        content = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            self._json(401, {"error": "Invalid credentials in Authorization header"})
        elif path == "/api/repos/create":
            asked = json.loads(content)
            name = f"{asked.get('organization') or 'me'}/{asked['name']}"
            server.repositories.setdefault(name, {})
            if asked.get("visibility") == "private" or asked.get("private"):
                server.private.add(name)
            self._json(200, {"url": f"{server.url}/{name}"})
        elif path == "/api/validate-yaml":
            self._json(200, {"errors": [], "warnings": []})
        elif "/preupload/" in path:
            files = [file["path"] for file in json.loads(content)["files"]]
            modes = [{"path": file, "uploadMode": "regular", "shouldIgnore": False} for file in files]
            self._json(200, {"files": modes})
        elif "/commit/" in path:
            repository = "/".join(path.split("/")[3:5])
            for line in map(json.loads, content.splitlines()):
                if line["key"] == "file":
                    value = line["value"]
                    server.repositories[repository][value["path"]] = base64.b64decode(value["content"])
            self._json(200, {"commitUrl": f"{server.url}/{repository}/commit/{COMMIT}", "commitOid": COMMIT})
        else:
            self._end(404, b"")

    def _json(self, status: int, data: dict[str, Any]) -> None:
        self._end(status, json.dumps(data).encode(), **{"Content-Type": "application/json"})

    def _end(self, status: int, content: bytes, *, body: bool = True, **headers: str) -> None:
        self.start(status, {"Content-Length": str(len(content)), **headers})
        if body and self.command != "HEAD":
            self.wfile.write(content)


@contextmanager
def serve_hub() -> Iterator[Hub]:
    """Serve in a thread of this process until the block ends."""
    server = Hub()
    with serving(server):
        yield server
