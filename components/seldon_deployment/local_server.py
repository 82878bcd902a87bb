"""The target `local`: a real MLServer on this machine; the old version serves until the new one has proven itself.

The serving directory:

    lock                                    one deployment at a time
    server.json  server.log  process/       the server process
    served.json                             what is served: written last, from the settings below
    repository/<name>/model-settings.json   what `<name>` serves: the one truth
    repository/<name>/<folder>/             model/ and model.sig; while it is tried, settings of its own

A new version is first loaded beside the old one under the name `<name>-<folder>` and must answer there. Only then the
settings of `<name>` point to it and the server reloads: MLServer swaps in the loaded model in one step, or keeps the
old one when loading fails. Each loading verifies anew the bytes that it loads (`serving/repository.py`).
"""

import fcntl
import json
import secrets
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kfp_custody.components._shared.digests import list_tree, require_same
from kfp_custody.components._shared.documents import DocumentFault, parse_json
from kfp_custody.components._shared.errors import (
    CustodyError,
    EvidenceInvalid,
    InputRefused,
    Misconfigured,
    ServiceUnreachable,
)
from kfp_custody.components._shared.files import atomic_directory, write_atomic
from kfp_custody.components._shared.scoring import read_signature
from kfp_custody.components._shared.settings import Settings
from kfp_custody.components.seldon_deployment import child, process
from kfp_custody.components.seldon_deployment.decision import Admitted
from kfp_custody.components.seldon_deployment.serving.names import RUNTIME, SETTINGS
from kfp_custody.components.seldon_deployment.smoke import require_answer, smoke_request
from kfp_custody.components.seldon_deployment.v2_client import Reply, call, model_url

_PINS = ("listing_sha256", "signature_sha256", "decision_sha256")


@dataclass(frozen=True)
class Served:
    """What came into service: the model's address and its answer to the smoke inference."""

    url: str
    model: str
    response: Mapping[str, Any]


def serve(admitted: Admitted, name: str, settings: Settings, timeout_seconds: float) -> Served:
    """Put an admitted model into service under `name`, or leave everything as it was.

    Args:
        admitted: the verified model.
        name: name of the service.
        settings: serving directory, port and trust file.
        timeout_seconds: for all of it: waiting for the lock, starting the server, loading, answering.

    Raises:
        EvidenceInvalid: the bytes changed since they were admitted, or the server's own verification refused them.
        InputRefused: the model cannot be loaded or does not answer.
        ServiceUnreachable: the server does not start, answer or accept in time.
        Misconfigured: the port is not ours, or the running server has other settings.
    """
    deadline = time.monotonic() + timeout_seconds
    with locked(settings.serving_dir, deadline):
        server = _ensure_server(settings, deadline)
        try:
            return _Deployment(admitted, name, server, settings.serving_dir, deadline).run()
        except ServiceUnreachable:
            if not child.is_alive(server):  # the new model took the server down: bring the old one back
                _ensure_server(settings, time.monotonic() + timeout_seconds)
            raise


def resume(settings: Settings, timeout_seconds: float) -> process.Server:
    """Return the running server of a serving directory, started again with what it served when it does not run.

    Raises:
        ServiceUnreachable: it does not start in time.
        Misconfigured: the port is not ours, or the running server has other settings.
    """
    deadline = time.monotonic() + timeout_seconds
    with locked(settings.serving_dir, deadline):
        return _ensure_server(settings, deadline)


def stop(serving_dir: Path, timeout_seconds: float = 30.0) -> bool:
    """End the model server of a serving directory; no other process is ever touched.

    The repository stays: the next deployment starts the server again with what it served.

    Returns:
        Whether a server was running.
    """
    if not serving_dir.is_dir():
        return False
    with locked(serving_dir, time.monotonic() + timeout_seconds):
        server = process.running(serving_dir)
        if server is not None:
            process.end(serving_dir, server)
        _write_served(serving_dir, "", names=())
        return server is not None


