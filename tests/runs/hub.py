"""A small hub on loopback, in memory: what ``huggingface_hub`` asks for when a model is pushed.

Files up to ``INLINE`` bytes come within the commit, larger ones and weights by the LFS protocol.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any
from urllib.parse import urlsplit

INLINE = 10_000


@dataclass
class Repo:
    """A repository: files by path, those of pull requests apart, and its card's front matter."""

    private: bool
    files: dict[str, bytes] = field(default_factory=lambda: {".gitattributes": b"*.safetensors\n"})
    large: set[str] = field(default_factory=set)
    proposed: dict[str, bytes] = field(default_factory=dict)
    card: dict[str, str] = field(default_factory=dict)


@dataclass
class Hub:
    """What the hub holds, and what it was asked.

    Attributes:
        token: the only one that it takes.
        writable: owners in whose name the token may write.
        repos: by ``OWNER/NAME``.
        blobs: uploaded content by its SHA-256.
        cut: SHA-256 of content whose upload is cut off halfway.
        asked: methods and paths, in order.
        cards: front matter that it was asked to check; ``bad`` is found in one that it refuses.
    """

    token: str
    url: str = ""
    writable: tuple[str, ...] = ("me",)
    repos: dict[str, Repo] = field(default_factory=dict)
    blobs: dict[str, bytes] = field(default_factory=dict)
    cut: set[str] = field(default_factory=set)
    asked: list[tuple[str, str]] = field(default_factory=list)
    cards: list[str] = field(default_factory=list)
    bad: str | None = None

    def writes(self) -> list[str]:
        """Paths of what may have changed something."""
        return [path for method, path in self.asked if method in ("POST", "PUT")]


