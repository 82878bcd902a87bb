"""Requests and responses find each other, whatever the order, the copies and the ids that clients choose."""

import json
from typing import Any

import pytest
from log_lines import event, monitored

from kfp_custody.components.inference_monitoring.joining import Joiner
from kfp_custody.components.inference_monitoring.reading import Call, Half, read_line
from kfp_custody.components.inference_monitoring.reporting import metrics

BEFORE, AFTER = "2026-11-01T10:00:00.000Z", "2026-11-01T10:00:00.250Z"


def request(identity: str, value: float = 1.0, time: str = BEFORE) -> dict[str, Any]:
    return event("request", identity, {"instances": [[value]]}, time)


def response(identity: str, score: float = 0.5, time: str = AFTER) -> dict[str, Any]:
    return event("response", identity, {"predictions": [score]}, time)


def joined(documents: list[dict[str, Any]], **limits: int) -> tuple[list[Call], Joiner]:
    joiner, calls = Joiner(**limits), []
    for document in documents:
        half = read_line(document)
        assert isinstance(half, Half)
        calls += joiner.add(half, json.dumps(document).encode())
    return [*calls, *joiner.rest()], joiner


@pytest.mark.parametrize("order", [1, -1])
def test_whichever_comes_first(order: int) -> None:
    (call,), joiner = joined([request("a"), response("a")][::order])
    assert (call.seconds, list(call.scores), call.status, call.client) == (0.25, [0.5], 200, "http://gateway/")
    assert (joiner.duplicates, joiner.missing) == (0, 0)


def test_a_copy_is_counted_once_and_halves_alone_are_counted() -> None:
    calls, joiner = joined([request("a"), request("a"), response("a"), response("a"), request("b"), response("c")])
    assert (len(calls), joiner.duplicates, joiner.missing) == (3, 2, 2)
    found = monitored([request("a"), request("a"), response("a"), response("a"), request("b"), response("c")])
    assert (found.lines.checked, found.lines.duplicates, found.lines.missing, found.lines.skipped) == (4, 2, 2, 2)
    assert metrics(found)["requests"] == 3


def test_an_id_that_is_used_again_hides_no_request() -> None:
    documents = [each for value in range(20) for each in (request("same", value), response("same", value / 20))]
    calls, joiner = joined(documents)
    assert (len(calls), joiner.duplicates, joiner.missing) == (20, 0, 0)
    calls, joiner = joined([request("same", value) for value in range(20)])
    assert (len(calls), joiner.missing) == (20, 20)


def test_clocks_that_run_backwards_tell_no_duration() -> None:
    (call,), _ = joined([request("a", time=AFTER), response("a", time=BEFORE)])
    assert call.seconds is None
    assert "latency_p50" not in metrics(monitored([request("a", time=AFTER), response("a", time=BEFORE)]))


def test_what_waits_is_bounded() -> None:
    waiting = [request(f"r{number}") for number in range(100)]
    size = len(json.dumps(waiting[0]))
    _, joiner = joined([*waiting, response("r99"), response("r0")], waiting_bytes=10 * size)
    assert joiner.missing == 100, "r0 was handed on before its response came"
    _, joiner = joined([request("a"), *waiting, request("a")], remembered=50)
    assert joiner.duplicates == 0
