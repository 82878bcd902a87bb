"""What goes wrong with engines and images, made to go wrong for real; each refusal names its remedy."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from building import ROOT, base, build, loaded, saved
from kfp import dsl

from kfp_custody.components import attest_dataset
from kfp_custody.components._shared import codes
from kfp_custody.components._shared.errors import CustodyError, Misconfigured, ServiceUnreachable
from kfp_custody.components._shared.images import image
from kfp_custody.pipelines.containers import Grant, connect, containers, require_image, run_locked_down

pytestmark = pytest.mark.containers


@dsl.component(base_image="localhost/custody-nowhere:1", install_kfp_package=False)
def greet() -> str:
    """Say hello."""
    return "hello"


def run_in(root: Path, base: str) -> None:
    """Run a pipeline of one task in an image, through kfp.local."""

    @dsl.pipeline(name="one-task")
    def one_task() -> None:
        greet().set_container_image(base)

    with containers(root, {}):
        one_task()


def remedy(refusal: CustodyError) -> str:
    assert refusal.remedy
    return refusal.remedy


def test_an_image_that_is_not_here(engine: Any, tmp_path: Path) -> None:
    with pytest.raises(Misconfigured) as refused:
        run_in(tmp_path / "run", "localhost/custody-nowhere:1")
    assert refused.value.code == codes.IMAGE_MISSING
    assert "localhost/custody-nowhere:1" in refused.value.evidence
    assert "scripts/build_images.py" in remedy(refused.value)


def test_an_image_for_another_architecture(engine: Any, tmp_path: Path) -> None:
    folder = saved(engine, image("artifact_signing"), tmp_path)
    manifest = json.loads((folder / "manifest.json").read_text())
    config = folder / manifest[0]["Config"]
    config.write_text(json.dumps({**json.loads(config.read_text()), "architecture": "arm64"}))
    manifest[0]["RepoTags"] = ["localhost/other-machine:1"]
    renamed = folder / "config.json"
    config.rename(renamed)
    manifest[0]["Config"] = renamed.name
    (folder / "manifest.json").write_text(json.dumps(manifest))
    loaded(engine, folder)
    try:
        with pytest.raises(Misconfigured) as refused:
            require_image(engine, "localhost/other-machine:1")
        assert refused.value.code == codes.IMAGE_ARCHITECTURE
        assert "arm64" in refused.value.evidence
        assert "amd64" in remedy(refused.value)
    finally:
        engine.images.remove("localhost/other-machine:1", force=True)


def test_an_image_without_kfp(engine: Any, tmp_path: Path) -> None:
    with pytest.raises(Misconfigured) as refused:
        run_in(tmp_path / "run", base())
    assert refused.value.code == codes.IMAGE_WITHOUT_KFP
    assert "kfp" in remedy(refused.value)


def test_a_task_that_fails_is_a_failed_run(engine: Any, tmp_path: Path) -> None:
    """The ordinary refusal of a stage: KFP says that the task failed, and the log says why."""

    @dsl.pipeline(name="no-signer")
    def no_signer() -> None:
        data = dsl.importer(artifact_uri="/nowhere", artifact_class=dsl.Artifact)
        attest_dataset(dataset=data.output, masking=data.output, run_id="r")

    log = tmp_path / "log"

    def observe(_: Any, start: Callable[[Any], int]) -> int:
        with log.open("w") as file:
            return start(file)

    with containers(tmp_path / "run", {}, observe), pytest.raises(RuntimeError, match="attest-dataset"):
        no_signer()
    assert f"[{codes.NO_SIGNER}]" in log.read_text()


def test_no_engine_answers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/no.sock")
    with pytest.raises(ServiceUnreachable) as refused:
        connect()
    assert refused.value.code == codes.ENGINE_SILENT
    assert "DOCKER_HOST" in remedy(refused.value)


def test_the_socket_may_not_be_used(engine: Any) -> None:
    os.seteuid(65534)
    try:
        with pytest.raises(Misconfigured) as refused:
            connect()
    finally:
        os.seteuid(0)
    assert refused.value.code == codes.ENGINE_PERMISSION
    assert "group" in remedy(refused.value)


# --- building ---------------------------------------------------------------------------------------------------------


def refused_build(*arguments: str, **environment: str) -> str:
    done = build(*arguments, **environment)
    assert done.returncode == 1, done.stdout
    assert done.stderr.startswith("REFUSED "), done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr


def test_building_on_a_base_that_is_not_here() -> None:
    said = refused_build("policy-gate", "--base-image", "localhost/no-such-base:1")
    assert f"[{codes.IMAGE_MISSING}]" in said


def test_building_on_a_base_without_python(engine: Any, tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text(f"FROM {base()}\nRUN rm -f /usr/bin/python3* /usr/local/bin/python3*\n")
    engine.images.build(path=str(tmp_path), tag="localhost/no-python:1")
    said = refused_build("policy-gate", "--base-image", "localhost/no-python:1")
    assert f"[{codes.IMAGE_WITHOUT_KFP}]" in said
    assert "python:3.11-slim" in said


def test_building_without_an_engine(tmp_path: Path) -> None:
    said = refused_build("policy-gate", DOCKER_HOST=f"unix://{tmp_path}/no.sock")
    assert f"[{codes.ENGINE_SILENT}]" in said
    assert "systemctl start docker" in said


def test_building_without_a_builder(tmp_path: Path) -> None:
    said = refused_build("policy-gate", PATH=str(tmp_path))
    assert f"[{codes.BUILD}]" in said
    assert "buildah" in said


def test_building_with_a_lock_that_was_changed(engine: Any, tmp_path: Path) -> None:
    """A wheel whose hash is not the locked one never gets into an image."""
    copy = tmp_path / "checkout"
    left_out = shutil.ignore_patterns(".venv", ".git", "build", ".dev", "__pycache__", ".*_cache")
    shutil.copytree(ROOT, copy, ignore=left_out)
    lock = copy / "images/locks/kfp.txt"
    lock.write_text(re.sub("sha256:[0-9a-f]{64}", f"sha256:{'0' * 64}", lock.read_text()))
    command = [sys.executable, str(copy / "scripts/build_images.py"), "artifact-signing"]
    command += ["--network=host", "--base-image", base(), "--prefix=localhost/changed"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert f"[{codes.BUILD}]" in done.stderr
    assert "hash" in (copy / "build/images/artifact-signing.log").read_text().lower()


@pytest.fixture
def small_engine(tmp_path: Path) -> Iterator[str]:
    """A second engine whose disk has room for the base image and little more.

    In a network of its own: without that it would take away the bridge of the engine that runs.
    """
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=800m", "tmpfs", str(disk)], check=True)
    address = f"unix://{tmp_path}/small.sock"
    command = ["unshare", "--net", "dockerd", "-H", address, "--data-root", str(disk / "data")]
    command += ["--exec-root", str(tmp_path / "exec")]
    command += ["--pidfile", str(tmp_path / "pid"), "--bridge=none", "--iptables=false", "--storage-driver=overlay2"]
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + 30
        while not (tmp_path / "small.sock").exists() and time.monotonic() < deadline:
            time.sleep(0.1)
        yield address
    finally:
        process.terminate()
        process.wait(30)
        subprocess.run(["umount", "-l", str(disk)], check=False)


def test_a_disk_that_is_full_while_building(engine: Any, small_engine: str, tmp_path: Path) -> None:
    archive = subprocess.Popen(["docker", "save", base()], stdout=subprocess.PIPE)
    environment = {**os.environ, "DOCKER_HOST": small_engine}
    subprocess.run(["docker", "load", "-q"], stdin=archive.stdout, env=environment, check=True, capture_output=True)
    archive.wait(30)
    room = shutil.disk_usage(tmp_path / "disk").free - (4 << 20)
    (tmp_path / "disk/filled").write_bytes(bytes(room))
    said = refused_build("model-training", DOCKER_HOST=small_engine)
    assert f"[{codes.DISK_FULL}]" in said
    assert "docker builder prune" in said


def test_a_stage_whose_temporary_folder_is_full(engine: Any) -> None:
    """What a stage writes to /tmp counts as its memory, so it ends at that limit and never fills the machine."""
    import io

    log = io.StringIO()
    code = "f = open('/tmp/x', 'wb')\nfor _ in range(400): f.write(bytes(1 << 20))"
    status = run_locked_down(engine, image("policy_gate"), ["python3", "-c", code], {}, Grant(memory="128m"), log)
    assert status == 137
