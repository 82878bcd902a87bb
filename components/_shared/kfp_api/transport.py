"""The one place where bytes go to the server and come back: time-outs, retries, and what each bad answer means.

It takes the place of the REST client that kfp_server_api generates. That one takes a login page with status 200 for an
object, follows redirects, waits without end and puts headers into its errors.
"""

import json
import logging
from collections.abc import Mapping, Sequence
from typing import Any, Final

import urllib3
from kfp_server_api.exceptions import ApiException
from kfp_server_api.rest import RESTClientObject
from urllib3 import exceptions

from kfp_custody.components._shared import codes
from kfp_custody.components._shared.errors import CustodyError, Misconfigured, ServiceUnreachable

TIMEOUT: Final = (10.0, 60.0)  # seconds: to connect, and between two pieces of an answer
# Only what changes nothing is asked twice. A redirect is the login's, never the API's.
_RETRIES: Final = urllib3.Retry(
    total=3,
    connect=2,
    read=2,
    redirect=0,
    status=2,
    other=0,
    allowed_methods={"GET"},
    status_forcelist={429, 502, 503, 504},
    respect_retry_after_header=False,
    raise_on_redirect=False,
    raise_on_status=False,
    backoff_factor=0.2,
)
_SAID: Final = 300  # how many characters of the server's own words are shown


class Transport(RESTClientObject):  # type: ignore[misc]  # no types
    """Sends requests, and raises one of our refusals for whatever is no good answer.

    `address` and `namespace` are shown in refusals; what was sent to say who asks is taken out of the server's words.
    """

    def __init__(self, configuration: Any, address: str, namespace: str | None) -> None:
        """Connect nothing yet."""
        configuration.retries = _RETRIES
        configuration.logger["urllib3_logger"].setLevel(logging.ERROR)  # it logs each retry
        super().__init__(configuration)
        self._address, self._namespace = address, namespace

    def request(self, method: str, url: str, *_: Any, **arguments: Any) -> Any:
        """Send one request and return its answer, which is JSON.

        Raises:
            ServiceUnreachable: no answer, an error of the server's own, an answer that is no JSON, a conflict.
            Misconfigured: not logged in, not permitted, no such object, or no such API at this address.
        """
        what = f"{method} {urllib3.util.parse_url(url).path}"
        try:
            answer = super().request(method, url, **{**arguments, "_request_timeout": TIMEOUT})
        except ApiException as error:
            if not error.status:  # how the base class reports a failed handshake
                raise self._tls(what) from error
            body = error.body or b""
            text = body if isinstance(body, str) else body.decode(errors="replace")
            said = _said(text, _secrets(arguments.get("headers") or {}))
            raise self._refused(what, int(error.status), said, json_said=_is_json(text)) from error
        except exceptions.HTTPError as error:
            raise self._silent(what, error) from error
        if not _is_json(answer.data.decode(errors="replace")):
            raise self._no_api(what, "the answer is no JSON")
        return answer

    def _refused(self, what: str, status: int, said: str, *, json_said: bool) -> CustodyError:
        evidence = f"{what} at {self._address}: status {status}{f', {said}' if said else ''}"
        if 300 <= status < 400:
            return self._no_api(what, f"it sends to another page (status {status})")
        if status == 403 and not said:  # oauth2-proxy's way to ask for a login
            return self._no_api(what, "it shows a page (status 403)")
        if status == 404 and (not json_said or what.endswith("/healthz")):
            return self._no_api(what, "it has no such page (status 404)")
        meaning = _BY_STATUS.get(413 if status in (414, 431) else status)
        if meaning:
            kind, text, remedy, code = meaning
            return kind(text, evidence=evidence, remedy=remedy.format(namespace=self._namespace or "-"), code=code)
        if status == 429 or status >= 500:
            return ServiceUnreachable(
                "Kubeflow Pipelines answered with an error of its own, or is overloaded.",
                evidence=evidence,
                remedy="Try again later; the logs of the ml-pipeline deployment say why.",
                code=codes.KFP_FAILING,
            )
        return ServiceUnreachable(
            "Kubeflow Pipelines does not accept the request.",
            evidence=evidence,
            remedy="The evidence has the server's reason. Is it about authorization: --token-file, --namespace.",
            code=codes.KFP_REFUSED,
        )

    def _silent(self, what: str, error: exceptions.HTTPError) -> ServiceUnreachable:
        cause = getattr(error, "reason", None) or error
        if isinstance(cause, exceptions.SSLError):
            return self._tls(what)
        if isinstance(cause, exceptions.TimeoutError) and not isinstance(cause, exceptions.NewConnectionError):
            return ServiceUnreachable(
                "Kubeflow Pipelines did not answer in time.",
                evidence=f"{what} at {self._address}: {type(cause).__name__}",
                remedy="Check the way to it, and whether it did what was asked before you ask again.",
                code=codes.KFP_TIMEOUT,
            )
        why = "its name is not known" if isinstance(cause, exceptions.NameResolutionError) else type(cause).__name__
        return ServiceUnreachable(
            "Kubeflow Pipelines did not answer.",
            evidence=f"{what} at {self._address}: {why}",
            remedy="Check --host (or KFP_HOST), the network, and that kubectl port-forward still runs.",
            code=codes.KFP_SILENT,
        )

    def _tls(self, what: str) -> ServiceUnreachable:
        return ServiceUnreachable(
            "No trusted connection to Kubeflow Pipelines could be made.",
            evidence=f"{what} at {self._address}: its certificate was not accepted, or it speaks no TLS",
            remedy="Give the CA that signed its certificate with --ca-cert, or correct http:// and https://.",
            code=codes.KFP_TLS,
        )

    def _no_api(self, what: str, why: str) -> ServiceUnreachable:
        return ServiceUnreachable(
            "What answers is not the API of Kubeflow Pipelines.",
            evidence=f"{what} at {self._address}: {why}",
            remedy="Where a login is in front of it, the session or token is missing or has ended: --cookies-file or "
            "--token-file. With the address of the dashboard, add /pipeline to --host.",
            code=codes.KFP_NO_API,
        )


