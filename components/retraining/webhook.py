"""Alertmanager's notifications (webhook, version 4) as retrainings: one run per alert's fingerprint and start.

One path, one method, one bearer token. Whoever has no token learns nothing and costs little: what is asked is looked at
only when the token was right, few are served at once, and nobody holds a place for long. The answer tells Alertmanager
what to do: 200 it is done, 503 ask again, 4xx never (Alertmanager does not repeat those).
"""

import contextlib
import hmac
import json
import secrets
import socket
import ssl
import sys
import threading
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final

from kfp_custody.components._shared.documents import DocumentFault, parse_json
from kfp_custody.components._shared.errors import CustodyError, Misconfigured, from_os_error
from kfp_custody.components._shared.evidence import stamp
from kfp_custody.components._shared.settings import WatchSettings
from kfp_custody.components._shared.signers.private_files import read_private_text
from kfp_custody.components.retraining.claims import key_of
from kfp_custody.components.retraining.once import Timing, start_once
from kfp_custody.components.retraining.opening import open_starter, open_store
from kfp_custody.components.retraining.orders import load_orders
from kfp_custody.components.retraining.windows import parse_time

PATH: Final = "/retrain"
MAX_BODY: Final = 1024 * 1024
MAX_ALERTS: Final = 1000
SERVED_AT_ONCE: Final = 16
READ_SECONDS: Final = 20.0  # for a whole request to arrive, with the TLS handshake
_LEAST_TOKEN: Final = 16
# Nobody waits here for another's claim: Alertmanager asks again.
ASK_AGAIN: Final = Timing(patience=0.0)


@dataclass(frozen=True)
class Alert:
    """What is read of an alert; `fingerprint` is Alertmanager's own, over its labels."""

    firing: bool
    labels: Mapping[str, str]
    fingerprint: str
    started: str


class _Unfit(Exception):
    """What is asked is nothing that is answered: status and reason."""

    def __init__(self, status: HTTPStatus, reason: str) -> None:
        super().__init__(reason)
        self.status, self.reason = status, reason


class Webhook(ThreadingHTTPServer):
    """The server; `serve_forever` serves until `shutdown`, which waits for what is being started."""

    daemon_threads = False
    request_queue_size = 32

    def __init__(
        self,
        address: tuple[str, int],
        token_file: Path,
        settings: WatchSettings,
        tls: ssl.SSLContext | None = None,
        timing: Timing = ASK_AGAIN,
    ) -> None:
        """Listen, once everything that is needed was found to be there.

        Args:
            address: Host and port.
            token_file: The bearer token; read again for each request, so that it can be replaced.
            settings: The retraining file, where claims are kept, and how runs are started.
            tls: Certificate and key.
            timing: How long a claim is held.

        Raises:
            Misconfigured: token, retraining file or store cannot be used.
            OSError: the address cannot be listened on.
        """
        self.token_file, self.settings, self.tls, self.timing = token_file, settings, tls, timing
        self._places = threading.BoundedSemaphore(SERVED_AT_ONCE)
        self.token()
        load_orders(settings.orders_file)
        self.store = open_store(settings)
        super().__init__(address, Handler)

    def token(self) -> bytes:
        """Read the token.

        Raises:
            Misconfigured: it cannot be read, may be read by others, or is too short to be one.
        """
        text = read_private_text(self.token_file, "webhook's token", "--token-file")
        if len(text) < _LEAST_TOKEN:
            raise Misconfigured(
                "The webhook's token is too short to be a secret.",
                evidence=f"{self.token_file} has fewer than {_LEAST_TOKEN} characters",
                remedy="Write a random one into it: openssl rand -hex 32.",
            )
        return text.encode()

    def process_request(self, request: Any, client_address: Any) -> None:
        """Serve in a thread of its own, when there is a place."""
        if self._places.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Give the place back, whatever happens."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._places.release()

    def finish_request(self, request: Any, client_address: Any) -> None:
        """Answer; hands are shaken in the thread (`Handler.setup`), never where connections are accepted."""
        if not self.tls:
            super().finish_request(request, client_address)
            return
        request = self.tls.wrap_socket(request, server_side=True, do_handshake_on_connect=False)
        try:
            super().finish_request(request, client_address)
        finally:
            self.shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say little about clients that go away, and all about a bug."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)

    def start(self, alert: Alert) -> str:
        """Start what an alert stands for, once; returns what became of it.

        Raises:
            CustodyError: see `start_once`; of an alert that cannot be understood, Misconfigured.
        """
        order = load_orders(self.settings.orders_file).for_alert(alert.labels)
        if not alert.firing or order is None:
            return "IGNORED"
        moment = parse_time(alert.started)
        due = {"alert": alert.fingerprint, "time": stamp(moment)}
        starter = open_starter(self.settings, order, moment)
        holder = f"webhook/{secrets.token_hex(8)}"
        done = start_once(self.store, starter, key_of(due), due, holder=holder, timing=self.timing)
        say(f"{done.how} {order.name} run {done.run_id} for alert {alert.fingerprint} of {due['time']}")
        return done.how


