"""Building images and looking into them, for the tests of images."""

import io
import os
import subprocess
import sys
import tarfile
import tempfile
from contextlib import closing
from functools import cache
from pathlib import Path
from typing import Any

from kfp_custody.components._shared.images import image
from kfp_custody.pipelines.containers import base_of, connect

ROOT = Path(__file__).resolve().parents[2]


@cache
def base() -> str:
    """Return what `make containers` built on."""
    with closing(connect()) as client:
        return base_of(client, image("policy_gate"))


def build(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run scripts/build_images.py with the network of the machine, as `make containers` does."""
    command = [
        sys.executable,
        str(ROOT / "scripts/build_images.py"),
        "--network=host",
        "--base-image",
        base(),
        *arguments,
    ]
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, **environment}, check=False)


def layers(engine: Any, name: str) -> list[str]:
    """Return the digests of an image's layers, those of its base left out."""
    below = engine.images.get(base()).attrs["RootFS"]["Layers"]
    return engine.images.get(name).attrs["RootFS"]["Layers"][len(below) :]


def saved(engine: Any, name: str, folder: Path) -> Path:
    """Unpack an image as the engine saves it: a folder with manifest.json."""
    archive = folder / "image.tar"
    with archive.open("wb") as file:
        for chunk in engine.images.get(name).save():
            file.write(chunk)
    with tarfile.open(archive) as tar:
        tar.extractall(folder, filter="data")
    archive.unlink()
    return folder


def loaded(engine: Any, folder: Path) -> Any:
    """Load an image from a folder that `saved` made, after it was changed."""
    with tempfile.TemporaryFile() as file:
        with tarfile.open(fileobj=file, mode="w") as tar:
            tar.add(folder, ".")
        file.seek(0)
        return engine.images.load(io.BufferedReader(file))
