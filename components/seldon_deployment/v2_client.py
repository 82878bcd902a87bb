"""A small client of the V2 inference protocol, and scoring of plain rows."""

import http.client
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlsplit

from kfp_custody.components._shared.documents import DocumentFault, parse_json
from kfp_custody.components._shared.errors import InputRefused, Misconfigured, ServiceUnreachable


@dataclass(frozen=True)
class Reply:
    """An HTTP answer: status and the JSON document, or None when the body was empty or no JSON."""

    status: int
    document: Any

    @property
    def reason(self) -> str:
        """The status, and the server's error message when it gave one."""
        message = self.document.get("error") if isinstance(self.document, dict) else None
        return f"HTTP {self.status}" + (f" ({' '.join(str(message).split())[:300]})" if message else "")


def call(method: str, url: str, body: Any = None, timeout: float = 10.0) -> Reply:
    """Send one request, with no proxy and no redirect.

    Args:
        method: HTTP method.
        url: http or https address.
        body: JSON document to send, or None.
        timeout: seconds for each of connecting and answering.

    Raises:
        ServiceUnreachable: no answer.
        Misconfigured: the address is no http address.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise Misconfigured(
            "The endpoint is no http address.", evidence=url[:200], remedy="Use the url of a deployment."
        )
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = kind(parts.hostname, parts.port, timeout=max(timeout, 0.1))
    data = None if body is None else json.dumps(body, allow_nan=False).encode()
    try:
        connection.request(method, parts.path or "/", data, {"Content-Type": "application/json"} if data else {})
        answer = connection.getresponse()
        text = answer.read()
    except (OSError, http.client.HTTPException) as error:
        raise ServiceUnreachable(
            "The model server did not answer.",
            evidence=f"{method} {url}: {type(error).__name__}",
            remedy="Check that the server runs (server.json and server.log in the serving directory), then try again.",
        ) from error
    finally:
        connection.close()
    try:
        return Reply(answer.status, parse_json(text))
    except DocumentFault:
        return Reply(answer.status, None)


def score(endpoint_url: str, rows: Sequence[Mapping[str, Any]], timeout: float = 10.0) -> dict[str, Any]:
    """Score rows with a served model; columns that the model does not take are left out, never sent.

    Args:
        endpoint_url: the model's address, `http://host:port/v2/models/<name>`.
        rows: one mapping of column name to value for each row; None and NaN mean missing.
        timeout: seconds for each request.

    Returns:
        `{"model": ..., "version": ..., "probability": [...], "label": [...]}`, one entry per row.

    Raises:
        InputRefused: a column of the model is missing, or the model refuses the values.
        ServiceUnreachable: the server does not answer, or has no such model.
    """
    described = call("GET", endpoint_url, timeout=timeout)
    inputs = described.document.get("inputs") if isinstance(described.document, dict) else None
    if described.status != 200 or not inputs:
        raise _unexpected(endpoint_url, described)
    missing = sorted({tensor["name"] for tensor in inputs for row in rows if tensor["name"] not in row})
    if missing or not rows:
        raise InputRefused(
            "The rows cannot be scored.",
            evidence=f"{len(rows)} rows; columns missing: {', '.join(missing) or 'none'}",
            remedy="Give at least one row, each with every column the model takes.",
        )
    reply = call("POST", f"{endpoint_url}/infer", {"inputs": [_tensor(tensor, rows) for tensor in inputs]}, timeout)
    if reply.status == 400:
        raise InputRefused(
            "The model does not take these rows.", evidence=reply.reason, remedy="Send the types of the training data."
        )
    if reply.status != 200:
        raise _unexpected(endpoint_url, reply)
    outputs = {output["name"]: output["data"] for output in reply.document["outputs"]}
    return {"model": reply.document["model_name"], "version": reply.document["model_version"], **outputs}


def model_url(base: str, name: str) -> str:
    """Return the address of a model."""
    return f"{base}/v2/models/{quote(name, safe='')}"


def _tensor(described: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    values = [_plain(row[described["name"]]) for row in rows]
    return {"name": described["name"], "datatype": described["datatype"], "shape": [len(rows), 1], "data": values}


def _plain(value: Any) -> Any:
    """Return a JSON value: numpy scalars as Python's, NaN as null."""
    plain = value.item() if hasattr(value, "item") else value
    return None if isinstance(plain, float) and math.isnan(plain) else plain


def _unexpected(url: str, reply: Reply) -> ServiceUnreachable:
    return ServiceUnreachable(
        "The model server answered with an error.",
        evidence=f"{url}: {reply.reason}",
        remedy="Check served.json in the serving directory for what is served, and server.log for the reason.",
    )
