"""A real BentoML builds and serves an exported model, and does not start with one that was tampered with."""

import http.client
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from securesystemslib.signer import Signer

from kfp_custody.components._shared.scoring import load_scorer
from kfp_custody.components._shared.signers.file import generate_key
from kfp_custody.components._shared.signers.loading import load_signer
from kfp_custody.components.seldon_deployment import child
from kfp_custody.components.seldon_deployment.exports.bento import export_bento
from unit.seldon_deployment.signed_models import admit, sign, trust_text, write_model, write_skops_model

pytestmark = pytest.mark.exports
ROOT = Path(__file__).resolve().parents[2]
BENTOML = ROOT / ".exports" / "bin" / "bentoml"
NAME, SECRET = "fraud-detection", "4929123456789012"
ROWS = [
    {"amount": 0.1, "channel": "atm", "is_foreign": 0},
    {"amount": 0.9, "channel": "online", "is_foreign": True},
    {"amount": None, "channel": None, "is_foreign": 1.0},
    {"amount": 12.5, "channel": "by pigeon", "is_foreign": None},
]


@dataclass(frozen=True)
class Shop:
    """Where a model was trained and signed, and what BentoML keeps of it."""

    root: Path
    signer: Signer

    @property
    def bento(self) -> Path:
        """The folder that BentoML runs the bento from."""
        return self.root / "bentoml" / "bentos" / NAME / "v1" / "src"

    def command(self, *arguments: str) -> tuple[list[str], dict[str, str]]:
        """A command of BentoML with its whole environment: it finds no key, and nothing of this one's packages."""
        environment = {
            "PATH": f"{ROOT / '.venv' / 'bin'}:/usr/bin:/bin",  # it asks for uv
            "HOME": str(self.root),
            "BENTOML_HOME": str(self.root / "bentoml"),
            "BENTOML_DO_NOT_TRACK": "True",
            "CUSTODY_TRUST": str(self.root / "trust.yaml"),
        }
        return [str(BENTOML), *arguments], environment

    def build(self) -> subprocess.CompletedProcess[str]:
        command, environment = self.command("build", "--version", "v1")
        return subprocess.run(
            command, cwd=self.root / "export", env=environment, capture_output=True, text=True, check=False
        )

    def copy(self, root: Path) -> "Shop":
        shutil.copytree(self.root, root)
        return Shop(root, self.signer)


def make(root: Path, write: Callable[[Path], Path]) -> Shop:
    generate_key(root / "key.pem")
    shop = Shop(root, load_signer(f"file:{root}/key.pem"))
    export_bento(admit(root, write(root / "signed" / "model"), shop.signer), NAME, root / "export")
    built = shop.build()
    assert built.returncode == 0, built.stderr
    return shop


@dataclass(frozen=True)
class Server:
    """A running server."""

    port: int
    log: Path

    def post(self, body: bytes, kind: str = "application/json") -> tuple[int, Any]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request("POST", "/score", body, {"Content-Type": kind})
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())
        finally:
            connection.close()

    def score(self, rows: list[dict[str, Any]]) -> tuple[int, Any]:
        return self.post(json.dumps({"rows": rows}).encode())


def ready(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    return make(tmp_path_factory.mktemp("bento"), lambda folder: write_model(folder, 1))


@pytest.fixture(scope="module")
def server(shop: Shop) -> Iterator[Server]:
    yield from serving(shop)


def serving(shop: Shop) -> Iterator[Server]:
    (port,) = child.free_ports(1)
    log = shop.root / "server.log"
    command, environment = shop.command("serve", f"{NAME}:v1", "--host", "127.0.0.1", "--port", str(port))
    with log.open("wb") as out:
        running = subprocess.Popen(command, env=environment, stdout=out, stderr=out, start_new_session=True)
    try:
        deadline = time.monotonic() + 120
        while not ready(port):
            assert running.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.2)
        yield Server(port, log)
    finally:
        running.terminate()
        try:
            running.wait(30)
        finally:
            if running.poll() is None:
                os.killpg(running.pid, signal.SIGKILL)


def plain(model: Path) -> list[float]:
    columns = {key: np.array([row[key] for row in ROWS], dtype=object) for key in ROWS[0]}
    return load_scorer(model).score(columns).tolist()


# --- served -----------------------------------------------------------------------------------------------------------


def test_a_bento_answers_like_the_model_itself(shop: Shop, server: Server) -> None:
    status, answer = server.score(ROWS)
    assert status == 200, answer
    assert answer["probability"] == plain(shop.root / "signed" / "model")
    assert answer["label"] == [int(p >= 0.5) for p in answer["probability"]]
    pins = json.loads((shop.bento / "custody.json").read_text())
    assert (answer["model"], answer["version"]) == (NAME, pins["listing_sha256"])


