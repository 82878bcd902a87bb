"""How a canary is judged, with counts alone; and the walk through the steps, with a target that only counts."""

import itertools
import math
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import pytest

from kfp_custody.components._shared.errors import CustodyError, InputRefused, ServiceUnreachable
from kfp_custody.components.seldon_deployment.rollout import canary
from kfp_custody.components.seldon_deployment.rollout.analysis import (
    FAILED,
    PASSED,
    SKIPPED,
    WAITING,
    Counters,
    Limits,
    distance,
    judge,
    quantile,
    verdict,
)
from kfp_custody.components.seldon_deployment.rollout.stages import parse_limits
from kfp_custody.components.seldon_deployment.rollout.state import Rollout, Version, read_state, write_state
from kfp_custody.components.seldon_deployment.rollout.target import Placed

BOUNDS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, math.inf)
TENTHS = (*(tenth / 10 for tenth in range(1, 11)), math.inf)
LIMITS = Limits(samples=100)


def histogram(values: list[float], bounds: tuple[float, ...]) -> dict[float, float]:
    return {bound: float(sum(value <= bound for value in values)) for bound in bounds}


def counted(requests: int, errors: int = 0, seconds: float = 0.008, score: float = 0.1, seed: int = 0) -> Counters:
    """Requests whose seconds and scores scatter around a value."""
    chance = random.Random(seed)
    times = [seconds * chance.uniform(0.5, 1.5) for _ in range(requests)]
    scores = [min(max(chance.gauss(score, 0.1), 0), 1) for _ in range(requests)]
    return Counters(requests, errors, histogram(times, BOUNDS), histogram(scores, TENTHS))


def found(canary_: Counters, stable: Counters | None, limits: Limits = LIMITS) -> dict[str, str]:
    return {check.name: check.result for check in judge(canary_, stable, limits)}


ALL_PASSED = dict.fromkeys(("samples", "errors", "p99", "scores"), PASSED)


def test_a_version_like_the_stable_one_passes() -> None:
    assert found(counted(100, seed=1), counted(900)) == ALL_PASSED


def test_nothing_passes_without_samples() -> None:
    assert set(found(Counters(), counted(900)).values()) == {WAITING}
    assert found(counted(99, seed=1), counted(900))["samples"] == WAITING
    assert verdict(judge(counted(99, seed=1), counted(900), LIMITS)) == WAITING


def test_the_first_version_has_nobody_to_be_compared_with() -> None:
    assert found(counted(100), None) == ALL_PASSED | {"scores": SKIPPED}
    assert found(counted(100, errors=2), None)["errors"] == FAILED
    assert found(counted(100, seconds=0.9), None)["p99"] == FAILED


@pytest.mark.parametrize(("requests", "errors", "result"), [
    (100, 0, PASSED), (1000, 4, PASSED), (1000, 6, FAILED), (100, 1, FAILED), (10, 1, FAILED), (2, 2, FAILED),
    (99, 0, WAITING),
])  # fmt: skip
def test_errors_beside_a_stable_version_without_any(requests: int, errors: int, result: str) -> None:
    """Half a point more than none; and what cannot be mended any more is not waited for."""
    assert found(counted(requests, errors), counted(900))["errors"] == result


def test_errors_are_allowed_where_the_stable_version_has_them_too_but_not_beyond_the_limit() -> None:
    failing = counted(1000, errors=8)
    assert found(counted(1000, errors=9), failing)["errors"] == PASSED
    assert found(counted(1000, errors=11), failing)["errors"] == FAILED, "1 % is the end, whatever the stable one does"
    assert found(counted(1000, errors=30), counted(1000, errors=50))["errors"] == FAILED


def test_slow_answers_fail_and_one_slow_answer_does_not() -> None:
    stable = counted(900)
    assert found(counted(100, seconds=0.08, seed=1), stable)["p99"] == FAILED
    one_slow = counted(99, seed=1)
    one_slow = replace(one_slow, requests=100, seconds={
        bound: count + (bound >= 0.2) for bound, count in one_slow.seconds.items()
    })  # fmt: skip
    assert found(one_slow, stable)["p99"] == PASSED
    assert found(counted(100, seconds=0.4, seed=1), counted(900, seconds=0.4), LIMITS)["p99"] == FAILED, "0.5 s"


def test_a_version_as_fast_as_the_stable_one_is_seldom_called_slow() -> None:
    results = [found(counted(100, seed=seed), counted(900, seed=1000 + seed))["p99"] for seed in range(300)]
    assert results.count(FAILED) <= 2


@pytest.mark.parametrize(("score", "result"), [(0.1, PASSED), (0.12, PASSED), (0.5, FAILED), (0.9, FAILED)])
def test_scores_that_shifted(score: float, result: str) -> None:
    assert found(counted(200, score=score, seed=1), counted(900))["scores"] == result


