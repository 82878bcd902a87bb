"""How the environment says where keys are and how to log in to Vault; nothing of it may be shown."""

import pytest

from kfp_custody.components._shared.errors import Misconfigured, ServiceUnreachable
from kfp_custody.components._shared.settings import load_key_settings, load_settings, load_vault_settings
from kfp_custody.components._shared.signers.remote import RemoteSigner, p256
from kfp_custody.components._shared.signers.vault_client import Vault, open_vault

ADDRESS = {"VAULT_ADDR": "https://vault.example.org:8200"}


def test_vault_s_names_come_before_openbao_s() -> None:
    settings = load_vault_settings({"BAO_ADDR": "https://bao", "BAO_TOKEN": "b", "BAO_NAMESPACE": "n"})
    assert (settings.address, settings.token, settings.namespace) == ("https://bao", "b", "n")
    both = {"BAO_ADDR": "https://bao", "BAO_TOKEN": "b", "VAULT_ADDR": "https://vault/", "VAULT_TOKEN": "v"}
    settings = load_vault_settings(both)
    assert (settings.address, settings.token, settings.auth) == ("https://vault", "v", "token")


def test_a_token_is_not_shown() -> None:
    settings = load_vault_settings({**ADDRESS, "VAULT_TOKEN": "s.very-secret"})
    assert "very-secret" not in f"{settings!r} {settings} {Vault(settings)!r}"


@pytest.mark.parametrize("auth", ["kubernetes", "jwt"])
def test_a_role_is_needed_to_log_in_as_a_service_account(auth: str) -> None:
    with pytest.raises(Misconfigured, match="CUSTODY_VAULT_ROLE is not set"):
        load_vault_settings({**ADDRESS, "CUSTODY_VAULT_AUTH": auth})
    settings = load_vault_settings({**ADDRESS, "CUSTODY_VAULT_AUTH": auth, "CUSTODY_VAULT_ROLE": "signer"})
    assert str(settings.jwt_file) == "/var/run/secrets/kubernetes.io/serviceaccount/token"
    assert settings.mount == auth


@pytest.mark.parametrize("auth", ["ldap", "Token", "s.a-token-set-by-mistake"])
def test_an_unknown_way_to_log_in_is_refused_and_not_shown(auth: str) -> None:
    with pytest.raises(Misconfigured, match="none of token, kubernetes, approle, jwt") as refusal:
        load_vault_settings({**ADDRESS, "CUSTODY_VAULT_AUTH": auth})
    assert auth not in str(refusal.value).replace("for token", "").replace("Token", "")


@pytest.mark.parametrize(
    "address",
    [
        "vault.example.org:8200",
        "ftp://vault.example.org",
        "https://",
        "https://user:secret-password@vault.example.org",
        "https://vault.example.org/?token=secret-password",
        "https://vault.example.org/#secret-password",
        "https://vault.example.org:99999",
        "https://[::1",
        "unix:///run/vault.sock",
    ],
)
def test_an_address_that_is_none_is_refused(address: str) -> None:
    with pytest.raises(Misconfigured, match="no address of a server") as refusal:
        load_vault_settings({"VAULT_ADDR": address})
    assert "secret-password" not in str(refusal.value)
    assert refusal.value.code == "CUS-E574"


def test_no_address_is_refused() -> None:
    with pytest.raises(Misconfigured, match="neither VAULT_ADDR nor BAO_ADDR is set"):
        load_vault_settings({"VAULT_TOKEN": "t"})


def test_one_session_for_the_same_settings_and_another_for_others() -> None:
    first, second = (load_vault_settings({**ADDRESS, "VAULT_TOKEN": token}) for token in ("a", "b"))
    assert open_vault(first) is open_vault(load_vault_settings({**ADDRESS, "VAULT_TOKEN": "a"}))
    assert open_vault(first) is not open_vault(second)


@pytest.mark.parametrize("token", ["with a blank", "line\nend", "schlüssel"])
def test_a_token_that_no_header_can_carry_is_not_shown(token: str) -> None:
    vault = Vault(load_vault_settings({"VAULT_ADDR": "http://127.0.0.1:1", "VAULT_TOKEN": token}))
    with pytest.raises(Misconfigured, match="cannot be a token") as refusal:
        vault.call("ask", lambda client: client.read("x"))
    assert token not in str(refusal.value)


def test_a_password_file_is_no_room_s_signer() -> None:
    environ = {"CUSTODY_SIGNER": "file:/a", "CUSTODY_SIGNER_PASSWORD_FILE": "/p", "CUSTODY_HSM_PIN_FILE": "/pin"}
    assert load_settings(environ).signers == {"CUSTODY_SIGNER": "file:/a"}
    keys = load_key_settings(environ)
    assert (str(keys.password_file), str(keys.pin_file), keys.pkcs11_module) == ("/p", "/pin", None)


def test_a_remote_signature_that_its_key_does_not_verify_stays_inside() -> None:
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())

    def sign(payload: bytes) -> bytes:
        return key.sign(payload, ec.ECDSA(hashes.SHA256()))

    assert RemoteSigner("vault:t/k", key.public_key(), sign, "3").sign(b"x").unrecognized_fields == {"key_version": "3"}
    for wrong in (lambda payload: sign(payload + b"!"), lambda _: b"", lambda _: b"0" * 70):
        with pytest.raises(ServiceUnreachable, match="does not verify"):
            RemoteSigner("vault:t/k", key.public_key(), wrong).sign(b"x")


@pytest.mark.parametrize("answer", [b"", b"-----BEGIN PUBLIC KEY-----", b"\x30\x00", b"None"])
def test_an_answer_that_is_no_key_is_refused(answer: bytes) -> None:
    with pytest.raises(Misconfigured, match="only EC P-256 for signing"):
        p256(answer, "vault:t/k")
