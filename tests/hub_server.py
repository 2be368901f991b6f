"""A hub on loopback for the tests: as much of the Hugging Face hub's HTTP as pushing and pulling small files needs."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Hub(ThreadingHTTPServer):
    """Repositories by name: their files, one revision each, and whether they are private; and what was asked."""

    def __init__(self, token: str):
        super().__init__(("127.0.0.1", 0), Handler)
        self.token, self.asked = token, []
        self.files: dict[str, dict[str, bytes]] = {}
        self.private: dict[str, bool] = {}

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    server: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def answer(self, content: Any, status: int = 200, headers: dict[str, str] | None = None) -> None:
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def revision(self, repository: str) -> str:
        names = json.dumps(sorted((name, len(data)) for name, data in self.server.files[repository].items()))
        return hashlib.sha1(names.encode()).hexdigest()

    def do_POST(self) -> None:
        self.server.asked.append(("POST", self.path))
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.headers.get("Authorization") != f"Bearer {self.server.token}":
            self.answer({"error": "Invalid username or password."}, 401)
        elif self.path == "/api/repos/create":
            asked = json.loads(body)
            name = f"{asked['organization']}/{asked['name']}" if asked.get("organization") else f"me/{asked['name']}"
            if name in self.server.files:
                self.answer(
                    {"error": "You already created this model repo", "url": f"{self.server.address}/{name}"}, 409
                )
                return
            self.server.files[name], self.server.private[name] = (
                {},
                asked.get("visibility") == "private",
            )
            self.answer({"url": f"{self.server.address}/{name}", "name": name, "id": name})
        elif found := re.fullmatch(r"/api/models/(.+)/preupload/main", self.path):
            files = [
                {"path": one["path"], "uploadMode": "regular", "shouldIgnore": False}
                for one in json.loads(body)["files"]
            ]
            self.answer({"files": files})
        elif found := re.fullmatch(r"/api/models/(.+)/commit/main", self.path):
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "file":
                    self.server.files[found[1]][line["value"]["path"]] = base64.b64decode(line["value"]["content"])
            revision = self.revision(found[1])
            address = f"{self.server.address}/{found[1]}/commit/{revision}"
            self.answer({"success": True, "commitOid": revision, "commitUrl": address, "hookOutput": ""})
        elif self.path == "/api/validate-yaml":
            self.answer({"errors": [], "warnings": []})
        else:
            self.answer({"error": f"unknown {self.path}"}, 404)

    def do_GET(self) -> None:
        self.server.asked.append((self.command, self.path))
        path = self.path.partition("?")[0]
        if found := re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/revision/\w+)?", path):
            if found[1] not in self.server.files:
                self.answer({"error": "Repository not found"}, 404, {"X-Error-Code": "RepoNotFound"})
                return
            names = [{"rfilename": name} for name in sorted(self.server.files[found[1]])]
            self.answer(
                {
                    "id": found[1],
                    "modelId": found[1],
                    "sha": self.revision(found[1]),
                    "siblings": names,
                    "private": False,
                    "tags": [],
                    "downloads": 0,
                    "likes": 0,
                }
            )
        elif found := re.fullmatch(r"/api/models/([^/]+/[^/]+)/tree/\w+", path):
            kept = self.server.files[found[1]]
            self.answer(
                [
                    {"type": "file", "path": name, "size": len(data), "oid": hashlib.sha1(data).hexdigest()}
                    for name, data in sorted(kept.items())
                ]
            )
        elif found := re.fullmatch(r"/([^/]+/[^/]+)/resolve/(\w+)/(.+)", path):
            data = self.server.files.get(found[1], {}).get(found[3])
            if data is None:
                self.answer({"error": "Entry not found"}, 404, {"X-Error-Code": "EntryNotFound"})
                return
            tag = f'"{hashlib.sha1(data).hexdigest()}"'
            self.answer(data, headers={"ETag": tag, "X-Repo-Commit": self.revision(found[1]), "Accept-Ranges": "bytes"})
        else:
            self.answer({"error": f"unknown {path}"}, 404)

    do_HEAD = do_GET


@contextmanager
def hub(token: str = "hf_secret") -> Iterator[Hub]:
    """A hub that serves until the block ends."""
    server = Hub(token)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
