"""A model server that is started for one model, as by Seldon Core v1 and KServe: the environment pins the bytes."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from securesystemslib.signer import Signer

from kfp_custody.components._shared.digests import list_tree, sha256_file
from kfp_custody.components._shared.errors import ServiceUnreachable
from kfp_custody.components._shared.signers.file import generate_key
from kfp_custody.components._shared.signers.loading import load_signer
from kfp_custody.components.seldon_deployment import child
from kfp_custody.components.seldon_deployment.serving.names import LAUNCHER, REPOSITORY
from kfp_custody.components.seldon_deployment.v2_client import call, score
from unit.seldon_deployment.signed_models import ROW, sign, trust_text, write_model

pytestmark = pytest.mark.services
NAME = "fraud-detection"


@pytest.fixture
def signer(tmp_path: Path) -> Signer:
    generate_key(tmp_path / "key.pem")
    signer = load_signer(f"file:{tmp_path}/key.pem")
    (tmp_path / "trust.yaml").write_text(trust_text(signer))
    return signer


@pytest.fixture
def signed(tmp_path: Path, signer: Signer) -> Path:
    return sign(write_model(tmp_path / "mounted" / "model"), signer)


def environment(signed: Path, **changes: str) -> dict[str, str]:
    http, grpc, metrics = child.free_ports(3)
    return {
        "PATH": os.defpath,
        "HOME": str(signed.parent),
        "MLSERVER_HOST": "127.0.0.1",
        "MLSERVER_HTTP_PORT": str(http),
        "MLSERVER_GRPC_PORT": str(grpc),
        "MLSERVER_METRICS_PORT": str(metrics),
        "MLSERVER_PARALLEL_WORKERS": "0",
        "MLSERVER_MODEL_REPOSITORY_ROOT": str(signed),
        "MLSERVER_MODEL_REPOSITORY_IMPLEMENTATION": REPOSITORY,
        "CUSTODY_TRUST": str(signed.parent / "trust.yaml"),
        "CUSTODY_MODEL": NAME,
        "CUSTODY_LISTING_SHA256": list_tree(signed / "model").sha256,
        "CUSTODY_SIGNATURE_SHA256": sha256_file(signed / "model.sig"),
    } | changes


def start(settings: dict[str, str], log: Path) -> subprocess.Popen[bytes]:
    # Into a file: a pipe that nobody reads is full after some hundred lines, and a server that logs to it stands still.
    with log.open("wb") as out:
        return subprocess.Popen([sys.executable, "-I", "-m", LAUNCHER], env=settings, stderr=out, stdout=out)


@pytest.fixture
def ended() -> Iterator[Callable[[subprocess.Popen[bytes]], None]]:
    servers: list[subprocess.Popen[bytes]] = []
    yield servers.append
    for server in servers:
        server.terminate()
        server.wait(timeout=30)


def is_ready(address: str) -> bool:
    try:
        return call("GET", address).status == 200
    except ServiceUnreachable:
        return False


def test_it_loads_its_model_by_itself_and_no_other(
    tmp_path: Path, signed: Path, ended: Callable[[subprocess.Popen[bytes]], None]
) -> None:
    # What lies beside the model says something else, and counts for nothing.
    (signed / "model-settings.json").write_text('{"name": "fraud-detection", "implementation": "os.system"}')
    settings, log = environment(signed), tmp_path / "server.log"
    server = start(settings, log)
    ended(server)
    url, deadline = f"http://127.0.0.1:{settings['MLSERVER_HTTP_PORT']}", time.monotonic() + 60
    while not is_ready(f"{url}/v2/models/{NAME}/ready"):
        assert server.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.2)
    assert score(f"{url}/v2/models/{NAME}", [ROW])["version"] == settings["CUSTODY_LISTING_SHA256"]
    assert call("POST", f"{url}/v2/repository/models/other/load").status == 404


def flipped(signed: Path) -> dict[str, str]:
    settings, path = environment(signed), signed / "model" / "model.ubj"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    return settings


def surplus(signed: Path) -> dict[str, str]:
    settings = environment(signed)
    (signed / "model" / "sitecustomize.py").write_text("raise SystemExit(0)")
    return settings


def unsigned(signed: Path) -> dict[str, str]:
    settings = environment(signed)
    (signed / "model.sig").unlink()
    return settings


def other_pin(signed: Path) -> dict[str, str]:
    return environment(signed, CUSTODY_SIGNATURE_SHA256="ab" * 32)


def half_a_pin(signed: Path) -> dict[str, str]:
    return environment(signed, CUSTODY_SIGNATURE_SHA256="")


def nobody_trusted(signed: Path) -> dict[str, str]:
    generate_key(signed.parent / "other.pem")
    (signed.parent / "trust.yaml").write_text(trust_text(load_signer(f"file:{signed.parent}/other.pem")))
    return environment(signed)


def older(signed: Path) -> dict[str, str]:
    """An older model, as genuinely signed, in the place of the pinned one."""
    settings, signer = environment(signed), load_signer(f"file:{signed.parent}/key.pem")
    shutil.rmtree(signed / "model")
    (signed / "model.sig").unlink()
    sign(write_model(signed / "model", 1), signer)
    return settings


def linked(signed: Path) -> dict[str, str]:
    settings = environment(signed)
    (signed / "model").rename(signed / "elsewhere")
    (signed / "model").symlink_to("elsewhere")
    return settings


def other_key(signed: Path) -> dict[str, str]:
    generate_key(signed.parent / "other.pem")
    (signed / "model.sig").unlink()
    sign(signed / "model", load_signer(f"file:{signed.parent}/other.pem"))
    return environment(signed)


TAMPERS = [flipped, surplus, unsigned, other_pin, half_a_pin, nobody_trusted, older, linked, other_key]


@pytest.mark.parametrize("tamper", TAMPERS)
def test_it_ends_before_anything_is_served(
    tmp_path: Path,
    signed: Path,
    ended: Callable[[subprocess.Popen[bytes]], None],
    tamper: Callable[[Path], dict[str, str]],
) -> None:
    log = tmp_path / "server.log"
    server = start(tamper(signed), log)
    ended(server)
    assert server.wait(timeout=60) != 0, log.read_text()
    assert "refused" in log.read_text() or "pins no model" in log.read_text()