class _Deployment:
    """One attempt to put a version into service; the caller holds the lock."""

    def __init__(self, admitted: Admitted, name: str, server: process.Server, directory: Path, deadline: float) -> None:
        self._admitted, self._name, self._server = admitted, name, server
        self._directory, self._deadline = directory, deadline
        self._home = directory / "repository" / name
        self._settings = self._home / SETTINGS
        self._folder = f"{admitted.version}.{admitted.signature_sha256[:8]}"
        self._candidate = f"{name}-{self._folder}"

    def run(self) -> Served:
        """Stage, try, switch, record, tidy up."""
        previous = self._settings.read_bytes() if self._settings.exists() else None
        try:
            self._stage()
            request = smoke_request(read_signature(self._home / self._folder / "model"))
            self._load(self._candidate)
            self._ask(self._candidate, request)
            response = self._switch(previous, request)
        finally:
            self._tidy()
        served = Served(model_url(self._server.url, self._name), self._name, response)
        _write_served(self._directory, self._server.url, names=[*_served_names(self._directory), self._name])
        return served

    def _stage(self) -> None:
        """Copy the model into the repository and check the copy; an earlier copy of the same version is replaced."""
        target = self._home / self._folder
        with atomic_directory(self._home / "incoming") as partial:
            shutil.copytree(self._admitted.directory / "model", partial / "model", symlinks=True)
            shutil.copyfile(self._admitted.directory / "model.sig", partial / "model.sig", follow_symlinks=False)
            require_same(self._admitted.listing, list_tree(partial / "model"), "model (copied for serving)")
            (partial / SETTINGS).write_bytes(self._document(self._candidate, "."))
        shutil.rmtree(target, ignore_errors=True)  # the server holds its models in memory
        (self._home / "incoming").rename(target)

    def _switch(self, previous: bytes | None, request: Mapping[str, Any]) -> Mapping[str, Any]:
        """Let `<name>` serve the new version; on any failure serve what was served before."""
        write_atomic(self._settings, self._document(self._name, self._folder))
        try:
            self._load(self._name)
            return self._ask(self._name, request)
        except CustodyError:
            self._deadline = max(self._deadline, time.monotonic() + 10)  # going back must not fail for want of time
            if previous is None:
                self._settings.unlink()
                self._repository(self._name, "unload")
            else:
                write_atomic(self._settings, previous)
                self._repository(self._name, "load")
            raise

    def _load(self, name: str) -> None:
        """Have the server load a model by name, and wait until that very model is ready."""
        logged = child.log_size(process.log_file(self._directory))
        reply = self._repository(name, "load")
        if reply.status != 200:
            said = f"{reply.reason}; server log: {child.log_lines(process.log_file(self._directory), logged)}"
            verified = reply.status == 422 and "not verified" in reply.reason
            kind = EvidenceInvalid if verified else InputRefused if reply.status == 422 else ServiceUnreachable
            raise kind(
                "The model server refused the model; what was served before is still served.",
                evidence=f"{name}: {said}",
                remedy="Read the reason, correct the model or its evidence, and run the pipeline again.",
            )
        while self._call("GET", f"{model_url(self._server.url, name)}/ready").status != 200:
            if child.pause(self._deadline) < 0:
                raise self._late(f"{name} is loaded but not ready", logged)

    def _ask(self, name: str, request: Mapping[str, Any]) -> Mapping[str, Any]:
        logged = child.log_size(process.log_file(self._directory))
        reply = self._call("POST", f"{model_url(self._server.url, name)}/infer", request)
        try:
            return require_answer(reply, version=self._admitted.digest)
        except InputRefused as refusal:
            refusal.evidence += f"; server log: {child.log_lines(process.log_file(self._directory), logged)}"
            raise

    def _tidy(self) -> None:
        """Unload the trial and remove every version that `<name>` does not serve."""
        current = _read_settings(self._settings)[0] if self._settings.exists() else None
        for folder in sorted(path for path in self._home.iterdir() if path.is_dir()):
            (folder / SETTINGS).unlink(missing_ok=True)
            with suppress(ServiceUnreachable):  # a server that died has nothing to unload
                self._repository(f"{self._name}-{folder.name}", "unload")
            if folder.name != current:
                shutil.rmtree(folder)

    def _document(self, name: str, uri: str) -> bytes:
        """Return model settings: which bytes a name serves, pinned by digest."""
        digests = (self._admitted.digest, self._admitted.signature_sha256, self._admitted.decision_sha256)
        extra = dict(zip(_PINS, digests, strict=True))
        document = {"name": name, "implementation": RUNTIME, "parameters": {"uri": uri, "extra": extra}}
        return json.dumps(document, indent=2).encode()

    def _repository(self, name: str, verb: str) -> Reply:
        return self._call("POST", f"{self._server.url}/v2/repository/models/{name}/{verb}")

    def _call(self, method: str, url: str, body: Any = None) -> Reply:
        return call(method, url, body, timeout=max(self._deadline - time.monotonic(), 1.0))

    def _late(self, what: str, logged: int) -> ServiceUnreachable:
        return _late(what, child.log_lines(process.log_file(self._directory), logged))


