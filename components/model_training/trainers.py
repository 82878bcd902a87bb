"""The algorithms, and the small protocol for a user's own.

A trainer is a function `(features: DataFrame, labels, seed) -> fitted estimator`. What it returns is scored in one
of two ways: an `xgboost.XGBClassifier` on the encoded matrix, everything else on the frame itself.
"""

import importlib
import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from kfp_custody.components._shared.digests import Entry, Listing, sha256_file
from kfp_custody.components._shared.errors import CustodyError, Misconfigured
from kfp_custody.components._shared.images import VERSION
from kfp_custody.components._shared.processors import processors
from kfp_custody.components._shared.scoring import Feature
from kfp_custody.components.model_training.dataset import Labels
from kfp_custody.components.model_training.features import describe, encode

# What user code is likely to raise; anything else is shown with its traceback, as a bug.
_FAULTS = (ArithmeticError, AttributeError, ImportError, LookupError, RuntimeError, TypeError, ValueError)
# Threads wait for each other by spinning: on small data, or on cores shared with other pods, more of them are slower.
_ROWS_PER_THREAD = 250_000

Probabilities = npt.NDArray[np.float64]
Watch = tuple[Any, Labels]


@dataclass(frozen=True)
class Trainer:
    """What trains, where it comes from, and the digest of its source."""

    name: str
    uri: str
    sha256: str
    function: Callable[..., Any]
    own: bool

    def fit(self, frame: Any, labels: Labels, seed: int, watch: Watch | None = None) -> Any:
        """Return an estimator fitted on a frame of shape (rows, features).

        Args:
            frame: The features, as `model_frame` makes them.
            labels: 0 or 1, one a row.
            seed: Of everything random.
            watch: Another frame with its labels, scored each round for the event files; it decides nothing.

        Raises:
            Misconfigured: the user's trainer fails, or returns no binary classifier.
        """
        if not self.own:
            with _few_threads(len(frame)):
                return self.function(frame, labels, seed, watch)
        try:
            estimator = self.function(frame.copy(), labels.copy(), seed)
            classes = [int(value) for value in estimator.classes_]
            if classes != [0, 1] or not callable(estimator.predict_proba):
                raise ValueError(f"classes_ is {classes}")
        except CustodyError:
            raise
        except _FAULTS as error:
            raise Misconfigured(
                "The trainer failed, or returned no fitted classifier of the classes 0 and 1.",
                evidence=f"{self.name}: {type(error).__name__}",
                remedy="Run it by itself on a small frame; it must return an estimator with predict_proba.",
            ) from error
        return estimator


def load_trainer(algorithm: str, trainer: str) -> Trainer:
    """Return the user's trainer when one is named, else the algorithm.

    Raises:
        Misconfigured: the algorithm is unknown, or the trainer cannot be imported or has no source file.
    """
    if trainer:
        return _own_trainer(trainer)
    if algorithm not in ALGORITHMS:
        raise Misconfigured(
            "The algorithm is unknown.",
            evidence=f"algorithm={algorithm!r}; known are {', '.join(ALGORITHMS)}",
            remedy="Choose one of these, or name your own in trainer='module:function'.",
        )
    modules = sorted(Path(__file__).parent.glob("*.py"))
    sources = Listing(tuple(Entry(path.name, sha256_file(path)) for path in modules))
    return Trainer(algorithm, f"pkg:pypi/kfp-custody@{VERSION}", sources.sha256, ALGORITHMS[algorithm], own=False)


def is_xgboost(estimator: Any) -> bool:
    """Say whether an estimator is a bare XGBClassifier, without importing xgboost."""
    kind = type(estimator)
    return kind.__name__ == "XGBClassifier" and kind.__module__.partition(".")[0] == "xgboost"


def score(estimator: Any, frame: Any, features: Sequence[Feature]) -> Probabilities:
    """Return the probability of class 1, of shape (rows,).

    Raises:
        Misconfigured: what comes out are no probabilities of two classes.
    """
    try:
        with _few_threads(len(frame)):
            given = estimator.predict_proba(encode(frame, features) if is_xgboost(estimator) else frame)
        both = np.asarray(given, dtype=np.float64)
        if both.shape != (len(frame), 2) or not np.all((both >= 0) & (both <= 1)):
            raise ValueError("no probabilities of two classes")
    except _FAULTS as error:
        raise Misconfigured(
            "The estimator gives no probabilities of two classes.",
            evidence=f"{type(estimator).__name__}.predict_proba on {len(frame)} rows: {type(error).__name__}",
            remedy="predict_proba must take the frame (a bare XGBClassifier: the encoded matrix) and return (rows, 2).",
        ) from error
    probabilities: Probabilities = both[:, 1]
    return probabilities


