"""Retraining on this machine: a command in a process of its own, once for each claim.

What KFP's names cannot do, a folder can: the process makes `runs/<claim>` first of all, which only one can, and ends
when another was first. It goes on when its starter ends. `order.json` says what was asked for, `log` what the command
said, `state` is RUNNING, SUCCEEDED or FAILED.

    python -m kfp_custody.components.retraining.local_starter RUNS KEY ORDER-JSON COMMAND...
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Final

from kfp_custody.components._shared import codes
from kfp_custody.components._shared.errors import ServiceUnreachable
from kfp_custody.components._shared.files import write_atomic
from kfp_custody.components.retraining.orders import Order

_BEGIN_SECONDS: Final = 60.0
SECOND: Final = 3  # exit status of a process that was not the first


class LocalStarter:
    """Starts a command of this machine for an order."""

    def __init__(self, folder: Path, command: Sequence[str], order: Order, moment: datetime) -> None:
        """Start nothing yet; runs are kept in `folder`."""
        self._runs, self._command = folder / "runs", tuple(command)
        said = {"pipeline": order.pipeline, "version": order.version, "parameters": order.at(moment)}
        self._order = json.dumps(said, sort_keys=True)

    def find(self, key: str) -> str | None:
        """Return the run of a claim when its folder is there."""
        return run_id(key) if (self._runs / key).is_dir() else None

    def start(self, key: str) -> str:
        """Start the process and wait until it has begun.

        Raises:
            ServiceUnreachable: it did not.
        """
        self._runs.mkdir(parents=True, exist_ok=True)
        own = [sys.executable, "-m", "kfp_custody.components.retraining.local_starter"]
        process = subprocess.Popen(  # noqa: S603  (the platform's own command, without a shell)
            [*own, str(self._runs), key, self._order, *self._command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            env={name: value for name, value in os.environ.items() if name != "_KFP_RUNTIME"},  # it is no task
        )
        end = time.monotonic() + _BEGIN_SECONDS
        while self.find(key) is None:
            if process.poll() is not None or time.monotonic() > end:
                raise ServiceUnreachable(
                    "The local retraining did not begin.",
                    evidence=f"{self._command[0]}: {'it ended' if process.poll() is not None else 'no sign of it'}",
                    remedy="Run CUSTODY_RETRAIN_COMMAND by hand and see what it says.",
                    code=codes.CLAIMS_SILENT,
                )
            time.sleep(0.02)
        return run_id(key)

    def settle(self, key: str, run_id: str) -> str:
        """Return the run: of a claim there is one at most."""
        del key
        return run_id

    def link(self, run_id: str) -> str:
        """Return where the run is kept."""
        return str(self._runs / run_id.removeprefix("local-"))


def run_id(key: str) -> str:
    """Return the id of a claim's run."""
    return f"local-{key}"


def main(runs: str, key: str, order: str, *command: str) -> int:
    """Run the command when this process is the first of its claim."""
    folder = Path(runs, key)
    try:
        folder.mkdir()
    except FileExistsError:
        return SECOND
    write_atomic(folder / "order.json", order.encode())
    write_atomic(folder / "state", b"RUNNING")
    with (folder / "log").open("wb") as log:
        given = [*command, str(folder / "order.json"), str(folder)]
        done = subprocess.run(given, stdout=log, stderr=subprocess.STDOUT, check=False).returncode  # noqa: S603
    write_atomic(folder / "state", b"FAILED" if done else b"SUCCEEDED")
    return done


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
