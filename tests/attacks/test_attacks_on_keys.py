"""Signing keys that are no secret, of the wrong type or not there: nothing is signed, and nothing of them is shown."""

from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from kfp_custody.components._shared import codes
from kfp_custody.components._shared.errors import Misconfigured
from kfp_custody.components._shared.signers.file import generate_key
from kfp_custody.components._shared.signers.loading import load_signer

PASSWORD = b"hunter2-is-no-password"


def pem(key: PrivateKeyTypes, password: bytes | None = None) -> bytes:
    encryption = BestAvailableEncryption(password) if password else NoEncryption()
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption)


GOOD = pem(ec.generate_private_key(ec.SECP256R1()))


def written(data: bytes, mode: int = 0o600) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        path.write_bytes(data)
        path.chmod(mode)

    return write


def missing(path: Path) -> None:
    path.unlink(missing_ok=True)


def folder(path: Path) -> None:
    path.mkdir(mode=0o700)


def password_beside(path: Path) -> None:
    written(GOOD)(path)
    written(PASSWORD)(path.with_name("password"))


def wrong_password(path: Path) -> None:
    written(pem(ec.generate_private_key(ec.SECP256R1()), b"another"))(path)
    written(PASSWORD)(path.with_name("password"))


def password_others_may_read(path: Path) -> None:
    written(pem(ec.generate_private_key(ec.SECP256R1()), PASSWORD))(path)
    written(PASSWORD, 0o644)(path.with_name("password"))


PUBLIC = ec.generate_private_key(ec.SECP256R1()).public_key()
KEYS: dict[str, tuple[Callable[[Path], None], str]] = {
    "readable_by_the_group": (written(GOOD, 0o640), codes.SECRET_EXPOSED),
    "readable_by_all": (written(GOOD, 0o644), codes.SECRET_EXPOSED),
    "writable_by_others": (written(GOOD, 0o602), codes.SECRET_EXPOSED),
    "missing": (missing, codes.SECRET_UNREADABLE),
    "folder": (folder, codes.SECRET_UNREADABLE),
    "empty": (written(b""), codes.KEY_UNREADABLE),
    "no_key": (written(b"no key at all"), codes.KEY_UNREADABLE),
    "cut_off": (written(GOOD[:100]), codes.KEY_UNREADABLE),
    "public_key": (
        written(PUBLIC.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)),
        codes.KEY_UNREADABLE,
    ),
    "p384": (written(pem(ec.generate_private_key(ec.SECP384R1()))), codes.KEY_TYPE),
    "secp256k1": (written(pem(ec.generate_private_key(ec.SECP256K1()))), codes.KEY_TYPE),
    "rsa": (written(pem(rsa.generate_private_key(65537, 2048))), codes.KEY_TYPE),
    "ed25519": (written(pem(ed25519.Ed25519PrivateKey.generate())), codes.KEY_TYPE),
    "password_not_given": (
        written(pem(ec.generate_private_key(ec.SECP256R1()), PASSWORD)),
        codes.KEY_PASSWORD,
    ),
    "password_for_an_open_key": (password_beside, codes.KEY_PASSWORD),
    "wrong_password": (wrong_password, codes.KEY_UNREADABLE),
    "password_others_may_read": (password_others_may_read, codes.SECRET_EXPOSED),
}


@pytest.mark.parametrize(("prepare", "code"), KEYS.values(), ids=KEYS)
def test_a_key_that_is_none_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, prepare: Callable[[Path], None], code: str
) -> None:
    prepare(tmp_path / "key.pem")
    if (tmp_path / "password").exists():
        monkeypatch.setenv("CUSTODY_SIGNER_PASSWORD_FILE", str(tmp_path / "password"))
    with pytest.raises(Misconfigured) as refusal:
        load_signer(f"file:{tmp_path}/key.pem")
    assert refusal.value.code == code
    assert PASSWORD.decode() not in str(refusal.value)


SECRET = "MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQg"


@pytest.mark.parametrize(
    "uri", ["", ":", "file:", "file:key.pem", "/etc/key.pem", "http://x/key", SECRET, f"{SECRET}:x"]
)
def test_a_signer_that_is_no_uri_is_refused_and_not_shown(uri: str) -> None:
    with pytest.raises(Misconfigured) as refusal:
        load_signer(uri)
    assert refusal.value.code == codes.SIGNER_URI
    assert SECRET not in str(refusal.value)


def test_a_key_is_never_replaced(tmp_path: Path) -> None:
    generate_key(tmp_path / "key.pem")
    before = (tmp_path / "key.pem").read_bytes()
    with pytest.raises(Misconfigured) as refusal:
        generate_key(tmp_path / "key.pem")
    assert refusal.value.code == codes.KEY_EXISTS
    assert (tmp_path / "key.pem").read_bytes() == before
