"""The model server as a process: starting it detached, knowing it again, ending it and nothing else."""

import json
import os
import secrets
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from kfp_custody.components._shared.documents import DocumentFault, parse_json
from kfp_custody.components._shared.errors import Misconfigured, ServiceUnreachable
from kfp_custody.components._shared.files import write_atomic
from kfp_custody.components.seldon_deployment.serving.names import LAUNCHER, REPOSITORY

HOST = "127.0.0.1"
_PORTS = range(20_000, 32_000)
_ENDED = ("Z", "X")  # waits to be reaped; gone
_GRACE = 10.0  # seconds from SIGTERM to SIGKILL
# Handles of servers this process started: kept so that an ended one is reaped and Python does not complain.
_children: list[subprocess.Popen[bytes]] = []


@dataclass(frozen=True)
class Server:
    """A started server, as `server.json` keeps it.

    `started` (clock ticks since boot, field 22 of /proc/<pid>/stat) and `boot` tell our process from a later one with
    the same pid; `token` is the server name it must answer with, so that no other server is taken for it.
    """

    pid: int
    started: int
    boot: str
    token: str
    http_port: int
    grpc_port: int
    metrics_port: int
    trust_file: str

    @property
    def url(self) -> str:
        """Base address of the HTTP server."""
        return f"http://{HOST}:{self.http_port}"


def start(directory: Path, repository: Path, http_port: int, trust_file: Path, token: str) -> Server:
    """Start a server in a session of its own and record it in `server.json`.

    It gets a fresh environment: no signer, key or token of ours. It listens on the loopback interface only.

    Raises:
        Misconfigured: the port belongs to somebody else.
        OSError: the process cannot be started.
    """
    _require_free(http_port)
    grpc_port, metrics_port = free_ports(2)
    place = directory / "process"  # its working directory and temporary files; MLServer would read a .env from here
    (place / "tmp").mkdir(parents=True, exist_ok=True, mode=0o700)
    environment = {
        "PATH": os.defpath,
        "HOME": str(place),
        "TMPDIR": str(place / "tmp"),
        "LANG": "C.UTF-8",
        "CUSTODY_TRUST": str(trust_file),
        "CUSTODY_REQUEST_LOG": str(request_log(directory)),
        "MLSERVER_HOST": HOST,
        "MLSERVER_HTTP_PORT": str(http_port),
        "MLSERVER_GRPC_PORT": str(grpc_port),
        "MLSERVER_METRICS_PORT": str(metrics_port),
        "MLSERVER_PARALLEL_WORKERS": "0",
        "MLSERVER_DEBUG": "false",
        "MLSERVER_SERVER_NAME": token,
        "MLSERVER_MODEL_REPOSITORY_ROOT": str(repository),
        "MLSERVER_MODEL_REPOSITORY_IMPLEMENTATION": REPOSITORY,
    }
    log = os.open(log_file(directory), os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        child = subprocess.Popen(  # noqa: S603  (our own module, by this very interpreter)
            [sys.executable, "-I", "-m", LAUNCHER],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=place,
            env=environment,
            start_new_session=True,
        )
    finally:
        os.close(log)
    _children.append(child)
    server = Server(child.pid, _stat(child.pid)[1], _boot(), token, http_port, grpc_port, metrics_port, str(trust_file))
    try:
        write_atomic(_record(directory), json.dumps(asdict(server), indent=2).encode(), mode=0o600)
    except BaseException:
        child.kill()  # nobody would know it
        raise
    return server


def running(directory: Path) -> Server | None:
    """Return the server that `server.json` names when that very process still runs."""
    try:
        document = parse_json(_record(directory).read_bytes())
        server = Server(**{field.name: document[field.name] for field in fields(Server)})
    except FileNotFoundError:
        return None
    except (DocumentFault, KeyError, TypeError) as error:
        raise Misconfigured(
            "The record of the model server is damaged, so it is not known which process is ours.",
            evidence=f"{_record(directory)}: {error}",
            remedy="End the server yourself if it runs, then remove this file.",
        ) from error
    return server if is_alive(server) else None


def is_alive(server: Server) -> bool:
    """Tell whether the recorded process still runs (and is not another one with its number)."""
    state, started = _stat(server.pid)
    if (_boot(), started) != (server.boot, server.started):
        return False
    if state in _ENDED:
        # The first thread has ended; others may hold the port for a moment. A pidfd is readable when all are gone.
        with suppress(ProcessLookupError), _pidfd(server.pid) as handle:
            select.select([handle], [], [], _GRACE)
        return False
    return True


def end(directory: Path, server: Server) -> None:
    """End a server: SIGTERM, after ten seconds SIGKILL; through a pidfd, so never a process that took over its number.

    Raises:
        ServiceUnreachable: it survived.
    """
    with suppress(ProcessLookupError), _pidfd(server.pid) as handle:
        if is_alive(server):
            _signal_until_ended(handle, server)
    for child in _children[:]:
        if child.poll() is not None:
            _children.remove(child)
    _record(directory).unlink(missing_ok=True)


def log_file(directory: Path) -> Path:
    """Return the path of the server's log."""
    return directory / "server.log"


def request_log(directory: Path) -> Path:
    """Return the path of the newest file of the server's log of requests."""
    return directory / "requests.jsonl"


def log_size(directory: Path) -> int:
    """Return the bytes in the log, to later read what was added."""
    path = log_file(directory)
    return path.stat().st_size if path.exists() else 0


def log_lines(directory: Path, since: int = 0, count: int = 4) -> str:
    """Return the last lines of the log after an offset, in one line. The server has no secret that it could log."""
    path = log_file(directory)
    if not path.exists():
        return "no log"
    with path.open("rb") as file:
        file.seek(since)
        lines = [line.strip()[:600] for line in file.read().decode(errors="replace").splitlines() if line.strip()]
    return " | ".join(lines[-count:]) or "nothing was logged"


def _signal_until_ended(handle: int, server: Server) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        signal.pidfd_send_signal(handle, number)
        if select.select([handle], [], [], _GRACE)[0]:
            return
    raise ServiceUnreachable(
        "The model server does not end.", evidence=f"pid {server.pid}", remedy="Look at this process on the machine."
    )


def _require_free(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # connections of an ended server do not count
        try:
            probe.bind((HOST, port))
        except OSError as error:
            raise Misconfigured(
                "The port of the model server cannot be used; a process that is not ours may listen there.",
                evidence=f"{HOST}:{port}: {error.strerror}",
                remedy="Set CUSTODY_SERVING_PORT to a free port, or end the process that listens there.",
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


def _record(directory: Path) -> Path:
    return directory / "server.json"


def pause(deadline: float) -> float:
    """Sleep a tenth of a second and return the seconds left until a moment of `time.monotonic`."""
    time.sleep(0.1)
    return deadline - time.monotonic()
