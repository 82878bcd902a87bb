"""Read a model directory and score rows with it, without pickle.

The directory holds `signature.json` (what goes in and how to read the model; the format is documented in
components/model_training/README.md) and one model file: XGBoost's binary JSON or skops. The caller has verified the
bytes before. A skops file names the Python types that it builds, so the types allowed beyond skops' own defaults stand
in this file; what the model says about itself is not believed.
"""

import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kfp_custody.components._shared import codes
from kfp_custody.components._shared.documents import DocumentFault, parse_json, require_keys
from kfp_custody.components._shared.errors import InputRefused

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

SIGNATURE = "signature.json"
TRUSTED_TYPES = frozenset(
    {
        "numpy.dtype",
        "sklearn._loss.link.Interval",
        "sklearn._loss.link.LogitLink",
        "sklearn._loss.loss.HalfBinomialLoss",
        "sklearn.calibration._CalibratedClassifier",
        "sklearn.calibration._SigmoidCalibration",
        "sklearn.compose._column_transformer._RemainderColsList",
        "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
        "sklearn.tree._tree.Tree",
        "xgboost.core.Booster",
        "xgboost.sklearn.XGBClassifier",
    }
)
_FORMATS = ("xgboost-ubj", "sklearn-skops")
LARGEST = 3.4028234e38  # of single precision, which XGBoost computes in


@dataclass(frozen=True)
class Feature:
    """One column that the model takes: `number`, or `category` with the categories that it learned."""

    name: str
    type: str
    categories: tuple[str, ...] = ()


@dataclass(frozen=True)
class Signature:
    """What `signature.json` says."""

    format: str
    file: str
    features: tuple[Feature, ...]
    label: str
    threshold: float
    trusted_types: frozenset[str]


@dataclass(frozen=True)
class Scorer:
    """A loaded model."""

    signature: Signature
    _predict: "Callable[[dict[str, NDArray[Any]]], NDArray[np.float64]]"

    @property
    def features(self) -> tuple[Feature, ...]:
        """The columns that the model takes, in its order."""
        return self.signature.features

    @property
    def threshold(self) -> float:
        """The probability from which a row counts as positive."""
        return self.signature.threshold

    def score(self, columns: "Mapping[str, NDArray[Any]]") -> "NDArray[np.float64]":
        """Return the probability of the positive class.

        Args:
            columns: One array of shape (rows,) a feature. Numbers: any numeric or boolean array, NaN or None when
                missing. Categories: strings, None when missing; one that the model did not learn counts as missing.

        Returns:
            Probabilities, shape (rows,).

        Raises:
            InputRefused: a column is missing or of another type, columns differ in length, a number is infinite or
                does not fit single precision, or the model cannot score the rows.
        """
        prepared = {feature.name: _prepared(feature, columns) for feature in self.features}
        if len({len(values) for values in prepared.values()}) != 1:
            raise _unscorable("the columns differ in length")
        try:
            return self._predict(prepared)
        except (ValueError, TypeError) as error:  # XGBoostError is a ValueError; both may quote data: name the type
            raise _unscorable(f"the model raised {type(error).__name__}") from error


Model = Path | Mapping[str, bytes]
"""A model directory, or its files in memory by name: the very bytes that somebody verified."""


def read_signature(model: Model) -> Signature:
    """Read `signature.json` strictly.

    Raises:
        InputRefused: it is missing or not of the documented form.
    """
    try:
        return _signature(parse_json(_bytes_of(model, SIGNATURE)))
    except (FileNotFoundError, KeyError) as error:
        raise _refused("it is missing") from error
    except DocumentFault as error:
        raise _refused(str(error), error.code) from error


def load_scorer(model: Model) -> Scorer:
    """Load a model whose bytes the caller has verified.

    Raises:
        InputRefused: the signature or the model file is missing, malformed, or holds a type that is not allowed.
    """
    signature = read_signature(model)
    try:
        data = _bytes_of(model, signature.file)
    except (FileNotFoundError, IsADirectoryError, KeyError) as error:
        raise _refused(f"it names the model file {signature.file!r}, which is missing") from error
    load = _xgboost if signature.format == "xgboost-ubj" else _skops
    return Scorer(signature, load(data, signature))


def _bytes_of(model: Model, name: str) -> bytes:
    return (model / name).read_bytes() if isinstance(model, Path) else model[name]


def _signature(document: Any) -> Signature:
    required = ("schema_version", "format", "file", "features", "label", "threshold", "trusted_types")
    root = require_keys(document, "it", required, ("classes", "versions"))
    if root["schema_version"] != 1 or root["format"] not in _FORMATS:
        raise DocumentFault(f"its schema_version is not 1 or its format is none of {', '.join(_FORMATS)}")
    file, label, threshold, types = root["file"], root["label"], root["threshold"], root["trusted_types"]
    if not isinstance(file, str) or file in ("", ".", "..", SIGNATURE) or "/" in file or "\\" in file or "\0" in file:
        raise DocumentFault("its file is no plain file name")
    if not isinstance(label, str) or not isinstance(threshold, int | float) or not 0 <= threshold <= 1:
        raise DocumentFault("its label is no text or its threshold no number from 0 to 1")
    if not _is_texts(types) or not isinstance(root["features"], list) or not root["features"]:
        raise DocumentFault("its trusted_types or features are no list, or there is no feature")
    features = tuple(_feature(entry, f"features[{number}]") for number, entry in enumerate(root["features"]))
    if len({feature.name for feature in features}) != len(features) or label in {feature.name for feature in features}:
        raise DocumentFault("a feature is named twice, or the label is a feature")
    return Signature(root["format"], file, features, label, float(threshold), frozenset(types))


