"""Requests that never stop while something happens to a service, and what became of each."""

import itertools
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx
import numpy as np


@dataclass
class Traffic:
    """What became of the requests: (status, version) in the order of the answers."""

    answers: list[tuple[str, str]] = field(default_factory=list)

    def add(self, status: str, version: str) -> None:
        self.answers.append((status, version))

    def count(self, since: int = 0) -> Counter[str]:
        return Counter(status for status, _ in self.answers[since:])

    def versions(self, since: int = 0) -> Counter[str]:
        """Who answered, but for those that were not answered with 200."""
        return Counter(version for status, version in self.answers[since:] if status == "200")


def inputs(seed: int) -> list[dict[str, Any]]:
    """One row that a model of `unit.seldon_deployment.signed_models` takes, as tensors."""
    chance = np.random.default_rng(seed)
    return [
        {"name": "amount", "datatype": "FP64", "shape": [1, 1], "data": [float(chance.random())]},
        {"name": "channel", "datatype": "BYTES", "shape": [1, 1], "data": [str(chance.choice(["atm", "pos"]))]},
        {"name": "is_foreign", "datatype": "FP64", "shape": [1, 1], "data": [float(chance.integers(0, 2))]},
    ]


@contextmanager
def flowing(
    client: httpx.Client, ask: Callable[[httpx.Client, int], httpx.Response], version: str
) -> Iterator[Traffic]:
    """Send requests, one after the other, until the block ends.

    Args:
        client: closed at the end.
        ask: sends the request of a seed.
        version: field of the answer that says who answered.
    """
    traffic, done = Traffic(), threading.Event()

    def go() -> None:
        with client:
            for seed in itertools.count():
                if done.is_set():
                    return
                try:
                    answer = ask(client, seed)
                except httpx.TransportError as error:
                    traffic.add(type(error).__name__, "")
                    continue
                traffic.add(str(answer.status_code), answer.json()[version] if answer.is_success else "")

    thread = threading.Thread(target=go)
    thread.start()
    try:
        yield traffic
    finally:
        done.set()
        thread.join()
