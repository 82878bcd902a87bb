"""The redacting type, and the secrets that need no server."""

import base64
import copy
import dataclasses
import inspect
import json
import logging
import os
import pickle
import pprint
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from kfp_custody.components._shared.errors import CustodyError, Misconfigured, ServiceUnreachable
from kfp_custody.components._shared.secrets.fields import of_json
from kfp_custody.components._shared.secrets.loading import load_secret, load_secret_or_file
from kfp_custody.components._shared.secrets.secret import Reading, Secret

VALUE = b"hunter2-the-secret-value"


def shown(text: object) -> bool:
    """Whether the value can be read out of a text."""
    forms = (VALUE.decode(), repr(VALUE), VALUE.hex(), base64.b64encode(VALUE).decode())
    return any(form in str(text) for form in forms)


@pytest.fixture
def secret() -> Secret:
    made = Secret("vault:secret/masking#key", lambda: Reading(VALUE, 60.0))
    assert made.reveal() == VALUE
    return made


@dataclasses.dataclass
class Holder:
    password: Secret


WAYS_TO_SHOW: dict[str, Callable[[Secret], object]] = {
    "repr": repr,
    "str": str,
    "f-string": lambda secret: f"{secret} {secret!r} {secret!s} {secret!a}",
    "format with a spec": lambda secret: format(secret, ">200s"),
    "percent": lambda secret: "%s %r" % (secret, secret),  # noqa: UP031
    "in a list": lambda secret: repr([secret]),
    "in a dataclass": lambda secret: repr(Holder(secret)),
    "asdict": lambda secret: repr(dataclasses.asdict(Holder(secret))),
    "pprint": lambda secret: pprint.pformat({"a": secret}),
    "json with a default": lambda secret: json.dumps({"a": secret}, default=str),
    "members": lambda secret: repr(inspect.getmembers(secret)),
    "slots": lambda secret: repr({name: getattr(secret, name) for name in Secret.__slots__}),
    "copy": lambda secret: repr(copy.copy(secret)),
    "deep copy": lambda secret: repr(copy.deepcopy([secret])),
    "an exception": lambda secret: repr(ValueError(secret)),
}
WAYS_REFUSED: dict[str, Callable[[Secret], object]] = {
    "bytes": bytes,  # type: ignore[dict-item]
    "len": len,  # type: ignore[dict-item]
    "iter": iter,  # type: ignore[call-overload]
    "json": json.dumps,
    "vars": vars,
    "json of vars": lambda secret: json.dumps(secret, default=vars),
    "pickle": pickle.dumps,
    "old pickle": lambda secret: pickle.dumps(secret, 0),
    "pickle of a holder": lambda secret: pickle.dumps(Holder(secret)),
    "yaml": yaml.dump,
    "joined": lambda secret: "".join([secret]),  # type: ignore[list-item]
    "added": lambda secret: b"" + secret,  # type: ignore[operator]
    "hash": hash,
}


@pytest.mark.parametrize("way", WAYS_TO_SHOW)
def test_what_shows_a_secret_shows_where_it_is_kept(secret: Secret, way: str) -> None:
    text = WAYS_TO_SHOW[way](secret)
    assert not shown(text)
    assert "vault:secret/masking#key" in str(text)


@pytest.mark.parametrize("way", WAYS_REFUSED)
def test_what_would_give_the_value_is_refused(secret: Secret, way: str) -> None:
    with pytest.raises(TypeError) as refusal:
        WAYS_REFUSED[way](secret)
    assert not shown(refusal.value)


