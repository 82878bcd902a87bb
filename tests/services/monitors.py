"""Servers of the Prometheus family for tests, each on a port that the kernel gives it: no two tests can meet."""

import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

PATIENCE = 60.0  # of a busy machine; on an idle one each step takes a second or two
_LISTENS = re.compile(r'msg="Listening on" address=127\.0\.0\.1:(\d+)')


def wait_for(told: Callable[[], Any], what: str) -> Any:
    """Return what is told once it is something."""
    deadline = time.monotonic() + PATIENCE
    while not (found := told()):
        assert time.monotonic() < deadline, f"{what} did not happen"
        time.sleep(0.1)
    return found


@contextmanager
def running(program: str, root: Path, *options: str) -> Iterator[int]:
    """Run a server until the block ends; yields its port once it listens."""
    found = shutil.which(program)
    assert found, f"{program} is part of the tools of CI: apt-get install {program}"
    log = root / f"{program}.log"
    command = [found, "--web.listen-address=127.0.0.1:0", *options]
    with log.open("w") as file, subprocess.Popen(command, stdout=file, stderr=file, cwd=root) as process:

        def port() -> int:
            assert process.poll() is None, log.read_text()
            told = _LISTENS.search(log.read_text())
            return int(told[1]) if told else 0

        try:
            yield wait_for(port, f"{program} listening")
        finally:
            process.terminate()
            process.wait(20)


def pushgateway(root: Path, *options: str) -> AbstractContextManager[int]:
    """Run a Pushgateway that keeps nothing: Debian's would go on with what another test left on this machine."""
    return running("prometheus-pushgateway", root, "--persistence.file=", *options)
