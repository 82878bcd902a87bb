"""The clouds' key services.

AWS: moto's server, over HTTP, with real ECDSA keys. It hashes what it signs once more, although it is told that it is
given a digest; the fixture `aws` corrects that, and one test keeps it to see that such a signature is not let out.
Google and Azure: no server stands in for them. Their clients are replaced by ones with a real key, and answers and
errors are of the libraries' own types: our side is tested, theirs is not verified here.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import boto3
import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, utils
from openbao import free_port
from signer_checks import model_is_accepted_by_us_and_the_stock_tool, read, refused, signs, trusting, write

from kfp_custody.components._shared.errors import CustodyError, Misconfigured, ServiceUnreachable
from kfp_custody.components._shared.keys import public_pem
from kfp_custody.components._shared.signers.cloud import _azure_refusals, _gcp_refusals
from kfp_custody.components._shared.signers.loading import load_signer

pytestmark = pytest.mark.services
SECRET = "wJalrXUtnFEMI-not-a-real-key"
GCP = "gcpkms:projects/p/locations/europe/keyRings/r/cryptoKeys/k/cryptoKeyVersions/7"
AZURE = "azurekms://custody.vault.azure.net/keys/pipeline"
VERSION = "0123456789abcdef0123456789abcdef"
KEY = ec.generate_private_key(ec.SECP256R1())


# --- AWS ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    from moto.server import ThreadedMotoServer

    moto = ThreadedMotoServer(ip_address="127.0.0.1", port=free_port(), verbose=False)
    moto.start()
    host, port = moto.get_host_and_port()
    yield f"http://{host}:{port}"
    moto.stop()


@pytest.fixture
def plain_aws(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The server as moto ships it, and this process's credentials for it."""
    environment = {
        "AWS_ENDPOINT_URL": server,
        "AWS_REGION": "eu-central-1",
        "AWS_DEFAULT_REGION": "eu-central-1",
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_CONFIG_FILE": str(tmp_path / "none"),
        "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "none"),
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    return boto3.client("kms")


@pytest.fixture
def aws(plain_aws: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The server, told to sign a digest as it is when it is given one."""
    from moto.kms import responses
    from moto.kms.utils import ECDSAPrivateKey

    asked = []
    answer = responses.KmsResponse.sign

    def remember(self: Any) -> str:
        asked.append(self._get_param("MessageType"))
        return str(answer(self))

    def sign(self: Any, message: bytes, algorithm: str) -> bytes:
        assert (asked[-1], algorithm) == ("DIGEST", "ECDSA_SHA_256")
        return bytes(self.private_key.sign(message, ec.ECDSA(utils.Prehashed(hashes.SHA256()))))

    monkeypatch.setattr(responses.KmsResponse, "sign", remember)
    monkeypatch.setattr(ECDSAPrivateKey, "sign", sign)
    return plain_aws


def new_key(aws: Any, spec: str = "ECC_NIST_P256", usage: str = "SIGN_VERIFY") -> str:
    return str(aws.create_key(KeySpec=spec, KeyUsage=usage)["KeyMetadata"]["KeyId"])


def test_aws_signs_by_id_arn_and_alias(aws: Any, dataset: Path, tmp_path: Path) -> None:
    key = new_key(aws)
    aws.create_alias(AliasName="alias/custody-signing", TargetKeyId=key)
    arn = aws.describe_key(KeyId=key)["KeyMetadata"]["Arn"]
    for name in (key, arn, "alias/custody-signing"):
        signer = load_signer(f"awskms:{name}")
        assert signer.uri == f"awskms:{name}"
        assert signs(signer)
    written = write(tmp_path / "evidence", dataset, signer)
    assert read(written, trusting(tmp_path, kms=signer)).signer == "kms"
    model_is_accepted_by_us_and_the_stock_tool(dataset, tmp_path, signer)


def test_signature_over_a_digest_of_the_digest_is_not_let_out(plain_aws: Any) -> None:
    signer = load_signer(f"awskms:{new_key(plain_aws)}")
    with refused(ServiceUnreachable, "CUS-E465", without=[SECRET]):
        signer.sign(b"payload")


@pytest.mark.parametrize("spec", ["RSA_2048", "ECC_NIST_P384", "ECC_SECG_P256K1"])
def test_aws_key_of_another_type_is_refused(aws: Any, spec: str) -> None:
    with refused(Misconfigured, "CUS-E536", without=[SECRET]):
        load_signer(f"awskms:{new_key(aws, spec)}")


def test_aws_key_that_is_not_there_or_not_for_signing_is_refused(aws: Any) -> None:
    with refused(Misconfigured, "CUS-E571", without=[SECRET]) as caught:
        load_signer("awskms:alias/none")
    assert "NotFoundException" in caught.value.evidence
    with refused(Misconfigured, "CUS-E536", without=[SECRET]):
        load_signer(f"awskms:{new_key(aws, 'SYMMETRIC_DEFAULT', 'ENCRYPT_DECRYPT')}")


@pytest.mark.parametrize("missing", ["AWS_SECRET_ACCESS_KEY", "AWS_REGION"])
def test_aws_without_credentials_or_region_is_refused(aws: Any, missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    key = new_key(aws)
    for name in (missing, missing.replace("AWS_", "AWS_DEFAULT_"), "AWS_ACCESS_KEY_ID"):
        monkeypatch.delenv(name, raising=False)
    with refused(Misconfigured, "CUS-E571", without=[SECRET]):
        load_signer(f"awskms:{key}")


def test_aws_that_does_not_answer_is_refused(aws: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    signer = load_signer(f"awskms:{new_key(aws)}")
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{free_port()}")
    with refused(ServiceUnreachable, "CUS-E464", without=[SECRET]):
        load_signer(signer.uri)


# --- Google Cloud ---------------------------------------------------------------------------------------------------


@pytest.fixture
def gcp(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A client with a key of its own in place of the one that speaks to the cloud; it notes how it was called."""
    from google.cloud import kms

    seen = SimpleNamespace(key=KEY, algorithm="EC_SIGN_P256_SHA256", calls=[])

    class Client:
        def get_public_key(self, request: dict[str, Any], **limits: Any) -> Any:
            seen.calls.append((request["name"], limits))
            algorithm = kms.CryptoKeyVersion.CryptoKeyVersionAlgorithm[seen.algorithm]
            pem = public_pem(seen.key.public_key())
            return kms.PublicKey(algorithm=algorithm, public_key=kms.ChecksummedData(data=pem))

        def asymmetric_sign(self, request: dict[str, Any], **limits: Any) -> Any:
            seen.calls.append((request["name"], limits))
            digest = kms.AsymmetricSignRequest(request).digest.sha256
            return kms.AsymmetricSignResponse(
                signature=seen.key.sign(digest, ec.ECDSA(utils.Prehashed(hashes.SHA256())))
            )

    monkeypatch.setattr(kms, "KeyManagementServiceClient", Client)
    return seen


def test_gcp_signs(gcp: SimpleNamespace, dataset: Path, tmp_path: Path) -> None:
    signer = load_signer(GCP)
    assert (signer.uri, signer.key_version) == (GCP, "7")
    assert signs(signer)
    assert gcp.calls == [(GCP.removeprefix("gcpkms:"), {"retry": None, "timeout": 3})] * 2
    assert read(write(tmp_path / "evidence", dataset, signer), trusting(tmp_path, gcp=signer)).signer == "gcp"


def test_gcp_key_of_another_type_is_refused(gcp: SimpleNamespace) -> None:
    gcp.key, gcp.algorithm = ec.generate_private_key(ec.SECP384R1()), "EC_SIGN_P384_SHA384"
    with refused(Misconfigured, "CUS-E536") as caught:
        load_signer(GCP)
    assert "EC_SIGN_P384_SHA384" in caught.value.evidence


def test_gcp_without_credentials_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "none.json"))
    with refused(Misconfigured, "CUS-E571"):
        load_signer(GCP)
    (tmp_path / "none.json").write_text(json.dumps({"type": "service_account", "private_key": SECRET}))
    with refused(Misconfigured, "CUS-E571", without=[SECRET]):
        load_signer(GCP)


