"""Real models, real Parquet files and constraints for audits."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import xgboost
from sklearn.linear_model import LogisticRegression

from kfp_custody.components._shared.columns import Columns, open_columns
from kfp_custody.components._shared.scoring import Feature, Scorer, Signature, load_scorer


def write_rows(root: Path, columns: Mapping[str, Any]) -> Columns:
    """Write a dataset and open it."""
    root.mkdir(parents=True)
    pq.write_table(pa.table({name: pa.array(values) for name, values in columns.items()}), root / "data.parquet")
    return open_columns(root, ["data.parquet"], "training")


def normal_rows(rows: int = 4000, features: int = 6, seed: int = 1) -> dict[str, Any]:
    """Return numbers on very different scales, and a label that two thirds of them tell."""
    random = np.random.default_rng(seed)
    plain = random.standard_normal((rows, features))
    told = plain[:, : features * 2 // 3].sum(axis=1) + random.standard_normal(rows)
    columns = {f"x{place}": 10.0**place * plain[:, place] + 7 for place in range(features)}
    return columns | {"y": (told > np.quantile(told, 0.8)).astype(np.int64)}


def signature(features: list[dict[str, Any]], form: str, file: str) -> bytes:
    """Return signature.json."""
    told = {"schema_version": 1, "format": form, "file": file, "features": features, "label": "y", "threshold": 0.5}
    return json.dumps(told | {"trusted_types": []}).encode()


def numbers(names: list[str]) -> list[dict[str, Any]]:
    """Return the features of a model of numbers."""
    return [{"name": name, "type": "number"} for name in names]


def logistic(columns: Mapping[str, Any], names: list[str]) -> tuple[Scorer, LogisticRegression, np.ndarray]:
    """Return a logistic regression that went through skops, the estimator, and the standard deviations."""
    import pandas as pd
    from skops.io import dumps

    frame = pd.DataFrame({name: columns[name] for name in names})
    deviations = frame.to_numpy().std(axis=0)
    # Standardised to fit well, and then written in the data's own units.
    fitted = LogisticRegression(max_iter=1000).fit((frame - frame.mean()) / deviations, columns["y"])
    fitted.intercept_ -= (fitted.coef_ * (frame.mean().to_numpy() / deviations)).sum()
    fitted.coef_ = fitted.coef_ / deviations
    files = {"model.skops": dumps(fitted), "signature.json": signature(numbers(names), "sklearn-skops", "model.skops")}
    return load_scorer(files), fitted, deviations


def boosted(matrix: np.ndarray, target: np.ndarray, names: list[str], **settings: Any) -> Scorer:
    """Return an XGBoost model of numbers that went through its file."""
    model = xgboost.XGBClassifier(n_jobs=1, **settings).fit(matrix, target)
    data = bytes(model.get_booster().save_raw("ubj"))
    files = {"model.ubj": data, "signature.json": signature(numbers(names), "xgboost-ubj", "model.ubj")}
    return load_scorer(files)


def by_formula(features: tuple[Feature, ...], formula: Any) -> Scorer:
    """Return a model that is a formula, so that its answers are known."""
    return Scorer(Signature("sklearn-skops", "m", features, "y", 0.5, frozenset()), formula)
