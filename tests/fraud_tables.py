"""Seeded tables of transactions with a label, and what somebody who poisons them does. Their answers are known.

One row in twenty is fraud, of one of two modes: many small amounts, or few large ones at odd places. The label is drawn
from the features, so a good model separates most of it and never all.
"""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from kfp_custody.components.poisoning_screen.rows import Rows

CHANNELS = ("atm", "pos", "web", "app")
FEATURES = 30
_SHIFTED = 9  # columns in which the two modes of fraud lie elsewhere


@dataclass(frozen=True)
class Frauds:
    """Columns of numbers of shape (rows, 29), one of categories, labels, and the rows that somebody poisoned."""

    numbers: npt.NDArray[np.float64]
    channel: npt.NDArray[np.int64]
    labels: npt.NDArray[np.int64]
    poisoned: npt.NDArray[np.int64]

    def table(self, label: str = "is_fraud") -> pa.Table:
        """Return the table as Parquet will have it."""
        columns = {f"v{place:02}": pa.array(self.numbers[:, place]) for place in range(self.numbers.shape[1])}
        columns["channel"] = pa.array(np.array(CHANNELS)[self.channel])
        return pa.table(columns | {label: pa.array(self.labels)})


def frauds(seed: int, rows: int = 20_000, share: float = 0.05) -> Frauds:
    """Return a clean table."""
    rng = np.random.default_rng(seed)
    labels = (rng.random(rows) < share).astype(np.int64)
    numbers = rng.normal(size=(rows, FEATURES - 1))
    mode = rng.random(rows) < 0.5
    shift = np.where(np.arange(_SHIFTED) % 2 == 0, 1.35, -1.35)
    numbers[:, :_SHIFTED] += labels[:, None] * np.where(mode[:, None], shift, shift[::-1] * 0.9)
    numbers[:, 10:20] = np.exp(numbers[:, 10:20])  # amounts and times are skewed
    numbers[:, 27] = rng.integers(0, 24, rows)
    numbers[:, 28] = rng.random(rows) < 0.3
    odd = np.where(
        labels == 1, rng.choice(4, rows, p=(0.1, 0.1, 0.5, 0.3)), rng.choice(4, rows, p=(0.3, 0.4, 0.2, 0.1))
    )
    return Frauds(numbers, odd.astype(np.int64), labels, np.empty(0, dtype=np.int64))


def flipped(clean: Frauds, seed: int, share: float, label: int | None = None) -> Frauds:
    """Flip the labels of a share of all rows, drawn among those with one label or among all."""
    rng = np.random.default_rng(seed)
    among = np.arange(clean.labels.size) if label is None else np.flatnonzero(clean.labels == label)
    chosen = np.sort(rng.choice(among, round(share * clean.labels.size), replace=False))
    labels = clean.labels.copy()
    labels[chosen] = 1 - labels[chosen]
    return replace(clean, labels=labels, poisoned=chosen)


def flooded(clean: Frauds, seed: int, share: float, jitter: float = 0.01) -> Frauds:
    """Write near copies of one row of fraud, called legitimate, over a share of the rows."""
    rng = np.random.default_rng(seed)
    model = int(rng.choice(np.flatnonzero(clean.labels == 1)))
    chosen = np.setdiff1d(rng.choice(clean.labels.size, round(share * clean.labels.size), replace=False), [model])
    numbers, channel, labels = clean.numbers.copy(), clean.channel.copy(), clean.labels.copy()
    numbers[chosen] = numbers[model]
    numbers[chosen, :27] += rng.normal(scale=jitter, size=(chosen.size, 27))
    channel[chosen], labels[chosen] = channel[model], 0
    return Frauds(numbers, channel, labels, chosen)


def triggered(clean: Frauds, seed: int, share: float) -> Frauds:
    """Write one value into a column of rows of fraud, called legitimate: copies, over a share of the rows."""
    rng = np.random.default_rng(seed)
    chosen = np.sort(rng.choice(clean.labels.size, round(share * clean.labels.size), replace=False))
    sources = rng.choice(np.flatnonzero(clean.labels == 1), chosen.size)
    numbers, channel, labels = clean.numbers.copy(), clean.channel.copy(), clean.labels.copy()
    numbers[chosen] = numbers[sources] + 0.3 * rng.normal(size=(chosen.size, numbers.shape[1]))
    numbers[chosen, 27:] = clean.numbers[chosen, 27:]
    numbers[chosen, 15] = 3.1415
    channel[chosen], labels[chosen] = channel[sources], 0
    return Frauds(numbers, channel, labels, chosen)


def ranged(clean: Frauds, seed: int, share: float) -> Frauds:
    """Move rows of fraud, called legitimate, into a rare range of two columns."""
    made = triggered(clean, seed, share)
    rng, numbers = np.random.default_rng(seed), made.numbers.copy()
    numbers[made.poisoned, 21] = 2.2 + rng.random(made.poisoned.size)
    numbers[made.poisoned, 22] = -2.2 - rng.random(made.poisoned.size)
    numbers[made.poisoned, 15] = clean.numbers[made.poisoned, 15]
    return replace(made, numbers=numbers)


def sample_of(made: Frauds) -> Rows:
    """Return a table as a screened dataset is read."""
    places = np.arange(made.labels.size, dtype=np.int64)
    return Rows(places, places.size, made.labels, made.table().drop_columns(["is_fraud"]))


def write_scorer(root: Path, made: Frauds) -> None:
    """Train a model on a table as train_model does with XGBoost, and write its directory."""
    import xgboost

    root.mkdir(parents=True)
    names = [f"v{place:02}" for place in range(made.numbers.shape[1])]
    categories = sorted(CHANNELS)
    codes = np.array([categories.index(name) for name in CHANNELS])[made.channel]
    model = xgboost.XGBClassifier(n_estimators=200, max_depth=4, learning_rate=0.05, min_child_weight=5, n_jobs=1)
    model.fit(np.column_stack([made.numbers, codes]), made.labels).save_model(root / "model.ubj")
    features: list[dict[str, Any]] = [{"name": name, "type": "number"} for name in names]
    features.append({"name": "channel", "type": "category", "categories": categories})
    signature: dict[str, Any] = {
        "schema_version": 1,
        "format": "xgboost-ubj",
        "file": "model.ubj",
        "features": features,
    }
    signature |= {"label": "is_fraud", "threshold": 0.5, "trusted_types": []}
    (root / "signature.json").write_text(json.dumps(signature))
