"""Starting a run, once where a key says so, and following it to its end.

A key makes a submit idempotent: an external scheduler that fires twice, or fires again after a crash, starts one run.
The key stands in the run's name, and a run of that name in the experiment counts unless it failed or was cancelled.
KFP has no unique names and no transactions, so two submits can still both find nothing and both start. Each therefore
looks again after an interval; the oldest run (by creation time, then id) stays, and whoever started another ends it.
The interval must be longer than the server takes from stamping a run to listing it: it stamps whole seconds, so a look
within that second could miss an older one.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from kfp_custody.components._shared import codes
from kfp_custody.components._shared.errors import InputRefused, ServiceUnreachable
from kfp_custody.components._shared.kfp_api import names

if TYPE_CHECKING:
    from kfp_custody.components._cli.kfp_api.client import Kfp
    from kfp_custody.components._cli.kfp_api.package import Package
    from kfp_custody.components._shared.kfp_api.client import Run, Version

_ENDED: Final = ("SUCCEEDED", "FAILED", "SKIPPED", "CANCELED")
# What these were to do was not done: firing again may start another. Unknown states count as running.
_UNDONE: Final = ("FAILED", "CANCELED", "CANCELING")
_MISSES: Final = 3  # looks in a row that may fail while a run is followed


@dataclass(frozen=True)
class Order:
    """What to run."""

    pipeline: "Package | Version"
    parameters: Mapping[str, Any]
    experiment: str
    service_account: str | None = None
    no_cache: bool = False


@dataclass(frozen=True)
class Submitted:
    """The run that there is now; `fresh`: this submit started it."""

    run: "Run"
    fresh: bool


def keyed_name(pipeline: str, key: str) -> str:
    """Return the name of a run with a key.

    Raises:
        InputRefused: key and pipeline together are too long for a name.
    """
    return names.require_name("run (pipeline and key)", f"{pipeline} [{key}]", names.DISPLAY)


def submit(kfp: "Kfp", order: Order, name: str) -> Submitted:
    """Start a run.

    Raises:
        InputRefused: a name does not fit.
        CustodyError: see `Transport.request`.
    """
    names.require_name("run", name, names.DISPLAY)
    return Submitted(_start(kfp, order, _experiment(kfp, order), name), fresh=True)


def submit_once(kfp: "Kfp", order: Order, name: str, interval: float) -> Submitted:
    """Start a run unless one of this name counts already.

    Args:
        kfp: The server.
        order: What to run.
        name: What `keyed_name` returned.
        interval: Seconds before the second look.

    Raises:
        InputRefused: a name does not fit.
        CustodyError: see `Transport.request`.
    """
    experiment_id = _experiment(kfp, order)
    standing = _standing(kfp, experiment_id, name)
    if standing:
        return Submitted(standing, fresh=False)
    own = _start(kfp, order, experiment_id, name)
    time.sleep(interval)
    first = _standing(kfp, experiment_id, name)
    if first is None or first.run_id == own.run_id:  # None: ours has failed already, and is ours to report
        return Submitted(own, fresh=True)
    kfp.terminate_run(own.run_id)
    return Submitted(first, fresh=False)


def follow(kfp: "Kfp", run: "Run", *, interval: float, timeout: float, tell: Callable[[str], None]) -> "Run":
    """Wait for the end of a run, telling each change of its state.

    Raises:
        InputRefused: it did not succeed.
        ServiceUnreachable: it did not end in time, or the server failed several looks in a row.
    """
    deadline, state, misses = time.monotonic() + timeout, "", 0
    while True:
        try:
            run, misses = kfp.run(run.run_id), 0
        except ServiceUnreachable:
            misses += 1
            if misses >= _MISSES:
                raise
        if run.state != state:
            state = run.state
            tell(f"run {run.run_id} {state}")
        if state in _ENDED:
            break
        if time.monotonic() > deadline:
            raise ServiceUnreachable(
                "The run did not end in the time that was waited; it goes on.",
                evidence=f"run {run.run_id} is {state or 'of no known state'} after {timeout:g} seconds",
                remedy="Wait longer with --timeout, or look at it in the user interface.",
                code=codes.RUN_UNFINISHED,
            )
        time.sleep(interval)
    if state != "SUCCEEDED":
        raise InputRefused(
            "The run did not succeed.",
            evidence=f"run {run.run_id} is {state}{f': {run.error}' if run.error else ''}",
            remedy="The user interface shows which task refused, and why. A run that the gate refuses fails as well.",
            code=codes.RUN_FAILED,
        )
    return run


def _experiment(kfp: "Kfp", order: Order) -> str:
    return kfp.experiment(names.require_name("experiment", order.experiment, names.EXPERIMENT))


def _start(kfp: "Kfp", order: Order, experiment_id: str, name: str) -> "Run":
    return kfp.start_run(
        experiment_id,
        name,
        order.pipeline,
        order.parameters,
        service_account=order.service_account,
        no_cache=order.no_cache,
    )


def _standing(kfp: "Kfp", experiment_id: str, name: str) -> "Run | None":
    """Return the oldest run of this name that counts."""
    counting = [run for run in kfp.runs(experiment_id, name) if run.state not in _UNDONE]
    return min(counting, key=lambda run: (run.created_at, run.run_id), default=None)
