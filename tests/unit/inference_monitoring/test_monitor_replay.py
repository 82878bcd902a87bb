"""Replayed query logs: every attack is found, and no honest client is accused."""

import tempfile
from collections import Counter
from pathlib import Path

import pytest

from kfp_custody.components._shared.profiles import profile_numbers
from kfp_custody.components.inference_monitoring.clients import digest
from kfp_custody.components.inference_monitoring.limits import load_limits
from kfp_custody.components.inference_monitoring.monitoring import Monitor, Monitored
from query_replay import HOURS, MODEL, Client, honest, hop_skip_jump, pairs, population, scores

HONEST = {"plain", "retries", "segment"}


def replay(clients: list[Client]) -> Monitored:
    profile = profile_numbers(scores(honest(1, 20_000)))
    with tempfile.TemporaryDirectory() as folder:
        monitor = Monitor(MODEL, load_limits("default"), None, profile, Path(folder))
        monitor.add_all(pairs(clients))
        return monitor.finish(HOURS, 0)


@pytest.fixture(scope="module")
def clients() -> list[Client]:
    return population(240, 20, 250)


def kinds(found: Monitored, clients: list[Client], check: str) -> Counter[str]:
    names = {digest(client.name): client.kind for client in clients}
    return Counter(names[name] for name in found.clients[check])


def test_the_attacks_are_attacks() -> None:
    """HopSkipJump ends with a row that passes, much closer to the fraud than the genuine row that it began from."""
    import numpy as np

    rows = hop_skip_jump(5000, 700)
    passing = rows[scores(rows) < 0.5]
    target = rows[0]
    assert scores(target[None])[0] >= 0.5
    distances = np.linalg.norm((passing - target) / rows.std(axis=0), axis=1)
    assert distances.min() < 0.5 * np.median(distances)


def test_every_attack_is_found_and_no_honest_client_is_accused(clients: list[Client]) -> None:
    found = replay(clients)
    assert {client.kind for client in clients} == HONEST | {"evasion", "extraction"}
    assert kinds(found, clients, "near_duplicates") == {"evasion": 10, "extraction": 10}
    assert found.verdict == "FAILED"
    assert found.lines.checked == 260 * 250
    assert kinds(found, clients, "budget") == {}


def test_honest_clients_alone_raise_no_alarm(clients: list[Client]) -> None:
    found = replay([client for client in clients if client.kind in HONEST])
    assert {check: list(those) for check, those in found.clients.items()} == {
        check: [] for check in ("near_duplicates", "budget", "out_of_distribution", "unauthorised", "probing")
    }
    assert found.names("FAILED") == []
    assert found.clients_seen == 240