def _secrets(headers: Mapping[str, str]) -> list[str]:
    """Return what must not be shown of the headers that were sent: the token, the cookies and each of their values."""
    sent = {name.lower(): value for name, value in headers.items()}
    token, cookies = sent.get("authorization", ""), sent.get("cookie", "")
    values = [cookie.partition("=")[2].strip() for cookie in cookies.split(";")]
    # Short values are flags, and would take letters out of every word.
    return [secret for secret in (cookies, token.removeprefix("Bearer "), *values) if len(secret) > 7]


def _said(body: str, secrets: Sequence[str]) -> str:
    """Return the server's own words, on one line and without secrets (it may repeat a header); none of a page."""
    text = "" if body.lstrip().startswith("<") else body
    if _is_json(body):
        found = json.loads(body)
        names = ("error_details", "error_message", "message", "error")
        texts = (found.get(name) for name in names) if isinstance(found, dict) else ()
        text = next((text for text in texts if isinstance(text, str) and text), "no reason")
    for secret in secrets:
        text = text.replace(secret, "***")
    return " ".join(text.split())[:_SAID]


def _is_json(body: str) -> bool:
    try:
        json.loads(body)
    except (ValueError, RecursionError):
        return False
    return True


_BY_STATUS: Final[Mapping[int, tuple[type[CustodyError], str, str, str]]] = {
    401: (
        Misconfigured,
        "Kubeflow Pipelines does not know who asks.",
        "Give a token that is still valid with --token-file, or a session with --cookies-file.",
        codes.KFP_SESSION,
    ),
    403: (
        Misconfigured,
        "Kubeflow Pipelines does not permit this.",
        "Namespace {namespace}: give --namespace of your own profile, or ask its owner for the role kubeflow-edit.",
        codes.KFP_FORBIDDEN,
    ),
    404: (
        Misconfigured,
        "Kubeflow Pipelines has no such object.",
        "It was deleted in the meantime, or belongs to another namespace. Upload or create it again.",
        codes.KFP_NOT_FOUND,
    ),
    409: (
        ServiceUnreachable,
        "Kubeflow Pipelines has another object of that name.",
        "Somebody else may have made it just now: run the command again, or choose another name.",
        codes.KFP_CONFLICT,
    ),
    413: (
        ServiceUnreachable,
        "Something on the way to Kubeflow Pipelines finds the request too large.",
        "Shorten --description, or raise the limit of the proxy in front of it.",
        codes.KFP_REFUSED,
    ),
}
