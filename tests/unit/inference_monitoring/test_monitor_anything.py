"""Whatever the lines are, they are counted: no input ends in a traceback, and no count is lost."""

import json
import random
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from log_lines import TIME, door, event, monitored, pair

from kfp_custody.components.inference_monitoring.limits import load_limits
from kfp_custody.components.inference_monitoring.reporting import html, metrics, report_json

LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.just(TIME)
KEYS = st.sampled_from(
    [
        *("time", "path", "status", "response_code", "milliseconds", "identity", "headers", "body", "request"),
        *("response", "inputs", "outputs", "data", "ndarray", "tensor", "shape", "values", "instances", "names"),
        *("predictions", "name", "datatype", "outcome", "model", "seconds", "rows", "scores", "Ce-Type", "ce-id"),
    ]
)
VALUES = st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=5))
SEEDS: list[dict[str, Any]] = [
    door(),
    pair((1.0, None, "pos", True)),
    pair(request={"data": {"names": ["a", "b"], "ndarray": [[1, 2]]}}),
    pair(request={"data": {"tensor": {"shape": [1, 2], "values": [1, 2]}}}),
    event("request", "r", {"instances": [{"a": 1.0}, {"a": 2.0}]}),
    event("response", "r", {"predictions": [[0.25, 0.75]]}),
    {"time": TIME, "model": "fraud-detection", "outcome": "answered", "seconds": 0.1, "rows": 1, "scores": [0.5]},
]


def places(document: Any) -> list[tuple[Any, Any]]:
    """Every place of a document: what holds it, and its key or index."""
    if isinstance(document, dict | list):
        keys = list(document) if isinstance(document, dict) else range(len(document))
        return [each for key in keys for each in [(document, key), *places(document[key])]]
    return []


def consume(lines: list[bytes]) -> None:
    found = monitored(lines)
    assert found.lines.checked + found.lines.skipped + found.lines.errors == len(lines)
    assert min(vars(found.lines).values()) >= 0
    window = ("2026-11-01T00:00:00Z", "2026-11-02T00:00:00Z")
    limits = load_limits("default")
    assert all(value == value and abs(value) != float("inf") for value in metrics(found).values())
    report_json(found, limits, window)
    assert len(html(found, limits, window)) < 300_000


@settings(max_examples=150, deadline=None)
@given(st.lists(st.dictionaries(KEYS, VALUES, max_size=8), min_size=1, max_size=4))
def test_any_json(documents: list[dict[str, Any]]) -> None:
    consume([json.dumps(document).encode() for document in documents])


@settings(max_examples=150, deadline=None)
@given(st.lists(st.binary(max_size=80), min_size=1, max_size=5))
def test_any_bytes(lines: list[bytes]) -> None:
    consume(lines)


@settings(max_examples=250, deadline=None)
@given(st.integers(0, len(SEEDS) - 1), st.integers(0, 10_000), VALUES, st.booleans())
def test_any_value_at_any_place_of_a_line(seed: int, at: int, value: Any, gone: bool) -> None:
    document = json.loads(json.dumps(SEEDS[seed]))
    found = places(document)
    holder, key = found[at % len(found)]
    if gone:
        del holder[key]
    else:
        holder[key] = value
    consume([json.dumps(each).encode() for each in (document, *SEEDS)])


def test_bytes_of_lines_changed_cut_and_joined() -> None:
    rng = random.Random(1)
    lines = []
    for _ in range(3000):
        line = bytearray(json.dumps(rng.choice(SEEDS)).encode())
        for _ in range(rng.randrange(1, 4)):
            line[rng.randrange(len(line))] = rng.randrange(256)
        lines.append(bytes(line[: rng.randrange(1, len(line) + 1)] if rng.random() < 0.3 else line))
    consume([line for line in lines if line.strip()])
