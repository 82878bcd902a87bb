"""A private Sigstore on loopback: certificate authority (Fulcio v2), log (Rekor v1) and OIDC discovery.

It stands for the network edge only. Certificates, certificate transparency stamps, inclusion proofs, checkpoints and
inclusion promises are real ones, made as the real services make them, and stock clients check all of them; what a real
instance has beside that (a database, a federation of issuers, monitors) is not here.
"""

import base64
import hashlib
import json
import struct
import threading
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import jwt
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, ObjectIdentifier

ISSUER = "https://kubernetes.default.svc"
TRAINING = "https://kubernetes.io/namespaces/ml/serviceaccounts/training"
ECDSA = ec.ECDSA(hashes.SHA256())


def der(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def canonical(value: object) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def tree_hash(leaves: list[bytes]) -> bytes:
    """Root of the Merkle tree (RFC 6962)."""
    if len(leaves) == 1:
        return hashlib.sha256(b"\0" + leaves[0]).digest()
    split = 1 << (len(leaves) - 1).bit_length() - 1
    return hashlib.sha256(b"\1" + tree_hash(leaves[:split]) + tree_hash(leaves[split:])).digest()


def inclusion(leaves: list[bytes], index: int) -> list[bytes]:
    """Audit path of a leaf (RFC 6962)."""
    if len(leaves) == 1:
        return []
    split = 1 << (len(leaves) - 1).bit_length() - 1
    if index < split:
        return [*inclusion(leaves[:split], index), tree_hash(leaves[split:])]
    return [*inclusion(leaves[split:], index - split), tree_hash(leaves[:split])]


class PrivateSigstore:
    """The three services, on one port of 127.0.0.1; a context manager.

    Attributes:
        config: File with the client trust config of this instance.
        delay: How much later than now the log says that it is.
        lifetime: How long certificates are valid.
        trouble: HTTP status to answer everything with, when set.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.ca, self.ct, self.log, self.oidc = (ec.generate_private_key(ec.SECP256R1()) for _ in range(4))
        self.delay, self.lifetime, self.trouble = timedelta(), timedelta(minutes=10), 0
        self.leaves: list[bytes] = [b"the log was not empty"]
        self._lock = threading.Lock()
        self.root = self._certificate_authority()
        sigstore = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                where = f"{sigstore.url}/oidc"
                self._answer(200, {"issuer": where, "authorization_endpoint": where, "token_endpoint": where})

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                token = self.headers.get("Authorization", "").removeprefix("Bearer ")
                try:
                    answer = (
                        sigstore._enter(body) if self.path.startswith("/api/v1/log") else sigstore._certify(body, token)
                    )
                except (jwt.PyJWTError, ValueError) as error:
                    self._answer(401, {"code": 16, "message": f"refused: {error}"})
                else:
                    self._answer(201, answer)

            def _answer(self, status: int, value: object) -> None:
                data = json.dumps(value).encode()
                self.send_response(sigstore.trouble or status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *arguments: object) -> None:
                pass

        class Server(ThreadingHTTPServer):
            def handle_error(self, *arguments: object) -> None:
                """A client that hung up is what some tests are about."""

        self._server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self.config = folder / "clienttrustconfig.json"
        self.config.write_text(json.dumps(self.trust_config()))

    def __enter__(self) -> "PrivateSigstore":
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def token(self, identity: str = TRAINING, *, key: Any = None, **claims: Any) -> str:
        """An identity token as a cluster would project it, or with other claims, or by another key."""
        now = int(datetime.now(UTC).timestamp())
        usual = {"iss": ISSUER, "sub": identity, "aud": ["sigstore"], "iat": now, "exp": now + 600}
        return jwt.encode(usual | claims, key or self.oidc, algorithm="ES256")

    def trust_config(self) -> dict[str, Any]:
        """The client trust config: the root of trust, and where the services are."""
        since = {"start": (datetime.now(UTC) - timedelta(days=1)).strftime("%Y-%m-%dT%H:%M:%SZ")}
        service = {"url": self.url, "majorApiVersion": 1, "validFor": since, "operator": "test"}
        authority = {
            "subject": {"organization": "test", "commonName": "test"},
            "uri": self.url,
            "certChain": {"certificates": [{"rawBytes": b64(self.root.public_bytes(Encoding.DER))}]},
            "validFor": since,
        }
        root = {
            "mediaType": "application/vnd.dev.sigstore.trustedroot+json;version=0.1",
            "tlogs": [self._public_log(self.log, since)],
            "certificateAuthorities": [authority],
            "ctlogs": [self._public_log(self.ct, since)],
        }
        signing = {
            "mediaType": "application/vnd.dev.sigstore.signingconfig.v0.2+json",
            "caUrls": [service],
            "oidcUrls": [service | {"url": f"{self.url}/oidc"}],
            "rekorTlogUrls": [service],
            "rekorTlogConfig": {"selector": "ANY"},
        }
        kind = "application/vnd.dev.sigstore.clienttrustconfig.v0.1+json"
        return {"mediaType": kind, "trustedRoot": root, "signingConfig": signing}

    def _public_log(self, key: ec.EllipticCurvePrivateKey, since: dict[str, str]) -> dict[str, Any]:
        public = {"rawBytes": b64(der(key)), "keyDetails": "PKIX_ECDSA_P256_SHA_256", "validFor": since}
        log_id = {"keyId": b64(hashlib.sha256(der(key)).digest())}
        return {"baseUrl": self.url, "hashAlgorithm": "SHA2_256", "publicKey": public, "logId": log_id}

    def _certificate_authority(self) -> x509.Certificate:
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test authority")])
        now = datetime.now(UTC)
        builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(self.ca.public_key())
        builder = builder.serial_number(x509.random_serial_number())
        builder = builder.not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=3650))
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        builder = builder.add_extension(self._usage(sign_certificates=True), critical=True)
        identifier = x509.SubjectKeyIdentifier.from_public_key(self.ca.public_key())
        return builder.add_extension(identifier, critical=False).sign(self.ca, hashes.SHA256())

    @staticmethod
    def _usage(*, sign_certificates: bool) -> x509.KeyUsage:
        rest = dict.fromkeys(("content_commitment", "key_encipherment", "data_encipherment", "key_agreement"), False)
        rest |= {"crl_sign": sign_certificates, "encipher_only": False, "decipher_only": False}
        return x509.KeyUsage(digital_signature=not sign_certificates, key_cert_sign=sign_certificates, **rest)

    def _certify(self, body: dict[str, Any], token: str) -> dict[str, Any]:
        """Fulcio: a certificate for whom the token names, with the transparency log's stamp in it."""
        claims = jwt.decode(token, self.oidc.public_key(), ["ES256"], audience="sigstore", issuer=ISSUER)
        request = x509.load_pem_x509_csr(base64.b64decode(body["certificateSigningRequest"]))
        if not request.is_signature_valid:
            raise ValueError("no proof of possession")
        public = request.public_key()
        assert isinstance(public, ec.EllipticCurvePublicKey)
        leaf = self.leaf(public, claims["sub"], claims["iss"])
        chain = [certificate.public_bytes(Encoding.PEM).decode() for certificate in (leaf, self.root)]
        return {"signedCertificateEmbeddedSct": {"chain": {"certificates": chain}}}

    def leaf(
        self, public: ec.EllipticCurvePublicKey, identity: str, issuer: str, eku: Any = ExtendedKeyUsageOID.CODE_SIGNING
    ) -> x509.Certificate:
        """A certificate as Fulcio makes it; `eku` is what it may be used for."""
        now = datetime.now(UTC).replace(microsecond=0)
        name = x509.UniformResourceIdentifier if "://" in identity else x509.RFC822Name
        oids = {
            "1.3.6.1.4.1.57264.1.1": issuer.encode(),
            "1.3.6.1.4.1.57264.1.8": b"\x0c%c%b" % (len(issuer), issuer.encode()),
        }
        builder = x509.CertificateBuilder().subject_name(x509.Name([])).issuer_name(self.root.subject)
        builder = builder.public_key(public).serial_number(x509.random_serial_number())
        builder = builder.not_valid_before(now).not_valid_after(now + self.lifetime)
        builder = builder.add_extension(self._usage(sign_certificates=False), critical=True)
        builder = builder.add_extension(x509.ExtendedKeyUsage([eku]), critical=False)
        ca = x509.AuthorityKeyIdentifier.from_issuer_public_key(self.ca.public_key())  # type: ignore[arg-type]
        builder = builder.add_extension(ca, critical=False)
        builder = builder.add_extension(x509.SubjectAlternativeName([name(identity)]), critical=True)
        for oid, value in oids.items():
            builder = builder.add_extension(x509.UnrecognizedExtension(ObjectIdentifier(oid), value), critical=False)
        precertificate = builder.sign(self.ca, hashes.SHA256()).tbs_certificate_bytes
        stamps = self._stamp(precertificate, now)
        extension = x509.UnrecognizedExtension(ObjectIdentifier("1.3.6.1.4.1.11129.2.4.2"), stamps)
        return builder.add_extension(extension, critical=False).sign(self.ca, hashes.SHA256())

    def _stamp(self, precertificate: bytes, now: datetime) -> bytes:
        """The list of one signed certificate timestamp (RFC 6962, 3.2 and 3.3)."""
        milliseconds = int(now.timestamp() * 1000)
        entry = hashlib.sha256(der(self.ca)).digest() + len(precertificate).to_bytes(3, "big") + precertificate
        signature = self.ct.sign(struct.pack("!BBQH", 0, 0, milliseconds, 1) + entry + b"\0\0", ECDSA)
        stamp = b"\0" + hashlib.sha256(der(self.ct)).digest() + struct.pack("!QH", milliseconds, 0) + b"\4\3"
        stamp += struct.pack("!H", len(signature)) + signature
        listed = struct.pack("!HH", len(stamp) + 2, len(stamp)) + stamp
        return b"\4" + (bytes([len(listed)]) if len(listed) < 128 else b"\x81" + bytes([len(listed)])) + listed

    def _enter(self, proposed: dict[str, Any]) -> dict[str, Any]:
        """Rekor: enter an envelope, once its signature verified, and prove that it is in."""
        content = proposed["spec"]["proposedContent"]
        (verifier,) = content["verifiers"]
        envelope = json.loads(content["envelope"])
        (signature,) = envelope["signatures"]
        kind, payload = envelope["payloadType"].encode(), base64.b64decode(envelope["payload"])
        public = x509.load_pem_x509_certificate(base64.b64decode(verifier)).public_key()
        assert isinstance(public, ec.EllipticCurvePublicKey)
        signed = b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)
        public.verify(base64.b64decode(signature["sig"]), signed, ECDSA)
        spec = {
            "envelopeHash": {"algorithm": "sha256", "value": hashlib.sha256(content["envelope"].encode()).hexdigest()},
            "payloadHash": {"algorithm": "sha256", "value": hashlib.sha256(payload).hexdigest()},
            "signatures": [{"signature": signature["sig"], "verifier": verifier}],
        }
        return self.entry(canonical({"apiVersion": "0.0.1", "kind": "dsse", "spec": spec}))

    def entry(self, body: bytes) -> dict[str, Any]:
        """Append a body to the log and return Rekor's answer about it."""
        with self._lock:
            self.leaves.append(body)
            leaves, index = list(self.leaves), len(self.leaves) - 1
        root, log_id = tree_hash(leaves), hashlib.sha256(der(self.log)).digest()
        note = f"127.0.0.1 - 1\n{len(leaves)}\n{b64(root)}\n"
        checkpoint = f"{note}\n\u2014 127.0.0.1 {b64(log_id[:4] + self.log.sign(note.encode(), ECDSA))}\n"
        entry: dict[str, Any] = {
            "body": b64(body),
            "integratedTime": int((datetime.now(UTC) + self.delay).timestamp()),
            "logID": log_id.hex(),
            "logIndex": index,
        }
        proof = {
            "checkpoint": checkpoint,
            "hashes": [value.hex() for value in inclusion(leaves, index)],
            "logIndex": index,
            "rootHash": root.hex(),
            "treeSize": len(leaves),
        }
        promise = b64(self.log.sign(canonical(entry), ECDSA))
        entry["verification"] = {"inclusionProof": proof, "signedEntryTimestamp": promise}
        return {hashlib.sha256(b"\0" + body).hexdigest(): entry}
