"""Trainers and the saved model: what is loaded answers like what was trained."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from training_data import transactions

from kfp_custody.components._shared.digests import list_tree, sha256_file
from kfp_custody.components._shared.errors import InputRefused, Misconfigured
from kfp_custody.components._shared.scoring import SIGNATURE, TRUSTED_TYPES, load_scorer
from kfp_custody.components.model_training.dataset import read_labels, split_rows
from kfp_custody.components.model_training.features import model_frame, select_features
from kfp_custody.components.model_training.fitting import Data, Fit, fit_model
from kfp_custody.components.model_training.saving import require_faithful, save_model
from kfp_custody.components.model_training.trainers import ALGORITHMS, load_trainer, rounds

OWN = "own_trainers:"


@pytest.fixture(scope="module")
def data() -> Data:
    table = transactions(1500)
    labels = read_labels(table, "is_fraud")
    split = split_rows(table, labels, "timestamp", 0.25, 7)
    selection = select_features(table, split.train, "is_fraud", "timestamp")
    return Data(model_frame(table, selection.features), labels, split, selection)


@pytest.mark.parametrize(
    ("algorithm", "trainer", "form"),
    [
        ("xgboost", "", "xgboost-ubj"),
        ("logistic_regression", "", "sklearn-skops"),
        ("random_forest", "", "sklearn-skops"),
        ("hist_gradient_boosting", "", "sklearn-skops"),
        ("xgboost", OWN + "forest_of_trees", "sklearn-skops"),
        ("xgboost", OWN + "bare_xgboost", "xgboost-ubj"),
    ],
)
def test_loaded_model_gives_the_probabilities_of_training(
    tmp_path: Path, data: Data, algorithm: str, trainer: str, form: str
) -> None:
    fit = fit_model(load_trainer(algorithm, trainer), data, 7)
    assert fit.metrics["roc_auc"] > 0.75
    assert save_model(tmp_path, fit.estimator, data.selection.features, label="is_fraud", threshold=0.25) == form
    scorer = load_scorer(tmp_path)
    test = data.frame.iloc[data.split.test]
    found = scorer.score({name: test[name].to_numpy() for name in test.columns})
    np.testing.assert_allclose(found, fit.probabilities, rtol=0, atol=1e-7)
    one = {name: test[name].to_numpy()[:1] for name in test.columns}
    np.testing.assert_allclose(scorer.score(one), fit.probabilities[:1], rtol=0, atol=1e-7)
    assert scorer.threshold == 0.25
    assert scorer.features == data.selection.features
    document = json.loads((tmp_path / SIGNATURE).read_bytes())
    assert set(document["trusted_types"]) <= TRUSTED_TYPES
    assert document["classes"] == [0, 1]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([document["file"], SIGNATURE])


def test_unknown_and_missing_categories_score_alike(tmp_path: Path, data: Data) -> None:
    for algorithm in ("xgboost", "logistic_regression"):
        place = tmp_path / algorithm
        place.mkdir()
        fit = fit_model(load_trainer(algorithm, ""), data, 7)
        save_model(place, fit.estimator, data.selection.features, label="is_fraud", threshold=0.5)
        rows = {name: data.frame[name].to_numpy()[:3].copy() for name in data.frame.columns}
        unknown, missing = (
            load_scorer(place).score(rows | {"channel": np.array([v] * 3, object)}) for v in ("fax", None)
        )
        np.testing.assert_array_equal(unknown, missing)


@pytest.mark.parametrize("algorithm", ["xgboost", "logistic_regression"])
def test_the_same_seed_gives_the_same_model(tmp_path: Path, data: Data, algorithm: str) -> None:
    digests = set()
    for attempt in ("first", "second"):
        (tmp_path / attempt).mkdir()
        fit = fit_model(load_trainer(algorithm, ""), data, 7)
        save_model(tmp_path / attempt, fit.estimator, data.selection.features, label="is_fraud", threshold=0.5)
        scorer = load_scorer(tmp_path / attempt)
        digests.add(scorer.score({name: data.frame[name].to_numpy() for name in data.frame.columns}).tobytes())
        if algorithm == "xgboost":
            digests.add(list_tree(tmp_path / attempt).sha256)
    assert len(digests) == (2 if algorithm == "xgboost" else 1)


def test_xgboost_tells_of_each_round(data: Data) -> None:
    fit = fit_model(load_trainer("xgboost", ""), data, 7)
    assert set(fit.rounds) == {"train/logloss", "test/logloss"}
    assert len(fit.rounds["train/logloss"]) == 200
    assert fit.rounds["train/logloss"][-1] < fit.rounds["train/logloss"][0]
    assert rounds(object()) == {}


def test_test_part_decides_nothing(data: Data) -> None:
    """Other labels in the test part change its figures, not the model and not the threshold."""
    labels = data.labels.copy()
    labels[data.split.test] = 1 - labels[data.split.test]
    trainer = load_trainer("xgboost", "")
    honest, turned = (
        fit_model(trainer, data, 7),
        fit_model(trainer, Data(data.frame, labels, data.split, data.selection), 7),
    )
    np.testing.assert_array_equal(honest.probabilities, turned.probabilities)
    assert honest.metrics["threshold"] == turned.metrics["threshold"]
    assert turned.metrics["roc_auc"] == pytest.approx(1 - honest.metrics["roc_auc"])


def test_few_positives_still_get_a_threshold(data: Data) -> None:
    labels = np.zeros_like(data.labels)
    labels[[data.split.train[0], data.split.test[0]]] = 1
    fit = fit_model(load_trainer("logistic_regression", ""), Data(data.frame, labels, data.split, data.selection), 7)
    assert fit.metrics["threshold"] == 0.5
    labels[data.split.train[:6]] = 1  # all of them early: nothing to hold back by time
    fit = fit_model(load_trainer("logistic_regression", ""), Data(data.frame, labels, data.split, data.selection), 7)
    assert 0 < fit.metrics["threshold"] <= 1


def test_own_trainer_cannot_change_the_data(data: Data) -> None:
    before = data.frame.copy(), data.labels.copy()
    fit_model(load_trainer("", OWN + "changes_its_arguments"), data, 7)
    assert data.frame.equals(before[0])
    np.testing.assert_array_equal(data.labels, before[1])


@pytest.mark.parametrize("name", ["fails", "returns_nothing", "regresses", "no_probabilities"])
def test_bad_trainers_are_refused_without_a_value_of_the_data(data: Data, name: str) -> None:
    with pytest.raises(Misconfigured) as refusal:
        fit_model(load_trainer("", OWN + name), data, 7)
    assert "could not convert" not in str(refusal.value)


@pytest.mark.parametrize("name", ["own_class", "unfaithful"])
def test_models_that_cannot_be_kept_are_refused(tmp_path: Path, data: Data, name: str) -> None:
    fit = fit_model(load_trainer("", OWN + name), data, 7)
    with pytest.raises(InputRefused, match="saved") as refusal:
        keep(tmp_path, fit, data)
    assert {"own_class": "own_trainers.OwnClass", "unfaithful": "greatest difference"}[name] in refusal.value.evidence


def keep(directory: Path, fit: Fit, data: Data) -> None:
    save_model(directory, fit.estimator, data.selection.features, label="is_fraud", threshold=0.5)
    require_faithful(directory, data.frame.iloc[data.split.test], fit.probabilities)


@pytest.mark.parametrize(
    "trainer",
    [
        "own_trainers",
        "own_trainers:",
        ":fails",
        "own_trainers:absent",
        "no.such.module:train",
        "own_trainers:NOT_A_FUNCTION",
    ]
    + ["builtins:print", "..:x", "own_trainers:fails:more", "\0:x"],
)
def test_trainers_that_cannot_be_used_are_refused(trainer: str) -> None:
    with pytest.raises(Misconfigured, match="trainer cannot be used"):
        load_trainer("xgboost", trainer)


@pytest.mark.parametrize("algorithm", ["", "XGBoost", "lightgbm", "__class__"])
def test_unknown_algorithm_is_refused_and_the_known_are_named(algorithm: str) -> None:
    with pytest.raises(Misconfigured, match="algorithm is unknown") as refusal:
        load_trainer(algorithm, "")
    assert ", ".join(ALGORITHMS) in refusal.value.evidence


def test_trainer_wins_over_algorithm_and_its_source_is_digested() -> None:
    trainer = load_trainer("no such algorithm", OWN + "bare_xgboost")
    assert (trainer.name, trainer.uri) == ("own_trainers:bare_xgboost", "python:own_trainers:bare_xgboost")
    assert trainer.sha256 == sha256_file(Path(__file__).parent / "own_trainers.py")


def test_source_of_the_algorithms_is_digested() -> None:
    one, other = (load_trainer(name, "") for name in ("xgboost", "random_forest"))
    assert one.sha256 == other.sha256
    assert one.uri.startswith("pkg:pypi/kfp-custody@")


def test_saved_signature_is_stable_text(tmp_path: Path, data: Data) -> None:
    fit: Any = fit_model(load_trainer("logistic_regression", ""), data, 7)
    save_model(tmp_path, fit.estimator, data.selection.features, label="étiquette", threshold=0.5)
    text = (tmp_path / SIGNATURE).read_text(encoding="utf-8")
    assert "étiquette" in text
    assert text == json.dumps(json.loads(text), indent=1, sort_keys=True, ensure_ascii=False) + "\n"
