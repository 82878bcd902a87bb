"""Release copies of the YAML, with the digests that a real registry gave: Debian's docker-registry on the loopback."""

import json
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from building import ROOT

from conftest import ROOMS
from kfp_custody.components._shared import codes
from kfp_custody.components._shared.images import VERSION, image

pytestmark = pytest.mark.containers


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A registry that holds nothing yet."""
    assert shutil.which("docker-registry"), "apt-get install docker-registry"
    folder = tmp_path_factory.mktemp("registry")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    (folder / "config.yml").write_text(
        json.dumps(
            {
                "version": 0.1,
                "log": {"level": "error"},
                "storage": {"filesystem": {"rootdirectory": str(folder / "data")}},
                "http": {"addr": f"127.0.0.1:{port}"},
            }
        )
    )
    process = subprocess.Popen(["docker-registry", "serve", str(folder / "config.yml")])
    try:
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.1)
        yield f"127.0.0.1:{port}/ml"
    finally:
        process.terminate()
        process.wait(10)


def pin(prefix: str, out: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "scripts/pin_images.py"), "--prefix", prefix, "--out", str(out)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_every_yaml_names_images_by_the_digests_of_the_registry(engine: Any, registry: str, tmp_path: Path) -> None:
    """One small image stands for all in the registry: what is pushed is its digest, under every name."""
    names = {room: f"{registry}/custody-{room.replace('_', '-')}" for room in ROOMS}
    for name in names.values():
        engine.images.get(image("artifact_signing")).tag(name, VERSION)
    refused = pin(registry, tmp_path / "early")
    assert refused.returncode == 1
    assert f"[{codes.IMAGE_MISSING}]" in refused.stderr
    assert "not pushed" in refused.stderr
    assert not (tmp_path / "early").exists()
    for name in names.values():
        said = engine.images.push(name, tag=VERSION)
        assert "error" not in said, said
    out = tmp_path / "pinned"
    done = pin(registry, out)
    assert done.returncode == 0, done.stderr
    pins = json.loads((out / "images.json").read_text())
    assert set(pins) == {image(room) for room in ROOMS}
    text = "\n".join(path.read_text() for path in sorted(out.rglob("*.yaml")))
    assert f":{VERSION}'" not in text
    assert image("policy_gate") not in text
    pipeline = next(yaml.safe_load_all((out / "ir/fraud_detection.yaml").read_text()))
    used = {
        executor["container"]["image"]
        for executor in pipeline["deploymentSpec"]["executors"].values()
        if "container" in executor
    }
    pinned = {room: f"{names[room]}@{pins[image(room)]}" for room in ROOMS}
    source = (ROOT / "pipelines/fraud_detection/pipeline.yaml").read_text()
    assert used == {pinned[room] for room in ROOMS if image(room) in source}
    assert [room for room in ROOMS if pinned[room] not in text] == []
    assert pinned["serving"] in (out / "manifests/overlays/seldon-v2/server.yaml").read_text()
    # By its digest the registry gives what was pushed.
    one = next(iter(used))
    engine.images.pull(one)
    assert one in engine.images.get(one).attrs["RepoDigests"]
    for name in names.values():
        engine.images.remove(f"{name}:{VERSION}", force=True)
