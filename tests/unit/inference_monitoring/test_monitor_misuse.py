"""Near queries beside a plain count of them, what is usual between clients, and what does not hide a trace."""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from log_lines import monitored, pair, verdicts

from kfp_custody.components.inference_monitoring.clients import digest
from kfp_custody.components.inference_monitoring.geometry import Points, scale_of
from kfp_custody.components.inference_monitoring.limits import load_limits
from kfp_custody.components.inference_monitoring.misuse import Trace, Usual, follow, usual_distances
from kfp_custody.components.inference_monitoring.payloads import Table
from kfp_custody.components.inference_monitoring.spool import Spool, code_of

LIMITS = load_limits("default")
Rows = np.ndarray[Any, np.dtype[np.float64]]


def points(values: Rows) -> Points:
    normal = np.array([-0.6745, 0.0, 0.6745])
    return scale_of(values, frozenset(), dict.fromkeys(range(values.shape[1]), normal)).points(values)


def plain_count(values: Rows, near: float, history: int) -> tuple[int, int]:
    """Count as a person would: each new row against the last ones before it that were new, one by one."""
    known: list[Rows] = []
    tested = found = 0
    for row in values:
        if any(np.array_equal(row, other) for other in known):
            continue
        if known:
            tested += 1
            found += min(float(((row - other) ** 2).sum()) for other in known[-history:]) < near
        known.append(row)
    return tested, found


@pytest.mark.parametrize(
    ("rows", "history", "parts"), [(1, 20, 1), (300, 20, 1), (300, 1000, 4), (700, 150, 3), (260, 128, 2)]
)
def test_near_queries_are_those_that_a_plain_count_finds(rows: int, history: int, parts: int) -> None:
    rng = np.random.default_rng(rows)
    values = rng.normal(size=(rows, 3))
    again = np.flatnonzero(rng.random(rows) < 0.2)
    values[again] = values[np.maximum(again - 2, 0)]
    scale = scale_of(values, frozenset(), {n: np.array([-0.67449076, 0.0, 0.67449076]) for n in range(3)})
    trace, seen = Trace(), None
    for part in np.array_split(values, parts):
        seen = follow(trace, seen, scale.points(part), Usual(0.05, np.inf, history))
    spread = (2 * 0.67449076) / 1.349
    assert (trace.tested, trace.near) == plain_count(values / spread, 0.05, history)
    assert seen is not None
    assert len(seen) == min(history, len(np.unique(values, axis=0)))


def test_distances_over_numbers_gaps_and_categories() -> None:
    values = np.array([[0.0, code_of("pos")], [3.0, code_of("atm")], [np.nan, code_of("pos")], [-0.0, code_of("pos")]])
    scale = scale_of(values, frozenset({1}), {0: np.array([-0.6745, 0.0, 0.6745])})
    found = scale.points(values)
    squares = found.distances(found)
    assert squares == pytest.approx(squares.T)
    assert squares[0, 1] == pytest.approx(9 + 1, rel=1e-3)
    assert squares[0, 2] == pytest.approx(16)
    assert squares[0, 3] == 0
    assert found.keys[0] == found.keys[3] != found.keys[2]


def test_rows_that_differ_have_other_keys() -> None:
    whole = np.array(np.meshgrid(*[np.arange(8.0)] * 5)).reshape(5, -1).T
    assert len(np.unique(points(whole).keys)) == len(whole)
    steps = 1.0 + np.arange(5000)[:, None] * np.array([[2**-52, 0.0]])
    assert len(np.unique(points(steps).keys)) == 5000


def crowd(rng: np.random.Generator, clients: int = 30, rows: int = 60, width: int = 6) -> list[Rows]:
    return [rng.normal(size=(rows, width)) for _ in range(clients)]


def usual(clients: list[Rows]) -> Usual | None:
    values, owners = np.concatenate(clients), np.repeat(np.arange(len(clients)), [len(rows) for rows in clients])
    return usual_distances(points(values), owners, [points(rows) for rows in clients], LIMITS)