def _ensure_server(settings: Settings, deadline: float) -> process.Server:
    """Return the running server, or start one and load what it served before."""
    directory = settings.serving_dir
    server = process.running(directory)
    if server is not None:
        if (server.http_port, server.trust_file) != (settings.serving_port, str(settings.trust_file.resolve())):
            raise Misconfigured(
                "The model server that runs was started with another port or trust file.",
                evidence=f"pid {server.pid}: port {server.http_port}, trust file {server.trust_file}",
                remedy="Stop it (kfp_custody.components.seldon_deployment.local_server.stop), then deploy again.",
            )
        return server
    repository = directory / "repository"
    repository.mkdir(parents=True, exist_ok=True)
    token = f"custody-{secrets.token_hex(8)}"
    server = process.start(directory, repository, settings.serving_port, settings.trust_file.resolve(), token)
    try:
        _await_answer(directory, server, deadline)
        restored = [name for name in _repository_names(directory) if _restore(server, name, deadline)]
        _write_served(directory, server.url, names=restored)
    except BaseException:
        process.end(directory, server)
        raise
    return server


def _await_answer(directory: Path, server: process.Server, deadline: float) -> None:
    """Wait until the process that was started answers, and no other on its port."""
    while True:
        try:
            reply = call("GET", f"{server.url}/v2", timeout=2.0)
            if isinstance(reply.document, dict) and reply.document.get("name") == server.token:
                return
        except ServiceUnreachable:
            pass
        if not child.is_alive(server):
            raise _late("it ended while starting", child.log_lines(process.log_file(directory)))
        if child.pause(deadline) < 0:
            raise _late("it does not answer", child.log_lines(process.log_file(directory)))


def _restore(server: process.Server, name: str, deadline: float) -> bool:
    """Load again what a name served; what is refused now (a revoked key, changed bytes) stays out of service."""
    left = max(deadline - time.monotonic(), 1.0)
    return call("POST", f"{server.url}/v2/repository/models/{name}/load", timeout=left).status == 200


def _write_served(directory: Path, url: str, names: Sequence[str]) -> None:
    """Record what is served, from the settings that the server loaded."""
    models = {}
    for name in sorted(set(names)):
        _, pins = _read_settings(directory / "repository" / name / SETTINGS)
        models[name] = {
            "name": name,
            "version": pins["listing_sha256"][:8],
            "digest": pins["listing_sha256"],
            "signature": pins["signature_sha256"],
            "decision": pins["decision_sha256"],
            "url": model_url(url, name),
        }
    write_atomic(directory / "served.json", json.dumps({"models": models}, indent=2).encode())


def _served_names(directory: Path) -> list[str]:
    try:
        return list(parse_json((directory / "served.json").read_bytes())["models"])
    except (FileNotFoundError, DocumentFault, KeyError, TypeError):
        return []


def _repository_names(directory: Path) -> list[str]:
    return sorted(path.parent.name for path in (directory / "repository").glob(f"*/{SETTINGS}"))


def _read_settings(path: Path) -> tuple[str, Mapping[str, str]]:
    """Return the folder that a name's settings point to, and the digests that they pin."""
    try:
        match parse_json(path.read_bytes()):
            case {"parameters": {"uri": str() as folder, "extra": dict() as pins}} if set(pins) == set(_PINS):
                return folder, {key: str(value) for key, value in pins.items()}
        raise DocumentFault("it is not as deploy_model writes it")
    except DocumentFault as error:
        raise EvidenceInvalid(
            "The settings of a served model were changed.",
            evidence=f"{path}: {error}",
            remedy="Find out who changed them; then remove this file and deploy the model again.",
        ) from error


def _late(what: str, log: str) -> ServiceUnreachable:
    return ServiceUnreachable(
        "The model server was not ready in time.",
        evidence=f"{what}; its log: {log}",
        remedy="Read the log, or give it more time with timeout_seconds.",
    )


@contextmanager
def locked(directory: Path, deadline: float) -> Iterator[None]:
    """Hold the lock of a serving directory; the kernel releases it when the process ends, however it ends."""
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    with (directory / "lock").open("w") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError as error:
                if child.pause(deadline) < 0:
                    raise ServiceUnreachable(
                        "Another deployment holds the serving directory.",
                        evidence=str(directory / "lock"),
                        remedy="Wait for it to finish, then run this again.",
                    ) from error
        yield
