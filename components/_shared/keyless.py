"""Verifying keyless evidence: a short-lived certificate of Sigstore's instead of a key, and its transparency log.

The certificate authority (Fulcio) certified who asked, by an identity token; the log (Rekor) recorded the signature and
signed the time. All of it is in the bundle, so nothing is asked over the network: what is trusted is the Sigstore root.

Ours is the strict reading: exactly one certificate, one log entry with its inclusion promise, one identity, letter by
letter one of the trust file's; and only those keys of the root that were valid at the log's time. Everything that is
cryptography (certificate chain, certificate transparency, inclusion proof, checkpoint, promise, signature, the entry
being about this very envelope) is sigstore-python's, which is imported only when there is such evidence.

Sources: https://docs.sigstore.dev/about/bundle/, https://github.com/sigstore/fulcio/blob/main/docs/oid-info.md,
https://github.com/sigstore/protobuf-specs/blob/main/protos/sigstore_trustroot.proto
"""

import json
import struct
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm

from kfp_custody.components._shared import codes
from kfp_custody.components._shared.documents import DocumentFault, decode_base64, require_keys
from kfp_custody.components._shared.evidence import PAYLOAD_TYPE
from kfp_custody.components._shared.trust import Identity, Trust, TrustedSigner, identity_hint

CONFIG_TYPE = "application/vnd.dev.sigstore.clienttrustconfig.v0.1+json"
_SIGNING_CONFIG_TYPE = "application/vnd.dev.sigstore.signingconfig.v0.2+json"
_ISSUER = x509.ObjectIdentifier("1.3.6.1.4.1.57264.1.1")

# What sigstore and the libraries below it raise for a bundle that they cannot make sense of, beside their own errors.
_LIBRARY_FAULTS = (
    *(ValueError, TypeError, KeyError, IndexError, AttributeError, OverflowError, struct.error),
    *(x509.ExtensionNotFound, x509.DuplicateExtension, x509.UnsupportedGeneralNameType, x509.InvalidVersion),
    *(InvalidSignature, UnsupportedAlgorithm),
)


def verify_keyless(bundle: Mapping[str, Any], payload: bytes, trust: Trust) -> tuple[TrustedSigner, datetime]:
    """Verify a bundle with a certificate, whose envelope was read strictly and holds `payload`.

    Returns:
        Its signer of the trust file, and the time at which the log recorded the signature.

    Raises:
        DocumentFault: anything at all is not as it must be.
    """
    raw, signed_at = _material(bundle["verificationMaterial"])
    named = _named_by(raw)
    signer = trust.signers.get(identity_hint(named.issuer, named.identity))
    if signer is None or signer.credential != named:
        raise DocumentFault(
            f"it is signed by {ascii(named.identity[:200])} as {ascii(named.issuer[:200])} knows it, "
            "which the trust file does not know",
            codes.SIGNER_UNKNOWN,
        )
    from sigstore.errors import Error
    from sigstore.models import Bundle, ClientTrustConfig
    from sigstore.verify import Verifier
    from sigstore.verify.policy import Identity as IdentityPolicy

    try:
        verifier = Verifier(trusted_root=ClientTrustConfig.from_json(trust_config(trust, signed_at)).trusted_root)
        policy = IdentityPolicy(identity=named.identity, issuer=named.issuer)
        verified = verifier.verify_dsse(Bundle.from_json(json.dumps(bundle)), policy)
    except (Error, *_LIBRARY_FAULTS) as error:
        why = f"{type(error).__name__}: {ascii(str(error).partition(chr(10))[0][:200])}"
        raise DocumentFault(f"Sigstore does not verify it ({why})", codes.KEYLESS) from error
    if verified != (PAYLOAD_TYPE, payload):
        raise DocumentFault("Sigstore verified another payload", codes.KEYLESS)
    return signer, signed_at


def trust_config(trust: Trust, moment: datetime) -> str:
    """Return the Sigstore client trust config for verifying what was signed at a moment.

    The library accepts keys of the root that had expired by then or were not valid yet; so they are left out here. It
    names no service, so it cannot sign.

    Raises:
        KeyError, TypeError, ValueError: the root is malformed.
    """
    root = dict(trust.sigstore_root or _public_root())
    for name in ("certificateAuthorities", "tlogs", "ctlogs", "timestampAuthorities"):
        root[name] = [entry for entry in root.get(name, ()) if _valid_at(entry, moment)]
    signing = {"mediaType": _SIGNING_CONFIG_TYPE}
    return json.dumps({"mediaType": CONFIG_TYPE, "trustedRoot": root, "signingConfig": signing})


