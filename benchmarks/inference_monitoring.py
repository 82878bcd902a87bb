"""What it costs to look through a window of request logs: 150,000 queries of 290 clients, 30 features each.

Replayed is all that monitor_inference does with lines: reading, counting, scores, and comparing every query with its
client's last 500. Peer of that comparison is scikit-learn's NearestNeighbors, fitted on the same window for every
block of a client's queries and asked for enough neighbours that those which came later can be left out; both count
the same near queries, which is asserted. CPU seconds of this process, the best of three turns: other work on the
machine only ever adds.
"""

import json
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

import numpy as np
from _table import Result, publish
from sklearn.neighbors import NearestNeighbors
from threadpoolctl import threadpool_limits

from kfp_custody.components.inference_monitoring.geometry import Points
from kfp_custody.components.inference_monitoring.limits import load_limits
from kfp_custody.components.inference_monitoring.misuse import Trace, Usual, follow
from kfp_custody.components.inference_monitoring.monitoring import Monitor, Monitored

CLIENTS, ATTACKERS, QUERIES, FEATURES, TURNS = 290, 50, 150_000, 30, 3
HISTORY, NEAR, BLOCK = 500, 1.0, 128
T = TypeVar("T")


def main() -> int:
    """Replay, compare, publish."""
    rows = _rows()
    lines = _lines(rows)
    limits = load_limits("default")

    def replay() -> Monitored:
        with tempfile.TemporaryDirectory() as scratch:
            monitor = Monitor("fraud-detection", limits, None, None, Path(scratch))
            monitor.add_all(lines)
            return monitor.finish(24.0, 0)

    whole, found = _best(replay)
    assert found.lines.checked == QUERIES
    assert len(found.clients["near_duplicates"]) == ATTACKERS
    with threadpool_limits(1):
        ours, near = _best(lambda: [_ours(client) for client in rows])
        theirs, expected = _best(lambda: [_theirs(client) for client in rows])
    assert near == expected
    results = [
        Result("150,000 queries of 290 clients", whole, None, "CPU s", goal=5.0, most=True),
        Result("the comparison with earlier queries", ours, theirs, "CPU s", 1.0, True, "sklearn", relative=True),
    ]
    return 0 if publish("inference_monitoring", results) else 1


def _rows() -> list[np.ndarray]:
    """Return each client's queries; those of attackers are steps from one to the next."""
    rng = np.random.default_rng(1)
    sizes = np.full(CLIENTS, QUERIES // CLIENTS)
    sizes[: QUERIES - sizes.sum()] += 1
    rows = [rng.normal(size=(size, FEATURES)) for size in sizes.tolist()]
    for number in range(ATTACKERS):
        rows[number] = rows[number][0] + np.cumsum(0.01 * rows[number], axis=0)
    return [np.round(client, 6) for client in rows]


def _lines(rows: list[np.ndarray]) -> list[bytes]:
    rng = np.random.default_rng(2)
    owners = rng.permutation(np.repeat(np.arange(CLIENTS), [len(client) for client in rows])).tolist()
    asked = [iter(client.tolist()) for client in rows]
    names, start = [f"v{number}" for number in range(FEATURES)], datetime(2026, 11, 1, tzinfo=UTC).timestamp()
    made = []
    for number, (owner, score) in enumerate(zip(owners, rng.beta(0.2, 4.0, QUERIES).tolist(), strict=True)):
        moment = datetime.fromtimestamp(start + number * 86_400 / QUERIES, UTC).isoformat(timespec="milliseconds")
        line = {
            "time": moment,
            "client": f"spiffe://bank.example/client/{owner}",
            "status": 200,
            "seconds": 0.004,
            "request": {"data": {"names": names, "ndarray": [next(asked[owner])]}},
            "response": {
                "model_name": "fraud-detection",
                "outputs": [{"name": "probability", "datatype": "FP64", "shape": [1], "data": [round(score, 6)]}],
            },
        }
        made.append(json.dumps(line, separators=(",", ":")).encode() + b"\n")
    return made


def _ours(rows: np.ndarray) -> int:
    trace = Trace()
    points = Points(rows, np.zeros((len(rows), 0)), np.arange(len(rows), dtype=np.uint64))
    follow(trace, None, points, Usual(NEAR, np.inf, HISTORY))
    return trace.near


def _theirs(rows: np.ndarray) -> int:
    near = 0
    for start in range(0, len(rows), BLOCK):
        low, end = max(start - HISTORY, 0), min(start + BLOCK, len(rows))
        search = NearestNeighbors(algorithm="brute").fit(rows[low:end])
        squares, places = search.kneighbors(rows[start:end], n_neighbors=min(end - low, BLOCK + 1))
        behind = np.arange(start, end)[:, None] - low - places
        squares[(behind <= 0) | (behind > HISTORY)] = np.inf
        near += int((squares.min(axis=1) ** 2 < NEAR).sum())
    return near


def _best(work: Callable[[], T]) -> tuple[float, T]:
    seconds = []
    for _ in range(TURNS):
        start = time.process_time()
        done = work()
        seconds.append(time.process_time() - start)
    return min(seconds), done


if __name__ == "__main__":
    raise SystemExit(main())
