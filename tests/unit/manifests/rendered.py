"""The objects of the manifests: as they stand in the files, and as kustomize renders an overlay."""

import os
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[3]
MANIFESTS = ROOT / "manifests"
OVERLAYS = sorted(path.name for path in (MANIFESTS / "overlays").iterdir())
Object = dict[str, Any]


def objects_in_files() -> list[tuple[Path, Object]]:
    """Every Kubernetes object, with its file."""
    return [
        (path, document)
        for path in sorted(MANIFESTS.rglob("*.yaml"))
        if path.name not in ("kustomization.yaml", "trust.yaml", "sources.yaml", "door.yaml", "retraining.yaml")
        for document in yaml.safe_load_all(path.read_text())
    ]


@cache
def render(overlay: str) -> tuple[Object, ...]:
    """What `kubectl kustomize` makes of an overlay; it asks no cluster."""
    done = subprocess.run(
        ["kubectl", "kustomize", str(MANIFESTS / "overlays" / overlay)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return tuple(yaml.safe_load_all(done.stdout))


def render_lines(lines: list[str], folder: Path) -> tuple[Object, ...]:
    """What `kubectl kustomize` makes of a user's own kustomization, whose paths start with `manifests/`.

    Raises:
        CalledProcessError: kustomize refuses it.
    """
    manifests = os.path.relpath(MANIFESTS, folder.resolve())
    (folder / "kustomization.yaml").write_text("\n".join(lines).replace("manifests/", f"{manifests}/"))
    done = subprocess.run(["kubectl", "kustomize", str(folder)], capture_output=True, text=True, check=True)
    return tuple(yaml.safe_load_all(done.stdout))


def of_kind(overlay: str, kind: str, namespace: str | None = None) -> list[Object]:
    """The objects of one kind, of one namespace or of all."""
    return [
        each
        for each in render(overlay)
        if each["kind"] == kind and namespace in (None, each["metadata"].get("namespace"))
    ]


def one(overlay: str, kind: str, name: str, namespace: str) -> Object:
    """The object of this name."""
    (found,) = [each for each in of_kind(overlay, kind, namespace) if each["metadata"]["name"] == name]
    return found
