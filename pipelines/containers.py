"""Run a pipeline on one machine with every task in its own image, locked down like a restricted pod on a cluster.

    with containers(Path("build/run"), grants={"mask_pii": Grant(read={key: "/etc/custody/masking/key"})}):
        my_pipeline(data_uri="...")

`kfp.local.DockerRunner` gives every task the same options. Here a task gets the run's artifacts and what is granted to
its component, nothing else: no other task's secret, no network. And a container whose end nobody saw counts as failed,
where KFP's own runner takes it for a success.
"""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Any

from kfp_custody.components._shared import codes
from kfp_custody.components._shared.errors import Misconfigured, ServiceUnreachable

# What a container gets from us whatever the caller asks for. The engine's default seccomp profile stays in force.
LOCKED_DOWN: Mapping[str, Any] = {
    "read_only": True,
    "cap_drop": ["ALL"],
    "security_opt": ["no-new-privileges:true"],
    "pids_limit": 512,
}
CUSTODY_USER = 65532
SCRATCH = "/tmp"  # noqa: S108  (in the container, and its own)
_NO_KFP = "No module named 'kfp'"
_NOT_PULLED = ("no such image", "manifest unknown", "pull access denied", "/manifests/", "pinging container registry")
_SILENT = ("connection aborted", "cannot connect", "connection refused", "failed to resolve", "timed out", "no route")
LABEL = "kfp-custody"  # on every container, so that what was left by a machine that stopped can be found


@dataclass(frozen=True)
class Grant:
    """What the tasks of one component get beyond the run's artifacts.

    Attributes:
        read: Files and folders they may read: path here -> path in the container.
        write: Files and folders they may also write.
        environment: Variables; never a secret, because whoever may inspect a container can read them.
        network: Name of a network of the engine; none by default.
        memory: Limit on memory, what is written to /tmp included.
    """

    read: Mapping[Path, str] = field(default_factory=dict)
    write: Mapping[Path, str] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    network: str = "none"
    memory: str = "4g"


@dataclass(frozen=True)
class Task:
    """A task about to run: its component's function, its image, and KFP's whole command."""

    function: str
    image: str
    command: tuple[str, ...]


# Sees a task, starts it, and returns its exit code: `observe(task, start)` calls `start(log)` once.
Observer = Callable[[Task, Callable[[IO[str]], int]], int]


@contextmanager
def containers(root: Path, grants: Mapping[str, Grant], observe: Observer | None = None) -> Iterator[None]:
    """Let pipelines that are called inside the block run in containers.

    Args:
        root: Where KFP keeps the artifacts; mounted at the same path, and writable for the containers' user.
        grants: By component function; a component without one gets an empty one. Whatever component has that name
            gets it: look at components of others before you grant.
        observe: Sees every task; by default its log goes to standard output.

    Raises:
        ServiceUnreachable: No engine answers.
        Misconfigured: The engine's socket may not be used.
    """
    from kfp import local
    from kfp.local import config, docker_task_handler

    client = connect()
    before = config.LocalExecutionConfig.instance
    root.mkdir(parents=True, exist_ok=True)
    if os.getuid() == 0:
        os.chown(root, CUSTODY_USER, CUSTODY_USER)
    seam, own = docker_task_handler.run_docker_container, observe or _to_stdout

    def run(client: Any, image: str, command: list[str], volumes: dict[str, Any], **options: Any) -> int:
        named = "--function_to_execute" in command  # else it is a container component, which gets no grant
        function = command[command.index("--function_to_execute") + 1] if named else ""
        grant = grants.get(function, Grant())
        grant = replace(grant, environment={**options.get("environment", {}), **grant.environment})

        def start(log: IO[str]) -> int:
            return run_locked_down(client, image, command, volumes, grant, log)

        return own(Task(function, image, tuple(command)), start)

    docker_task_handler.run_docker_container = run
    try:
        local.init(local.DockerRunner(), pipeline_root=str(root), raise_on_error=True)
        yield
    finally:
        docker_task_handler.run_docker_container = seam
        config.LocalExecutionConfig.instance = before  # later pipelines would run in containers of KFP's own kind
        client.close()


def connect() -> Any:
    """Return a client of the container engine that the environment names (DOCKER_HOST, or its usual socket).

    Raises:
        ServiceUnreachable: No engine answers.
        Misconfigured: The socket may not be used, or the client library is not installed.
    """
    try:
        import docker
    except ModuleNotFoundError as error:
        raise Misconfigured(
            "The client library of container engines is not installed.",
            evidence=str(error),
            remedy="Install it with pip install 'kfp-custody[local]'.",
            code=codes.NO_LIBRARY,
        ) from error
    try:
        client = docker.from_env()
        client.ping()
    except docker.errors.DockerException as error:
        raise engine_refusal(str(error)) from error
    return client


