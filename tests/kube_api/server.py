"""HTTP: who asks, what goes wrong on purpose, and the answer or the stream of a watch."""

import json
import socket
import ssl
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from kube_api import reviews
from kube_api.answers import Refused
from kube_api.discovery import document
from kube_api.expressions import Unsupported
from kube_api.faults import Fault, Faults
from kube_api.kinds import Kind
from kube_api.operations import Answer, Operations
from kube_api.rbac import Rbac
from kube_api.requests import Request, parse


class Broken(Exception):
    """The connection ends here, as told."""


class Server(ThreadingHTTPServer):
    """One thread for each connection; `close` ends them all."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(
        self,
        kinds: tuple[Kind, ...],
        operations: Operations,
        rbac: Rbac,
        tokens: Mapping[str, str],
        tls: ssl.SSLContext | None,
    ) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.tls = tls
        self.kinds, self.operations, self.rbac, self.tokens = kinds, operations, rbac, tokens
        self.faults, self.requests = Faults(), list[Request]()
        self._open: set[socket.socket] = set()

    def get_request(self) -> tuple[socket.socket, Any]:
        connection, address = super().get_request()
        if self.tls:  # the handshake takes place in the connection's own thread, at the first read
            connection = self.tls.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
        self._open.add(connection)
        return connection, address

    def shutdown_request(self, request: Any) -> None:
        self._open.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Show what went wrong here; a client that went away is none of it."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)

    def close(self) -> None:
        self.shutdown()
        self.server_close()
        for connection in list(self._open):
            _hang_up(connection)


class Handler(BaseHTTPRequestHandler):
    """Answers one request after the other."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Server

    def do(self) -> None:
        text = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        try:
            self._respond(text)
        except Refused as refusal:
            self._send(refusal.code, refusal.body, refusal.headers)
        except Unsupported as error:
            self._send(500, Refused(500, "InternalError", f"Internal error occurred: {error}").body, {})
        except (Broken, OSError):  # told to, or the client has gone
            self.close_connection = True
            _hang_up(self.connection)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do  # noqa: N815

    def _respond(self, text: bytes) -> None:
        server = self.server
        user = server.tokens.get(self.headers.get("Authorization", "").removeprefix("Bearer "), "")
        request = parse(self.command, self.path, self.headers, text, user, server.kinds)
        server.requests.append(request)
        fault = server.faults.take(request.verb, request.plural)
        time.sleep(fault.delay)
        if fault.drop == "before":
            raise Broken
        if fault.status:
            raise _told(fault)
        if not user:
            raise Refused(401, "Unauthorized", "Unauthorized")
        found = document(request.path, server.kinds)
        if found is not None:
            self._send(200, found, {})
            return
        if request.path.rstrip("/") == reviews.PATH:
            self._send(201, reviews.review(request, server.rbac), {})
            return
        if request.kind is None or request.subresource not in ("", "status"):
            raise Refused(404, "NotFound", "the server could not find the requested resource")
        if request.kind.namespaced or not request.namespace:
            self._serve(request, request.kind, fault)
            return
        raise Refused(404, "NotFound", "the server could not find the requested resource")

    def _serve(self, request: Request, kind: Kind, fault: Fault) -> None:
        name = request.name
        if request.verb in ("list", "watch"):  # one selected by its name is authorized by its name
            name = request.query.get("fieldSelector", "").removeprefix("metadata.name=")
        self.server.rbac.require(request.user, request.verb, kind, request.namespace, name, request.subresource)
        if request.verb == "watch":
            self._watch(request, kind, fault)
            return
        answer = self.server.operations.answer(request, kind)
        if fault.drop == "after":
            raise Broken
        self._answer(answer)

    def _answer(self, answer: Answer) -> None:
        self._send(answer.code, answer.body, {}, [f"299 - {json.dumps(warning)}" for warning in answer.warnings])

    def _send(
        self, code: int, body: Mapping[str, Any], headers: Mapping[str, str], warnings: list[str] | None = None
    ) -> None:
        text = json.dumps(body).encode()
        self.send_response(code)
        for name, value in {"Content-Type": "application/json", "Content-Length": str(len(text)), **headers}.items():
            self.send_header(name, value)
        for warning in warnings or ():
            self.send_header("Warning", warning)
        self.end_headers()
        self.wfile.write(text)

    def _watch(self, request: Request, kind: Kind, fault: Fault) -> None:
        sent = 0

        def send(event: Mapping[str, Any]) -> None:
            nonlocal sent
            if sent == fault.after_events:
                raise Broken
            self._chunk(json.dumps(event).encode() + b"\n")
            sent += 1
            if sent == fault.after_events:
                raise Broken

        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self.server.operations.watch(request, kind, send)
        self._chunk(b"")

    def _chunk(self, data: bytes) -> None:
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))

    def log_message(self, *_: object) -> None:
        pass


def _told(fault: Fault) -> Refused:
    reason = {429: "TooManyRequests", 500: "InternalError", 503: "ServiceUnavailable"}.get(fault.status, "Unknown")
    headers = {} if fault.retry_after is None else {"Retry-After": str(fault.retry_after)}
    return Refused(fault.status, reason, "told to fail", headers=headers)


def _hang_up(connection: socket.socket) -> None:
    with suppress(OSError):  # the other side was quicker
        connection.shutdown(socket.SHUT_RDWR)