def rounds(estimator: Any) -> dict[str, list[float]]:
    """Return the metrics of each boosting round as `<part>/<metric>` -> values; nothing for other estimators."""
    history = getattr(estimator, "evals_result_", None) or {}
    parts = {"validation_0": "train", "validation_1": "test"}
    return {
        f"{parts.get(part, part)}/{metric}": [float(value) for value in values]
        for part, metrics in history.items()
        for metric, values in metrics.items()
    }


def _threads(rows: int) -> int:
    return max(1, min(processors(), rows // _ROWS_PER_THREAD))


@contextmanager
def _few_threads(rows: int) -> Iterator[None]:
    """Keep OpenMP and BLAS from starting a thread for every core of the node."""
    import sklearn.utils  # noqa: F401  (only libraries that are loaded can be limited)
    from threadpoolctl import threadpool_limits

    with threadpool_limits(limits=_threads(rows)):
        yield


def _own_trainer(name: str) -> Trainer:
    module_name, colon, function_name = name.partition(":")
    try:
        if not (module_name and colon and function_name):
            raise ValueError("it has not the form module:function")
        function = getattr(importlib.import_module(module_name), function_name)
        source = Path(inspect.getsourcefile(function) or "")
        return Trainer(name, f"python:{name}", sha256_file(source), function, own=True)
    except (*_FAULTS, SyntaxError, OSError) as error:
        raise Misconfigured(
            "The trainer cannot be used.",
            evidence=f"trainer={name!r}: {type(error).__name__}",
            remedy="Give module:function of a function with a source file, in a module that the image has.",
        ) from error


def _xgboost(frame: Any, labels: Labels, seed: int, watch: Watch | None) -> Any:
    from xgboost import XGBClassifier

    features = describe(frame)
    matrix = encode(frame, features)
    sets = [(matrix, labels)]
    if watch:
        sets.append((encode(watch[0], features), watch[1]))
    # Class weights would spoil the probabilities; the threshold is what answers to a rare class.
    model = XGBClassifier(
        n_estimators=200,
        max_depth=4,
        learning_rate=0.05,
        min_child_weight=5,  # a rare class invites trees that learn single rows
        subsample=0.9,
        colsample_bytree=0.9,
        tree_method="hist",
        eval_metric="logloss",
        n_jobs=_threads(len(frame)),
        random_state=seed,
    )
    return model.fit(matrix, labels, eval_set=sets if watch else None, verbose=False)


def _logistic_regression(frame: Any, labels: Labels, seed: int, watch: Watch | None) -> Any:
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(max_iter=1000, random_state=seed)
    return _pipeline(frame, model, impute=True, scale=True).fit(frame, labels)


def _random_forest(frame: Any, labels: Labels, seed: int, watch: Watch | None) -> Any:
    from sklearn.ensemble import RandomForestClassifier

    model = RandomForestClassifier(
        n_estimators=100, max_depth=12, min_samples_leaf=5, n_jobs=processors(), random_state=seed
    )
    fitted = _pipeline(frame, model, impute=True).fit(frame, labels)
    return fitted.set_params(model__n_jobs=1)  # a server scores few rows at a time: threads would only cost


def _hist_gradient_boosting(frame: Any, labels: Labels, seed: int, watch: Watch | None) -> Any:
    from sklearn.ensemble import HistGradientBoostingClassifier

    model = HistGradientBoostingClassifier(
        max_iter=200, max_leaf_nodes=15, learning_rate=0.05, early_stopping=False, random_state=seed
    )
    return _pipeline(frame, model).fit(frame, labels)


def _pipeline(frame: Any, model: Any, *, impute: bool = False, scale: bool = False) -> Any:
    """Return a pipeline that takes the frame: categories one-hot (unknown and missing: all zero), numbers prepared."""
    from sklearn.compose import ColumnTransformer
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    features = describe(frame)
    steps: list[tuple[str, Any]] = []
    if impute:
        steps.append(("impute", SimpleImputer(strategy="median", add_indicator=True, keep_empty_features=True)))
    if scale:
        steps.append(("scale", StandardScaler()))
    numbers = [feature.name for feature in features if feature.type == "number"]
    texts = [feature for feature in features if feature.categories]
    one_hot = OneHotEncoder(
        categories=[list(feature.categories) for feature in texts], handle_unknown="ignore", sparse_output=False
    )
    parts = [
        ("number", Pipeline(steps) if steps else "passthrough", numbers),
        ("category", one_hot, [feature.name for feature in texts]),
    ]
    columns = ColumnTransformer([part for part in parts if part[2]], sparse_threshold=0.0)
    return Pipeline([("columns", columns), ("model", model)])


ALGORITHMS: dict[str, Callable[..., Any]] = {
    "logistic_regression": _logistic_regression,
    "random_forest": _random_forest,
    "hist_gradient_boosting": _hist_gradient_boosting,
    "xgboost": _xgboost,
}