def _feature(entry: Any, where: str) -> Feature:
    fields = require_keys(entry, where, ("name", "type"), ("categories",))
    categories = fields.get("categories", [])
    is_category = fields["type"] == "category"
    if not isinstance(fields["name"], str) or fields["type"] not in ("number", "category"):
        raise DocumentFault(f"{where} has no name or is neither number nor category")
    if not _is_texts(categories) or len(set(categories)) != len(categories) or is_category != ("categories" in fields):
        raise DocumentFault(f"{where} has no list of different categories, or has one without being a category")
    return Feature(fields["name"], fields["type"], tuple(categories))


def _is_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _prepared(feature: Feature, columns: "Mapping[str, NDArray[Any]]") -> "NDArray[Any]":
    import numpy as np

    if feature.name not in columns:
        raise _unscorable(f"the column {feature.name!r} is missing")
    if feature.type == "category":
        known = set(feature.categories)
        texts = [value if isinstance(value, str) and value in known else None for value in columns[feature.name]]
        return np.array(texts, dtype=object)
    try:
        numbers = np.asarray(columns[feature.name], dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise _unscorable(f"the column {feature.name!r} is no number") from error
    if (np.abs(numbers) > LARGEST).any():
        raise _unscorable(f"the column {feature.name!r} is infinite or does not fit single precision in some row")
    return numbers


def _xgboost(data: bytes, signature: Signature) -> "Callable[[dict[str, NDArray[Any]]], NDArray[np.float64]]":
    import numpy as np
    import xgboost

    try:
        booster = xgboost.Booster(model_file=bytearray(data))
    except xgboost.core.XGBoostError as error:
        raise _refused("the model file is no XGBoost model") from error
    if booster.num_features() != len(signature.features):
        raise _refused(f"it has {len(signature.features)} features, the model {booster.num_features()}")
    codes = {
        feature.name: {text: float(i) for i, text in enumerate(feature.categories)}
        for feature in signature.features
        if feature.type == "category"
    }
    best = booster.attr("best_iteration")
    rounds = (0, int(best) + 1 if best else 0)  # (0, 0) is all rounds; the same that XGBClassifier uses

    def predict(columns: "dict[str, NDArray[Any]]") -> "NDArray[np.float64]":
        matrix = np.empty((len(next(iter(columns.values()))), len(columns)), dtype=np.float64)
        for place, (name, values) in enumerate(columns.items()):
            code = codes.get(name)
            matrix[:, place] = values if code is None else [code.get(value, np.nan) for value in values]
        names, types = booster.feature_names, booster.feature_types
        rows = xgboost.DMatrix(matrix, feature_names=names, feature_types=types, enable_categorical=True)
        return _positive(booster.predict(rows, iteration_range=rounds))

    return predict


def _skops(data: bytes, signature: Signature) -> "Callable[[dict[str, NDArray[Any]]], NDArray[np.float64]]":
    from skops.io import get_untrusted_types, loads
    from skops.io.exceptions import UntrustedTypesFoundException

    if not signature.trusted_types <= TRUSTED_TYPES:
        raise _untrusted(signature.trusted_types - TRUSTED_TYPES)
    try:
        unknown = set(get_untrusted_types(data=data)) - TRUSTED_TYPES
        if unknown:
            raise _untrusted(unknown)
        model = loads(data, trusted=sorted(TRUSTED_TYPES))
    except (zipfile.BadZipFile, UntrustedTypesFoundException, ValueError, KeyError, TypeError, ImportError) as error:
        raise _refused(f"the model file is no skops file that can be read here ({type(error).__name__})") from error

    if not hasattr(model, "predict_proba"):
        raise _refused("the model gives no probabilities")

    def predict(columns: "dict[str, NDArray[Any]]") -> "NDArray[np.float64]":
        import pandas as pd

        frame = pd.DataFrame({name: pd.Series(values, dtype=values.dtype) for name, values in columns.items()})
        return _positive(model.predict_proba(frame))

    return predict


def _positive(scores: Any) -> "NDArray[np.float64]":
    """Return the positive class of (rows,) or (rows, 2) probabilities."""
    import numpy as np

    array = np.asarray(scores, dtype=np.float64)
    if array.ndim == 2 and array.shape[1] == 2:
        array = array[:, 1]
    if array.ndim != 1 or not ((array >= 0) & (array <= 1)).all():
        raise _unscorable("the model gives no probabilities of two classes")
    return array


def _untrusted(types: "set[str] | frozenset[str]") -> InputRefused:
    return InputRefused(
        "The model file would build Python types that are not on the allow-list.",
        evidence=f"not allowed: {', '.join(sorted(types)[:5])}",
        remedy="Train with estimators of scikit-learn or XGBoost; a new type must be reviewed and added in scoring.py.",
        code=codes.MODEL_TYPES,
    )


def _refused(why: str, code: str = codes.MODEL_UNREADABLE) -> InputRefused:
    return InputRefused(
        "The model directory cannot be read.",
        evidence=f"{SIGNATURE}: {why}",
        remedy="Use a model directory that train_model wrote.",
        code=code,
    )


def _unscorable(why: str) -> InputRefused:
    return InputRefused(
        "The rows cannot be scored.",
        evidence=why,
        remedy="Give the columns that the model's signature names.",
        code=codes.UNSCORABLE,
    )
