"""The shared loader: the same probabilities as at training, and nothing but known types is built."""

import json

import numpy as np
import pandas as pd
import pytest
from drift_inputs import FEATURES, month, training_matrix, write_signature, write_xgboost

from kfp_custody.components._shared.errors import InputRefused
from kfp_custody.components._shared.scoring import load_scorer, read_signature


def columns_of(table):
    return {
        "amount": table["amount"].to_numpy(),
        "hour": table["hour"].to_numpy(),
        "is_foreign": table["is_foreign"].to_numpy(zero_copy_only=False),
        "channel": np.array(table["channel"].to_pylist(), dtype=object),
    }


def test_xgboost_scores_as_its_own_classifier_does(tmp_path):
    table = month(rows=500)
    model = write_xgboost(tmp_path, table)
    scorer = load_scorer(tmp_path)
    assert np.array_equal(scorer.score(columns_of(table)), model.predict_proba(training_matrix(table))[:, 1])
    assert [feature.name for feature in scorer.features] == [feature["name"] for feature in FEATURES]
    assert scorer.threshold == 0.5


def test_xgboost_takes_unknown_and_missing_categories_as_missing(tmp_path):
    table = month(rows=50)
    model = write_xgboost(tmp_path, table)
    columns = columns_of(table)
    columns["channel"][:25], columns["channel"][25:] = "satellite", None
    matrix = training_matrix(table)
    matrix[:, 3] = np.nan
    assert np.array_equal(load_scorer(tmp_path).score(columns), model.predict_proba(matrix)[:, 1])


@pytest.mark.parametrize("kind", ["forest", "boosting", "logistic"])
def test_skops_scores_as_its_own_pipeline_does(tmp_path, kind):
    from sklearn.compose import make_column_transformer
    from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder
    from skops.io import dump, get_untrusted_types

    estimator = {
        "forest": RandomForestClassifier(5, random_state=0),
        "boosting": HistGradientBoostingClassifier(max_iter=5),
        "logistic": LogisticRegression(max_iter=1000),
    }[kind]
    encoder = make_column_transformer((OneHotEncoder(handle_unknown="ignore"), ["channel"]), remainder="passthrough")
    columns = columns_of(month(rows=500)) | {"is_foreign": np.zeros(500)}
    frame = pd.DataFrame({name: pd.Series(values, dtype=values.dtype) for name, values in columns.items()})
    frame = frame.astype({"hour": float})
    pipeline = make_pipeline(encoder, estimator).fit(frame, (columns["amount"] > 40).astype(int))
    dump(pipeline, tmp_path / "model.skops")
    types = get_untrusted_types(file=tmp_path / "model.skops")
    write_signature(tmp_path, "sklearn-skops", "model.skops", trusted_types=types)
    assert np.allclose(load_scorer(tmp_path).score(columns), pipeline.predict_proba(frame)[:, 1], rtol=0, atol=1e-12)


def test_a_type_outside_the_list_is_not_built_whatever_the_signature_says(tmp_path):
    from skops.io import dump

    dump({"model": np.random.default_rng(0), "path": __import__("pathlib").PurePosixPath("/")}, tmp_path / "m.skops")
    write_signature(tmp_path, "sklearn-skops", "m.skops")
    with pytest.raises(InputRefused, match="allow-list"):
        load_scorer(tmp_path)
    write_signature(tmp_path, "sklearn-skops", "m.skops", trusted_types=["os.system"])
    with pytest.raises(InputRefused, match=r"os\.system"):
        load_scorer(tmp_path)


@pytest.mark.parametrize(
    "changes",
    [
        {"schema_version": 2},
        {"format": "pickle"},
        {"file": "../model.ubj"},
        {"file": "/etc/passwd"},
        {"file": "absent.ubj"},
        {"file": "signature.json"},
        {"features": []},
        {"features": FEATURES + FEATURES[:1]},
        {"features": [*FEATURES, {"name": "is_fraud", "type": "number"}]},
        {"features": [{"name": "amount", "type": "text"}]},
        {"features": [{"name": "channel", "type": "category"}]},
        {"features": FEATURES[:2]},
        {"threshold": 2},
        {"extra": 1},
    ],
)
def test_a_signature_of_any_other_form_is_refused(model_dir, changes):
    document = json.loads((model_dir / "signature.json").read_text())
    (model_dir / "signature.json").write_text(json.dumps(document | changes))
    with pytest.raises(InputRefused):
        load_scorer(model_dir)


def test_missing_and_damaged_files_are_refused(model_dir):
    (model_dir / "model.ubj").write_bytes(b"{}" * 50)
    with pytest.raises(InputRefused, match="no XGBoost model"):
        load_scorer(model_dir)
    write_signature(model_dir, "sklearn-skops", "model.ubj")
    with pytest.raises(InputRefused, match="no skops file"):
        load_scorer(model_dir)
    (model_dir / "signature.json").unlink()
    with pytest.raises(InputRefused, match="missing"):
        read_signature(model_dir)


@pytest.mark.parametrize("values", [np.array([np.inf]), np.array([1e39]), np.array(["twelve"]), np.array([1.0, 2.0])])
def test_rows_that_no_model_takes_are_refused_without_a_value_of_them(model_dir, values):
    columns = {"amount": values, "hour": np.ones(1), "is_foreign": np.ones(1), "channel": np.array([None])}
    with pytest.raises(InputRefused) as refusal:
        load_scorer(model_dir).score(columns)
    assert "twelve" not in str(refusal.value)


def test_a_missing_column_is_named(model_dir):
    with pytest.raises(InputRefused, match="'hour' is missing"):
        load_scorer(model_dir).score({"amount": np.ones(1)})