def run_locked_down(
    client: Any, image: str, command: list[str], volumes: Mapping[str, Any], grant: Grant, log: IO[str]
) -> int:
    """Run one command in a locked-down container, write its log, and return its exit code.

    Raises:
        Misconfigured: The image is missing, of another architecture, or without KFP; or the engine refuses.
        ServiceUnreachable: The engine stopped answering.
    """
    import docker
    import requests

    user = os.getuid() or CUSTODY_USER
    binds = {**_binds(grant.read, "ro"), **_binds(grant.write, "rw")}
    container = None
    try:
        require_image(client, image)
        container = client.containers.create(
            image,
            entrypoint=command,  # as Kubernetes does: a command replaces the image's entry point
            user=f"{user}:{os.getgid() or CUSTODY_USER}",
            tmpfs={SCRATCH: "rw,nosuid,nodev,mode=1777"},
            volumes={**volumes, **binds},
            environment=dict(grant.environment),
            network_mode=grant.network,
            mem_limit=grant.memory,
            memswap_limit=grant.memory,
            labels={LABEL: "task"},
            **LOCKED_DOWN,
        )
        container.start()
        without_kfp = False
        for chunk in container.logs(stream=True, follow=True):
            text = chunk.decode(errors="replace")
            without_kfp |= _NO_KFP in text
            log.write(text)
        code = int(container.wait()["StatusCode"])
        if code and without_kfp:
            raise Misconfigured(
                "The image of a task does not hold KFP's executor.",
                evidence=f"{image}: {_NO_KFP}",
                remedy="Use the component's own image, or add `kfp` (without dependencies is enough) to yours.",
                code=codes.IMAGE_WITHOUT_KFP,
            )
        return code
    except (docker.errors.DockerException, requests.RequestException) as error:
        raise engine_refusal(str(error), image) from error
    finally:
        if container is not None:  # what hinders this now was no success either, as was seen above
            with suppress(docker.errors.DockerException, requests.RequestException):
                container.remove(force=True)


def _binds(paths: Mapping[Path, str], mode: str) -> dict[str, dict[str, str]]:
    """Return what is mounted. The engine would make a folder of a file that is not there, and go on.

    Raises:
        Misconfigured: One is not there.
    """
    try:
        return {str(path.resolve(strict=True)): {"bind": target, "mode": mode} for path, target in paths.items()}
    except FileNotFoundError as error:
        raise Misconfigured(
            "A file or folder that is granted to a task is not there.",
            evidence=str(error.filename),
            remedy="Correct the path; make a folder to write to before the run.",
            code=codes.GRANT,
        ) from error


def require_image(client: Any, image: str) -> None:
    """Refuse an image that is not here, or that this engine could only run by emulation.

    Raises:
        Misconfigured: With the remedy.
    """
    import docker

    try:
        found = client.images.get(image).attrs["Architecture"]
    except docker.errors.ImageNotFound as error:
        raise engine_refusal(str(error), image) from error
    wanted = client.version()["Arch"]
    if found != wanted:
        raise Misconfigured(
            "The image is for another architecture.",
            evidence=f"{image}: {found}; this engine runs {wanted}",
            remedy=f"Build or pull it for {wanted}: scripts/build_images.py builds for the machine that it runs on.",
            code=codes.IMAGE_ARCHITECTURE,
        )


def base_of(client: Any, image: str) -> str:
    """Return the name of the base that one of our images was built on, as its label says."""
    return str(client.images.get(image).attrs["Config"]["Labels"]["org.opencontainers.image.base.name"])


def engine_refusal(said: str, image: str = "") -> Misconfigured | ServiceUnreachable:
    """Return the refusal for what a container engine, its client or a build said."""
    line = next((line.strip() for line in reversed(said.splitlines()) if line.strip()), "it said nothing")[-300:]
    evidence = f"{image}: {line}" if image else line
    lower = said.lower()
    if "permission denied" in lower and ("sock" in lower or "connection aborted" in lower):
        return Misconfigured(
            "The container engine's socket may not be used by this user.",
            evidence=evidence,
            remedy="Add the user to the engine's group (docker) and log in again.",
            code=codes.ENGINE_PERMISSION,
        )
    if "no space left" in lower:
        return Misconfigured(
            "The disk of the container engine is full.",
            evidence=evidence,
            remedy="Free space (docker system df; docker builder prune), then run it again: what was built is kept.",
            code=codes.DISK_FULL,
        )
    if "exec format error" in lower or "does not match the specified platform" in lower:
        return Misconfigured(
            "The image is for another architecture.",
            evidence=evidence,
            remedy="Build or pull it for this machine's architecture.",
            code=codes.IMAGE_ARCHITECTURE,
        )
    if "no such container" in lower:
        return Misconfigured(
            "A container was removed while its task ran, so nobody knows how it ended.",
            evidence=evidence,
            remedy="Run the pipeline again, and keep others from removing its containers.",
            code=codes.CONTAINER_GONE,
        )
    if any(word in lower for word in _NOT_PULLED):
        return Misconfigured(
            "An image is not here and could not be pulled.",
            evidence=evidence,
            remedy="Build it with scripts/build_images.py, pull it first, or correct its name.",
            code=codes.IMAGE_MISSING,
        )
    if any(word in lower for word in _SILENT):
        return ServiceUnreachable(
            "No container engine answers.",
            evidence=evidence,
            remedy="Start it (systemctl start docker), or point DOCKER_HOST to one.",
            code=codes.ENGINE_SILENT,
        )
    return Misconfigured(
        "The container engine refused.",
        evidence=evidence,
        remedy="See what it said; docker info and the engine's log say more.",
        code=codes.ENGINE,
    )


def _to_stdout(task: Task, start: Callable[[IO[str]], int]) -> int:
    import sys

    del task
    return start(sys.stdout)
