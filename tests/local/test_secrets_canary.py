"""Marked secrets in Vault, files and environment: a run of the reference pipeline leaves no trace of any of them.

Every file that the run makes is searched (artifacts, evidence, reports, metadata, the MLflow store, the DVC remote, the
model server's state, temporary files and caches, the compiled pipeline and everything that was printed), in many
encodings and inside containers. The same for runs that fail.
"""

import gzip
import http.server
import io
import json
import os
import secrets
import socket
import sqlite3
import subprocess
import sys
import threading
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)
from local_runs import Platform
from tracing import Tracer, forms

from kfp_custody.components._shared.digests import list_tree
from kfp_custody.components._shared.keys import public_pem
from kfp_custody.components._shared.kinds import DECISION, KINDS
from kfp_custody.components._shared.signers.file import generate_key
from kfp_custody.components.pii_masking.pseudonyms import MaskingKey
from kfp_custody.components.policy_gate.policy import load_policy
from kfp_custody.components.seldon_deployment.local_server import stop

POLICY = {"secret/data/custody/masking": ["read"], "secret/data/custody/odd": ["read"]}


@dataclass(frozen=True)
class Marked:
    """The secrets by name, how to look for them, and the environment that holds them or says where they are."""

    keys: Path
    root: Path
    secrets: dict[str, bytes]
    environment: dict[str, str]
    arguments: dict[str, str]
    stop_vault: Callable[[], None]

    @property
    def tracer(self) -> Tracer:
        return Tracer(self.secrets)

    def run(self, name: str, **changes: str) -> tuple[Path, subprocess.CompletedProcess[bytes]]:
        """Run the pipeline in a process and a folder of its own; what it prints ends in the folder too."""
        folder = self.root / name
        for part in ("home", "tmp", "state"):
            (folder / part).mkdir(parents=True)
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        places = {
            "HOME": str(folder / "home"),
            "TMPDIR": str(folder / "tmp"),
            "CUSTODY_DVC_REMOTE": str(folder / "state/dvc"),
            "CUSTODY_SERVING_DIR": str(folder / "state/serving"),
            "CUSTODY_SERVING_PORT": str(port),
            "MLFLOW_TRACKING_URI": f"sqlite:///{folder / 'state/mlflow.db'}",
        }
        kept = {key: value for key, value in os.environ.items() if key in ("PATH", "LANG", "LC_ALL")}
        with (folder / "printed").open("wb") as output:
            done = subprocess.run(
                [sys.executable, __file__, str(folder), json.dumps(self.arguments)],
                env=kept | self.environment | places | changes,
                stdout=output,
                stderr=subprocess.STDOUT,
                timeout=900,
                check=False,
            )
        return folder, done


@pytest.fixture(scope="module")
def marked(platform: Platform, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Marked]:
    """Keys, passwords and tokens of this test alone; the masking key is in a real OpenBao."""
    from services.openbao import running

    root, keys = tmp_path_factory.mktemp("canary"), tmp_path_factory.mktemp("canary-keys")
    known = {
        "masking key": secrets.token_hex(32).encode(),
        "odd masking key": b"marked-" + secrets.token_hex(16).encode(),
        "MLflow password": b"marked+/" + secrets.token_hex(16).encode(),
        "MLflow token": b"marked-" + secrets.token_hex(16).encode(),
        "AWS secret key": secrets.token_urlsafe(30).encode(),
        "AWS session token": secrets.token_urlsafe(60).encode(),
        "wrong Vault token": b"s." + secrets.token_hex(12).encode(),
        "key password": secrets.token_urlsafe(24).encode(),
        "wrong key password": secrets.token_urlsafe(24).encode(),
    }
    known["masking key, raw"] = bytes.fromhex(known["masking key"].decode())
    trust = ["version: 1", "signers:"]
    for role, kinds in {"gate": [DECISION.name], "pipeline": [k for k in KINDS if k != DECISION.name]}.items():
        pem = public_pem(generate_key(keys / f"{role}.pem")).decode().splitlines()
        trust += [f"  - name: {role}", "    key: |", *(f"      {line}" for line in pem)]
        trust += [f"    may_sign: [{', '.join(kinds)}]"]
        known |= parts_of_key(role, (keys / f"{role}.pem").read_bytes())
    trust += ["policies:", "  - name: baseline", f"    sha256: {load_policy('baseline').sha256}"]
    (root / "trust.yaml").write_text("\n".join(trust))
    for name in ("key password", "wrong key password"):
        (keys / name).write_bytes(known[name])
        (keys / name).chmod(0o600)
    with running(tmp_path_factory.mktemp("canary-vault")) as bao:
        kv = bao.client.secrets.kv.v2
        kv.create_or_update_secret("custody/masking", secret={"key": known["masking key"].decode()})
        kv.create_or_update_secret("custody/odd", secret={"key": known["odd masking key"].decode()})
        token = bao.token(POLICY)
        known |= {"Vault token": token.encode(), "Vault root token": bao.root.encode()}
        environment = {
            "CUSTODY_SIGNER": f"file:{keys / 'pipeline.pem'}",
            "CUSTODY_SIGNER_POLICY_GATE": f"file:{keys / 'gate.pem'}",
            "CUSTODY_TRUST": str(root / "trust.yaml"),
            "CUSTODY_SOURCES": str(platform.root / "sources.yaml"),
            "CUSTODY_MASKING_KEY": "vault:secret/custody/masking#key",
            "VAULT_ADDR": bao.address,
            "VAULT_TOKEN": token,
            "MLFLOW_TRACKING_USERNAME": "scientist",
            "MLFLOW_TRACKING_PASSWORD": known["MLflow password"].decode(),
            "AWS_ACCESS_KEY_ID": "AKIATESTTESTTEST",
            "AWS_SECRET_ACCESS_KEY": known["AWS secret key"].decode(),
            "AWS_SESSION_TOKEN": known["AWS session token"].decode(),
            "AWS_DEFAULT_REGION": "eu-central-1",
            "AWS_EC2_METADATA_DISABLED": "true",
            "DO_NOT_TRACK": "1",
        }
        yield Marked(keys, root, known, environment, platform.arguments, bao.stop)
        for state in root.glob("*/state/serving"):
            stop(state)