def test_scores_of_one_distribution_are_seldom_called_shifted() -> None:
    strict = replace(LIMITS, score_distance=0.01)
    results = [found(counted(100, seed=seed), counted(900, seed=1000 + seed), strict)["scores"] for seed in range(300)]
    assert results.count(FAILED) <= 2


def test_scores_wait_for_both_versions() -> None:
    assert found(counted(100), counted(50))["scores"] == WAITING


def test_the_quantile_is_linear_within_its_bucket_and_ends_at_the_last_bound() -> None:
    halves = {1.0: 50.0, 2.0: 100.0, math.inf: 100.0}
    assert (quantile(halves, 0.5), quantile(halves, 0.75), quantile(halves, 1.0)) == (1.0, 1.5, 2.0)
    assert quantile({1.0: 0.0, math.inf: 10.0}, 0.99) == 1.0
    assert quantile({}, 0.99) == quantile({1.0: 0.0, math.inf: 0.0}, 0.99) == 0.0


def test_the_distance_is_that_of_the_shares() -> None:
    assert distance(histogram([0.05] * 10, TENTHS), histogram([0.95] * 1000, TENTHS)) == 1.0
    assert distance(histogram([0.05] * 10, TENTHS), histogram([0.05] * 3, TENTHS)) == 0.0
    assert distance({}, histogram([0.5], TENTHS)) == 0.0


def test_a_counter_that_began_anew_counts_from_there() -> None:
    assert counted(30).since(counted(100)).requests == 30
    assert counted(130).since(counted(100)).requests == 30


# --- the walk ---------------------------------------------------------------------------------------------------------


@dataclass
class Counting:
    """A target whose traffic is what a function of (version, weight) adds at each look."""

    traffic: Callable[[str, int], Counters]
    now: Rollout
    totals: dict[str, Counters] = field(default_factory=dict)
    shifts: list[int] = field(default_factory=list)
    looks: int = 0
    silent: Callable[[int], bool] = lambda look: False
    url: str = "https://nowhere"

    def state(self) -> Rollout:
        return self.now

    def place(self, admitted: object, run_id: str) -> Placed:
        raise NotImplementedError

    def shift(self, weight: int) -> Rollout:
        self.shifts.append(weight)
        self.now = replace(self.now, weight=weight)
        return self.now

    def promote(self) -> Rollout:
        raise NotImplementedError

    def roll_back(self) -> Rollout:
        raise NotImplementedError

    def counters(self) -> Mapping[str, Counters]:
        self.looks += 1
        if self.silent(self.looks):
            raise ServiceUnreachable("no metrics", evidence="", remedy="")
        for name, weight in self.now.weights.items():
            had, more = self.totals.get(name, Counters()), self.traffic(name, weight)
            bounds = {
                kind: {
                    bound: getattr(had, kind).get(bound, 0.0) + count for bound, count in getattr(more, kind).items()
                }
                for kind in ("seconds", "scores")
            }
            self.totals[name] = Counters(had.requests + more.requests, had.errors + more.errors, **bounds)
        return dict(self.totals)


OLD, NEW = (Version(letter * 64, "a" * 64, "b" * 64) for letter in "12")
PLACED = Rollout("fraud-detection", stable=OLD, canary=NEW, run_id="run-1")


