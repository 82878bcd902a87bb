"""Build the images of the stages and of the model server: all, or those that are named.

    python scripts/build_images.py                                    every image, on python:3.11-slim
    python scripts/build_images.py pii-masking serving --base-image registry.example.org/python:3.11-slim
    python scripts/build_images.py --builder buildah --with aws       with the clients of a cloud's key service

Works with BuildKit (docker) and with buildah, without a package index of its own: the certificates, pip's and uv's
configuration of this environment (SSL_CERT_FILE, PIP_CONFIG_FILE, UV_CONFIG_FILE) are mounted for the build and are in
no layer. Beside the images it leaves build/images/<room>.sbom.cdx.json and build/images/images.json.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from kfp_custody.components import CATALOG
from kfp_custody.components._shared import codes
from kfp_custody.components._shared.errors import CustodyError, Misconfigured
from kfp_custody.components._shared.images import PREFIX, VERSION
from kfp_custody.pipelines.containers import engine_refusal

ROOT = Path(__file__).resolve().parent.parent
OUT = ROOT / "build" / "images"
ROOMS = [room.replace("_", "-") for room in dict.fromkeys((*CATALOG.values(), "serving"))]
# What a build may read and no layer may hold: id of the mount -> where this environment has it.
MOUNTS = {
    "ca": os.environ.get("SSL_CERT_FILE"),
    "pip": os.environ.get("PIP_CONFIG_FILE", "/etc/pip.conf"),
    "uv": os.environ.get("UV_CONFIG_FILE"),
}


def main(argv: list[str] | None = None) -> int:
    """Build what was asked for; return the exit code."""
    arguments = _arguments(argv)
    try:
        client = find_builder(arguments.builder)
        OUT.mkdir(parents=True, exist_ok=True)
        record = OUT / "images.json"
        built = json.loads(record.read_text()) if record.is_file() else {}
        for room in arguments.rooms or ROOMS:
            name = f"{arguments.prefix}/custody-{room}:{VERSION}"
            print(f"building {name}", flush=True)
            _build(client, arguments, room, name)
            built[name] = _facts(client, arguments.builder, name, room)
            record.write_text(json.dumps(built, indent=2, sort_keys=True) + "\n")
            size = f"{built[name]['size'] / 1e6:.0f} MB, " if "size" in built[name] else ""
            print(f"  {size}{built[name]['packages']} packages", flush=True)
    except CustodyError as refusal:
        print(f"REFUSED {type(refusal).__name__}: {refusal}", file=sys.stderr)
        return 1
    return 0


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rooms", nargs="*", choices=[[], *ROOMS], metavar="ROOM", help=f"of: {', '.join(ROOMS)}")
    parser.add_argument("--base-image", default="python:3.11-slim", help="with Python 3.11, its venv module and sh")
    parser.add_argument("--prefix", default=PREFIX, help="registry and path of the images' names")
    parser.add_argument("--builder", choices=("docker", "buildah"), default="docker")
    parser.add_argument(
        "--with", dest="cloud", choices=("aws", "gcp", "azure", "accurate", "dlp"), help="also these libraries"
    )
    parser.add_argument("--network", help="network of the build, such as host")
    parser.add_argument("--no-cache", action="store_true", help="build every step anew")
    return parser.parse_args(argv)


def find_builder(builder: str) -> str:
    """Return the first program of that name that can build: a docker client without BuildKit cannot."""
    for folder in os.get_exec_path():
        path = shutil.which(builder, path=folder)
        if path and _run([path, "build", "--help"]).returncode == 0:
            return path
    raise Misconfigured(
        "There is no program here that builds images.",
        evidence=f"no {builder} on PATH that has BuildKit" if builder == "docker" else f"no {builder} on PATH",
        remedy="Install docker with its buildx component, or buildah and give --builder buildah.",
        code=codes.BUILD,
    )


def build_environment() -> dict[str, str]:
    """Return the environment of a builder: docker takes its old builder unless it is told not to."""
    return {**os.environ, "DOCKER_BUILDKIT": "1"}


def _build(client: str, arguments: argparse.Namespace, room: str, name: str) -> None:
    """Build an image, and keep its list of packages and the builder's log in build/images."""
    values = {
        "BASE_IMAGE": arguments.base_image,
        "ROOM": room,
        "WITH": arguments.cloud or "",
        "VERSION": VERSION,
        "REVISION": _revision(),
    }
    command = [client, "build", "-f", "images/Dockerfile"]
    command += [part for key, value in values.items() for part in ("--build-arg", f"{key}={value}")]
    for key, path in MOUNTS.items():
        command += ["--secret", f"id={key},src={path}"] if path and Path(path).is_file() else []
    command += ["--network", arguments.network] if arguments.network else []
    image = ["-t", name, "--target", "serving" if room == "serving" else "stage"]
    image += ["--no-cache"] if arguments.no_cache else []
    image += ["--load"] if "--load" in _run([client, "build", "--help"]).stdout else []  # buildx may keep it to itself
    lists = OUT / room
    for wanted in (image, ["--target", "sbom", "--output", str(lists)]):
        done = _run([*command, *wanted, "."])
        said = done.stdout + done.stderr
        (OUT / f"{room}.log").write_text(said)
        if done.returncode:
            raise _refused(said, name, arguments.base_image)
    (lists / "sbom.cdx.json").replace(OUT / f"{room}.sbom.cdx.json")
    lists.rmdir()