def parts_of_key(role: str, pem: bytes) -> dict[str, bytes]:
    """What of a key file is secret: its first two lines hold the private number, the rest the public key."""
    key = load_pem_private_key(pem, None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    number = key.private_numbers().private_value
    lines = pem.splitlines()
    return {
        f"{role} key, number": number.to_bytes(32, "big"),
        f"{role} key, decimal": str(number).encode(),
        f"{role} key, line 1": lines[1],
        f"{role} key, line 2": lines[2],
    }


@pytest.fixture(scope="module")
def genuine(marked: Marked) -> Path:
    """The folder of a run that everything passes in."""
    folder, done = marked.run("genuine")
    assert done.returncode == 0, (folder / "printed").read_text()[-3000:]
    return folder


def test_the_secrets_were_really_used(marked: Marked, genuine: Path) -> None:
    (report,) = genuine.glob("runs/*/mask-pii/evidence/report.json")
    key = MaskingKey(marked.secrets["masking key, raw"])
    assert key.key_id in report.read_text()
    assert list(genuine.glob("runs/*/deploy-model/endpoint"))


def test_the_run_left_every_kind_of_file(genuine: Path) -> None:
    for pattern in (
        "printed",
        "compiled.yaml",
        "runs/*/*/executor_output.json",
        "runs/*/*/report",
        "runs/*/*/*/*.sigstore.json",
        "runs/*/sign-model/signed/model.sig",
        "runs/*/mask-pii/masked/data.parquet",
        "state/mlflow.db",
        "state/dvc/**/*",
        "state/serving/served.json",
    ):
        assert list(genuine.glob(pattern)), pattern


def test_a_run_leaves_no_trace_of_any_secret(marked: Marked, genuine: Path) -> None:
    assert marked.tracer.in_folder(genuine) == {}


def test_the_same_search_finds_what_a_run_is_meant_to_leave(genuine: Path) -> None:
    """A digest in signed payloads and in MLflow's database; a cell in compressed tables, also in the DVC remote."""
    (masked,) = genuine.glob("runs/*/mask-pii/masked")
    transaction = pq.read_table(masked)["transaction_id"][1000].as_py()
    known = {"digest": list_tree(masked).sha256.encode(), "transaction": transaction.encode()}
    found = Tracer(known).in_folder(genuine)
    digest, transaction = (
        {name for name, traces in found.items() if any(trace.startswith(word) for trace in traces)} for word in known
    )
    assert "state/mlflow.db" in digest
    assert {Path(name).name for name in digest} >= {"mask-pii.sigstore.json", "train-model.sigstore.json"}
    assert str((masked / "data.parquet").relative_to(genuine)) in transaction
    assert [name for name in transaction if name.startswith("state/dvc/")]


FAILURES = {
    "wrong Vault token": ("Misconfigured", {"VAULT_TOKEN": "{wrong Vault token}"}),
    "masking key that is none": ("Misconfigured", {"CUSTODY_MASKING_KEY": "vault:secret/custody/odd#key"}),
    "no permission": ("Misconfigured", {"CUSTODY_MASKING_KEY": "vault:secret/other#key"}),
    "AWS stopped": (
        "ServiceUnreachable",
        {"CUSTODY_MASKING_KEY": "aws-secretsmanager:masking", "AWS_ENDPOINT_URL": "http://127.0.0.1:9"},
    ),
    "key pasted as its own path": ("Misconfigured", {"CUSTODY_MASKING_KEY": "{masking key}"}),
    "signing key pasted as its URI": ("Misconfigured", {"CUSTODY_SIGNER": "{pipeline key, line 1}"}),
    "wrong password of a signing key": (
        "Misconfigured",
        {"CUSTODY_SIGNER": "file:{keys}/encrypted.pem", "CUSTODY_SIGNER_PASSWORD_FILE": "{keys}/wrong key password"},
    ),
    "wrong MLflow password": ("ServiceUnreachable", {"MLFLOW_TRACKING_URI": "{forbidding}"}),
    "wrong MLflow token": (
        "ServiceUnreachable",
        {"MLFLOW_TRACKING_URI": "{forbidding}", "MLFLOW_TRACKING_TOKEN": "{MLflow token}"},
    ),
    "Vault stopped": ("ServiceUnreachable", {}),  # the last one: nothing works after it
}


@pytest.mark.parametrize("case", FAILURES)
def test_a_run_that_fails_leaves_no_trace_of_any_secret(marked: Marked, forbidding: str, case: str) -> None:
    kind, changes = FAILURES[case]
    pem = marked.keys / "encrypted.pem"
    if not pem.exists():
        key = load_pem_private_key((marked.keys / "pipeline.pem").read_bytes(), None)
        password = BestAvailableEncryption(marked.secrets["key password"])
        pem.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, password))
        pem.chmod(0o600)
    words = {f"{{{name}}}": value.decode("latin-1") for name, value in marked.secrets.items()}
    words |= {"{keys}": str(marked.keys), "{forbidding}": forbidding}
    for name, value in changes.items():
        for word, meaning in words.items():
            changes = changes | {name: (value := value.replace(word, meaning))}
    if case == "Vault stopped":
        marked.stop_vault()
    folder, done = marked.run(case.replace(" ", "-"), **changes)
    printed = (folder / "printed").read_text(errors="replace")
    assert done.returncode != 0
    assert f"REFUSED {kind}" in printed, printed[-3000:]
    assert marked.tracer.in_folder(folder) == {}


