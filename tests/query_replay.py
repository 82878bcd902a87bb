"""Query logs to replay: honest clients of a fraud model, and traces of attacks on it, all from fixed seeds.

The attacks ask a real XGBoost model. HopSkipJump (J. Chen, M. Jordan and M. Wainwright, 2020) walks along the decision
boundary by hard labels; here in its L2 form with geometric steps, all queries of a step at once. Jacobian augmentation
(N. Papernot et al., 2017; M. Juuti et al., 2019) copies a model by moving what it has along the copy's gradients.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.float64]
FEATURES = 30
NAMES = [f"v{number}" for number in range(FEATURES)]
MODEL = "fraud-detection"
START = 1_790_000_000.0  # 2026-09-21T14:13:20Z
HOURS = 24


@dataclass(frozen=True)
class Client:
    """A client: its name, what it is, and its queries in order."""

    name: str
    kind: str
    rows: Rows


@cache
def world() -> tuple[Rows, Rows]:
    """Return how the features hang together, and where fraud lies."""
    rng = np.random.default_rng(3)
    mixing = np.eye(FEATURES) + 0.35 * rng.normal(size=(FEATURES, FEATURES)) / np.sqrt(FEATURES)
    direction = np.where(np.arange(FEATURES) < 8, 2.0, 0.0) * rng.choice([-1.0, 1.0], FEATURES)
    return mixing, direction


def transactions(rng: np.random.Generator, rows: int, fraud: float) -> tuple[Rows, NDArray[np.bool_]]:
    """Return transactions, a share of them fraud: 28 components, an amount and an hour."""
    mixing, direction = world()
    label = rng.random(rows) < fraud
    values = rng.normal(size=(rows, FEATURES)) @ mixing + label[:, None] * direction
    values[:, -2] = np.round(np.exp(3.5 + 0.9 * values[:, -2]), 2)
    values[:, -1] = np.floor(rng.random(rows) * 24)
    return values, label


@cache
def model() -> Any:
    """Return a model that was trained on 8,000 transactions."""
    import xgboost

    rows, label = transactions(np.random.default_rng(4), 8000, 0.05)
    return xgboost.XGBClassifier(n_estimators=60, max_depth=4, n_jobs=1, random_state=0).fit(rows, label)


def scores(rows: Rows) -> Rows:
    """Return the model's probabilities of fraud."""
    return np.asarray(model().predict_proba(rows)[:, 1], dtype=np.float64)


def honest(seed: int, queries: int, kind: str = "plain") -> Rows:
    """Return the queries of an honest client: plain, with 20 % retries, or of a segment that is fraud alone."""
    rng = np.random.default_rng(seed)
    rows, _ = transactions(rng, queries, 1.0 if kind == "segment" else 0.002)
    if kind == "retries":
        again = np.flatnonzero(rng.random(queries) < 0.2)
        rows[again] = rows[np.maximum(again - rng.integers(1, 4, again.size), 0)]
    return rows


def hop_skip_jump(seed: int, queries: int) -> Rows:
    """Return the queries of attacks that make fraud look genuine, one target after the other."""
    rng = np.random.default_rng(seed)
    spread = transactions(np.random.default_rng(5), 2000, 0.0)[0].std(axis=0)
    asked: list[Rows] = []

    def passes(rows: Rows) -> NDArray[np.bool_]:
        asked.append(rows)
        return scores(rows * spread) < 0.5

    while sum(map(len, asked)) < queries:
        target = transactions(rng, 1, 1.0)[0][0] / spread
        if passes(target[None])[0]:
            continue
        point = honest(int(rng.integers(1 << 30)), 1)[0] / spread
        for step in range(1, 5):
            low, high = 0.0, 1.0  # shares of the way from the target to the point that passes
            for _ in range(10):
                middle = (low + high) / 2
                low, high = (low, middle) if passes((target + middle * (point - target))[None])[0] else (middle, high)
            point = target + high * (point - target)
            distance = float(np.linalg.norm(point - target))
            noise = rng.normal(size=(int(40 * np.sqrt(step)), FEATURES))
            noise /= np.linalg.norm(noise, axis=1, keepdims=True)
            signs = np.where(passes(point + 0.1 * distance / np.sqrt(FEATURES) * noise), 1.0, -1.0)
            gradient = ((signs - signs.mean())[:, None] * noise).mean(axis=0)
            gradient /= np.linalg.norm(gradient) or 1.0
            length = distance / np.sqrt(step)
            while length > 1e-6 and not passes((point + length * gradient)[None])[0]:
                length /= 2
            point = point + length * gradient
    return np.concatenate(asked)[:queries] * spread


