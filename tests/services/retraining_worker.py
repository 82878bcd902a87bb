"""Start what is due, in a process of its own that is killed at a point: python retraining_worker.py POINT.

The settings come from the environment, as in a task. The points: `claimed`, `looked`, `renewed`, `started`, `settled`,
`recorded` (of a process that is killed right after that step), `frozen` (which stops before the request that starts
a run, until somebody continues it) and `none`.
"""

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

from kfp_custody.components._shared.settings import load_watch_settings
from kfp_custody.components.retraining.claims import STARTED, Claim, Standing, key_of
from kfp_custody.components.retraining.once import Timing, start_once
from kfp_custody.components.retraining.opening import open_starter, open_store
from kfp_custody.components.retraining.orders import load_orders
from kfp_custody.components.retraining.windows import parse_time

TIMING = Timing(lease=1.0, skew=1.0, poll=0.05, patience=20.0)


class Dying:
    """Passes everything on to a real part, and kills this process after one of its steps."""

    def __init__(self, part: Any, point: str) -> None:
        self.part, self.point = part, point

    def __getattr__(self, name: str) -> Any:
        call = getattr(self.part, name)

        def step(*arguments: Any) -> Any:
            if name == "start" and self.point == "frozen":
                os.kill(os.getpid(), signal.SIGSTOP)
            done = call(*arguments)
            if done is not None or name == "find":
                self.end(name, arguments)
            return done

        return step

    def end(self, name: str, arguments: tuple[Any, ...]) -> None:
        claim = next((each for each in arguments if isinstance(each, Claim)), None)
        before = next((each.claim for each in arguments if isinstance(each, Standing)), None)
        happened = {"create": "claimed", "find": "looked", "start": "started", "settle": "settled"}.get(name)
        if name == "replace" and claim and before:
            taken = claim.holder != before.holder
            happened = "claimed" if taken else "recorded" if claim.state == STARTED else "renewed"
        if happened == self.point:
            os.kill(os.getpid(), signal.SIGKILL)


def main(point: str, due: dict[str, str]) -> None:
    watch = load_watch_settings(Path("/nowhere/trust.yaml"))
    order = load_orders(watch.orders_file).order("small")
    starter = Dying(open_starter(watch, order, parse_time(due["time"])), point)
    store = Dying(open_store(watch), point)
    done = start_once(store, starter, key_of(due), due, holder=f"process {os.getpid()}", timing=TIMING)
    print(json.dumps([done.how, done.run_id]))


if __name__ == "__main__":
    main(sys.argv[1], json.loads(sys.argv[2]))