def _material(material: Any) -> tuple[bytes, datetime]:
    """Return the certificate (DER) and the time of the one log entry, once every field is one that is known."""
    require_keys(material, "verificationMaterial", ("certificate", "tlogEntries"), ("timestampVerificationData",))
    raw = require_keys(material["certificate"], "certificate", ("rawBytes",))["rawBytes"]
    entries = material["tlogEntries"]
    if not isinstance(entries, list) or len(entries) != 1:
        raise DocumentFault("it does not have exactly one transparency log entry", codes.LOG_ENTRY)
    entry = require_keys(
        entries[0],
        "the log entry",
        ("logIndex", "logId", "kindVersion", "integratedTime", "inclusionPromise", "inclusionProof")
        + ("canonicalizedBody",),
    )
    proof = require_keys(
        entry["inclusionProof"], "inclusionProof", ("rootHash", "treeSize", "checkpoint"), ("logIndex", "hashes")
    )
    note = require_keys(proof["checkpoint"], "checkpoint", ("envelope",))["envelope"]
    log_id = require_keys(entry["logId"], "logId", ("keyId",))["keyId"]
    promise = require_keys(entry["inclusionPromise"], "inclusionPromise", ("signedEntryTimestamp",))
    path = proof.get("hashes", [])
    if not isinstance(path, list) or not isinstance(note, str):
        raise DocumentFault("its inclusion proof has no list of hashes or no checkpoint", codes.LOG_ENTRY)
    for value in (
        log_id,
        promise["signedEntryTimestamp"],
        entry["canonicalizedBody"],
        proof["rootHash"],
        *path,
    ):
        decode_base64(value, "a value in the log entry")
    if note.split("\n")[1:2] != [proof["treeSize"]]:
        raise DocumentFault("its inclusion proof is for a log of another size than its checkpoint", codes.LOG_ENTRY)
    if entry["kindVersion"] != {"kind": "dsse", "version": "0.0.1"}:
        raise DocumentFault("its log entry is not of kind dsse 0.0.1", codes.LOG_ENTRY)
    # A time-stamp authority's stamp may be there as well (the public Sigstore adds one); the log's time is what counts.
    stamps = require_keys(
        material.get("timestampVerificationData", {}), "timestampVerificationData", (), ("rfc3161Timestamps",)
    )
    if not isinstance(stamps.get("rfc3161Timestamps", []), list) or len(stamps.get("rfc3161Timestamps", [])) > 1:
        raise DocumentFault("its time stamps are no list of at most one", codes.LOG_ENTRY)
    return decode_base64(raw, "the certificate"), _integrated(entry["integratedTime"])


def _integrated(value: Any) -> datetime:
    if not isinstance(value, str) or not value.isascii() or not value.isdigit() or len(value) > 11:
        raise DocumentFault("its log entry has no time in seconds", codes.LOG_ENTRY)
    return datetime.fromtimestamp(int(value), UTC)


def _named_by(der: bytes) -> Identity:
    """Return whom a certificate names; only a name to look up by until the library has verified the certificate."""
    try:
        extensions = x509.load_der_x509_certificate(der).extensions
        names = list(extensions.get_extension_for_class(x509.SubjectAlternativeName).value)
        issuer = extensions.get_extension_for_oid(_ISSUER).value
    except _LIBRARY_FAULTS as error:
        raise DocumentFault(f"its certificate names no issuer and identity ({type(error).__name__})") from error
    if (
        len(names) != 1
        or not isinstance(names[0], x509.UniformResourceIdentifier | x509.RFC822Name)
        or not isinstance(issuer, x509.UnrecognizedExtension)
    ):
        raise DocumentFault("its certificate does not name exactly one URI or e-mail address")
    return Identity(issuer.value.decode(errors="replace"), names[0].value)


def _valid_at(entry: Mapping[str, Any], moment: datetime) -> bool:
    period = entry.get("publicKey", entry)["validFor"]
    start, end = (datetime.fromisoformat(period[name]) if name in period else None for name in ("start", "end"))
    return (start is None or start <= moment) and (end is None or moment <= end)


def _public_root() -> dict[str, Any]:
    """Return the root of the public Sigstore as the installed sigstore ships it, without asking for a newer one."""
    import sigstore

    store = Path(sigstore.__file__).parent / "_store" / "https%3A%2F%2Ftuf-repo-cdn.sigstore.dev"
    root: dict[str, Any] = json.loads((store / "trusted_root.json").read_bytes())
    return root
