"""Signing keys: only P-256, only private, never shown."""

import os
import shutil
import subprocess
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes
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
from kfp_custody.components._shared.signers.file import generate_key
from kfp_custody.components._shared.signers.loading import load_signer, public_key
from kfp_custody.components._shared.signers.private_files import read_private_file

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
        (lambda: pem(P256, b"password"), "is encrypted, and no password is configured"),
        (lambda: public(P256), "no PEM private key of a known type"),
        pytest.param(explicit_curve, "no PEM private key of a known type", marks=NEEDS_OPENSSL),
        (lambda: b"", "no PEM private key of a known type"),
        (lambda: pem(P256)[:100], "no PEM private key of a known type"),
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


KNOWN = "known: file, vault, vault-hmac, awskms, gcpkms, azurekms, hsm, sigstore"


@pytest.mark.parametrize(
    ("uri", "said"),
    [
        ("", "scheme (none)"),
        ("file:", "scheme (none)"),
        ("file", "scheme (none)"),
        ("hsm", "scheme (none)"),
        ("vault:", "scheme (none)"),
        ("http://127.0.0.1/key", "scheme http"),
        ("/etc/custody/key.pem", "scheme (none)"),
        ("FILE:/key.pem", "scheme FILE"),
        ("vault-hmac2:a/b", "scheme vault-hmac2"),
    ],
)
def test_an_unknown_scheme_is_refused(uri: str, said: str) -> None:
    with pytest.raises(Misconfigured, match="not understood") as refusal:
        load_signer(uri)
    assert refusal.value.evidence == f"{said}; {KNOWN}"


@pytest.mark.parametrize(
    "uri",
    [
        "file:relative/key.pem",
        "vault:key",
        "vault:/key",
        "vault:transit/",
        "vault:transit/../sys/key",
        "vault:transit/key?version=0",
        "vault:transit/key?version=-1",
        "vault:transit/key?version=latest",
        "vault:transit/key?version=1&x=1",
        "vault:transit/key#1",
        "vault:transit//key",
        "vault:http://127.0.0.1/key",
        "vault:transit/key\n",
        "vault-hmac:key",
        "hsm:0x02",
        "hsm:-1",
        "hsm:2?pin=1234",
        "hsm:2?label=a&pin=1234",
        "awskms:key with blanks",
        "awskms:../x?y=z",
        "gcpkms:projects/p/locations/l/keyRings/r/cryptoKeys/k",
        "gcpkms:projects/p/locations/l/keyRings/r/cryptoKeys/k/cryptoKeyVersions/latest",
        "azurekms://vault.evil.example/keys/k",
        "azurekms://name.vault.azure.net.evil.example/keys/k",
        "azurekms://name.vault.azure.net/secrets/k",
        "azurekms://user@name.vault.azure.net/keys/k",
    ],
)
def test_a_uri_of_a_known_scheme_that_names_no_key_is_refused(uri: str) -> None:
    with pytest.raises(Misconfigured) as refusal:
        load_signer(uri)
    assert refusal.value.code == "CUS-E532"
    assert "1234" not in str(refusal.value)


@pytest.mark.parametrize(
    "pasted", [pem(P256).decode(), pem(P256).decode().replace("\n", "") + ":x", "s3cr3t-t0k3n" * 5]
)
def test_a_key_pasted_into_the_variable_is_not_shown(pasted: str) -> None:
    with pytest.raises(Misconfigured) as refusal:
        load_signer(pasted)
    assert pasted[-50:-10] not in str(refusal.value)
    assert refusal.value.evidence == f"scheme (none); {KNOWN}"


def locked(tmp_path: Path, password: str, monkeypatch: pytest.MonkeyPatch, key: object = P256) -> str:
    """Write an encrypted key and its password; return the signer's URI."""
    for name, data in (("key.pem", pem(key, b"correct horse")), ("password", password.encode())):
        (tmp_path / name).write_bytes(data)
        (tmp_path / name).chmod(0o600)
    monkeypatch.setenv("CUSTODY_SIGNER_PASSWORD_FILE", str(tmp_path / "password"))
    return f"file:{tmp_path}/key.pem"


@pytest.mark.parametrize("password", ["correct horse", "correct horse\n", "correct horse\r\n"])
def test_an_encrypted_key_signs_with_its_password(
    tmp_path: Path, password: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    signer = load_signer(locked(tmp_path, password, monkeypatch))
    signature = bytes.fromhex(signer.sign(b"payload").signature)
    P256.public_key().verify(signature, b"payload", ec.ECDSA(hashes.SHA256()))


@NEEDS_OPENSSL
@pytest.mark.parametrize("form", ["PKCS#8", "SEC1"])
def test_a_key_that_openssl_encrypted_signs(tmp_path: Path, form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    uri = locked(tmp_path, "correct horse", monkeypatch)
    command = ["openssl", *(["pkcs8", "-topk8"] if form == "PKCS#8" else ["ec", "-aes256"])]
    done = subprocess.run(
        [*command, "-passout", "pass:correct horse"], input=pem(P256), capture_output=True, check=True
    )
    assert b"ENCRYPTED" in done.stdout
    (tmp_path / "key.pem").write_bytes(done.stdout)
    assert public_pem(public_key(load_signer(uri))) == public(P256)


@pytest.mark.parametrize("password", ["correct horsf", "correct horse ", " correct horse", "horse"])
def test_a_wrong_password_is_refused_and_not_shown(
    tmp_path: Path, password: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri = locked(tmp_path, password, monkeypatch)
    with pytest.raises(Misconfigured, match="is not its own") as refusal:
        load_signer(uri)
    assert refusal.value.code == "CUS-E535"
    assert password.strip() not in "".join(traceback.format_exception(refusal.value))


@pytest.mark.parametrize("password", ["", "\n", "two\nlines", "a\x00b"])
def test_a_password_that_is_not_one_line_is_refused(
    tmp_path: Path, password: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(Misconfigured, match="not one line of text"):
        load_signer(locked(tmp_path, password, monkeypatch))


def test_bytes_that_are_no_text_are_not_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    uri = locked(tmp_path, "", monkeypatch)
    (tmp_path / "password").write_bytes(b"secret\xff")
    with pytest.raises(Misconfigured, match="not one line of text") as refusal:
        load_signer(uri)
    assert "secret" not in "".join(traceback.format_exception(refusal.value)).replace("no secret", "")


def test_a_password_that_others_may_read_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    uri = locked(tmp_path, "correct horse", monkeypatch)
    (tmp_path / "password").chmod(0o644)
    with pytest.raises(Misconfigured, match="The password of the signing key may be read"):
        load_signer(uri)


def test_a_password_for_a_key_that_is_not_encrypted_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    uri = locked(tmp_path, "correct horse", monkeypatch)
    (tmp_path / "key.pem").write_bytes(pem(P256))
    with pytest.raises(Misconfigured, match="the key is not encrypted"):
        load_signer(uri)


def test_an_encrypted_key_of_another_type_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = ec.generate_private_key(ec.SECP384R1())
    with pytest.raises(Misconfigured, match="holds no EC P-256 key"):
        load_signer(locked(tmp_path, "correct horse", monkeypatch, other))


def test_a_library_that_is_not_installed_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VAULT_ADDR", "http://127.0.0.1:1")
    monkeypatch.setenv("VAULT_TOKEN", "none")
    for name in [name for name in sys.modules if name.partition(".")[0] == "hvac"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "hvac", None)
    monkeypatch.setitem(sys.modules, "hvac.exceptions", None)
    with pytest.raises(Misconfigured, match=r"kfp-custody\[vault\]"):
        load_signer("vault:transit/key")


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
