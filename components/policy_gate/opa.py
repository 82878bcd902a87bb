"""Asking a policy server as well, for shops whose rules are in Rego: the check fails unless it says that it allows.

The same facts that CEL rules see are sent as `{"input": facts}` to `POST <url>/v1/data/<path>`, the data API of the
Open Policy Agent (https://www.openpolicyagent.org/docs/rest-api). Only two answers allow: `{"result": true}` and
`{"result": {"allow": true, "reasons": [...]}}`. No redirect is followed and no proxy is used.
"""

import http.client
import ssl
from collections.abc import Mapping
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any, Final
from urllib.parse import urlsplit

from kfp_custody.components._shared import codes
from kfp_custody.components._shared.documents import DocumentFault, canonical_json, parse_json, require_keys
from kfp_custody.components._shared.errors import CustodyError
from kfp_custody.components._shared.signers.private_files import read_private_text
from kfp_custody.components.policy_gate.checks import Check
from kfp_custody.components.policy_gate.policy import Opa

TIMEOUT: Final = 10.0  # seconds for the whole exchange
_MAX_ANSWER = 1024 * 1024
_REASONS, _REASON = 20, 300  # how many of the server's reasons are kept, and how many characters of each


def ask(opa: Opa, seen: Mapping[str, Any], token_file: Path | None, *, timeout: float = TIMEOUT) -> Check:
    """Ask a policy server; whatever is not a plain yes is a failed check.

    Args:
        opa: Where to ask. It must be from a policy that the trust file pins: facts and token go there.
        seen: What `facts.facts` returned.
        token_file: File with the bearer token; None sends none.
        timeout: Seconds for the whole exchange.
    """
    check, token = f"opa:{opa.path}", ""
    try:
        if token_file:
            token = read_private_text(token_file, "token for the policy server", "CUSTODY_OPA_TOKEN_FILE")
            if not token.isascii():
                raise _NoAnswer("the token is not ASCII, so it cannot be sent")
        allowed, reasons = _read(_exchange(opa, canonical_json({"input": seen}), token, timeout))
    except _NoAnswer as fault:
        return Check(check, "FAILED", f"{opa.address}: {_without(token, str(fault))}", codes.OPA_UNANSWERED)
    except CustodyError as refusal:  # of the token's file; it never quotes what is in it
        return Check(check, "FAILED", f"not asked: {refusal.what} {refusal.evidence}", codes.OPA_UNANSWERED)
    said = "".join(f"; {_without(token, ' '.join(reason.split()))[:_REASON]}" for reason in reasons[:_REASONS])
    if allowed:
        return Check(check, "PASSED", f"{opa.address} allows it{said}")
    return Check(check, "FAILED", f"{opa.address} does not allow it{said}", codes.OPA_DENIED)


def not_asked(opa: Opa) -> Check:
    """Return the failed check for a policy that nobody pinned: whoever wrote it must not choose who gets the token."""
    why = f"not asked: {opa.address} stands in a policy that the trust file does not pin"
    return Check(f"opa:{opa.path}", "FAILED", why, codes.OPA_UNANSWERED)


class _NoAnswer(Exception):
    """There is no usable answer, and why."""


def _read(body: bytes) -> tuple[bool, list[str]]:
    """Return whether the answer allows, and its reasons."""
    try:
        answer = parse_json(body, _MAX_ANSWER)
        if not isinstance(answer, dict) or "result" not in answer:
            raise _NoAnswer("the answer has no result: is the path right, and the policy loaded?")
        result = answer["result"]
        if isinstance(result, bool):
            return result, []
        require_keys(result, "the result", ("allow", "reasons"))
    except DocumentFault as fault:
        raise _NoAnswer(f"the answer is not understood: {fault}") from fault
    allow, reasons = result["allow"], result["reasons"]
    if not isinstance(allow, bool) or not isinstance(reasons, list) or not all(isinstance(r, str) for r in reasons):
        raise _NoAnswer("the answer is not understood: allow is no boolean, or reasons is no list of texts")
    return allow, reasons


def _exchange(opa: Opa, body: bytes, token: str, timeout: float) -> bytes:
    """Send one request and return the body of its answer.

    In a thread of its own, because a socket's time-out starts anew with every byte that a slow server sends.
    """
    outcome: SimpleQueue[bytes | _NoAnswer] = SimpleQueue()

    def work() -> None:
        try:
            outcome.put(_post(opa, body, token, timeout))
        except _NoAnswer as fault:
            outcome.put(fault)

    Thread(target=work, daemon=True).start()
    try:
        found = outcome.get(timeout=timeout)
    except Empty:
        raise _NoAnswer(f"it did not answer within {timeout:g} seconds") from None
    if isinstance(found, _NoAnswer):
        raise found
    return found


def _post(opa: Opa, body: bytes, token: str, timeout: float) -> bytes:
    address = urlsplit(opa.address)
    headers = {"Content-Type": "application/json", "Accept": "application/json"}
    if token:
        headers["Authorization"] = f"Bearer {token}"
    connection = _connection(opa, address.hostname or "", address.port, timeout)
    try:
        connection.request("POST", address.path, body, headers)
        answer = connection.getresponse()
        text = answer.read(_MAX_ANSWER + 1)
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise _NoAnswer(_why(error, timeout)) from error
    finally:
        connection.close()
    if answer.status != http.client.OK:
        redirect = ", a redirect, which is not followed" if 300 <= answer.status < 400 else ""
        raise _NoAnswer(f"it answered with status {answer.status}{redirect}")
    if answer.length:  # what was announced and did not come
        raise _NoAnswer("the answer is too large, or broke off")
    return text


def _connection(opa: Opa, host: str, port: int | None, timeout: float) -> http.client.HTTPConnection:
    if opa.address.startswith("http:"):
        return http.client.HTTPConnection(host, port, timeout=timeout)
    try:
        context = ssl.create_default_context(cafile=opa.ca_file)
    except OSError as error:  # an ssl.SSLError is one
        raise _NoAnswer(f"the certificate authority {opa.ca_file} cannot be read ({type(error).__name__})") from error
    return http.client.HTTPSConnection(host, port, timeout=timeout, context=context)


def _why(error: Exception, timeout: float) -> str:
    if isinstance(error, TimeoutError):
        return f"it did not answer within {timeout:g} seconds"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate was not accepted ({error.verify_message})"
    if isinstance(error, OSError):
        return f"it did not answer ({error.strerror or type(error).__name__})"
    return f"it did not answer in HTTP ({type(error).__name__})"


def _without(token: str, said: str) -> str:
    """Take the token out of what a server said: it goes into reports that many people read."""
    return said.replace(token, "***") if token else said
