"""Metrics of checks, in Prometheus' text format."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from kfp_custody.components.metrics_publishing.series import (
    COVERAGE,
    FAMILIES,
    ITEMS,
    LAST_RUN,
    NUMBERS,
    RESULT,
    RESULTS,
)


@dataclass(frozen=True)
class Check:
    """What the evidence of one check says: kind, result, when it ended, coverage, and its numbers by name."""

    kind: str
    result: str
    ended: datetime
    coverage: Mapping[str, float] = field(default_factory=dict)
    numbers: Mapping[str, float] = field(default_factory=dict)

    def samples(self) -> Iterator[tuple[str, str, float]]:
        """Yield metric, value of its own label, and number."""
        for result in RESULTS:
            yield RESULT, result, float(result == self.result)
        yield LAST_RUN, "", self.ended.timestamp()
        for outcome in COVERAGE:
            if outcome in self.coverage:
                yield ITEMS, outcome, self.coverage[outcome]
        for number, (metric, label) in NUMBERS[self.kind].items():
            if number in self.numbers:  # one that was not taken is absent, and not 0
                yield metric, label, self.numbers[number]


class Checks(Collector):
    """The metrics of some checks of one model."""

    def __init__(self, model: str, checks: Sequence[Check]) -> None:
        """Take the checks; no two may be of the same kind.

        Args:
            model: Name of the model, for the label.
            checks: What the evidence says.
        """
        self._model, self._checks = model, checks

    def collect(self) -> Iterable[GaugeMetricFamily]:
        """Return the metrics that have a value, in the order of the table."""
        made: dict[str, GaugeMetricFamily] = {}
        for name, family in FAMILIES.items():
            own = [family.label] if family.label else []
            made[name] = GaugeMetricFamily(name, family.help, labels=["model", "kind", *own])
        for check in self._checks:
            for name, label, value in check.samples():
                made[name].add_metric([self._model, check.kind, *([label] if FAMILIES[name].label else [])], value)
        return [each for each in made.values() if each.samples]


def registry(model: str, checks: Sequence[Check]) -> CollectorRegistry:
    """Return a registry with the metrics of some checks and nothing else."""
    made = CollectorRegistry(auto_describe=False)
    made.register(Checks(model, checks))
    return made


def exposition(model: str, checks: Sequence[Check]) -> bytes:
    """Return the metrics of some checks as text; the same for the same evidence."""
    return generate_latest(registry(model, checks))
