"""From lines of logs to calls: one form for what four kinds of logs tell of a request.

| log | told by | tells |
|---|---|---|
| door: Envoy's access log in JSON | `path` with `status` or `response_code` | identity, status, duration, path |
| server: our MLServer's requests | `outcome`, `model`, `seconds` | status, seconds, rows, scores |
| payload: CloudEvents of Seldon and KServe | `headers` and `body` | client, rows, scores; seconds of both halves |
| payload: pairs | `request` and `response` | what the pair names, rows, scores |
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from kfp_custody.components._shared.request_logs import LineFault, header, line_time
from kfp_custody.components.inference_monitoring.payloads import Answer, Table, read_answer, read_body, read_table

DOOR, SERVER, PAYLOAD = "door", "server", "payload"
VIEWS = (DOOR, SERVER, PAYLOAD)
"""From the outside in: who sees more of the requests comes first."""
GRPC_INFER = "/inference.GRPCInferenceService/ModelInfer"
_GRPC = "/inference.GRPCInferenceService/"
# gRPC's codes as the HTTP status that means the same (google.rpc.Code); what is missing is the server's fault.
_OF_GRPC = {0: 200, 1: 499, 3: 400, 5: 404, 6: 409, 7: 403, 8: 429, 9: 400, 10: 409, 11: 400, 16: 401}
_FAULTS = {2: 500, 4: 504, 12: 501, 13: 500, 14: 503, 15: 500}
_OUTCOMES = {"answered": 200, "refused": 400}


@dataclass(frozen=True, slots=True)
class Call:
    """A request as one log tells it.

    Attributes:
        view: Which log.
        time: When, in seconds since 1970.
        client: Who asked, as the log names it; None when it does not. Never to be shown.
        models: Names of the model that the line has.
        status: HTTP's; None when it is not known.
        seconds: What it took; None when it is not known.
        path: What was asked for; only of the door.
        rows: How many were asked about.
        scores: Probabilities of class 1.
        table: The rows themselves.
        lines: Of how many lines it was made.
    """

    view: str
    time: float
    client: str | None = None
    models: tuple[str, ...] = ()
    status: int | None = None
    seconds: float | None = None
    path: str | None = None
    rows: int = 0
    scores: Sequence[float] = ()
    table: Table | None = None
    lines: int = 1


@dataclass(frozen=True, slots=True)
class Half:
    """A request or a response that is to be joined with the other one by its id."""

    id: str
    is_request: bool
    call: Call


def read_line(document: Mapping[str, Any]) -> Call | Half | None:
    """Return what a line tells; None for an event that is about no inference, such as feedback.

    Raises:
        LineFault: it is of none of the four kinds, or malformed.
    """
    if isinstance(document.get("headers"), dict) and "body" in document:
        return _event(document)
    time = line_time(document)
    if "outcome" in document and "model" in document:
        return _served(document, time)
    if "request" in document and "response" in document:
        return _pair(document, time)
    if "path" in document and ("status" in document or "response_code" in document):
        return _passed(document, time)
    raise LineFault("it is of no known kind")


def join(request: Call, response: Call) -> Call:
    """Return a request with what its response tells. Clocks that run backwards tell no duration."""
    seconds = response.time - request.time
    return replace(
        request,
        models=request.models + response.models,
        status=response.status,
        seconds=seconds if seconds >= 0 else None,
        rows=max(request.rows, response.rows),
        scores=response.scores,
        lines=request.lines + response.lines,
    )


def _served(document: Mapping[str, Any], time: float) -> Call:
    status = _OUTCOMES.get(_text(document, "outcome") or "")
    if status is None:
        raise LineFault("its outcome is none that is known")
    scores = document.get("scores", [])
    if not isinstance(scores, list) or not all(type(score) in (float, int) and 0 <= score <= 1 for score in scores):
        raise LineFault("its scores are no probabilities")
    return Call(
        SERVER,
        time,
        models=(_text(document, "model") or "",),
        status=status,
        seconds=_number(document, "seconds"),
        rows=_whole(document, "rows") or 0,
        scores=scores,
    )


def _passed(document: Mapping[str, Any], time: float) -> Call:
    path = (_text(document, "path") or "").partition("?")[0]
    status = _whole(document, "status" if "status" in document else "response_code") or None
    grpc = _whole(document, "grpc_status")
    if status == 200 and grpc is not None:
        status = _OF_GRPC.get(grpc, _FAULTS.get(grpc, 500))
    taken = _number(document, "milliseconds" if "milliseconds" in document else "duration")
    names = filter(None, (_text(document, "identity"), _text(document, "subject")))
    return Call(
        DOOR,
        time,
        client=" ".join(names) or None,
        status=status,
        seconds=None if taken is None else taken / 1000,
        path=path,
    )


def _pair(document: Mapping[str, Any], time: float) -> Call:
    answer = read_body(document["response"])
    found, table = read_answer(answer), read_table(read_body(document["request"]))
    model = _text(answer, "model_name")
    return Call(
        PAYLOAD,
        time,
        client=_text(document, "client"),
        models=(model,) if model else (),
        status=_whole(document, "status") or _status(found),
        seconds=_number(document, "seconds"),
        rows=len(table.rows),
        scores=found.scores,
        table=table,
    )


def _event(document: Mapping[str, Any]) -> Half | None:
    headers = document["headers"]
    side = (header(headers, "type") or "").rpartition(".inference.")[2]
    if side not in ("request", "response"):
        return None
    identity = header(headers, "requestid") or _header(headers, "x-request-id") or header(headers, "id")
    if not identity:
        raise LineFault("it has no id")
    time, body = line_time(document), read_body(document["body"])
    names = (header(headers, "modelid"), header(headers, "inferenceservicename"), _text(body, "model_name"))
    models = tuple(name for name in names if name)
    if side == "response":
        found = read_answer(body)
        call = Call(PAYLOAD, time, None, models, _status(found), rows=found.rows, scores=found.scores)
        return Half(identity, False, call)
    table = read_table(body)
    client = _spiffe(headers) or header(headers, "subject") or header(headers, "source")
    return Half(identity, True, Call(PAYLOAD, time, client, models, rows=len(table.rows), table=table))


def _status(answer: Answer) -> int:
    """Return a status for an answer whose own nobody logged; an error without one may be the server's."""
    return 500 if answer.failed else 200


