"""Small real months and models for the drift tests, built by hand."""

import json
from collections import Counter

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from kfp_custody.components.drift_detection.sides import Side, Texts

CHANNELS = ["atm", "online", "pos"]
FEATURES = [
    {"name": "amount", "type": "number"},
    {"name": "hour", "type": "number"},
    {"name": "is_foreign", "type": "number"},
    {"name": "channel", "type": "category", "categories": CHANNELS},
]


def month(rows=6000, seed=0, amount_shift=0.0, fraud=0.03):
    rng = np.random.default_rng(seed)
    return {
        "transaction_id": pa.array([f"t{n}" for n in range(rows)]),
        "amount": pa.array(rng.lognormal(3 + amount_shift, 1, rows)),
        "hour": pa.array(rng.integers(0, 24, rows)),
        "is_foreign": pa.array(rng.random(rows) < 0.1),
        "channel": pa.array(rng.choice(CHANNELS, rows, p=[0.2, 0.3, 0.5])),
        "is_fraud": pa.array((rng.random(rows) < fraud).astype(np.int64)),
    }


def texts(values):
    counts = Counter(values)
    missing = counts.pop(None, 0)
    return Texts(Side(len(values), missing), counts)


def write_month(root, columns):
    root.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), root / "data.parquet")
    return root


def training_matrix(columns):
    channel = [float(CHANNELS.index(text)) for text in columns["channel"].to_pylist()]
    numbers = [columns[name].cast(pa.float64()).to_numpy() for name in ("amount", "hour")]
    foreign = columns["is_foreign"].cast(pa.int8()).cast(pa.float64()).to_numpy()
    return np.column_stack([*numbers, foreign, channel])


def write_signature(root, form, file, features=FEATURES, **changes):
    document = {
        "schema_version": 1,
        "format": form,
        "file": file,
        "features": features,
        "label": "is_fraud",
        "classes": [0, 1],
        "threshold": 0.5,
        "trusted_types": [],
        "versions": {},
    }
    (root / "signature.json").write_text(json.dumps(document | changes))


def write_xgboost(root, columns, seed=0):
    import xgboost

    root.mkdir(parents=True, exist_ok=True)
    matrix = training_matrix(columns)
    target = (matrix[:, 0] > np.quantile(matrix[:, 0], 0.9)) | (np.random.default_rng(seed).random(len(matrix)) < 0.02)
    model = xgboost.XGBClassifier(n_estimators=8, max_depth=3, n_jobs=1).fit(matrix, target.astype(int))
    model.save_model(root / "model.ubj")
    write_signature(root, "xgboost-ubj", "model.ubj")
    return model
