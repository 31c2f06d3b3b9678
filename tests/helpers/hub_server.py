"""A local server that implements as much of the Hugging Face Hub's protocol as a download needs.

with serving({"org/tiny": folder}) as hub:  # HF_ENDPOINT: hub.address
"""

import hashlib
import json
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

COMMIT = "0123456789abcdef0123456789abcdef01234567"
GATED = "org/gated"  # a model whose files are listed but cannot be downloaded


class Hub(ThreadingHTTPServer):
    """A server of folders as models with a single revision, "main" or COMMIT."""

    models: Mapping[str, Path]
    at_half: Callable[[], None] | None = None  # called once, after half of a .safetensors; the rest is never sent

    def __init__(self, models: Mapping[str, Path]):
        super().__init__(("127.0.0.1", 0), Answer)
        self.models, self.address = models, f"http://127.0.0.1:{self.server_port}"
        self.requests: list[str] = []  # files sent, or parts: "config.json", "model.safetensors from 100"


class Answer(BaseHTTPRequestHandler):
    """A handler of one request."""

    server: Hub

    def do_GET(self):  # noqa: N802 (http.server's name)
        path = self.path.partition("?")[0]
        listed = re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/revision/(.+))?", path)
        file = re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path)
        name, revision = match.groups()[:2] if (match := listed or file) else ("", None)
        if not name:  # other files that the client library looks for
            self.refuse(404, "EntryNotFound")
        elif name not in self.server.models:
            self.refuse(401, "RepoNotFound")
        elif (revision or "main") not in ("main", COMMIT):
            self.refuse(404, "RevisionNotFound")
        elif listed:
            files = [
                {"rfilename": p.name, "size": p.stat().st_size} for p in sorted(self.server.models[name].iterdir())
            ]
            self.send(json.dumps({"id": name, "sha": COMMIT, "siblings": files}).encode())
        elif name == GATED:
            self.refuse(403, "GatedRepo")
        elif not (self.server.models[name] / file[3]).is_file():
            self.refuse(404, "EntryNotFound")
        else:
            self.send((self.server.models[name] / file[3]).read_bytes(), file[3])

    do_HEAD = do_GET  # noqa: N815

    def refuse(self, status: int, code: str) -> None:
        self.send_response(status)
        self.send_header("X-Error-Code", code)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def send(self, content: bytes, file: str = "") -> None:
        start = int((self.headers["Range"] or "bytes=0-").removeprefix("bytes=").removesuffix("-"))
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(content) - start))
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.end_headers()
        if self.command == "HEAD":
            return
        self.server.requests += [f"{file} from {start}" if start else file] if file else []
        if self.server.at_half and file.endswith(".safetensors"):
            self.wfile.write(content[: len(content) // 2])
            self.wfile.flush()
            stop, self.server.at_half = self.server.at_half, None
            stop()
        else:
            self.wfile.write(content[start:])

    def log_message(self, *arguments) -> None:
        pass


@contextmanager
def serving(models: Mapping[str, Path]) -> Iterator[Hub]:
    """Return a context in which the models are served."""
    with Hub(models) as hub:
        threading.Thread(target=hub.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        try:
            yield hub
        finally:
            hub.shutdown()
