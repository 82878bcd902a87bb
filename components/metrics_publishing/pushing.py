"""Pushing metrics to a Pushgateway.

Each kind of evidence is a group of its own there, so that a push replaces all that the same check said before, and
nothing that another check or pipeline said. A group stays until the next push: how old it is, its time stamp says.

Source: https://github.com/prometheus/pushgateway (its API).
"""

import base64
import ssl
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from http.client import HTTPException
from typing import Any, Final
from urllib.parse import urlsplit

from prometheus_client import push_to_gateway

from kfp_custody.components._shared import codes
from kfp_custody.components._shared.errors import Misconfigured, ServiceUnreachable
from kfp_custody.components._shared.settings import Settings
from kfp_custody.components._shared.signers.private_files import read_private_text
from kfp_custody.components.metrics_publishing.exposition import Check, registry

JOB: Final = "kfp-custody"
_SECONDS = 10.0
_LOOPBACK: Final = ("localhost", "127.0.0.1", "::1")
_IN_CLUSTER: Final = (".svc", ".svc.cluster.local")


def push(model: str, checks: Sequence[Check], settings: Settings) -> None:
    """Push the metrics of some checks, each in the group job, model, kind. Pushing them again changes nothing.

    Args:
        model: Name of the model.
        checks: What the evidence says.
        settings: Address and credentials; its `pushgateway` is set.

    Raises:
        ServiceUnreachable: the Pushgateway does not answer, or with an error.
        Misconfigured: its CA file or credentials cannot be used, would be sent unencrypted, or are not accepted.
    """
    gateway = str(settings.pushgateway)
    handler = _handler(_context(settings), _authorization(settings))
    for check in checks:
        group = {"model": model, "kind": check.kind}
        try:
            push_to_gateway(gateway, JOB, registry(model, [check]), group, _SECONDS, handler)
        except urllib.error.HTTPError as error:
            error.close()
            if error.code in (401, 403):
                raise _wrong(
                    "The Pushgateway does not accept the credentials.", f"{gateway}: status {error.code}"
                ) from error
            raise _silent(f"{gateway}: status {error.code}") from error
        except (OSError, HTTPException) as error:
            raise _silent(f"{gateway}: {_reason(error)}") from error


def _handler(context: ssl.SSLContext, authorization: str | None) -> Callable[..., Callable[[], None]]:
    """Return how prometheus_client sends: by no proxy, along no redirection, the credentials in a header."""

    def handle(url: str, method: str, timeout: float, headers: list[tuple[str, str]], data: bytes) -> Any:
        def send() -> None:
            request = urllib.request.Request(url, data, dict(headers), method=method)  # noqa: S310  (settings check it)
            if authorization:
                request.add_unredirected_header("Authorization", authorization)
            secure = urllib.request.HTTPSHandler(context=context)
            opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), secure, _NoRedirect)
            opener.open(request, timeout=timeout).close()

        return send

    return handle


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Credentials and metrics are for this server and for no other."""

    def redirect_request(self, *_: Any) -> None:
        """Follow nothing."""


def _context(settings: Settings) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=settings.pushgateway_ca_file)
    except OSError as error:  # an ssl.SSLError is one
        why = f"{settings.pushgateway_ca_file}: {error.strerror or 'no certificate in PEM'}"
        raise _wrong("The CA file for the Pushgateway cannot be used.", why) from error


def _authorization(settings: Settings) -> str | None:
    """Return the header's value: a bearer token, or a login as user:password."""
    token, login = settings.pushgateway_token_file, settings.pushgateway_login_file
    if token and login:
        raise _wrong("The Pushgateway has two credentials.", "both a token file and a login file are set")
    if not (token or login):
        return None
    address = urlsplit(str(settings.pushgateway))
    host = address.hostname or ""
    if address.scheme == "http" and host not in _LOOPBACK and not host.endswith(_IN_CLUSTER):
        why = f"http://{host}, which is neither this machine nor a service inside of the cluster"
        raise _wrong("The credentials for the Pushgateway would be sent unencrypted.", why)
    if token:
        text = read_private_text(token, "token for the Pushgateway", "CUSTODY_PUSHGATEWAY_TOKEN_FILE")
        if not text.isascii():  # the library's own error would quote it
            raise _wrong("The token for the Pushgateway cannot be used.", f"{token} is not one line of ASCII")
        return f"Bearer {text}"
    text = read_private_text(login, "login for the Pushgateway", "CUSTODY_PUSHGATEWAY_LOGIN_FILE")
    if ":" not in text:
        raise _wrong("The login for the Pushgateway cannot be used.", f"{login} is not of the form user:password")
    return f"Basic {base64.b64encode(text.encode()).decode()}"


def _reason(error: Exception) -> str:
    reason = getattr(error, "reason", None)
    return str(reason) if isinstance(reason, OSError) else type(error).__name__


def _silent(evidence: str) -> ServiceUnreachable:
    return ServiceUnreachable(
        "The Pushgateway did not take the metrics.",
        evidence=evidence,
        remedy="Check CUSTODY_PUSHGATEWAY and that this task may reach it, then publish again; that changes nothing.",
        code=codes.PUSHGATEWAY,
    )


def _wrong(what: str, evidence: str) -> Misconfigured:
    return Misconfigured(
        what,
        evidence=evidence,
        remedy="Correct the variables CUSTODY_PUSHGATEWAY_*, or the files that they name.",
        code=codes.PUSHGATEWAY_SETTINGS,
    )