@pytest.mark.parametrize(
    ("name", "kind", "code"),
    [
        ("ServiceUnavailable", ServiceUnreachable, "CUS-E464"),
        ("DeadlineExceeded", ServiceUnreachable, "CUS-E464"),
        ("InternalServerError", ServiceUnreachable, "CUS-E464"),
        ("NotFound", Misconfigured, "CUS-E571"),
        ("PermissionDenied", Misconfigured, "CUS-E571"),
        ("FailedPrecondition", Misconfigured, "CUS-E571"),
    ],
)
def test_gcp_errors_are_told_apart(name: str, kind: type[CustodyError], code: str) -> None:
    from google.api_core import exceptions

    with refused(kind, code), _gcp_refusals(GCP):
        raise getattr(exceptions, name)("as the service says")


# --- Azure ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def azure(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Clients with a key of their own in place of those that speak to the cloud."""
    import azure.identity
    import azure.keyvault.keys
    import azure.keyvault.keys.crypto
    from azure.keyvault.keys import JsonWebKey, KeyVaultKey
    from securesystemslib.signer import _azure_signer

    numbers = KEY.public_key().public_numbers()
    seen = SimpleNamespace(
        web_key={"kty": "EC", "crv": "P-256", "x": numbers.x.to_bytes(32), "y": numbers.y.to_bytes(32)},
        operations=["sign", "verify"],
        calls=[],
    )

    class Keys:
        def __init__(self, vault_url: str, credential: Any, **limits: Any) -> None:
            seen.calls.append((vault_url, limits))

        def get_key(self, name: str, version: str | None) -> Any:
            key_id = f"https://custody.vault.azure.net/keys/{name}/{version or VERSION}"
            made = KeyVaultKey(key_id, dict(seen.web_key, key_ops=seen.operations))
            assert isinstance(made.key, JsonWebKey)
            return made

    class Crypto:
        def __init__(self, key: str, credential: Any, **limits: Any) -> None:
            seen.calls.append((key, limits))

        def sign(self, algorithm: str, digest: bytes) -> Any:
            assert algorithm == "ES256"
            r, s = utils.decode_dss_signature(KEY.sign(digest, ec.ECDSA(utils.Prehashed(hashes.SHA256()))))
            return SimpleNamespace(signature=r.to_bytes(32) + s.to_bytes(32))

    monkeypatch.setattr(azure.keyvault.keys, "KeyClient", Keys)
    monkeypatch.setattr(azure.keyvault.keys.crypto, "CryptographyClient", Crypto)
    monkeypatch.setattr(_azure_signer, "CryptographyClient", Crypto)
    return seen


