"""One inference that any model of a signature must answer, built from the signature alone (no real data)."""

import math
from typing import Any

from kfp_custody.components._shared.errors import InputRefused
from kfp_custody.components._shared.scoring import Feature, Signature
from kfp_custody.components.seldon_deployment.v2_client import Reply


def smoke_request(signature: Signature) -> dict[str, Any]:
    """Return a V2 request of one row: zero for each number, the first category for each category."""
    return {"id": "smoke", "inputs": [_tensor(feature) for feature in signature.features]}


def require_answer(reply: Reply, version: str) -> dict[str, Any]:
    """Return the answer to a smoke request when it is one.

    Args:
        reply: what the server answered.
        version: the `model_version` that must have answered.

    Raises:
        InputRefused: not 200, another version, or no probability and label for exactly one row.
    """
    document = reply.document if isinstance(reply.document, dict) else {}
    outputs = {str(output.get("name")): output.get("data") for output in document.get("outputs") or ()}
    if reply.status != 200:
        fault = reply.reason
    elif document.get("model_version") != version:
        fault = f"answered by version {str(document.get('model_version'))[:80]!r}, not {version!r}"
    elif not _one_answer(outputs.get("probability"), outputs.get("label")):
        fault = "its answer holds no probability from 0 to 1 with a label 0 or 1 for the one row"
    else:
        return document
    raise InputRefused(
        "The model did not answer the smoke inference, so it is not put into service.",
        evidence=fault,
        remedy="Check the model with the server's log, train it again, and deploy that.",
    )


def _tensor(feature: Feature) -> dict[str, Any]:
    if feature.type == "number":
        return {"name": feature.name, "datatype": "FP64", "shape": [1, 1], "data": [0.0]}
    return {"name": feature.name, "datatype": "BYTES", "shape": [1, 1], "data": [next(iter(feature.categories), None)]}


def _one_answer(probability: Any, label: Any) -> bool:
    match probability, label:
        case [int() | float() as value], [0 | 1]:
            return math.isfinite(value) and 0 <= value <= 1
    return False