def test_a_scikit_learn_bento_answers_like_the_model_itself(tmp_path: Path) -> None:
    shop = make(tmp_path, write_skops_model)
    for server in serving(shop):
        status, answer = server.score(ROWS)
        assert status == 200, answer
        assert answer["probability"] == plain(shop.root / "signed" / "model")


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (json.dumps({"rows": [ROWS[0] | {"amount": SECRET}]}), "application/json"),
        (json.dumps({"rows": [ROWS[0] | {"channel": int(SECRET)}]}), "application/json"),
        (json.dumps({"rows": [ROWS[0] | {SECRET: 1}]}), "application/json"),
        (json.dumps({"rows": [{"channel": SECRET}]}), "application/json"),
        (json.dumps({"rows": SECRET}), "application/json"),
        (f'{{"rows": {SECRET}', "application/json"),
        (f"\udcff{SECRET}", "application/json"),
        ("", "application/json"),
        (SECRET, "multipart/form-data"),
        (f"rows={SECRET}", "application/x-www-form-urlencoded"),
        (SECRET, "application/vnd.bentoml+pickle"),
        (f"http://127.0.0.1:1/{SECRET}", "text/plain"),
    ],
)
def test_a_request_that_does_not_fit_is_a_400_and_no_value_is_repeated_or_logged(
    server: Server, body: str, kind: str
) -> None:
    status, answer = server.post(body.encode(errors="surrogateescape"), kind)
    assert status == 400, answer
    assert answer.keys() == {"error"}
    assert SECRET not in json.dumps(answer)
    assert SECRET not in server.log.read_text()
    assert "Traceback" not in server.log.read_text()


def test_a_body_is_read_as_json_whatever_it_calls_itself(server: Server) -> None:
    """BentoML has a content type for pickles; here it is a name for JSON like any other."""
    body = json.dumps({"rows": ROWS}).encode()
    assert server.post(body, "application/vnd.bentoml+pickle") == server.post(body)


# --- refused ----------------------------------------------------------------------------------------------------------


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def older(shop: Shop) -> None:
    """Another model, truly signed by the trusted signer, in the place of the pinned one."""
    shutil.rmtree(shop.bento / "signed")
    sign(write_model(shop.bento / "signed" / "model", 0), shop.signer)


def distrust(shop: Shop) -> None:
    """The machine trusts another key."""
    generate_key(shop.root / "other.pem")
    (shop.root / "trust.yaml").write_text(trust_text(load_signer(f"file:{shop.root}/other.pem")))


REFUSED: dict[str, tuple[Callable[[Shop], object], str]] = {
    "flipped byte": (lambda shop: flip(shop.bento / "signed" / "model" / "model.ubj"), "EvidenceInvalid"),
    "older signed model": (older, "EvidenceInvalid"),
    "no signature": (lambda shop: (shop.bento / "signed" / "model.sig").unlink(), "EvidenceInvalid"),
    "other trust": (distrust, "EvidenceInvalid"),
    "no pins": (lambda shop: (shop.bento / "custody.json").unlink(), "EvidenceInvalid"),
}


@pytest.mark.parametrize(("tamper", "kind"), REFUSED.values(), ids=REFUSED)
def test_a_server_does_not_start_with_a_tampered_model(
    shop: Shop, tmp_path: Path, tamper: Callable[[Shop], object], kind: str
) -> None:
    copy = shop.copy(tmp_path / "shop")
    tamper(copy)
    (port,) = child.free_ports(1)
    command, environment = copy.command("serve", f"{NAME}:v1", "--host", "127.0.0.1", "--port", str(port))
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode != 0
    assert f"errors.{kind}: [CUS-E" in done.stderr
    assert not ready(port)


def test_a_bento_is_not_built_of_a_tampered_model(shop: Shop, tmp_path: Path) -> None:
    copy = shop.copy(tmp_path / "shop")
    shutil.rmtree(copy.root / "bentoml")
    flip(copy.root / "export" / "signed" / "model" / "model.ubj")
    built = copy.build()
    assert built.returncode != 0
    assert "not the one that was admitted" in built.stdout + built.stderr
    assert not copy.bento.exists()


def test_a_worker_verifies_what_it_loads_whatever_was_verified_before_it(shop: Shop, tmp_path: Path) -> None:
    """The model changes after the command that starts the workers has looked at it."""
    copy = shop.copy(tmp_path / "shop")
    code = "import service, sys; open(sys.argv[1], 'ab').write(b'x'); service.SignedModel()"
    (command, *_), environment = copy.command()
    done = subprocess.run(
        [str(Path(command).with_name("python")), "-c", code, str(copy.bento / "signed" / "model" / "model.ubj")],
        env=environment, cwd=copy.bento, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode != 0
    assert "Initializing service error" in done.stderr
    assert "not the one that was admitted" in done.stderr


def test_a_model_that_changes_while_it_is_served_changes_no_answer(shop: Shop, tmp_path: Path) -> None:
    copy = shop.copy(tmp_path / "shop")
    for server in serving(copy):
        flip(copy.bento / "signed" / "model" / "model.ubj")
        assert server.score(ROWS)[1]["probability"] == plain(shop.root / "signed" / "model")
