"""A fake Kubernetes API at the network edge: it keeps objects and answers as told. No Seldon operator is behind it.

What it shows is what our client sends and how it takes answers; not that a real API server would accept the objects.
"""

import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

PATH = re.compile(r"/apis/mlops\.seldon\.io/v1alpha1/namespaces/(?P<namespace>[^/]+)/(?P<plural>[^/]+)/(?P<name>[^/]+)")


@dataclass
class FakeCluster:
    """`requests` are (method, plural, name, query, content type, body); `fail` maps (method, plural) to a status."""

    url: str = ""
    requests: list[tuple[str, str, str, dict[str, list[str]], str, Any]] = field(default_factory=list)
    objects: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)
    fail: dict[tuple[str, str], int] = field(default_factory=dict)
    polls_until_ready: int = 0
    reason: str = "ModelProgressing"

    @property
    def calls(self) -> list[tuple[str, str, str]]:
        return [(method, plural, name) for method, plural, name, *_ in self.requests]

    def answer(self, method: str, path: str, content_type: str, body: Any) -> tuple[int, Any]:
        parts = urlsplit(path)
        match = PATH.fullmatch(parts.path)
        assert match, f"unexpected request {method} {path}"
        key = (match["plural"], match["name"])
        self.requests.append((method, *key, parse_qs(parts.query), content_type, body))
        status = self.fail.get((method, match["plural"]))
        if status:
            return status, {"kind": "Status", "code": status, "message": "told to fail"}
        if method == "PATCH":
            self.objects[key] = body
        elif key not in self.objects:
            return 404, {"kind": "Status", "code": 404}
        elif method == "DELETE":
            return 200, self.objects.pop(key)
        return 200, self.with_status(key)

    def with_status(self, key: tuple[str, str]) -> dict[str, Any]:
        ready = self.polls_until_ready <= 0
        self.polls_until_ready -= 1
        condition = {"type": "Ready", "status": str(ready), "reason": "ModelAvailable" if ready else self.reason}
        return {**self.objects[key], "status": {"conditions": [condition]}}


@contextmanager
def fake_cluster() -> Iterator[FakeCluster]:
    """Serve a fake cluster on the loopback interface."""
    cluster = FakeCluster()

    class Handler(BaseHTTPRequestHandler):
        def reply(self) -> None:
            data = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            body = json.loads(data) if data else None
            status, document = cluster.answer(self.command, self.path, self.headers.get("Content-Type", ""), body)
            text = json.dumps(document).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        do_GET = do_PATCH = do_DELETE = reply  # noqa: N815

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    cluster.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield cluster
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
