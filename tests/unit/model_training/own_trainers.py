"""Trainers as users write them: good ones, and one of each way to be wrong."""

import os
import signal
from typing import Any

import numpy as np


def forest_of_trees(features: Any, labels: Any, seed: int) -> Any:
    """A scikit-learn pipeline on the numbers only."""
    from sklearn.compose import ColumnTransformer
    from sklearn.ensemble import ExtraTreesClassifier
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import make_pipeline

    numbers = [name for name in features.columns if features[name].dtype != object]
    columns = ColumnTransformer([("number", SimpleImputer(), numbers)])
    return make_pipeline(columns, ExtraTreesClassifier(10, random_state=seed)).fit(features, labels)


def bare_xgboost(features: Any, labels: Any, seed: int) -> Any:
    """An XGBClassifier on the encoded matrix."""
    from xgboost import XGBClassifier

    from kfp_custody.components.model_training.features import describe, encode

    matrix = encode(features, describe(features))
    return XGBClassifier(n_estimators=20, random_state=seed, n_jobs=1).fit(matrix, labels)


def changes_its_arguments(features: Any, labels: Any, seed: int) -> Any:
    """Careless: works in place."""
    features.iloc[:, 0] = 0
    labels[:] = 1 - labels
    return forest_of_trees(features, 1 - labels, seed)


def fails(features: Any, labels: Any, seed: int) -> Any:
    """Raise with a value of the data in the message, as libraries do."""
    raise ValueError(f"could not convert string to float: {features.iloc[0].tolist()}")


def returns_nothing(features: Any, labels: Any, seed: int) -> Any:
    """Forget the return."""


def regresses(features: Any, labels: Any, seed: int) -> Any:
    """Return something without classes."""
    from sklearn.linear_model import LinearRegression

    return LinearRegression().fit(np.zeros((len(labels), 1)), labels)


class OwnClass:
    """An estimator that skops would have to trust blindly."""

    classes_ = np.array([0, 1])

    def predict_proba(self, features: Any) -> Any:
        """Say one half to everything."""
        return np.full((len(features), 2), 0.5)


def own_class(features: Any, labels: Any, seed: int) -> Any:
    """Return an instance of a class of one's own."""
    return OwnClass()


class BadNumbers(OwnClass):
    """Give what is no probability."""

    def predict_proba(self, features: Any) -> Any:
        """Return NaN."""
        return np.full((len(features), 2), np.nan)


def no_probabilities(features: Any, labels: Any, seed: int) -> Any:
    """Return an estimator that gives NaN."""
    return BadNumbers()


def unfaithful(features: Any, labels: Any, seed: int) -> Any:
    """Score otherwise than what is saved: the booster is changed behind the wrapper."""
    estimator = bare_xgboost(features, labels, seed)
    honest = estimator.predict_proba
    estimator.predict_proba = lambda matrix: honest(matrix) * 0.5 + 0.25
    return estimator


def dies(features: Any, labels: Any, seed: int) -> Any:
    """End the process as the kernel does when memory runs out."""
    os.kill(os.getpid(), signal.SIGKILL)


NOT_A_FUNCTION = 7
