"""Running a monitor over lines, for the tests of this room."""

import json
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from kfp_custody.components._shared.profiles import NumberProfile, Profile
from kfp_custody.components.inference_monitoring.limits import load_limits
from kfp_custody.components.inference_monitoring.monitoring import Monitor, Monitored

MODEL = "fraud-detection"
TIME = "2026-11-01T10:00:00.000Z"


def monitored(
    lines: Iterable[Mapping[str, Any] | bytes | None],
    profile: Profile | None = None,
    scores: NumberProfile | None = None,
    hours: float = 24.0,
    limits: str = "default",
) -> Monitored:
    """Return what is found in lines; documents are written as JSON."""
    with tempfile.TemporaryDirectory() as folder:
        monitor = Monitor(MODEL, load_limits(limits), profile, scores, Path(folder))
        monitor.add_all(json.dumps(line).encode() + b"\n" if isinstance(line, dict) else line for line in lines)  # type: ignore[misc]
        return monitor.finish(hours, 0)


def verdicts(found: Monitored) -> dict[str, str]:
    """Return the checks' verdicts by name."""
    return {check.name: check.verdict for check in found.checks}


def door(number: int = 0, **more: Any) -> dict[str, Any]:
    """A line as our door writes it."""
    return {
        "time": TIME,
        "identity": f"spiffe://bank.example/client/{number}",
        "address": "127.0.0.1",
        "method": "POST",
        "path": f"/v2/models/{MODEL}/infer",
        "status": 200,
        "grpc_status": None,
        "why": "via_upstream",
        "backend": "v1",
        "milliseconds": 12,
        "bytes": 400,
    } | more


def pair(values: Iterable[Any] = (1.0, 2.0), number: int = 0, score: float = 0.25, **more: Any) -> dict[str, Any]:
    """A line with request and response."""
    inputs = [{"name": f"v{at}", "datatype": "FP64", "shape": [1, 1], "data": [v]} for at, v in enumerate(values)]
    outputs = [
        {"name": "label", "datatype": "INT64", "shape": [1], "data": [0]},
        {"name": "probability", "datatype": "FP64", "shape": [1], "data": [score]},
    ]
    return {
        "time": TIME,
        "client": f"client-{number}",
        "request": {"inputs": inputs},
        "response": {"model_name": MODEL, "outputs": outputs},
    } | more


def event(side: str, identity: str, body: Any, time: str = TIME, **headers: Any) -> dict[str, Any]:
    """Half of a request as Seldon's logger posts it."""
    own = {
        "Ce-Type": f"io.seldon.serving.inference.{side}",
        "Ce-Time": time,
        "Ce-Requestid": identity,
        "Ce-Source": "http://gateway/",
        "Ce-Modelid": MODEL,
    }
    return {"headers": own | headers, "body": body}