def _run(command: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=ROOT, env=build_environment(), capture_output=True, text=True, check=False)


def _refused(said: str, name: str, base: str) -> CustodyError:
    """Tell a base that cannot be used from an engine that refused."""
    without = ("must have Python 3.11", "must have the modules venv and ensurepip", "python3: not found")
    missing = next((word for word in without if word in said), None)
    if missing:
        return Misconfigured(
            "The base image cannot hold a stage.",
            evidence=f"{base}: {missing}",
            remedy="Use a base with Python 3.11 and its venv module, such as python:3.11-slim.",
            code=codes.IMAGE_WITHOUT_KFP,
        )
    refusal = engine_refusal(said[-2000:], name)  # the end says why; what was built before may say anything
    ran = "executor failed running", "did not complete successfully", "while running runtime", 'building at STEP "RUN'
    elsewhere = (codes.DISK_FULL, codes.IMAGE_ARCHITECTURE)
    # What a step of the build says of a server or a file is not about the engine.
    if refusal.code == codes.ENGINE or (any(word in said for word in ran) and refusal.code not in elsewhere):
        refusal = Misconfigured(
            "The image could not be built.",
            evidence=refusal.evidence,
            remedy=f"Read build/images/{name.partition('custody-')[2].partition(':')[0]}.log; a package index that "
            "needs its own certificates or configuration is told by SSL_CERT_FILE, PIP_CONFIG_FILE, UV_CONFIG_FILE.",
            code=codes.BUILD,
        )
    return refusal


def _facts(client: str, builder: str, name: str, room: str) -> dict[str, object]:
    """Return what the builder tells of an image: id, size in bytes, digests of its layers; and its packages."""
    packages = len(json.loads((OUT / f"{room}.sbom.cdx.json").read_text())["components"])
    if builder == "buildah":
        return {"id": _run([client, "images", "--quiet", "--no-trunc", name]).stdout.strip(), "packages": packages}
    done = _run([client, "image", "inspect", name])
    if done.returncode:  # a builder that kept the image to itself
        raise _refused(done.stderr, name, name)
    (found,) = json.loads(done.stdout)
    return {"id": found["Id"], "size": found["Size"], "layers": found["RootFS"]["Layers"], "packages": packages}


def _revision() -> str:
    """Return the commit that is built; none when there is no git here, or the files are not those of a commit."""
    if shutil.which("git") is None:
        return ""
    status, head = _run(["git", "status", "--porcelain"]), _run(["git", "rev-parse", "HEAD"])
    return head.stdout.strip() if status.returncode == head.returncode == 0 and not status.stdout else ""


if __name__ == "__main__":
    sys.exit(main())
