"""The model directory: a model file that is no pickle, and `signature.json` beside it.

The format is in this room's README; `_shared/scoring.py` reads it. A model is read back before it is let out, because a
file that nobody can load, or that answers differently, would only be noticed where it is served.
"""

import json
import platform
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from kfp_custody.components._shared.errors import InputRefused
from kfp_custody.components._shared.scoring import SIGNATURE, TRUSTED_TYPES, Feature, load_scorer
from kfp_custody.components.model_training.trainers import Probabilities, is_xgboost

_XGBOOST = ("xgboost-ubj", "model.ubj", ("numpy", "xgboost-cpu"))
_SKOPS = ("sklearn-skops", "model.skops", ("numpy", "pandas", "scikit-learn", "scipy", "skops"))


def save_model(directory: Path, estimator: Any, features: Sequence[Feature], *, label: str, threshold: float) -> str:
    """Write a model and its signature into an existing directory.

    Returns:
        The format: `xgboost-ubj` or `sklearn-skops`.

    Raises:
        InputRefused: the estimator cannot be saved without pickle, or needs types that nobody reviewed.
        OSError: the directory cannot be written.
    """
    form, file, libraries = _XGBOOST if is_xgboost(estimator) else _SKOPS
    save = _save_xgboost if is_xgboost(estimator) else _save_skops
    trusted = save(estimator, directory / file)
    signature = {
        "schema_version": 1,
        "format": form,
        "file": file,
        "features": [_entry(feature) for feature in features],
        "label": label,
        "classes": [0, 1],
        "threshold": threshold,
        "trusted_types": trusted,
        "versions": {"python": platform.python_version(), **{name: version(name) for name in libraries}},
    }
    text = json.dumps(signature, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False)
    (directory / SIGNATURE).write_bytes(text.encode() + b"\n")
    return form


def require_faithful(directory: Path, frame: Any, expected: Probabilities) -> None:
    """Load a saved model as a server would, and refuse it when it answers otherwise than at training.

    Args:
        directory: What `save_model` wrote.
        frame: Some rows, of shape (rows, features).
        expected: What the estimator said about them, of shape (rows,).

    Raises:
        InputRefused: the model cannot be loaded, or its probabilities differ.
    """
    found = load_scorer(directory).score({name: frame[name].to_numpy() for name in frame.columns})
    gap = float(np.max(np.abs(found - expected)))
    if gap > 1e-6:  # single precision; in double precision the two are equal
        raise InputRefused(
            "The saved model does not answer like the trained one.",
            evidence=f"greatest difference of a probability over {len(expected)} rows: {gap:.3g}",
            remedy="A trainer must return everything that it does to the features as part of its estimator.",
        )


def _entry(feature: Feature) -> dict[str, Any]:
    entry: dict[str, Any] = {"name": feature.name, "type": feature.type}
    return entry | ({"categories": list(feature.categories)} if feature.type == "category" else {})


def _save_xgboost(estimator: Any, file: Path) -> list[str]:
    estimator.save_model(file)
    return []


def _save_skops(estimator: Any, file: Path) -> list[str]:
    from skops.io import dump, get_untrusted_types
    from skops.io.exceptions import UnsupportedTypeException

    try:
        dump(estimator, file)
        needed = set(get_untrusted_types(file=file))
    except (UnsupportedTypeException, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise _unsavable(f"{type(estimator).__name__}: {type(error).__name__}") from error
    unknown = sorted(needed - TRUSTED_TYPES)
    if unknown:
        raise _unsavable(f"{type(estimator).__name__} needs {', '.join(unknown[:5])}")
    return sorted(needed)


def _unsavable(evidence: str) -> InputRefused:
    return InputRefused(
        "The model cannot be saved in a format that runs no code when it is loaded.",
        evidence=evidence,
        remedy="Use estimators of scikit-learn or XGBoost; types outside TRUSTED_TYPES (scoring.py) need a review.",
    )
