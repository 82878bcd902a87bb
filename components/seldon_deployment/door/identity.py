"""Certificates, token keys and a door file for one machine, made on first use: to try things out, not for a network.

    ca.pem  server.pem  server.key      the door's certificate, for localhost and 127.0.0.1
    client.pem  client.key              the one client, spiffe://localhost/client
    tokens.pem  tokens.json             the key that signs tokens, and its public key set
    door.yaml                           who may call: this client, this service

They are valid for a year. Whoever can read this folder can call the model, so it is this user's alone. In production
certificates come from the mesh or from cert-manager, and tokens from an identity provider; none of this is used there.
"""

import ipaddress
import json
import shutil
import ssl
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from kfp_custody.components._shared.files import atomic_directory, write_atomic

DOMAIN, CLIENT, SUBJECT = "localhost", "spiffe://localhost/client", "local-client"
ISSUER, AUDIENCE = "https://localhost/kfp-custody", "custody-serving"
_YEAR = timedelta(days=365)
_SOON = timedelta(days=7)


def ensure(directory: Path, models: Sequence[str]) -> Path:
    """Return the folder with everything in it, made when it is not there or about to expire.

    Args:
        directory: where it is to be.
        models: what the client may call.
    """
    if not _is_fresh(directory / "server.pem"):
        shutil.rmtree(directory, ignore_errors=True)
        with atomic_directory(directory) as partial:
            _make(partial)
        directory.chmod(0o700)
    keys = f"file:{directory / 'tokens.json'}"
    door = {
        "version": 1,
        "server_name": "localhost",
        "trust_domain": DOMAIN,
        "tokens": {
            "issuer": ISSUER,
            "audiences": [AUDIENCE],
            "jwks": keys,
            "clock_skew_seconds": 5,
        },
        "clients": [{"identity": CLIENT, "subject": SUBJECT, "models": sorted(models)}],
        "addresses": ["127.0.0.0/8"],
    }
    write_atomic(directory / "door.yaml", json.dumps(door, indent=2).encode())  # JSON is YAML
    return directory


def client_context(directory: Path, name: str = "client") -> ssl.SSLContext:
    """Return a TLS context that trusts the door and shows a client's certificate."""
    context = ssl.create_default_context(cafile=str(directory / "ca.pem"))
    context.load_cert_chain(directory / f"{name}.pem", directory / f"{name}.key")
    return context


def token(directory: Path, seconds: int = 300) -> str:
    """Return a bearer token of the local client."""
    import jwt

    now = int(time.time())
    claims = {"iss": ISSUER, "aud": AUDIENCE, "sub": SUBJECT, "iat": now, "exp": now + seconds}
    key = (directory / "tokens.pem").read_bytes()
    return jwt.encode(claims, key.decode(), algorithm="ES256", headers={"kid": "local"})


class Authority:
    """A certificate authority of its own."""

    def __init__(self, domain: str) -> None:
        """Make its key and certificate."""
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"kfp-custody, {domain} only")])
        usage = _usage(key_cert_sign=True, crl_sign=True)
        builder = _builder(self._name, self._name, self._key.public_key())
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        self._certificate = builder.add_extension(usage, critical=True).sign(self._key, hashes.SHA256())

    @property
    def pem(self) -> bytes:
        """Its certificate."""
        return self._certificate.public_bytes(serialization.Encoding.PEM)

    def issue(self, names: Sequence[x509.GeneralName], *, server: bool = False) -> tuple[bytes, bytes]:
        """Return certificate and private key, in PEM, of a server or a client with these names."""
        key = ec.generate_private_key(ec.SECP256R1())
        purpose = ExtendedKeyUsageOID.SERVER_AUTH if server else ExtendedKeyUsageOID.CLIENT_AUTH
        builder = _builder(x509.Name([]), self._name, key.public_key())
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=True)
        builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        builder = builder.add_extension(_usage(digital_signature=True), critical=True)
        builder = builder.add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
        issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        certificate = builder.add_extension(issuer, critical=False).sign(self._key, hashes.SHA256())
        return certificate.public_bytes(serialization.Encoding.PEM), _private(key)


def public_jwk(key: ec.EllipticCurvePrivateKey, kid: str) -> dict[str, str]:
    """Return the public half of a key as a JSON Web Key."""
    from jwt.algorithms import ECAlgorithm

    return {**ECAlgorithm.to_jwk(key.public_key(), as_dict=True), "kid": kid, "alg": "ES256", "use": "sig"}


def _make(directory: Path) -> None:
    authority = Authority(DOMAIN)
    local = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    tokens = ec.generate_private_key(ec.SECP256R1())
    write_atomic(directory / "ca.pem", authority.pem)
    for name, (certificate, key) in {
        "server": authority.issue(local, server=True),
        "client": authority.issue([x509.UniformResourceIdentifier(CLIENT)]),
    }.items():
        write_atomic(directory / f"{name}.pem", certificate)
        write_atomic(directory / f"{name}.key", key, mode=0o600)
    write_atomic(directory / "tokens.pem", _private(tokens), mode=0o600)
    write_atomic(directory / "tokens.json", json.dumps({"keys": [public_jwk(tokens, "local")]}).encode())


def _is_fresh(certificate: Path) -> bool:
    if not certificate.is_file():
        return False
    return x509.load_pem_x509_certificate(certificate.read_bytes()).not_valid_after_utc > datetime.now(UTC) + _SOON


def _builder(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder(subject_name=subject, issuer_name=issuer, public_key=key)
    builder = builder.serial_number(x509.random_serial_number())
    builder = builder.not_valid_before(now - timedelta(minutes=5)).not_valid_after(now + _YEAR)
    return builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)


def _usage(**granted: bool) -> x509.KeyUsage:
    names = (
        *("digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement"),
        *("key_cert_sign", "crl_sign", "encipher_only", "decipher_only"),
    )
    return x509.KeyUsage(**{name: granted.get(name, False) for name in names})


def _private(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
