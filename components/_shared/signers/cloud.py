"""Keys of the clouds' key services, through securesystemslib; credentials are the ambient ones of each client.

`awskms:` followed by a key id, ARN or alias (`awskms:alias/custody`); the region comes from AWS_REGION.
`gcpkms:projects/P/locations/L/keyRings/R/cryptoKeys/K/cryptoKeyVersions/N`.
`azurekms://NAME.vault.azure.net/keys/KEY[/VERSION]`.

securesystemslib makes each client with its defaults, which wait for minutes. They are replaced by clients that wait for
seconds and try twice at most.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric import ec
from securesystemslib.signer import Signer, SSlibKey

from kfp_custody.components._shared import codes
from kfp_custody.components._shared.errors import CustodyError, Misconfigured, ServiceUnreachable
from kfp_custody.components._shared.keys import public_pem
from kfp_custody.components._shared.signers.remote import SCHEME, RemoteSigner, p256, wrong_type

CONNECT: Final = 2
READ: Final = 3
_AWS = re.compile(r"[A-Za-z0-9:/_-]{1,256}")
_GCP = re.compile(r"projects/[^/?#]+/locations/[^/?#]+/keyRings/[^/?#]+/cryptoKeys/[^/?#]+/cryptoKeyVersions/([0-9]+)")
_AZURE = re.compile(
    r"azurekms://([a-z0-9-]{3,24}\.(?:vault|managedhsm)\.(?:azure\.net|azure\.cn|usgovcloudapi\.net))"
    r"/keys/([A-Za-z0-9-]{1,127})(?:/([0-9a-f]{32}))?"
)


def load(uri: str) -> Signer:
    """Return the signer of a key in a cloud.

    Raises:
        ServiceUnreachable: the service does not answer.
        Misconfigured: no such key, not permitted, no credentials, or not a P-256 signing key.
    """
    return {"awskms": _aws, "gcpkms": _gcp, "azurekms": _azure}[uri.partition(":")[0]](uri)


def _aws(uri: str) -> Signer:
    import boto3
    from botocore.config import Config
    from securesystemslib.signer import AWSSigner

    key_id = uri.removeprefix("awskms:")
    if not _AWS.fullmatch(key_id):
        raise _no_key("awskms:", "awskms:alias/custody, or a key id or ARN")
    with _aws_refusals(uri):
        # A session of its own: the default one remembers the credentials that it found first.
        client = boto3.Session().client(
            "kms", config=Config(connect_timeout=CONNECT, read_timeout=READ, retries={"total_max_attempts": 2})
        )
        answer = client.get_public_key(KeyId=key_id)
        if answer.get("KeyUsage") != "SIGN_VERIFY":
            raise wrong_type(uri, f"for {answer.get('KeyUsage')}")
        public = p256(answer["PublicKey"], uri)
        inner: Any = AWSSigner(key_id, SSlibKey.from_crypto(public, scheme=SCHEME))
    inner.client = client

    def produce(payload: bytes) -> bytes:
        with _aws_refusals(uri):
            return bytes.fromhex(inner.sign(payload).signature)

    return RemoteSigner(uri, public, produce)


@contextmanager
def _aws_refusals(uri: str) -> Iterator[None]:
    from botocore import exceptions

    try:
        yield
    except (exceptions.EndpointConnectionError, exceptions.HTTPClientError, exceptions.ConnectionError) as error:
        raise _silent(uri, error, "AWS KMS", "AWS_REGION") from error
    except exceptions.ClientError as error:
        code = str(error.response.get("Error", {}).get("Code", "unknown"))
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        if status >= 500 or code in ("ThrottlingException", "KeyUnavailableException", "DependencyTimeoutException"):
            raise _failing(uri, code, "AWS KMS") from error
        raise _refused(uri, code, "AWS KMS", "kms:GetPublicKey and kms:Sign") from error
    except exceptions.BotoCoreError as error:  # no region, no credentials, wrong parameters
        raise _refused(uri, type(error).__name__, "AWS KMS", "kms:GetPublicKey and kms:Sign") from error


def _gcp(uri: str) -> Signer:
    from google.cloud import kms
    from securesystemslib.signer import GCPSigner

    name = uri.removeprefix("gcpkms:")
    match = _GCP.fullmatch(name)
    if match is None:
        raise _no_key("gcpkms:", "gcpkms:projects/P/locations/L/keyRings/R/cryptoKeys/K/cryptoKeyVersions/N")
    with _gcp_refusals(uri):
        client = kms.KeyManagementServiceClient()
        answer = client.get_public_key(
            {"name": name, "public_key_format": kms.PublicKey.PublicKeyFormat.PEM}, retry=None, timeout=READ
        )
        public = p256(answer.public_key.data or answer.pem.encode(), uri, answer.algorithm.name)
        inner: Any = GCPSigner(name, SSlibKey.from_crypto(public, scheme=SCHEME))
        inner.client.asymmetric_sign = partial(client.asymmetric_sign, retry=None, timeout=READ)

    def produce(payload: bytes) -> bytes:
        with _gcp_refusals(uri):
            return bytes.fromhex(inner.sign(payload).signature)

    return RemoteSigner(uri, public, produce, match[1])


@contextmanager
def _gcp_refusals(uri: str) -> Iterator[None]:
    from google.api_core import exceptions
    from google.auth.exceptions import GoogleAuthError, TransportError

    try:
        yield
    except (exceptions.RetryError, exceptions.ServiceUnavailable, exceptions.DeadlineExceeded, TransportError) as error:
        raise _silent(uri, error, "Google Cloud KMS", "the egress of this pod") from error
    except exceptions.ClientError as error:
        need = "cloudkms.cryptoKeyVersions.viewPublicKey and .useToSign"
        raise _refused(uri, type(error).__name__, "Google Cloud KMS", need) from error
    except exceptions.GoogleAPICallError as error:
        raise _failing(uri, type(error).__name__, "Google Cloud KMS") from error
    except (GoogleAuthError, FileNotFoundError) as error:
        need = "application default credentials (workload identity)"
        raise _refused(uri, type(error).__name__, "Google Cloud KMS", need) from error


def _azure(uri: str) -> Signer:
    from azure.identity import DefaultAzureCredential
    from azure.keyvault.keys import KeyClient
    from azure.keyvault.keys.crypto import CryptographyClient
    from securesystemslib.signer import AzureSigner

    match = _AZURE.fullmatch(uri)
    if match is None:
        raise _no_key("azurekms:", "azurekms://NAME.vault.azure.net/keys/KEY or .../keys/KEY/VERSION")
    host, name, version = match.groups()
    limits: dict[str, Any] = {"connection_timeout": CONNECT, "read_timeout": READ, "retry_total": 1}
    with _azure_refusals(uri):
        credential = DefaultAzureCredential(process_timeout=READ, **limits)
        found = KeyClient(f"https://{host}", credential, **limits).get_key(name, version)
        public = _azure_public(uri, found.key)
        exact = f"https://{host}/keys/{name}/{found.properties.version}"
        inner: Any = AzureSigner(exact, SSlibKey.from_crypto(public, scheme=SCHEME))
        inner.crypto_client = CryptographyClient(exact, credential, **limits)

    def produce(payload: bytes) -> bytes:
        with _azure_refusals(uri):
            return bytes.fromhex(inner.sign(payload).signature)

    return RemoteSigner(exact.replace("https:", "azurekms:", 1), public, produce, found.properties.version)


def _azure_public(uri: str, key: Any) -> ec.EllipticCurvePublicKey:
    """Read a JSON Web Key."""
    if not str(key.kty).startswith("EC") or key.crv != "P-256" or "sign" not in (key.key_ops or ()):
        raise wrong_type(uri, f"{key.kty} {key.crv or ''}".strip())
    numbers = ec.EllipticCurvePublicNumbers(int.from_bytes(key.x, "big"), int.from_bytes(key.y, "big"), ec.SECP256R1())
    return p256(public_pem(numbers.public_key()), uri)


@contextmanager
def _azure_refusals(uri: str) -> Iterator[None]:
    from azure.core import exceptions

    try:
        yield
    except (exceptions.ServiceRequestError, exceptions.ServiceResponseError) as error:
        raise _silent(uri, error, "Azure Key Vault", "the name of the vault") from error
    except exceptions.HttpResponseError as error:  # also no credentials at all (ClientAuthenticationError)
        status = getattr(error, "status_code", None) or 0
        if status >= 500 or status == 429:
            raise _failing(uri, f"HTTP {status}", "Azure Key Vault") from error
        said = f"HTTP {status}" if status else type(error).__name__
        raise _refused(uri, said, "Azure Key Vault", "the role Key Vault Crypto User") from error
    except exceptions.AzureError as error:
        raise _failing(uri, type(error).__name__, "Azure Key Vault") from error


def _no_key(scheme: str, form: str) -> CustodyError:
    return Misconfigured(
        "The signer URI names no key in this cloud.",
        evidence=f"{scheme} is not followed by the name of a key",
        remedy=f"Use {form}.",
        code=codes.SIGNER_URI,
    )


def _silent(uri: str, error: Exception, service: str, check: str) -> CustodyError:
    return ServiceUnreachable(
        f"{service} did not answer.",
        evidence=f"{uri}: {type(error).__name__}",
        remedy=f"Check the network, and {check}.",
        code=codes.KEY_SERVICE,
    )


def _failing(uri: str, said: str, service: str) -> CustodyError:
    return ServiceUnreachable(
        f"{service} answered with an error.",
        evidence=f"{uri}: {said}",
        remedy="See its status page, and try again.",
        code=codes.KEY_SERVICE,
    )


def _refused(uri: str, said: str, service: str, need: str) -> CustodyError:
    return Misconfigured(
        f"{service} refused the key to this stage.",
        evidence=f"{uri}: {said}",
        remedy=f"Check the name of the key, that it is enabled, and that this stage's identity has {need}.",
        code=codes.KEY_MISSING,
    )