def test_a_log_at_any_level_shows_where_it_is_kept(secret: Secret, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        logging.getLogger("test").debug("password %s", secret)
        logging.getLogger("test").info("password %r", {"a": secret})
    assert "vault:secret/masking#key" in caplog.text
    assert not shown(caplog.text)


def test_a_traceback_with_local_variables_shows_none(secret: Secret) -> None:
    def use(password: Secret) -> None:
        raise RuntimeError("x")

    with pytest.raises(RuntimeError) as error:
        use(secret)
    trace = traceback.TracebackException.from_exception(error.value, capture_locals=True)
    assert "Secret" in "".join(trace.format())
    assert not shown("".join(trace.format()))


def test_values_are_compared_and_not_their_places(secret: Secret) -> None:
    other = Secret("env:OTHER", lambda: Reading(VALUE, 0.0))
    assert secret == other
    assert secret == VALUE
    assert secret != VALUE[:-1]
    assert secret != Secret("vault:secret/masking#key", lambda: Reading(b"else", 0.0))
    assert secret != VALUE.decode()
    assert copy.deepcopy(secret) is secret


def test_a_value_is_kept_for_its_lifetime_and_then_read_again() -> None:
    values = iter([b"one", b"two", b"three"])
    secret = Secret("test", lambda: Reading(next(values), 0.2))
    assert [secret.reveal() for _ in range(3)] == [b"one"] * 3
    time.sleep(0.25)
    assert [secret.reveal() for _ in range(3)] == [b"two"] * 3


def test_an_old_value_is_never_given_when_the_source_fails() -> None:
    def read() -> Reading:
        calls.append(1)
        if len(calls) > 1:
            raise ServiceUnreachable("down", evidence="test", remedy="none")
        return Reading(VALUE, 0.05)

    calls: list[int] = []
    secret = Secret("test", read)
    assert secret.reveal() == VALUE
    time.sleep(0.06)
    for _ in range(2):
        with pytest.raises(ServiceUnreachable):
            secret.reveal()
    assert not shown({name: getattr(secret, name) for name in Secret.__slots__})


def test_threads_share_one_reading() -> None:
    def read() -> Reading:
        calls.append(1)
        time.sleep(0.05)
        return Reading(VALUE, 60.0)

    calls: list[int] = []
    secret = Secret("test", read)
    threads = [threading.Thread(target=secret.reveal) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(calls) == 1


# --- URIs -------------------------------------------------------------------------------------------------------------

UNUSABLE = [
    *("", ":", "file:", "env:", "vault:", "file:relative/path", "env:A-B", "env:A=hunter2", "env:é"),
    *("http://x/y", "VAULT:secret/a#b", " vault:secret/a#b", "awskms:x", "hvs.CAESIabcdef", "aws-secretsmanager:#f"),
    *("vault:secret#key", "vault:secret/#key", "vault:/a#key", "vault:secret/a", "vault:secret/a#"),
    *("vault:secret/../sys#a", "vault:secret/a?wrapped=#k", "vault:secret/a?wrapped=vault:b/c#k"),
    "vault:secret/a?x=1#k",
    *("azure-keyvault:shop", "azure-keyvault:/name", "azure-keyvault:shop/name/more", "azure-keyvault:a@b/name"),
    *("gcp-secretmanager:shop", "gcp-secretmanager:projects/p/secrets"),
    "gcp-secretmanager:projects/p/secrets/s/versions/",
]  # fmt: skip


@pytest.mark.parametrize("uri", UNUSABLE)
def test_an_unusable_uri_is_refused_at_once(uri: str) -> None:
    with pytest.raises(Misconfigured):
        load_secret(uri)


@pytest.mark.parametrize("pasted", ["hvs.CAESIJ", "-----BEGIN PRIVATE KEY-----", "hunter2:abc", "env:" + "p4ss!" * 4])
def test_a_secret_pasted_in_place_of_its_uri_is_not_quoted(pasted: str) -> None:
    with pytest.raises(Misconfigured) as refusal:
        load_secret(pasted)
    assert pasted.removeprefix("env:") not in str(refusal.value)
    assert "hunter2" not in str(refusal.value)


def test_loading_reads_nothing_and_imports_no_client() -> None:
    """A stage that is told of a store pays for its client when it asks for the value."""
    code = (
        "import sys\n"
        "from kfp_custody.components._shared.secrets.loading import load_secret\n"
        "for uri in ('vault:secret/a#b', 'aws-secretsmanager:x', 'azure-keyvault:v/n',"
        " 'gcp-secretmanager:projects/p/secrets/s', 'file:/none', 'env:NONE'):\n"
        "    load_secret(uri)\n"
        "print(*sorted({'hvac', 'boto3', 'azure', 'google', 'grpc', 'requests'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_a_missing_library_is_named_with_its_extra() -> None:
    code = (
        "import sys\n"
        "sys.modules['boto3'] = None\n"
        "from kfp_custody.components._shared.secrets.loading import load_secret\n"
        "load_secret('aws-secretsmanager:x').reveal()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "Misconfigured" in done.stderr
    assert "kfp-custody[aws]" in done.stderr


# --- files and variables ----------------------------------------------------------------------------------------------


def private(path: Path, value: bytes, mode: int = 0o600) -> str:
    path.write_bytes(value)
    path.chmod(mode)
    return f"file:{path}"


@pytest.mark.parametrize("value", [VALUE, b"line\n", b"\x00\xff\xfe", "schlüssel".encode()])
def test_a_file_is_given_byte_for_byte(tmp_path: Path, value: bytes) -> None:
    assert load_secret(private(tmp_path / "a b#c:d", value)).reveal() == value


def test_a_rewritten_file_counts_at_once(tmp_path: Path) -> None:
    uri = private(tmp_path / "key", b"one")
    secret = load_secret(uri)
    assert secret.reveal() == b"one"
    private(tmp_path / "key", b"two")  # as long as the first, in the same tick of the clock
    assert secret.reveal() == b"two"


def test_a_swapped_volume_counts_at_once(tmp_path: Path) -> None:
    """Kubernetes updates a mounted secret by swapping the link `..data` to another folder."""
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        private(tmp_path / name / "key", name.encode())
    (tmp_path / "..data").symlink_to("one")
    (tmp_path / "key").symlink_to("..data/key")
    secret = load_secret(f"file:{tmp_path}/key")
    assert secret.reveal() == b"one"
    (tmp_path / "..next").symlink_to("two")
    os.replace(tmp_path / "..next", tmp_path / "..data")
    assert secret.reveal() == b"two"


@pytest.mark.parametrize("mode", [0o604, 0o640, 0o644, 0o666, 0o620])
def test_a_file_that_others_may_read_is_refused(tmp_path: Path, mode: int) -> None:
    with pytest.raises(Misconfigured) as refusal:
        load_secret(private(tmp_path / "key", VALUE, mode)).reveal()
    assert not shown(refusal.value)


@pytest.mark.parametrize("name", ["none", "folder", "empty"])
def test_a_file_without_a_value_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "folder").mkdir()
    private(tmp_path / "empty", b"")
    with pytest.raises(Misconfigured) as refusal:
        load_secret(f"file:{tmp_path / name}").reveal()
    assert str(tmp_path / name) in str(refusal.value)


def test_a_file_that_is_taken_away_is_not_remembered(tmp_path: Path) -> None:
    secret = load_secret(private(tmp_path / "key", VALUE))
    assert secret.reveal() == VALUE
    (tmp_path / "key").unlink()
    with pytest.raises(Misconfigured):
        secret.reveal()


def test_a_variable_is_read_at_every_use(monkeypatch: pytest.MonkeyPatch) -> None:
    secret = load_secret("env:TEST_SECRET")
    with pytest.raises(Misconfigured, match="TEST_SECRET"):
        secret.reveal()
    monkeypatch.setenv("TEST_SECRET", "one")
    assert secret.reveal() == b"one"
    monkeypatch.setenv("TEST_SECRET", "two")
    assert secret.reveal() == b"two"
    monkeypatch.setenv("TEST_SECRET", "")
    with pytest.raises(Misconfigured, match="TEST_SECRET"):
        secret.reveal()


def test_a_plain_path_is_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    private(tmp_path / "key", VALUE)
    monkeypatch.chdir(tmp_path)
    for value in (str(tmp_path / "key"), "./key", f"../{tmp_path.name}/key", f"file:{tmp_path}/key"):
        assert load_secret_or_file(value).reveal() == VALUE
    for value in ("valt:secret/masking#key", "ab" * 32, VALUE.decode()):
        with pytest.raises(Misconfigured) as refusal:
            load_secret_or_file(value)
        assert value not in str(refusal.value)


# --- one field of a JSON object ---------------------------------------------------------------------------------------


def test_a_field_is_picked() -> None:
    assert of_json(b'{"a": "x", "b": "\\u00e9"}', "b", "test") == "é".encode()
    assert of_json(b"no json", "", "test") == b"no json"


@pytest.mark.parametrize(
    "document",
    [VALUE, b'"%s"' % VALUE, b'["%s"]' % VALUE, b'{"a": "%s"' % VALUE, b'{"a": "%s", "a": "x"}' % VALUE,
     b'{"b": "%s"}' % VALUE, b'{"a": 1, "%s": 2}' % VALUE, b'{"a": null}', b'{"a": {"b": "%s"}}' % VALUE, b"", b"\xff",
     b"[" * 100_000],
)  # fmt: skip
def test_a_document_without_the_field_is_refused_and_not_quoted(document: bytes) -> None:
    with pytest.raises(Misconfigured) as refusal:
        of_json(document, "a", "test")
    assert not shown("".join(traceback.format_exception(refusal.value)))
    assert refusal.value.__cause__ is None
    assert refusal.value.__context__ is None


# --- the clouds, without a cloud --------------------------------------------------------------------------------------

NOWHERE = {
    "aws": ("aws-secretsmanager:shop/key", {"AWS_ENDPOINT_URL": "http://127.0.0.1:9"}, ServiceUnreachable),
    "aws without region": ("aws-secretsmanager:shop/key", {"AWS_DEFAULT_REGION": ""}, Misconfigured),
    "aws without credentials": ("aws-secretsmanager:shop/key", {"AWS_ACCESS_KEY_ID": ""}, Misconfigured),
    "aws with a bad address": ("aws-secretsmanager:shop/key", {"AWS_ENDPOINT_URL": "no address"}, Misconfigured),
    "azure": ("azure-keyvault:127.0.0.1:9/key", {}, ServiceUnreachable),
    "gcp without credentials": ("gcp-secretmanager:projects/p/secrets/s", {}, Misconfigured),
    "gcp with a bad file": (
        "gcp-secretmanager:projects/p/secrets/s",
        {"GOOGLE_APPLICATION_CREDENTIALS": "bad.json"},
        Misconfigured,
    ),
}


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No account of any cloud, and no way out."""
    for name in list(os.environ):
        if name.startswith(("AWS_", "AZURE_", "GOOGLE_", "CLOUDSDK_")):
            monkeypatch.delenv(name)
    for name, value in {
        "HOME": str(tmp_path),
        "AWS_DEFAULT_REGION": "eu-central-1",
        "AWS_ACCESS_KEY_ID": "AKIATESTTESTTEST",
        "AWS_SECRET_ACCESS_KEY": VALUE.decode(),
        "AWS_EC2_METADATA_DISABLED": "true",
        "NO_GCE_CHECK": "true",
    }.items():
        monkeypatch.setenv(name, value)
    (tmp_path / "bad.json").write_text(json.dumps({"type": "service_account", "private_key": VALUE.decode()}))
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("case", NOWHERE)
@pytest.mark.usefixtures("offline")
def test_a_cloud_that_cannot_be_asked_is_a_refusal(
    case: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    uri, environment, kind = NOWHERE[case]
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    begun = time.monotonic()
    with caplog.at_level(logging.DEBUG), pytest.raises(CustodyError) as refusal:
        load_secret(uri).reveal()
    assert time.monotonic() - begun < 20
    assert type(refusal.value) is kind
    assert uri in str(refusal.value)
    assert not shown("".join(traceback.format_exception(refusal.value)))
    assert not shown(caplog.text)