@contextmanager
def serving(token: str) -> Iterator[Hub]:
    """Runs a hub."""
    hub = Hub(token)
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Own", (_Handler,), {"hub": hub}))
    server.daemon_threads = True
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: a test's output is its own."""

    def do_GET(self) -> None:
        path = self._ask("GET")
        if not self._known():
            return
        # Versions before 1.0 ask of a revision whether xet may be used.
        name = path.removeprefix("/api/models/").removesuffix("/revision/main")
        repo = self.hub.repos.get(name)
        if repo is None:
            self._say(404, {"error": "Repository not found"}, {"X-Error-Code": "RepoNotFound"})
            return
        siblings = [_sibling(name, data, name in repo.large) for name, data in repo.files.items()]
        told = {"id": name, "private": repo.private, "siblings": siblings, "cardData": repo.card}
        self._say(200, told)

    def do_PUT(self) -> None:
        oid = self._ask("PUT").removeprefix("/upload/")
        size = int(self.headers.get("Content-Length") or 0)
        if oid in self.hub.cut:
            self.rfile.read(size // 2)
            self.close_connection = True
            self.connection.close()
            return
        data = self._chunks() if self.headers.get("Transfer-Encoding") else self.rfile.read(size)
        assert hashlib.sha256(data).hexdigest() == oid
        self.hub.blobs[oid] = data
        self._say(200, {})

    def do_POST(self) -> None:
        path = self._ask("POST")
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if not self._known():
            return
        if path == "/api/validate-yaml":
            self._check_card(json.loads(body)["content"])
        elif path == "/api/repos/create":
            self._create(json.loads(body))
        elif found := re.fullmatch(r"/api/models/(.+)/preupload/main", path):
            files = [self._mode(found[1], f) for f in json.loads(body)["files"]]
            self._say(200, {"files": files})
        elif re.fullmatch(r"/(.+)\.git/info/lfs/objects/batch", path):
            objects = [self._action(o) for o in json.loads(body)["objects"]]
            self._say(200, {"transfer": "basic", "objects": objects})
        elif found := re.fullmatch(r"/api/models/(.+)/commit/main", path):
            self._commit(found[1], [json.loads(line) for line in body.splitlines()])

    def _ask(self, method: str) -> str:
        path = urlsplit(self.path).path
        self.hub.asked.append((method, path))
        return path

    def _known(self) -> bool:
        """Whether the token is the right one."""
        if self.headers.get("Authorization") == f"Bearer {self.hub.token}":
            return True
        message = "Invalid credentials in Authorization header"
        self._say(401, {"error": message}, {"X-Error-Message": message})
        return False

    def _check_card(self, text: str) -> None:
        front = text.split("---\n")[1]
        self.hub.cards.append(front)
        wrong = self.hub.bad is not None and self.hub.bad in front
        errors = [{"message": f'"{self.hub.bad}" is not allowed'}] * wrong
        self._say(400 if wrong else 200, {"errors": errors, "warnings": []})

    def _create(self, asked: dict[str, Any]) -> None:
        name = f"{asked['organization']}/{asked['name']}"
        if asked["organization"] not in self.hub.writable:
            self._say(403, {"error": "You don't have the rights to create a model"})
        elif name in self.hub.repos:
            self._say(409, {"error": "You already created this model repo"})
        else:
            # Versions before 1.0 say it in another word.
            private = asked.get("visibility") == "private" or asked.get("private") is True
            self.hub.repos[name] = Repo(private)
            self._say(200, {"url": f"{self.hub.url}/{name}"})

    def _mode(self, repo: str, asked: dict[str, Any]) -> dict[str, Any]:
        large = asked["path"].endswith(".safetensors") or asked["size"] > INLINE
        held = self.hub.repos[repo].files.get(asked["path"])
        oid = None if held is None or large else _git(held)
        mode = "lfs" if large else "regular"
        return {"path": asked["path"], "uploadMode": mode, "shouldIgnore": False, "oid": oid}

    def _action(self, asked: dict[str, Any]) -> dict[str, Any]:
        if asked["oid"] in self.hub.blobs:
            return asked
        upload = {"href": f"{self.hub.url}/upload/{asked['oid']}?X-Signature=signed"}
        return {**asked, "actions": {"upload": upload}}

    def _commit(self, name: str, lines: list[dict[str, Any]]) -> None:
        repo, proposed = self.hub.repos[name], "create_pr=1" in self.path
        if name.split("/")[0] not in self.hub.writable and not proposed:
            self._say(403, {"error": "Forbidden"})
            return
        files = repo.proposed if proposed else repo.files
        for line in lines[1:]:
            value = line["value"]
            if line["key"] == "deletedFile":
                del files[value["path"]]
            elif line["key"] == "lfsFile":
                files[value["path"]] = self.hub.blobs[value["oid"]]
                repo.large.add(value["path"])
            else:
                files[value["path"]] = base64.b64decode(value["content"])
        url = f"{self.hub.url}/{name}"
        pull = f"{url}/discussions/1" if proposed else None
        self._say(
            200, {"commitUrl": f"{url}/commit/{'0' * 40}", "commitOid": "0" * 40,
                  "pullRequestUrl": pull, "success": True},
        )  # fmt: skip

    def _chunks(self) -> bytes:
        """A body of unknown length."""
        parts = []
        while size := int(self.rfile.readline(), 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def _say(self, status: int, value: Any, headers: dict[str, str] | None = None) -> None:
        body = json.dumps(value).encode()
        self.send_response(status)
        for key, text in (headers or {}).items():
            self.send_header(key, text)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def _git(data: bytes) -> str:
    return hashlib.sha1(f"blob {len(data)}\0".encode() + data).hexdigest()


def _sibling(name: str, data: bytes, large: bool) -> dict[str, Any]:
    found: dict[str, Any] = {"rfilename": name, "size": len(data), "blobId": _git(data)}
    if large:
        oid = hashlib.sha256(data).hexdigest()
        found["lfs"] = {"sha256": oid, "size": len(data), "pointerSize": 134}
    return found
