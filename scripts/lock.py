"""Resolve the dependencies anew, with hashes: `make lock`.

    images/locks/local.txt       the environment of a laptop and of CI: everything at once
    images/locks/<room>.txt      what a stage's image holds, in the very versions of local.txt, and the model server's
    images/locks/with-<x>.txt    what an image holds besides that is built with WITH=<x>: a cloud's client, a detector
    images/locks/kfp.txt         KFP's own package, installed without its dependencies: a task needs no more of it
    images/locks/engines.txt     Spark and Ray alone, to test the masking adapters with
    images/locks/exports.txt     another model server's environment, to test exported models in
    images/locks/build.txt       what builds an image and does not stay in it

No lock names a package index: the environment's own configuration says where packages come from.
"""

import subprocess
import sys
import tomllib
from pathlib import Path

from kfp_custody.components import CATALOG

ROOT = Path(__file__).resolve().parent.parent
LOCKS = ROOT / "images" / "locks"
# Every stage may have to sign with Vault or keyless, and to verify evidence that was signed so.
SIGNERS = ("vault", "keyless")
CLOUDS = ("aws", "gcp", "azure")
# What WITH may name -> its extra.
ADDITIONS = {**{name: name for name in CLOUDS}, "accurate": "pii-masking-accurate", "dlp": "pii-masking-dlp"}


def main() -> int:
    """Write every lock; the rooms' follow local.txt."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    extras, own = project["project"]["optional-dependencies"], project["project"]["dependencies"]
    local = [f"--extra={name}" for name in ("local", *CLOUDS)]
    lock("local", "pyproject.toml", *local, "--group=dev")
    lock("build", "-", text="\n".join(project["dependency-groups"]["image"]))
    # What both need besides is in local.txt.
    lock("engines", "-", "--no-deps", text="\n".join(project["dependency-groups"]["engines"]))
    lock("kfp", "-", "--no-deps", text=next(line for line in own if line.startswith("kfp==")))
    needed = [line for line in own if not line.startswith("kfp")]
    for room in dict.fromkeys((*CATALOG.values(), "serving")):
        name = room.replace("_", "-")
        lock(name, "-", "-c", str(LOCKS / "local.txt"), text=requirements(extras, needed, (name, *SIGNERS)))
    for name, extra in ADDITIONS.items():
        lock(f"with-{name}", "-", "-c", str(LOCKS / "local.txt"), text=requirements(extras, needed, (extra,)))
    # It verifies with the versions that signed; its own libraries are not the laptop's.
    other = [requirements(extras, needed, ("exported",)), *project["dependency-groups"]["exports"]]
    lock("exports", "-", "-c", str(LOCKS / "artifact-signing.txt"), text="\n".join(other))
    return 0


def requirements(extras: dict[str, list[str]], needed: list[str], names: tuple[str, ...]) -> str:
    """Return the requirements of some extras, with the extras that they name themselves."""
    lines = list(needed)
    for name in names:
        for line in extras[name]:
            inner = line.removeprefix("kfp-custody[").removesuffix("]")
            lines += extras[inner] if inner != line else [line]
    return "\n".join(lines)


def lock(name: str, source: str, *options: str, text: str = "") -> None:
    """Write one lock with uv."""
    print(f"images/locks/{name}.txt", flush=True)
    command = [str(ROOT / ".venv/bin/uv"), "pip", "compile", source, *options, "-o", str(LOCKS / f"{name}.txt")]
    command += ["--generate-hashes", "--no-emit-index-url", "--no-emit-find-links", "--no-header", "--quiet"]
    command += ["--python-version=3.11"]
    subprocess.run(command, input=text.encode(), check=True, cwd=ROOT)


if __name__ == "__main__":
    sys.exit(main())
