"""Running a canary: a share, a look, the next share; the first failure sends everything back to the stable version."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from kfp_custody.components._shared.errors import ServiceUnreachable
from kfp_custody.components.seldon_deployment.rollout.analysis import (
    FAILED,
    PASSED,
    WAITING,
    Check,
    Counters,
    Limits,
    judge,
    verdict,
)
from kfp_custody.components.seldon_deployment.rollout.target import Target

HEALTHY, UNHEALTHY, INCONCLUSIVE = "HEALTHY", "UNHEALTHY", "INCONCLUSIVE"


@dataclass(frozen=True)
class Step:
    """One share of the traffic: percent, how long it was looked at, what was counted in it, and the last checks."""

    weight: int
    seconds: float
    canary: Counters
    checks: tuple[Check, ...]
    result: str


@dataclass(frozen=True)
class Analysis:
    """The steps, and what they come to: HEALTHY (every step passed), UNHEALTHY (one failed) or INCONCLUSIVE."""

    result: str
    steps: tuple[Step, ...] = ()


def run(
    target: Target,
    limits: Limits,
    sleep: Callable[[float], object] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> Analysis:
    """Take a placed canary through the steps; it ends with all the traffic, or with none.

    A rollout that was cut off goes on with the step that it was in, looked at from its beginning. What the metrics do
    not tell counts as nothing: without them no step passes.

    Args:
        target: the service, with a canary.
        limits: steps, samples, times and thresholds.
        sleep: waits, in seconds.
        clock: seconds that never go back.

    Raises:
        CustodyError: a share cannot be moved; the canary then keeps the share that it has.
    """
    begun, steps = target.state(), list[Step]()
    alone = begun.stable is None
    stable: Counters | None = None
    for weight in (100,) if alone else tuple(step for step in limits.steps if step >= begun.weight):
        target.shift(weight)
        step, stable = _look(target, weight, limits, stable, sleep, clock)
        steps.append(step)
        if step.result != PASSED:
            target.shift(0)
            return Analysis(UNHEALTHY if step.result == FAILED else INCONCLUSIVE, tuple(steps))
    return Analysis(HEALTHY, tuple(steps))


def _look(
    target: Target,
    weight: int,
    limits: Limits,
    stable_begun: Counters | None,
    sleep: Callable[[float], object],
    clock: Callable[[], float],
) -> tuple[Step, Counters | None]:
    """Look at one step until it passes, fails or is given up; return it and what the stable version began with."""
    now = target.state()
    canary_name = now.canary.name if now.canary else ""
    stable_name = now.stable.name if now.stable else None
    canary_begun: Counters | None = None
    started, counted, checks = clock(), Counters(), tuple[Check, ...]()
    while True:
        found = _read(target)
        if found is not None and canary_name in found:
            canary_begun = canary_begun or found[canary_name]
            counted = found[canary_name].since(canary_begun)
            beside = None
            if stable_name is not None:
                stable_begun = stable_begun or found.get(stable_name, Counters())
                beside = found.get(stable_name, Counters()).since(stable_begun)
            checks = judge(counted, beside, limits)
        result = verdict(checks) if found is not None and checks else WAITING
        elapsed = clock() - started
        if result != WAITING or elapsed >= limits.step_seconds:
            return Step(weight, elapsed, counted, checks, result), stable_begun
        sleep(min(limits.interval_seconds, max(limits.step_seconds - elapsed, 0.0)))


def _read(target: Target) -> dict[str, Counters] | None:
    try:
        return dict(target.counters())
    except ServiceUnreachable:
        return None