def jacobian_augmentation(seed: int, queries: int) -> Rows:
    """Return the queries of an extraction: a few genuine rows, then what they become along the copy's gradients."""
    from sklearn.linear_model import LogisticRegression

    rng = np.random.default_rng(seed)
    known, _ = transactions(rng, 40, 0.3)
    spread = transactions(np.random.default_rng(5), 2000, 0.0)[0].std(axis=0)
    asked = [known]
    while sum(map(len, asked)) < queries:
        labels = scores(known) >= 0.5
        if labels.all() or not labels.any():
            labels[0] = not labels[0]
        copy = LogisticRegression(max_iter=200).fit(known / spread, labels)
        signs = np.sign(copy.coef_[0]) * np.where(labels, -1.0, 1.0)[:, None]
        new = known + 0.1 * spread * signs * rng.choice([1.0, 0.5], known.shape)
        asked.append(new)
        known = np.concatenate((known, new))
    return np.concatenate(asked)[:queries]


def population(honest_clients: int, attackers: int, queries: int) -> list[Client]:
    """Return clients: of the honest ones a sixth retry and a twelfth are of one segment; attackers of both kinds."""
    clients = []
    for number in range(honest_clients):
        kind = "retries" if number % 6 == 0 else "segment" if number % 12 == 1 else "plain"
        clients.append(Client(f"spiffe://bank.example/honest/{number}", kind, honest(1000 + number, queries, kind)))
    for number in range(attackers):
        kind, attack = (("evasion", hop_skip_jump), ("extraction", jacobian_augmentation))[number % 2]
        clients.append(Client(f"spiffe://bank.example/{kind}/{number}", kind, attack(5000 + number, queries)))
    return clients


def stamp(moment: float) -> str:
    """Return a time as logs have it."""
    from datetime import UTC, datetime

    return datetime.fromtimestamp(moment, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def pairs(clients: list[Client], seed: int = 7) -> Iterator[bytes]:
    """Yield the clients' queries as lines of request and response, all clients mixed, each one's own in order."""
    rng = np.random.default_rng(seed)
    owners = rng.permutation(np.repeat(np.arange(len(clients)), [len(client.rows) for client in clients]))
    answers = [np.round(scores(client.rows), 6).tolist() for client in clients]
    asked = [client.rows.tolist() for client in clients]
    places = [0] * len(clients)
    times = START + np.arange(owners.size) * (HOURS * 3600 / max(owners.size, 1))
    seconds = np.round(rng.lognormal(-5.0, 0.5, owners.size), 6).tolist()
    for moment, took, owner in zip(times.tolist(), seconds, owners.tolist(), strict=True):
        place = places[owner]
        places[owner] += 1
        line = {
            "time": stamp(moment),
            "client": clients[owner].name,
            "seconds": took,
            "status": 200,
            "request": {"data": {"names": NAMES, "ndarray": [asked[owner][place]]}},
            "response": {
                "model_name": MODEL,
                "outputs": [{"name": "probability", "datatype": "FP64", "shape": [1], "data": [answers[owner][place]]}],
            },
        }
        yield json.dumps(line, separators=(",", ":")).encode() + b"\n"