@pytest.mark.parametrize("uri", [AZURE, f"{AZURE}/{VERSION}"])
def test_azure_signs_with_an_exact_version(azure: SimpleNamespace, uri: str, dataset: Path, tmp_path: Path) -> None:
    signer = load_signer(uri)
    assert (signer.uri, signer.key_version) == (f"{AZURE}/{VERSION}", VERSION)
    assert signs(signer)
    limits = {"connection_timeout": 2, "read_timeout": 3, "retry_total": 1}
    assert azure.calls[0] == ("https://custody.vault.azure.net", limits)
    assert azure.calls[-1] == (f"https://custody.vault.azure.net/keys/pipeline/{VERSION}", limits)
    assert read(write(tmp_path / "evidence", dataset, signer), trusting(tmp_path, azure=signer)).signer == "azure"


@pytest.mark.parametrize(
    ("changes", "operations"),
    [({"crv": "P-384"}, ["sign"]), ({"crv": "P-256K"}, ["sign"]), ({"kty": "RSA"}, ["sign"]), ({}, ["verify"])],
)
def test_azure_key_of_another_type_is_refused(
    azure: SimpleNamespace, changes: dict[str, str], operations: list[str]
) -> None:
    azure.web_key.update(changes)
    azure.operations = operations
    with refused(Misconfigured, "CUS-E536"):
        load_signer(AZURE)


@pytest.mark.parametrize(
    ("name", "status", "kind", "code"),
    [
        ("ServiceRequestError", None, ServiceUnreachable, "CUS-E464"),
        ("ServiceResponseTimeoutError", None, ServiceUnreachable, "CUS-E464"),
        ("HttpResponseError", 503, ServiceUnreachable, "CUS-E464"),
        ("HttpResponseError", 429, ServiceUnreachable, "CUS-E464"),
        ("HttpResponseError", 403, Misconfigured, "CUS-E571"),
        ("ResourceNotFoundError", 404, Misconfigured, "CUS-E571"),
        ("ClientAuthenticationError", None, Misconfigured, "CUS-E571"),
    ],
)
def test_azure_errors_are_told_apart(name: str, status: int | None, kind: type[CustodyError], code: str) -> None:
    from azure.core import exceptions

    error = getattr(exceptions, name)("as the service says")
    error.status_code = status
    with refused(kind, code), _azure_refusals(AZURE):
        raise error