@pytest.fixture(scope="module")
def forbidding() -> Iterator[str]:
    """A server that wants another password, and repeats the one it was given, as careless ones do."""

    class Forbid(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = f"401 for {self.headers.get('Authorization')}".encode()
            self.send_response(401)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_GET  # noqa: N815

        def log_message(self, *_: object) -> None: ...

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Forbid)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


# --- the search finds what is there -----------------------------------------------------------------------------------

SECRET = b"s3cr3t+/value-of-this-test"


def in_zip(data: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/b", data)
    return file.getvalue()


def in_sqlite(data: bytes, folder: Path) -> bytes:
    path = folder / "db"
    path.unlink(missing_ok=True)
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE t (a, b)")
    connection.execute("INSERT INTO t VALUES (1, ?)", ("x" * 5000 + data.decode("latin-1") + "y" * 9000,))
    connection.commit()
    connection.close()
    return path.read_bytes()


def in_parquet(data: bytes) -> bytes:
    file = io.BytesIO()
    pq.write_table(pa.table({"a": pa.array(["x", data.decode("latin-1")] * 50)}), file, compression="zstd")
    return file.getvalue()


@pytest.mark.parametrize("form", forms(SECRET))
def test_every_form_is_found_in_every_container(form: str, tmp_path: Path) -> None:
    needle, tracer = b"before " + forms(SECRET)[form] + b" after", Tracer({"it": SECRET})
    if form.startswith(("base64", "URL-safe")):
        needle = forms(b"\1" * 3 + b"x" * int(form[-1]) + SECRET + b"tail of it")[form[:-1] + "0"]
    for place, data in {
        "plain": needle,
        "gzip": gzip.compress(needle),
        "zip": in_zip(needle),
        "gzip in zip": in_zip(gzip.compress(needle)),
        "sqlite": in_sqlite(needle, tmp_path),
        "parquet": in_parquet(needle),
    }.items():
        assert tracer.in_bytes(data), place


def test_a_secret_in_an_envelope_or_a_name_is_found(tmp_path: Path) -> None:
    import base64

    tracer = Tracer({"it": SECRET})
    payload = base64.b64encode(b'{"long": "%s", "hex": "%s"}' % (b"x" * 90, SECRET.hex().encode()))
    assert tracer.in_bytes(b'{"payload": "%s"}' % payload)
    (tmp_path / SECRET.hex()).write_bytes(b"")
    assert tracer.in_folder(tmp_path)
    assert not tracer.in_bytes(b"nothing of the kind")


def run(folder: Path, arguments: dict[str, str]) -> None:
    """Compile and run the reference pipeline, as a process of its own with the secrets in its environment."""
    from kfp import compiler, local

    from kfp_custody.pipelines.fraud_detection.pipeline import fraud_detection
    from kfp_custody.pipelines.platform import without_retries

    compiler.Compiler().compile(fraud_detection, str(folder / "compiled.yaml"))
    local.init(local.SubprocessRunner(use_venv=False), pipeline_root=str(folder / "runs"))
    without_retries(fraud_detection)(**arguments)


if __name__ == "__main__":
    run(Path(sys.argv[1]), json.loads(sys.argv[2]))
