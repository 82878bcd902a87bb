"""Secrets in AWS Secrets Manager: the real client against moto's server on the loopback interface."""

import logging
import os
import signal
import socket
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest

from kfp_custody.components._shared.errors import CustodyError, Misconfigured, ServiceUnreachable
from kfp_custody.components._shared.secrets.loading import load_secret
from kfp_custody.components.pii_masking.pseudonyms import read_masking_key

pytestmark = pytest.mark.services
VALUE = "hunter2-the-secret-value"
ACCESS = "marked-aws-secret-access-key"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    log = tmp_path_factory.mktemp("moto") / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [Path(sys.executable).with_name("moto_server"), "-H", "127.0.0.1", "-p", str(port)],
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                assert process.poll() is None, log.read_text()
                time.sleep(0.1)
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(30)


@pytest.fixture
def aws(server: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A client that may do everything; the environment says the same to the stage."""
    point_to(server, monkeypatch)
    client = boto3.Session().client("secretsmanager")
    for entry in client.list_secrets(IncludePlannedDeletion=True)["SecretList"]:
        client.delete_secret(SecretId=entry["ARN"], ForceDeleteWithoutRecovery=True)
    return client


def point_to(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("AWS_"):
            monkeypatch.delenv(name)
    for name, value in {
        "AWS_ENDPOINT_URL": address,
        "AWS_DEFAULT_REGION": "eu-central-1",
        "AWS_ACCESS_KEY_ID": "AKIATESTTESTTEST",
        "AWS_SECRET_ACCESS_KEY": ACCESS,
        "AWS_EC2_METADATA_DISABLED": "true",
    }.items():
        monkeypatch.setenv(name, value)


def refusal(uri: str) -> CustodyError:
    with pytest.raises(CustodyError) as caught:
        load_secret(uri).reveal()
    told = "".join(traceback.format_exception(caught.value))
    assert VALUE not in told
    assert ACCESS not in told
    return caught.value


def test_text_binary_field_and_arn(aws: Any) -> None:
    arn = aws.create_secret(Name="shop/masking", SecretString=f'{{"key": "{VALUE}"}}')["ARN"]
    aws.create_secret(Name="shop/binary", SecretBinary=b"\x00\xff\n")
    assert load_secret("aws-secretsmanager:shop/masking#key").reveal() == VALUE.encode()
    assert load_secret(f"aws-secretsmanager:{arn}#key").reveal() == VALUE.encode()
    assert load_secret("aws-secretsmanager:shop/masking").reveal() == f'{{"key": "{VALUE}"}}'.encode()
    assert load_secret("aws-secretsmanager:shop/binary").reveal() == b"\x00\xff\n"


def test_a_rotation_is_seen_after_the_lifetime(aws: Any) -> None:
    aws.create_secret(Name="rotating", SecretString="one")
    secret, patient = (
        load_secret("aws-secretsmanager:rotating", lifetime=0.2),
        load_secret("aws-secretsmanager:rotating"),
    )
    assert secret.reveal() == patient.reveal() == b"one"
    aws.put_secret_value(SecretId="rotating", SecretString="two")
    time.sleep(0.25)
    assert secret.reveal() == b"two"
    assert patient.reveal() == b"one"


def test_what_is_not_there_or_is_being_deleted(aws: Any) -> None:
    aws.create_secret(Name="gone", SecretString=VALUE)
    secret = load_secret("aws-secretsmanager:gone", lifetime=0.0)
    assert secret.reveal() == VALUE.encode()
    aws.delete_secret(SecretId="gone", RecoveryWindowInDays=7)
    with pytest.raises(Misconfigured):
        secret.reveal()
    assert type(refusal("aws-secretsmanager:none")) is Misconfigured


def test_a_field_that_is_not_there_is_refused_and_nothing_quoted(aws: Any) -> None:
    aws.create_secret(Name="text", SecretString=VALUE)
    aws.create_secret(Name="object", SecretString=f'{{"a": "{VALUE}"}}')
    assert type(refusal("aws-secretsmanager:text#key")) is Misconfigured
    assert type(refusal("aws-secretsmanager:object#key")) is Misconfigured


def test_no_log_at_any_level_holds_the_value(aws: Any, caplog: pytest.LogCaptureFixture) -> None:
    """At DEBUG the client writes whole answers into its log, unless somebody stops it."""
    aws.create_secret(Name="quiet", SecretString=VALUE)
    caplog.clear()
    with caplog.at_level(logging.DEBUG):
        assert load_secret("aws-secretsmanager:quiet").reveal() == VALUE.encode()
    assert VALUE not in caplog.text
    assert ACCESS not in caplog.text


def test_a_stopped_server_is_a_refusal_within_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    point_to(f"http://127.0.0.1:{port}", monkeypatch)
    begun = time.monotonic()
    assert type(refusal("aws-secretsmanager:any")) is ServiceUnreachable
    assert time.monotonic() - begun < 10


def test_a_server_that_never_answers_is_a_refusal_within_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        point_to(f"http://127.0.0.1:{silent.getsockname()[1]}", monkeypatch)
        begun = time.monotonic()
        assert type(refusal("aws-secretsmanager:any")) is ServiceUnreachable
        assert time.monotonic() - begun < 15


def test_the_masking_key_comes_from_there(aws: Any) -> None:
    aws.create_secret(Name="pseudonyms", SecretString="ab" * 32)
    assert read_masking_key("aws-secretsmanager:pseudonyms").master == bytes.fromhex("ab" * 32)
