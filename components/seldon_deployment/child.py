"""A process of ours that outlives the task: started detached, known again by a later task, ended and nothing else.

A number alone does not tell a process: `started` (clock ticks since boot, field 22 of /proc/<pid>/stat) and `boot` tell
ours from a later one with the same pid; it is signalled through a pidfd, which never comes to mean another one.
"""

import json
import os
import secrets
import select
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TypeVar

from kfp_custody.components._shared.documents import DocumentFault, parse_json
from kfp_custody.components._shared.errors import Misconfigured, ServiceUnreachable
from kfp_custody.components._shared.files import write_atomic

HOST = "127.0.0.1"
_PORTS = range(20_000, 32_000)
_ENDED = ("Z", "X")  # waits to be reaped; gone
_GRACE = 10.0  # seconds from SIGTERM to SIGKILL
# Handles of processes this one started: kept so that an ended one is reaped and Python does not complain.
_children: list[subprocess.Popen[bytes]] = []


@dataclass(frozen=True)
class Child:
    """A started process; kinds of their own add what else their record keeps."""

    pid: int
    started: int
    boot: str


Kind = TypeVar("Kind", bound=Child)


def spawn(arguments: Sequence[str], environment: Mapping[str, str], directory: Path, log: Path) -> Child:
    """Start a program in a session of its own, with this environment and no other, its output in a new log.

    Raises:
        OSError: it cannot be started.
    """
    out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        started = subprocess.Popen(  # noqa: S603  (a program of ours or of a package that we pin)
            arguments,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            cwd=directory,
            env=environment,
            start_new_session=True,
        )
    finally:
        os.close(out)
    _children.append(started)
    return Child(started.pid, _stat(started.pid)[1], _boot())


def keep(child: Child, record: Path) -> None:
    """Write the record of a process; one that nobody would know is ended."""
    try:
        write_atomic(record, json.dumps(asdict(child), indent=2).encode(), mode=0o600)
    except BaseException:
        with suppress(ProcessLookupError):
            os.kill(child.pid, signal.SIGKILL)  # our own child, not yet reaped: the number is still its own
        raise


def running(record: Path, kind: type[Kind]) -> Kind | None:
    """Return the process of a record when that very process still runs.

    Raises:
        Misconfigured: the record cannot be read.
    """
    try:
        document = parse_json(record.read_bytes())
        child = kind(**{field.name: document[field.name] for field in fields(kind)})
    except FileNotFoundError:
        return None
    except (DocumentFault, KeyError, TypeError) as error:
        raise Misconfigured(
            "The record of a server of ours is damaged, so it is not known which process is ours.",
            evidence=f"{record}: {error}",
            remedy="End the server yourself if it runs, then remove this file.",
        ) from error
    return child if is_alive(child) else None


def is_alive(child: Child) -> bool:
    """Tell whether the recorded process still runs (and is not another one with its number)."""
    state, started = _stat(child.pid)
    if (_boot(), started) != (child.boot, child.started):
        return False
    if state in _ENDED:
        # The first thread has ended; others may hold the port for a moment. A pidfd is readable when all are gone.
        with suppress(ProcessLookupError), _pidfd(child.pid) as handle:
            select.select([handle], [], [], _GRACE)
        return False
    return True


def end(child: Child, record: Path) -> None:
    """End a process and remove its record: SIGTERM, after ten seconds SIGKILL.

    Raises:
        ServiceUnreachable: it survived.
    """
    with suppress(ProcessLookupError), _pidfd(child.pid) as handle:
        if is_alive(child):
            _signal_until_ended(handle, child)
    for started in _children[:]:
        if started.poll() is not None:
            _children.remove(started)
    record.unlink(missing_ok=True)


def log_size(path: Path) -> int:
    """Return the bytes in a log, to later read what was added."""
    return path.stat().st_size if path.exists() else 0


def log_lines(path: Path, since: int = 0, count: int = 4) -> str:
    """Return the last lines of a log after an offset, in one line. Our servers have no secret that they could log."""
    if not path.exists():
        return "no log"
    with path.open("rb") as file:
        file.seek(since)
        lines = [line.strip()[:600] for line in file.read().decode(errors="replace").splitlines() if line.strip()]
    return " | ".join(lines[-count:]) or "nothing was logged"


def require_free(port: int, variable: str) -> None:
    """Refuse a port that somebody listens on.

    Raises:
        Misconfigured: it cannot be bound; `variable` is where to choose another.
    """
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # connections of an ended server do not count
        try:
            probe.bind((HOST, port))
        except OSError as error:
            raise Misconfigured(
                "The port of the model server cannot be used; a process that is not ours may listen there.",
                evidence=f"{HOST}:{port}: {error.strerror}",
                remedy=f"Set {variable} to a free port, or end the process that listens there.",
            ) from error


def free_ports(count: int) -> list[int]:
    """Return ports that are free now, below the range that the kernel gives to outgoing connections.

    One from that range could be taken again before a server has started.
    """
    found: set[int] = set()
    while len(found) < count:
        port = secrets.choice(_PORTS)
        with suppress(OSError), socket.socket() as probe:
            probe.bind((HOST, port))
            found.add(port)
    return sorted(found)


def pause(deadline: float) -> float:
    """Sleep a tenth of a second and return the seconds left until a moment of `time.monotonic`."""
    time.sleep(0.1)
    return deadline - time.monotonic()


def _signal_until_ended(handle: int, child: Child) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        signal.pidfd_send_signal(handle, number)
        if select.select([handle], [], [], _GRACE)[0]:
            return
    raise ServiceUnreachable(
        "A server of ours does not end.", evidence=f"pid {child.pid}", remedy="Look at this process on the machine."
    )


def _stat(pid: int) -> tuple[str, int]:
    """Return a process's state and when it started, in clock ticks since boot; ("X", 0) when there is none."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return "X", 0
    state, *rest = stat[stat.rindex(")") + 2 :].split()  # the name in brackets may hold spaces and brackets
    return state, int(rest[18])


@contextmanager
def _pidfd(pid: int) -> Iterator[int]:
    """Hold a process by file descriptor, which never comes to mean another one."""
    handle = os.pidfd_open(pid)
    try:
        yield handle
    finally:
        os.close(handle)


def _boot() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
