"""Signing with a PKCS#11 token: SoftHSM2, a token in software with the same interface as one in hardware."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from signer_checks import model_is_accepted_by_us_and_the_stock_tool, read, refused, signs, trusting, write

from kfp_custody.components._shared.errors import CustodyError, Misconfigured
from kfp_custody.components._shared.signers.loading import load_signer

LIBRARY = Path("/usr/lib/softhsm/libsofthsm2.so")
PIN = "739214"
pytestmark = [
    pytest.mark.services,
    pytest.mark.skipif(not LIBRARY.exists(), reason="SoftHSM2 is not installed (Debian: softhsm2)"),
]
# The library reads its configuration once in a process, so the keys are made by another one, and named by number.
MAKE = """
import sys, pkcs11
from pkcs11.util.ec import encode_named_curve_parameters
library, pin = sys.argv[1:]
for label, number, curve in (("custody", 2, "secp256r1"), ("custody", 3, "secp384r1"), ("second", 700, "secp256r1")):
    token = pkcs11.lib(library).get_token(token_label=label)
    with token.open(rw=True, user_pin=pin) as session:
        parameters = session.create_domain_parameters(
            pkcs11.KeyType.EC, {pkcs11.Attribute.EC_PARAMS: encode_named_curve_parameters(curve)}, local=True)
        parameters.generate_keypair(store=True, id=pkcs11.util.biginteger(number), label=f"key-{number}")
"""


@pytest.fixture(scope="module")
def token(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Two tokens, `custody` with the keys 2 (P-256) and 3 (P-384), and `second` with 700; return the PIN's file."""
    state = tmp_path_factory.mktemp("softhsm")
    (state / "tokens").mkdir()
    (state / "softhsm2.conf").write_text(f"directories.tokendir = {state}/tokens\nobjectstore.backend = file\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SOFTHSM2_CONF", str(state / "softhsm2.conf"))
        for label in ("custody", "second"):
            initialise = ["softhsm2-util", "--init-token", "--free", "--label", label, "--pin", PIN, "--so-pin", "8642"]
            subprocess.run(initialise, check=True, capture_output=True)
        subprocess.run([sys.executable, "-c", MAKE, str(LIBRARY), PIN], check=True)
        pin = state / "pin"
        pin.write_text(PIN + "\n")
        pin.chmod(0o600)
        yield pin


@pytest.fixture(autouse=True)
def configured(token: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYKCS11LIB", str(LIBRARY))
    monkeypatch.setenv("CUSTODY_HSM_PIN_FILE", str(token))


@pytest.mark.parametrize(
    ("uri", "exact"),
    [
        ("hsm:?label=custody", "hsm:2?label=custody"),
        ("hsm:2?label=custody", "hsm:2?label=custody"),
        ("hsm:700?label=second", "hsm:700?label=second"),
    ],
)
def test_token_signs(uri: str, exact: str) -> None:
    signer = load_signer(uri)
    assert signer.uri == exact
    assert all(signs(signer, payload) for payload in (b"", b"payload", b"x" * 100_000))


def test_evidence_and_model_signed_in_the_token_are_accepted(dataset: Path, tmp_path: Path) -> None:
    signer = load_signer("hsm:2?label=custody")
    written = write(tmp_path / "evidence", dataset, signer)
    assert read(written, trusting(tmp_path, hsm=signer)).signer == "hsm"
    model_is_accepted_by_us_and_the_stock_tool(dataset, tmp_path, signer)


def test_key_on_another_curve_is_refused() -> None:
    with refused(Misconfigured, "CUS-E536", without=[PIN]):
        load_signer("hsm:3?label=custody")


@pytest.mark.parametrize("uri", ["hsm:9?label=custody", "hsm:2?label=second", "hsm:2?label=absent", "hsm:2"])
def test_no_such_key_or_token_or_several_of_them(uri: str) -> None:
    with refused(Misconfigured, "CUS-E571", without=[PIN]) as caught:
        load_signer(uri)
    assert uri in caught.value.evidence


def test_wrong_pin_is_refused_and_not_shown(token: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    signer = load_signer("hsm:2?label=custody")
    monkeypatch.setenv("CUSTODY_HSM_PIN_FILE", str(tmp_path / "pin"))
    (tmp_path / "pin").write_text("000000")
    (tmp_path / "pin").chmod(0o600)
    other = load_signer("hsm:2?label=custody")  # the public half needs no PIN
    with refused(Misconfigured, "CUS-E580", without=[PIN]):
        other.sign(b"payload")
    assert signer.sign(b"payload").signature  # whoever has the right one is not locked out by one wrong try
    (tmp_path / "pin").chmod(0o644)
    with refused(Misconfigured, "CUS-E533", without=[PIN]):
        other.sign(b"payload")
    monkeypatch.delenv("CUSTODY_HSM_PIN_FILE")
    with refused(Misconfigured, "CUS-E534", without=[PIN]):
        load_signer("hsm:2?label=custody").sign(b"payload")


@pytest.mark.parametrize("module", [None, "/usr/lib/no-such-module.so", __file__])
def test_module_that_is_none_is_refused(module: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYKCS11LIB")
    if module:
        monkeypatch.setenv("PYKCS11LIB", module)
    with pytest.raises(CustodyError) as caught:
        load_signer("hsm:2?label=custody")
    assert caught.value.code == ("CUS-E464" if module == __file__ else "CUS-E571")