def test_traces_of_many_clients_do_not_make_near_queries_usual() -> None:
    rng = np.random.default_rng(1)
    honest = usual(crowd(rng))
    copies = [np.full(6, 1.0) + 1e-3 * rng.normal(size=(60, 6)) for _ in range(8)]  # one trace, shared by eight
    among = usual([*crowd(rng), *copies])
    assert honest is not None
    assert among is not None
    assert honest.near / 20 < among.near < honest.near * 1.5, "a quarter of the distance at the least"
    assert among.far == pytest.approx(honest.far, rel=0.2)


def test_one_client_or_a_handful_of_rows_has_nothing_to_compare_with() -> None:
    rng = np.random.default_rng(2)
    assert usual(crowd(rng, clients=1)) is None
    assert usual(crowd(rng, clients=4, rows=10)) is None
    found = usual(crowd(rng, clients=8, rows=40))
    assert found is not None
    assert found.history == 280


def steps(rows: int, width: int = 6) -> Rows:
    return np.cumsum(np.full((rows, width), 0.001), axis=0)


def lines(clients: list[Rows], **more: Any) -> list[dict[str, Any]]:
    return [pair(row.tolist(), number, **more) for number, rows in enumerate(clients) for row in rows]


@pytest.fixture(scope="module")
def others() -> list[Rows]:
    return crowd(np.random.default_rng(3), clients=20, rows=50)


def near(documents: list[Any]) -> list[str]:
    found = monitored(documents)
    assert verdicts(found)["near_duplicates"] == ("FAILED" if found.clients["near_duplicates"] else "PASSED")
    return list(found.clients["near_duplicates"])


def test_a_trace_is_found_and_honest_clients_are_not(others: list[Rows]) -> None:
    assert near(lines(others)) == []
    assert near(lines([*others, steps(60)])) == [digest("client-20")]


def test_retries_are_no_trace(others: list[Rows]) -> None:
    assert near(lines([*others, np.repeat(others[0] + 9, 5, axis=0)])) == []


def attack(name: str = "bad", rows: int = 60) -> list[dict[str, Any]]:
    return [pair(row.tolist(), client=name) for row in steps(rows)]


def test_the_order_of_columns_hides_nothing(others: list[Rows]) -> None:
    rng, bad = np.random.default_rng(4), attack()
    for line in bad:
        rng.shuffle(line["request"]["inputs"])
    assert near([*lines(others), *bad]) == [digest("bad")]


def test_a_stray_text_hides_nothing(others: list[Rows]) -> None:
    stray = [pair([f"text {number}"] * 6, client="bad") for number in range(30)]
    assert near([*lines(others), *stray, *attack()]) == [digest("bad")]


def test_the_name_of_a_matrix_hides_nothing() -> None:
    def matrix(row: Rows, client: str, name: str) -> dict[str, Any]:
        request = {"inputs": [{"name": name, "datatype": "FP64", "shape": [1, 6], "data": row.tolist()}]}
        return pair(client=client, request=request)

    honest = [matrix(row, f"c{n}", "x") for n, rows in enumerate(crowd(np.random.default_rng(5))) for row in rows]
    bad = [matrix(row, "bad", f"name-{number}") for number, row in enumerate(steps(60))]
    assert near([*honest, *bad]) == [digest("bad")]


def test_a_form_of_its_own_is_not_called_a_pass(others: list[Rows]) -> None:
    for columns in (1, 40):  # one other form, or more of them than are kept apart
        bad = [
            pair(client="bad", request={"data": {"names": [f"{number % columns}-a", "b"], "ndarray": [[1.0, number]]}})
            for number in range(80)
        ]
        found = monitored([*lines(others), *bad])
        assert verdicts(found)["near_duplicates"] == "WARNED"
    assert verdicts(monitored(attack()))["near_duplicates"] == "UNKNOWN", "there is nobody to compare with"


