"""The model server as a process: starting it detached, knowing it again, ending it and nothing else."""

import os
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

from kfp_custody.components.seldon_deployment import child
from kfp_custody.components.seldon_deployment.child import HOST, Child
from kfp_custody.components.seldon_deployment.serving.names import LAUNCHER, REPOSITORY


@dataclass(frozen=True)
class Server(Child):
    """A started server, as `server.json` keeps it.

    `token` is the server name it must answer with, so that no other server is taken for it.
    """

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
    child.require_free(http_port, "CUSTODY_SERVING_PORT")
    grpc_port, metrics_port = child.free_ports(2)
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
    started = child.spawn([sys.executable, "-I", "-m", LAUNCHER], environment, place, log_file(directory))
    server = Server(**asdict(started), token=token, http_port=http_port, grpc_port=grpc_port,
                    metrics_port=metrics_port, trust_file=str(trust_file))  # fmt: skip
    child.keep(server, _record(directory))
    return server


def running(directory: Path) -> Server | None:
    """Return the server that `server.json` names when that very process still runs."""
    return child.running(_record(directory), Server)


def end(directory: Path, server: Server) -> None:
    """End a server: SIGTERM, after ten seconds SIGKILL.

    Raises:
        ServiceUnreachable: it survived.
    """
    child.end(server, _record(directory))


def log_file(directory: Path) -> Path:
    """Return the path of the server's log."""
    return directory / "server.log"


def request_log(directory: Path) -> Path:
    """Return the path of the newest file of the server's log of requests."""
    return directory / "requests.jsonl"


def _record(directory: Path) -> Path:
    return directory / "server.json"