class Handler(BaseHTTPRequestHandler):
    """One request, one answer, one connection."""

    server: Webhook
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "kfp-custody", ""
    timeout = READ_SECONDS

    def setup(self) -> None:
        """End the connection unless the whole request arrives in time, one byte after another."""
        self._late = threading.Timer(READ_SECONDS, _end, (self.request,))
        self._late.daemon = True
        self._late.start()
        super().setup()
        if isinstance(self.request, ssl.SSLSocket):
            self.request.do_handshake()

    def finish(self) -> None:
        """Let it be, once it was answered."""
        self._late.cancel()
        super().finish()

    def do_POST(self) -> None:  # noqa: N802  (the name that http.server calls)
        """Answer a notification."""
        self.close_connection = True
        try:
            self._require_caller()
            alerts = parse_notification(self._body())
        except _Unfit as unfit:
            self._answer(unfit.status, {"error": unfit.reason})
            return
        except CustodyError as error:  # the token's file
            say(str(error))
            self._answer(HTTPStatus.SERVICE_UNAVAILABLE, {"error": error.code})
            return
        status, said = HTTPStatus.OK, Counter[str]()
        for alert in alerts:
            try:
                said[self._start(alert)] += 1
            except CustodyError as error:
                say(str(error))
                status = HTTPStatus.SERVICE_UNAVAILABLE
                said[error.code] += 1
        self._answer(status, dict(said))

    def _start(self, alert: Alert) -> str:
        try:
            return self.server.start(alert)
        except OSError as error:
            raise from_os_error(error) from error

    def _refuse_method(self) -> None:
        self.close_connection = True
        self._answer(HTTPStatus.METHOD_NOT_ALLOWED, {"error": "POST only"})

    do_GET = do_PUT = do_DELETE = do_HEAD = do_PATCH = do_OPTIONS = _refuse_method  # noqa: N815

    def _require_caller(self) -> None:
        """Let in who has the token, before anything else is looked at.

        Raises:
            _Unfit: wrong or no token, or another path.
            Misconfigured: the token's file.
        """
        kind, _, token = (self.headers.get("Authorization") or "").partition(" ")
        right = hmac.compare_digest(token.strip().encode(errors="replace"), self.server.token())
        if kind.lower() != "bearer" or not right:
            raise _Unfit(HTTPStatus.UNAUTHORIZED, "not authorised")
        if self.path != PATH:
            raise _Unfit(HTTPStatus.NOT_FOUND, "no such path")

    def _body(self) -> bytes:
        length = self.headers.get("Content-Length") or ""
        if self.headers.get("Transfer-Encoding") or not (length.isascii() and length.isdigit()):
            raise _Unfit(HTTPStatus.LENGTH_REQUIRED, "a Content-Length is needed")
        if len(length) > 9 or int(length) > MAX_BODY:
            raise _Unfit(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"more than {MAX_BODY} bytes")
        data = self.rfile.read(int(length))
        if len(data) < int(length):
            raise _Unfit(HTTPStatus.BAD_REQUEST, "the body ends early")
        self._late.cancel()  # it is all here; what it asks for may take longer
        return data

    def _answer(self, status: HTTPStatus, said: Mapping[str, object]) -> None:
        body = json.dumps(said).encode()
        with contextlib.suppress(OSError):  # whoever asked may be gone; what was done is done
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Connection", "close")
            if status == HTTPStatus.UNAUTHORIZED:
                self.send_header("WWW-Authenticate", "Bearer")
            self.end_headers()
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Log nothing of what strangers send; what was done is said by `say`."""


def parse_notification(data: bytes) -> list[Alert]:
    """Read a notification.

    Raises:
        _Unfit: it is none of Alertmanager's webhook, version 4.
    """
    try:
        found = parse_json(data, MAX_BODY)
    except DocumentFault as fault:
        raise _Unfit(HTTPStatus.BAD_REQUEST, f"no JSON that is accepted: {fault.code}") from fault
    alerts = found.get("alerts") if isinstance(found, dict) else None
    if not isinstance(alerts, list) or found.get("version") != "4" or len(alerts) > MAX_ALERTS:
        raise _Unfit(HTTPStatus.BAD_REQUEST, f"no notification of version 4 with at most {MAX_ALERTS} alerts")
    return [_alert(entry) for entry in alerts]


def say(text: str) -> None:
    """Log one entry."""
    line = " ".join(text.split())
    shown = line if line.isprintable() else ascii(line)  # a fingerprint or label may say anything
    print(time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), shown, file=sys.stderr, flush=True)


def _alert(value: Any) -> Alert:
    entry = value if isinstance(value, dict) else {}
    labels = entry.get("labels")
    texts = [entry.get("status"), entry.get("fingerprint"), entry.get("startsAt")]
    if not isinstance(labels, dict) or not all(isinstance(text, str) for text in (*texts, *labels.values())):
        raise _Unfit(HTTPStatus.BAD_REQUEST, "an alert lacks labels, status, fingerprint or startsAt")
    status, fingerprint, started = (str(text) for text in texts)
    if status not in ("firing", "resolved") or not fingerprint or len(fingerprint) > 128:
        raise _Unfit(HTTPStatus.BAD_REQUEST, "an alert has another status, or no fingerprint")
    return Alert(status == "firing", labels, fingerprint, started)


def _end(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
