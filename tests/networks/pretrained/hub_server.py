"""A server that answers as the hub does where files are asked for."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

COMMIT = "a1b2c3d4e5" * 4


@dataclass
class Hub:
    """What the server has, and how it misbehaves.

    Attributes:
      files: content by "owner/name" and file.
      digests: SHA-256 that it gives instead of the right one, by file.
      gated: repositories that want a token.
      cut: files of which it sends so many bytes, then closes the connection.
      ignores_ranges: sends a file from its start, whatever part is asked for.
      one_host: large files lie on the same host.
      status: of every answer instead.
      requests: "METHOD path" of all that was asked.
    """

    files: dict[str, dict[str, bytes]] = field(default_factory=dict)
    digests: dict[str, str] = field(default_factory=dict)
    gated: set[str] = field(default_factory=set)
    cut: dict[str, int] = field(default_factory=dict)
    ignores_ranges: bool = False
    one_host: bool = False
    status: int = 0
    requests: list[str] = field(default_factory=list)
    address: str = ""


@contextmanager
def serving(hub: Hub) -> Iterator[Hub]:
    """The hub at an address of this machine."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def do_HEAD(self) -> None:
            self._answer(with_content=False)

        def do_GET(self) -> None:
            self._answer(with_content=True)

        def _answer(self, *, with_content: bool) -> None:
            hub.requests.append(f"{self.command} {self.path}")
            parts = self.path.strip("/").split("/")
            if parts[0] == "blobs":
                self._send(hub.files["/".join(parts[1:3])][parts[3]], parts[3], with_content)
            elif refusal := self._refusal(parts):
                self._refuse(*refusal)
            elif parts[4].endswith(".json"):
                self._send(hub.files["/".join(parts[:2])][parts[4]], parts[4], with_content)
            else:
                self._send_on("/".join(parts[:2]), parts[4])

        def _refusal(self, parts: list[str]) -> tuple[int, str] | None:
            repository = "/".join(parts[:2])
            if hub.status:
                return hub.status, ""
            if len(parts) < 5 or parts[2] != "resolve":
                return 404, ""
            if repository in hub.gated:
                return 401, "GatedRepo"
            if repository not in hub.files:
                return 401, "RepoNotFound"
            if parts[3] not in ("main", COMMIT):
                return 404, "RevisionNotFound"
            return None if parts[4] in hub.files[repository] else (404, "EntryNotFound")

        def _send_on(self, repository: str, name: str) -> None:
            """Large files lie on another host; what the hub knows of them stands in the redirection."""
            content = hub.files[repository][name]
            digest = hub.digests.get(name, hashlib.sha256(content).hexdigest())
            host = hub.address if hub.one_host else hub.address.replace("127.0.0.1", "localhost")
            self.send_response(302)
            self.send_header("Location", f"{host}/blobs/{repository}/{name}")
            self.send_header("X-Repo-Commit", COMMIT)
            self.send_header("X-Linked-Etag", f'"{digest}"')
            self.send_header("X-Linked-Size", str(len(content)))
            self.send_header("Content-Length", "0")
            self.end_headers()

        def _send(self, content: bytes, name: str, with_content: bool) -> None:
            first, asked = 0, self.headers.get("Range")
            if asked and not hub.ignores_ranges:
                first = int(asked.removeprefix("bytes=").split("-")[0])
            self.send_response(206 if first else 200)
            self.send_header("ETag", f'"{hashlib.sha1(content).hexdigest()}"')
            self.send_header("X-Repo-Commit", COMMIT)
            if first:
                self.send_header("Content-Range", f"bytes {first}-{len(content) - 1}/{len(content)}")
            self.send_header("Content-Length", str(len(content) - first))
            self.end_headers()
            if with_content:
                rest = content[first:]
                self.wfile.write(rest[: hub.cut.get(name, len(rest))])
                self.close_connection = name in hub.cut

        def _refuse(self, status: int, code: str = "") -> None:
            self.send_response(status)
            if code:
                self.send_header("X-Error-Code", code)
                self.send_header("X-Error-Message", code)
            self.send_header("Content-Length", "0")
            self.end_headers()

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.address = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