class Clock:
    """Seconds that pass only while something waits."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def sleep(self, seconds: float) -> None:
        self.seconds += seconds

    def __call__(self) -> float:
        return self.seconds


def walk(target: Counting, **changes: object) -> canary.Analysis:
    clock = Clock()
    return canary.run(target, replace(LIMITS, **changes), clock.sleep, clock)


def test_a_healthy_canary_takes_every_step() -> None:
    target = Counting(lambda _, weight: counted(weight * 10), PLACED)
    done = walk(target)
    assert (done.result, target.shifts) == (canary.HEALTHY, [10, 25, 50, 100])
    assert [step.weight for step in done.steps] == [10, 25, 50, 100]
    assert all(step.canary.requests >= 100 for step in done.steps)


def test_a_failing_canary_loses_its_traffic_at_the_next_look() -> None:
    target = Counting(lambda name, w: counted(w * 10, errors=w if name == NEW.name else 0), PLACED)
    done = walk(target)
    assert (done.result, target.shifts) == (canary.UNHEALTHY, [10, 0])
    assert done.steps[-1].seconds <= 2 * LIMITS.interval_seconds


def test_a_canary_that_fails_late_loses_all_of_it() -> None:
    target = Counting(lambda name, w: counted(w * 10, errors=w if name == NEW.name and w >= 50 else 0), PLACED)
    assert (walk(target).result, target.shifts) == (canary.UNHEALTHY, [10, 25, 50, 0])


def test_too_few_samples_are_waited_for_and_then_given_up() -> None:
    target = Counting(lambda _, weight: counted(weight // 10), PLACED)
    done = walk(target, step_seconds=100.0)
    assert (done.result, target.shifts) == (canary.INCONCLUSIVE, [10, 0])
    assert 0 < done.steps[-1].canary.requests < 100
    seeds = itertools.count()
    patient = Counting(lambda _, weight: counted(weight // 10, seed=next(seeds)), PLACED)
    assert walk(patient, step_seconds=6000.0).result == canary.HEALTHY


def test_without_traffic_nothing_is_promoted() -> None:
    target = Counting(lambda _, weight: Counters(), PLACED)
    assert (walk(target).result, target.shifts) == (canary.INCONCLUSIVE, [10, 0])


def test_metrics_that_fail_for_a_while_only_delay() -> None:
    target = Counting(lambda _, weight: counted(weight * 10), PLACED, silent=lambda look: look in (1, 2, 5))
    assert walk(target).result == canary.HEALTHY


def test_without_metrics_nothing_is_promoted() -> None:
    target = Counting(lambda _, weight: counted(1000), PLACED, silent=lambda look: True)
    done = walk(target)
    assert (done.result, target.shifts) == (canary.INCONCLUSIVE, [10, 0])
    assert done.steps[-1].checks == ()


def test_metrics_that_end_when_the_step_could_pass_promote_nothing() -> None:
    target = Counting(lambda _, weight: counted(60, seed=1), PLACED, silent=lambda look: look > 1)
    assert walk(target).result == canary.INCONCLUSIVE


def test_a_rollout_that_was_cut_off_goes_on_with_its_step() -> None:
    target = Counting(lambda _, weight: counted(weight * 10), replace(PLACED, weight=25))
    target.totals = {NEW.name: counted(5000, errors=900), OLD.name: counted(5000)}
    done = walk(target)
    assert (done.result, target.shifts) == (canary.HEALTHY, [25, 50, 100])


def test_the_first_version_of_a_service_is_looked_at_with_all_the_traffic() -> None:
    target = Counting(lambda _, weight: counted(weight * 10), replace(PLACED, stable=None))
    assert (walk(target).result, target.shifts) == (canary.HEALTHY, [100])


# --- parameters and state ---------------------------------------------------------------------------------------------


GOOD = {"steps": "10,25,50,100", "samples": 100, "interval_seconds": 10, "step_seconds": 600, "error_ratio": 0.01,
        "p99_seconds": 0.5, "score_distance": 0.2}  # fmt: skip


def test_the_defaults_are_those_of_the_limits() -> None:
    assert parse_limits(**GOOD) == Limits()


@pytest.mark.parametrize("change", [
    {"steps": ""}, {"steps": "100,50"}, {"steps": "10,25,50"}, {"steps": "0,100"}, {"steps": "10,10,100"},
    {"steps": "ten,100"}, {"steps": "-5,100"}, {"samples": 0}, {"samples": 9}, {"interval_seconds": 0},
    {"step_seconds": 5}, {"error_ratio": 0.6}, {"error_ratio": -0.1}, {"p99_seconds": 0.0}, {"score_distance": 0.0},
    {"error_ratio": math.nan}, {"p99_seconds": math.inf},
])  # fmt: skip
def test_limits_that_would_let_a_canary_through_unseen(change: dict[str, object]) -> None:
    with pytest.raises(CustodyError):
        parse_limits(**GOOD | change)


def test_the_state_is_read_as_it_was_written() -> None:
    for state in (Rollout("a"), PLACED, replace(PLACED, weight=25), replace(PLACED, stable=None)):
        assert read_state(write_state(state), "here") == state


@pytest.mark.parametrize(("old", "new"), [
    ('"weight": 0', '"weight": 101'), ('"weight": 0', '"weight": "0"'), ('"service"', '"servicf"'),
    ("1" * 64, "1" * 63), ('"weight": 0', '"weight": 0, "more": 1'), ("}", ""), ('"run_id": "run-1"', '"run_id": null'),
])  # fmt: skip
def test_a_state_that_somebody_changed_is_refused(old: str, new: str) -> None:
    with pytest.raises(CustodyError, match="changed by somebody else"):
        read_state(write_state(PLACED).replace(old, new), "rollout.json")


def test_another_runs_canary_is_not_gone_on_with() -> None:
    from kfp_custody.components.seldon_deployment.rollout.target import require_canary
    from unit.seldon_deployment.test_seldon_v2 import ADMITTED

    with pytest.raises(InputRefused, match="not there any more"):
        require_canary(PLACED, ADMITTED, "run-1")
