"""Signing keys: only P-256, only private, never shown."""

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from securesystemslib.signer import CryptoSigner

from kfp_custody.components._shared.errors import Misconfigured
from kfp_custody.components._shared.keys import is_sha256, key_hint, public_pem
from kfp_custody.components._shared.settings import load_settings
from kfp_custody.components._shared.signers import generate_key, load_signer, public_key, read_private_file

P256 = ec.generate_private_key(ec.SECP256R1())


def pem(key: object, password: bytes | None = None) -> bytes:
    lock = BestAvailableEncryption(password) if password else NoEncryption()
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, lock)  # type: ignore[attr-defined,no-any-return]


def public(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


NEEDS_OPENSSL = pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")


def explicit_curve() -> bytes:
    """A curve that has no name among those the library knows."""
    command = ["openssl", "ecparam", "-name", "prime239v1", "-genkey", "-noout"]
    return subprocess.run(command, capture_output=True, check=True).stdout


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: pem(ec.generate_private_key(ec.SECP384R1())), "holds no EC P-256 key"),
        (lambda: pem(ec.generate_private_key(ec.SECP256K1())), "holds no EC P-256 key"),
        (lambda: pem(rsa.generate_private_key(65537, 2048)), "holds no EC P-256 key"),
        (lambda: pem(ed25519.Ed25519PrivateKey.generate()), "holds no EC P-256 key"),
        (lambda: pem(P256, b"password"), "no unencrypted PEM private key"),
        (lambda: public(P256), "no unencrypted PEM private key"),
        pytest.param(explicit_curve, "no unencrypted PEM private key", marks=NEEDS_OPENSSL),
        (lambda: b"", "no unencrypted PEM private key"),
        (lambda: pem(P256)[:100], "no unencrypted PEM private key"),
    ],
)
def test_any_other_key_is_refused(tmp_path: Path, make: Callable[[], bytes], said: str) -> None:
    path = tmp_path / "key.pem"
    path.write_bytes(make())
    path.chmod(0o600)
    with pytest.raises(Misconfigured, match=said) as refusal:
        load_signer(f"file:{path}")
    assert "BEGIN" not in str(refusal.value)


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o620, 0o602, 0o777])
def test_a_key_that_others_may_read_or_write_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "key.pem"
    path.write_bytes(pem(P256))
    path.chmod(mode)
    with pytest.raises(Misconfigured, match=f"has mode {mode:04o}"):
        load_signer(f"file:{path}")


@pytest.mark.parametrize(
    ("uri", "said"),
    [
        ("", "scheme (none)"),
        ("file:", "scheme (none)"),
        ("file:relative/key.pem", "scheme file"),
        ("vault:transit/keys/x", "scheme vault"),
        ("http://127.0.0.1/key", "scheme http"),
        ("/etc/custody/key.pem", "scheme (none)"),
        ("FILE:/key.pem", "scheme FILE"),
    ],
)
def test_an_unknown_scheme_is_refused(uri: str, said: str) -> None:
    with pytest.raises(Misconfigured, match="not understood") as refusal:
        load_signer(uri)
    assert refusal.value.evidence == f"{said}; known: file"


@pytest.mark.parametrize(
    "pasted", [pem(P256).decode(), pem(P256).decode().replace("\n", "") + ":x", "s3cr3t-t0k3n" * 5]
)
def test_a_key_pasted_into_the_variable_is_not_shown(pasted: str) -> None:
    with pytest.raises(Misconfigured) as refusal:
        load_signer(pasted)
    assert pasted[-50:-10] not in str(refusal.value)
    assert refusal.value.evidence == "scheme (none); known: file"


def test_a_missing_key_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match="No such file"):
        load_signer(f"file:{tmp_path}/none.pem")
    with pytest.raises(Misconfigured, match="Is a directory"):
        load_signer(f"file:{tmp_path}")


def test_a_generated_key_is_private_and_never_replaced(tmp_path: Path) -> None:
    path = tmp_path / "keys" / "key.pem"
    made = generate_key(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert public_pem(public_key(load_signer(f"file:{path}"))) == public_pem(made)
    with pytest.raises(Misconfigured, match="exists already"):
        generate_key(path)


def test_a_key_behind_a_link_is_read_as_secret_volumes_mount_it(tmp_path: Path) -> None:
    generate_key(tmp_path / "..data.pem")
    (tmp_path / "key.pem").symlink_to("..data.pem")
    assert load_signer(f"file:{tmp_path}/key.pem")


def test_a_pipe_is_no_secret(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"x")
    (tmp_path / "secret").chmod(0o600)
    assert read_private_file(tmp_path / "secret", "masking key") == b"x"
    with open(os.open("/dev/null", os.O_RDONLY)), pytest.raises(Misconfigured, match="The masking key may be read"):
        read_private_file(Path("/dev/null"), "masking key")


def test_the_hint_is_what_openssf_model_signing_uses() -> None:
    import hashlib

    assert key_hint(P256.public_key()) == hashlib.sha256(public(P256)).hexdigest()


def test_a_signer_of_another_type_is_refused() -> None:
    with pytest.raises(Misconfigured, match="only EC P-256"):
        public_key(CryptoSigner(ec.generate_private_key(ec.SECP384R1())))


@pytest.mark.parametrize("value", ["A" * 64, "a" * 63, "a" * 65, "g" * 64, "a" * 64 + "\n", b"a" * 64, None, 7, ""])
def test_what_is_no_sha256(value: object) -> None:
    assert not is_sha256(value)


def test_a_room_has_its_own_signer_or_the_common_one() -> None:
    settings = load_settings({"CUSTODY_SIGNER": "file:/a", "CUSTODY_SIGNER_POLICY_GATE": "file:/b"})
    assert settings.signer_uri("policy_gate") == "file:/b"
    assert settings.signer_uri("model_training") == "file:/a"
    with pytest.raises(Misconfigured, match="neither CUSTODY_SIGNER_POLICY_GATE nor CUSTODY_SIGNER is set"):
        load_settings({"CUSTODY_SIGNER_MODEL_TRAINING": "file:/a"}).signer_uri("policy_gate")


@pytest.mark.parametrize("port", ["0", "65536", "-1", "80a", "１８", "8080.0", " 80"])
def test_a_port_that_is_none_is_refused(port: str) -> None:
    with pytest.raises(Misconfigured, match="CUSTODY_SERVING_PORT"):
        load_settings({"CUSTODY_SERVING_PORT": port})


def test_settings_need_no_home(monkeypatch: pytest.MonkeyPatch) -> None:
    """A container's user may have neither HOME nor an entry in /etc/passwd."""
    import pwd

    def nobody(uid: int) -> object:
        raise KeyError(uid)

    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setattr(pwd, "getpwuid", nobody)
    assert load_settings({}).trust_file == Path("/etc/custody/trust/trust.yaml")