def _spiffe(headers: Mapping[str, Any]) -> str | None:
    """Return the identity in the certificate that a proxy verified (`X-Forwarded-Client-Cert`)."""
    parts = (_header(headers, "x-forwarded-client-cert") or "").rpartition(",")[2].split(";")
    return next((part[4:] for part in parts if part.startswith("URI=") and len(part) > 4), None)


def _header(headers: Mapping[str, Any], name: str) -> str | None:
    found = next((value for key, value in headers.items() if key.lower() == name), None)
    first = found[0] if isinstance(found, list) and found else found
    return first if isinstance(first, str) else None


def _text(document: Mapping[str, Any], name: str) -> str | None:
    """Return a text; Envoy writes `-` for one that it does not have."""
    value = document.get(name)
    if value is not None and not isinstance(value, str):
        raise LineFault(f"its {name} is no text")
    return None if value == "-" else value or None


def _whole(document: Mapping[str, Any], name: str) -> int | None:
    value = document.get(name)
    if value is None or value == "-":
        return None
    if type(value) is not int or not 0 <= value < 2**53:
        raise LineFault(f"its {name} is no whole number")
    return value


def _number(document: Mapping[str, Any], name: str) -> float | None:
    value = document.get(name)
    if value is None or value == "-":
        return None
    if type(value) not in (int, float) or not 0 <= value < 2**53 or math.isnan(value):
        raise LineFault(f"its {name} is no number")
    return float(value)