def test_refused_queries_teach_nothing_and_unanswered_ones_may(others: list[Rows]) -> None:
    refused = [line | {"status": 400} for line in attack()]
    assert near([*lines(others), *refused]) == []


def test_those_without_a_name_are_taken_together(others: list[Rows]) -> None:
    assert near([*lines(others), *(line | {"client": None} for line in attack())]) == [digest("")]


def test_a_few_edits_of_one_case_are_no_attack(others: list[Rows]) -> None:
    edits = np.concatenate((np.random.default_rng(6).normal(size=(80, 6)), steps(3)))
    assert near(lines([*others, edits])) == []


def regulars(rng: np.random.Generator, customers: int, rows: int = 200) -> Rows:
    """Queries about a few customers again and again: two features in three are the customer's own and never change."""
    own = rng.normal(size=(customers, 20))[rng.integers(0, customers, rows)]
    return np.hstack((own, rng.normal(size=(rows, 10))))


def test_the_same_customers_again_and_again_are_no_attack() -> None:
    rng = np.random.default_rng(8)
    honest = [regulars(rng, int(customers)) for customers in rng.integers(3, 60, 40)]
    bad = regulars(rng, 1)[0] + steps(200, 30)
    assert near(lines(honest)) == []
    assert near(lines([*honest, bad])) == [digest("client-40")]


@pytest.mark.parametrize("attackers", [1, 10, 30])
def test_attackers_among_twenty_are_found_though_they_be_the_most(others: list[Rows], attackers: int) -> None:
    rng = np.random.default_rng(9)
    bad = [rng.normal(size=6) + steps(60) for _ in range(attackers)]
    assert len(near(lines([*others, *bad]))) == attackers


def test_honest_queries_in_between_do_not_hide_a_trace(others: list[Rows]) -> None:
    rng = np.random.default_rng(10)
    bad = []
    for _ in range(8):
        mixed = rng.normal(size=(300, 6))
        mixed[::5] = rng.normal(size=6) + steps(60)
        bad.append(mixed)
    assert len(near(lines([*others, *bad]))) == 8


def test_far_from_everybody(others: list[Rows]) -> None:
    far = np.random.default_rng(7).uniform(-8, 8, (60, 6))
    found = monitored(lines([*others, far]))
    assert list(found.clients["out_of_distribution"]) == [digest("client-20")]
    assert verdicts(found)["out_of_distribution"] == "WARNED"
    assert monitored(lines(others)).clients["out_of_distribution"] == {}


@pytest.mark.parametrize("value", [1e308, -1e308, 1e-308, 2.0**63, float("inf"), float("nan")])
def test_numbers_at_the_ends_of_their_range(others: list[Rows], value: float) -> None:
    wild = np.full((40, 6), 1.0)
    wild[:, 2] = value
    wild[:, 3] = np.arange(40)
    with tempfile.TemporaryDirectory() as folder:
        spool = Spool(Path(folder))
        for row in wild:
            assert spool.add(Table(("a", "b", "c", "d", "e", "f"), [row.tolist()]), 0, 0.0)
        ((block,),) = spool.parts(next(iter(spool.tables.values())))
        assert np.array_equal(block.values, wild, equal_nan=True)
    monitored(lines([*others, wild[:, :]]) if np.isfinite(value) else lines(others))


def test_rows_of_a_client_come_back_in_the_order_of_time() -> None:
    with tempfile.TemporaryDirectory() as folder:
        spool = Spool(Path(folder))
        for number in range(20_000):
            spool.add(Table(("b", "a"), [[number, number % 7]]), number % 130, -number)
        blocks = [block for part in spool.parts(next(iter(spool.tables.values()))) for block in part]
    values = np.concatenate([block.values for block in blocks])
    assert sorted(values[:, 1].tolist()) == list(range(20_000)), "columns are in the order of their names"
    clients = np.concatenate([block.clients for block in blocks])
    assert np.array_equal(values[:, 1] % 130, clients)
    assert all((np.diff(values[clients == client, 1]) < 0).all() for client in range(130))
