"""What the model server says of its answers, for Prometheus: counts, seconds and probabilities, never an input.

| metric | labels | what |
|---|---|---|
| custody_inference_requests_total | model, version, outcome | answered, or refused: it does not fit the model |
| custody_inference_seconds | model, version | time from the request's tensors to the answer's |
| custody_inference_score | model, version | probability of class 1, a row |
| custody_inference_confidence | model, version | the greater of both classes' probabilities, a row |
| custody_inference_rows_total | model, version | rows answered |
| custody_input_gaps_total | model, version, feature | values that were missing, or categories not learned |
| custody_models_refused_total | | models that were not loaded: not verified, or not of a form that is |

A label is only ever the name of a model that was verified and loaded, its version, or a feature of its signature: what
a client writes into a request never becomes one. Series of a version end when it is unloaded.
"""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from prometheus_client import CollectorRegistry, Counter, Histogram, PlatformCollector, ProcessCollector

from kfp_custody.components.seldon_deployment.serving.inputs import Column

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

REGISTRY = CollectorRegistry(auto_describe=True)
ProcessCollector(registry=REGISTRY)
PlatformCollector(registry=REGISTRY)
_LABELS = ("model", "version")
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
_TENTHS = tuple(tenth / 10 for tenth in range(1, 11))
_CONFIDENCES = (0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 0.99, 1.0)

_requests = Counter(
    "custody_inference_requests", "Requests, by what became of them", (*_LABELS, "outcome"), registry=REGISTRY
)
_seconds = Histogram("custody_inference_seconds", "Seconds of an answer", _LABELS, registry=REGISTRY, buckets=_SECONDS)
_scores = Histogram("custody_inference_score", "Probability of class 1", _LABELS, registry=REGISTRY, buckets=_TENTHS)
_confidences = Histogram(
    "custody_inference_confidence",
    "The greater of both classes' probabilities",
    _LABELS,
    registry=REGISTRY,
    buckets=_CONFIDENCES,
)
_rows = Counter("custody_inference_rows", "Rows answered", _LABELS, registry=REGISTRY)
_gaps = Counter(
    "custody_input_gaps", "Values that were missing or not learned", (*_LABELS, "feature"), registry=REGISTRY
)

_models_refused = Counter("custody_models_refused", "Models that were not loaded", registry=REGISTRY)


def model_refused() -> None:
    """Count a model that was refused. It has no label: the names of such models are whatever somebody wrote there."""
    _models_refused.inc()


class Telemetry:
    """The series of one version of a model."""

    def __init__(self, model: str, version: str, features: tuple[str, ...]) -> None:
        """Begin the series, so that they are there, and zero, before the first request.

        Args:
            model: Name of the verified model.
            version: Of what is served under it.
            features: Names of the columns that it takes.
        """
        self._names, self._features = (model, version), features
        self._answered, self._refused = (_requests.labels(*self._names, how) for how in ("answered", "refused"))
        self._seconds, self._rows = _seconds.labels(*self._names), _rows.labels(*self._names)
        self._scores, self._confidences = _scores.labels(*self._names), _confidences.labels(*self._names)
        self._gaps = {feature: _gaps.labels(*self._names, feature) for feature in features}

    def answered(self, columns: Mapping[str, Column], probability: "NDArray[np.float64]", seconds: float) -> None:
        """Count an answer.

        Args:
            columns: The inputs as the model saw them, by feature.
            probability: Of class 1, shape (rows,).
            seconds: What it took.
        """
        self._answered.inc()
        self._seconds.observe(seconds)
        self._rows.inc(len(probability))
        for score in probability.tolist():
            self._scores.observe(score)
            self._confidences.observe(max(score, 1 - score))
        for feature, column in columns.items():
            if gaps := sum(map(_is_gap, column)):
                self._gaps[feature].inc(gaps)

    def refused(self, seconds: float) -> None:
        """Count a request that does not fit the model."""
        self._refused.inc()
        self._seconds.observe(seconds)

    def end(self) -> None:
        """Remove the series of a version that is served no more."""
        for outcome in ("answered", "refused"):
            _requests.remove(*self._names, outcome)
        for metric in (_seconds, _scores, _confidences, _rows):
            metric.remove(*self._names)
        for feature in self._features:
            _gaps.remove(*self._names, feature)


def _is_gap(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))
