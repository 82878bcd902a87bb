"""Verifying evidence: the strict reading that every later stage does before it uses anything.

In this order, each step refusing on its own: one bundle of the right name; strict JSON; exactly the fields of a
key-signed Sigstore bundle with one signature; a signer of the trust file whose signature verifies over the payload;
strict JSON of the payload; the statement's shape and kind; the signer's right to speak for this kind, now and at the
time it claims; the run. Signature checking itself is `cryptography`'s.
"""

import base64
import binascii
import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from kfp_custody.components._shared.digests import (
    Listing,
    list_tree,
    read_listing,
    require_same,
    sha256_bytes,
    sha256_file,
)
from kfp_custody.components._shared.documents import DocumentFault, parse_json, read_document, require_keys
from kfp_custody.components._shared.errors import EvidenceInvalid
from kfp_custody.components._shared.evidence import (
    BUNDLE_TYPE,
    LISTING_NAME,
    PAYLOAD_TYPE,
    STATEMENT_TYPE,
    bound_digests,
    descriptors,
    now,
    pae,
)
from kfp_custody.components._shared.keys import is_sha256
from kfp_custody.components._shared.kinds import DECISION, MODEL_SIGNATURE, TEST_RESULT, Kind
from kfp_custody.components._shared.trust import Trust, TrustedSigner

_SKEW = timedelta(minutes=5)  # clocks of two nodes may differ by this much
_MAX_LISTING = 256 * 1024 * 1024
_MAX_INTEGER = 2**53  # larger ones are not exact as the doubles that rules compute with

# The fields of each predicate: those that must be there, those that may.
_PREDICATES: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    TEST_RESULT: (
        ("result", "configuration", "custody_test", "custody_runId", "custody_finishedOn"),
        ("url", "passedTests", "warnedTests", "failedTests", "custody_metrics", "custody_coverage"),
    ),
    DECISION.predicate_type: (
        ("verifier", "timeVerified", "resourceUri", "policy", "inputAttestations", "verificationResult")
        + ("verifiedLevels", "custody_runId"),
        ("slsaVersion", "dependencyLevels", "custody_reports"),
    ),
    MODEL_SIGNATURE.predicate_type: (("resources", "serialization"), ()),
}
_PROVENANCE = (("buildDefinition", "runDetails"), ())


@dataclass(frozen=True)
class Verified:
    """A statement whose signature, signer, kind, run and time were verified."""

    kind: Kind
    statement: Mapping[str, Any]
    bundle_sha256: str
    signer: str
    time: datetime | None
    run_id: str | None
    listing: Listing | None

    @property
    def subject_sha256(self) -> str:
        """Digest of the one subject."""
        return str(self.statement["subject"][0]["digest"]["sha256"])

    @property
    def predicate(self) -> Mapping[str, Any]:
        """The predicate."""
        result: Mapping[str, Any] = self.statement["predicate"]
        return result

    @property
    def result(self) -> str | None:
        """PASSED, WARNED or FAILED of a test result or decision."""
        return self.predicate.get("result") or self.predicate.get("verificationResult")

    @property
    def metrics(self) -> dict[str, float]:
        """The numbers that the stage reports: of a test result, or of a provenance's by-product `metrics`."""
        found = dict(self.predicate.get("custody_metrics", {}))
        for entry in self.predicate.get("runDetails", {}).get("byproducts", ()):
            if entry["name"] == "metrics":
                found |= entry.get("annotations", {})
        return {name: float(value) for name, value in found.items() if _is_number(value)}

    def dependency(self, name: str) -> str:
        """Return the SHA-256 of the one resource of that name which the statement refers to.

        Raises:
            EvidenceInvalid: there is none, or more than one.
        """
        found = [entry for entry in descriptors(self.statement) if entry.get("name") == name]
        digest = found[0].get("digest", {}).get("sha256") if len(found) == 1 else None
        if not is_sha256(digest):
            raise EvidenceInvalid(
                f"The evidence {self.kind.name} does not say which {name} it is about.",
                evidence=f"{len(found)} resources named {name!r} in bundle sha256:{self.bundle_sha256}",
                remedy="Make the evidence again with this version of kfp-custody.",
            )
        return str(digest)


def read_evidence(
    directory: Path, kind: Kind, trust: Trust, *, run_id: str | None, at: datetime | None = None
) -> Verified:
    """Read and verify the evidence directory of a stage.

    Args:
        directory: What `write_evidence` wrote.
        kind: The kind of evidence that is expected; any other is refused.
        trust: Who is trusted for what.
        run_id: The run that the evidence must belong to; None accepts any run (an auditor's choice, not a stage's).
        at: The moment to judge by, timezone-aware; the present when None.

    Raises:
        EvidenceInvalid: anything at all is not as it must be.
    """
    path = directory / f"{kind.name}.sigstore.json"
    if not directory.is_dir():
        raise _invalid(kind, f"{directory.name}/ is no evidence directory", "Wire the output of the stage itself.")
    present = sorted(entry.name for entry in directory.iterdir())
    if path.name not in present:
        shown = ", ".join(ascii(name) for name in present[:5])
        raise _invalid(
            kind,
            f"{directory.name}/ holds {shown or 'nothing'}, expected {path.name}",
            "Wire the output of the right stage; evidence is never renamed or merged.",
        )
    verified = verify_bundle(path, kind, trust, run_id=run_id, at=at)
    for name in sorted(set(present) - {path.name, LISTING_NAME}):
        _check_attachment(directory / name, verified)
    return verified


def verify_bundle(path: Path, kind: Kind, trust: Trust, *, run_id: str | None, at: datetime | None = None) -> Verified:
    """Verify one bundle file; `SHA256SUMS` beside it must match the statement when it is there.

    Args and errors are those of `read_evidence`.
    """
    moment = at or now()
    try:
        data = read_document(path)
        payload, signer = _open_envelope(parse_json(data), trust)
        statement = _check_statement(parse_json(payload), kind)
    except DocumentFault as fault:
        raise _invalid(kind, f"{path.name}: {fault}") from fault
    verified = Verified(
        kind,
        statement,
        sha256_bytes(data),
        signer.name,
        _time(statement, kind),
        _run(statement),
        _listing(path, statement, kind),
    )
    _check_signer(verified, signer, moment)
    if run_id is not None and kind is not MODEL_SIGNATURE and verified.run_id != run_id:
        raise _invalid(
            kind,
            f"{path.name} belongs to run {verified.run_id!r}, this is run {run_id!r}",
            "Evidence of another run is never accepted; run the stage again in this run.",
        )
    return verified


def require_subject(verified: Verified, root: Path, artifact: str) -> Listing:
    """Hash a tree again and refuse it when it is not the subject of the evidence.

    Returns:
        The listing of the tree as it is now.

    Raises:
        EvidenceInvalid: the digests differ; the message names the artifact, the first files and both digests.
        InputRefused: the tree cannot be listed at all.
    """
    actual = list_tree(root)
    if verified.listing is not None:
        require_same(verified.listing, actual, artifact)
    require_digest(verified.subject_sha256, actual.sha256, artifact, verified.kind.name)
    return actual


def require_digest(expected: str, found: str, artifact: str, according_to: str) -> None:
    """Refuse an artifact whose digest is not the one that evidence names.

    Raises:
        EvidenceInvalid: naming the artifact and both digests.
    """
    if expected != found:
        raise EvidenceInvalid(
            f"{artifact}: this is not what the evidence {according_to} speaks of.",
            evidence=f"{artifact} expected sha256:{expected}, found sha256:{found}",
            remedy="Do not use this artifact. Find out where it comes from, then run the pipeline again.",
        )


def _open_envelope(bundle: Any, trust: Trust) -> tuple[bytes, TrustedSigner]:
    """Return the payload and its signer once the one signature verified."""
    require_keys(bundle, "the bundle", ("mediaType", "verificationMaterial", "dsseEnvelope"))
    if bundle["mediaType"] != BUNDLE_TYPE:
        raise DocumentFault(f"its media type is not {BUNDLE_TYPE}")
    material = require_keys(bundle["verificationMaterial"], "verificationMaterial", ("publicKey",), ("tlogEntries",))
    hint = require_keys(material["publicKey"], "publicKey", ("hint",))["hint"]
    if material.get("tlogEntries"):
        raise DocumentFault("it has transparency log entries, which a key-signed bundle of ours never has")
    envelope = require_keys(bundle["dsseEnvelope"], "dsseEnvelope", ("payload", "payloadType", "signatures"))
    if envelope["payloadType"] != PAYLOAD_TYPE:
        raise DocumentFault(f"its payload type is not {PAYLOAD_TYPE}")
    signatures = envelope["signatures"]
    if not isinstance(signatures, list) or len(signatures) != 1:
        raise DocumentFault("it does not hold exactly one signature")
    signature = _base64(require_keys(signatures[0], "the signature", ("sig",), ("keyid",))["sig"], "the signature")
    payload = _base64(envelope["payload"], "the payload")
    signer = trust.signers.get(hint) if isinstance(hint, str) else None
    if signer is None:
        known = ", ".join(f"{entry.name}={key[:16]}…" for key, entry in trust.signers.items()) or "nobody"
        raise DocumentFault(f"it is signed by key {str(hint)[:64]!r}, which the trust file does not know ({known})")
    try:
        signer.key.verify(signature, pae(payload), ec.ECDSA(hashes.SHA256()))
    except InvalidSignature as error:
        raise DocumentFault(
            f"the signature is not by {signer.name!r} over this payload (sha256:{sha256_bytes(payload)})"
        ) from error
    return payload, signer


def _check_statement(statement: Any, kind: Kind) -> Mapping[str, Any]:
    require_keys(statement, "the statement", ("_type", "subject", "predicateType", "predicate"))
    if statement["_type"] != STATEMENT_TYPE:
        raise DocumentFault(f"its type is not {STATEMENT_TYPE}")
    subjects = statement["subject"]
    if not isinstance(subjects, list) or len(subjects) != 1:
        raise DocumentFault("it does not have exactly one subject")
    subject = require_keys(subjects[0], "the subject", ("name", "digest"))
    digest = require_keys(subject["digest"], "the subject's digest", ("sha256",))
    if not is_sha256(digest["sha256"]):
        raise DocumentFault("its subject's digest is no SHA-256 in lower-case hex")
    if statement["predicateType"] != kind.predicate_type:
        raise DocumentFault(f"its predicate is {str(statement['predicateType'])[:100]!r}, not {kind.predicate_type}")
    predicate = require_keys(
        statement["predicate"], "the predicate", *_PREDICATES.get(kind.predicate_type, _PROVENANCE)
    )
    if kind.predicate_type == TEST_RESULT:
        own = predicate["custody_test"]
        if predicate["result"] not in ("PASSED", "WARNED", "FAILED"):
            raise DocumentFault("its result is none of PASSED, WARNED, FAILED")
    elif kind is DECISION:
        own = require_keys(predicate["verifier"], "verifier", ("id",), ("version",))["id"]
        if predicate["verificationResult"] not in ("PASSED", "FAILED"):
            raise DocumentFault("its verificationResult is neither PASSED nor FAILED")
    elif kind is MODEL_SIGNATURE:
        own = kind.type_uri
    else:
        build = require_keys(
            predicate["buildDefinition"],
            "buildDefinition",
            ("buildType", "externalParameters", "internalParameters", "resolvedDependencies"),
        )
        run = require_keys(predicate["runDetails"], "runDetails", ("builder", "metadata"), ("byproducts",))
        require_keys(run["metadata"], "metadata", ("invocationId", "startedOn", "finishedOn"))
        builder = require_keys(run["builder"], "builder", ("id",), ("version", "builderDependencies"))
        own = build["buildType"] if build["buildType"] == builder["id"] else [build["buildType"], builder["id"]]
    if own != kind.type_uri:
        raise DocumentFault(f"it is of type {str(own)[:100]!r}, not {kind.type_uri}")
    _check_descriptors(statement)
    _check_values(predicate)
    return statement  # type: ignore[no-any-return]


def _check_descriptors(statement: Mapping[str, Any]) -> None:
    try:
        entries = descriptors(statement)
    except (TypeError, AttributeError) as error:
        raise DocumentFault("a list of resources is malformed") from error
    seen: set[str] = set()
    for entry in entries:
        require_keys(entry, "a resource", ("name",), ("uri", "digest", "mediaType", "annotations"))
        name = entry["name"]
        if not isinstance(name, str) or name in seen:
            raise DocumentFault(f"the resource {str(name)[:80]!a} has no proper name or stands in it twice")
        seen.add(name)
        digest = require_keys(entry.get("digest", {}), f"{name!a}.digest", (), ("sha256", "md5"))
        if "sha256" in digest and not is_sha256(digest["sha256"]):
            raise DocumentFault(f"{name!a}.digest is no SHA-256 in lower-case hex")
        if not isinstance(entry.get("annotations", {}), dict):
            raise DocumentFault(f"{name!a}.annotations is no object")


def _check_values(predicate: Mapping[str, Any]) -> None:
    """Check what rules compute with: numbers are numbers, parameters have names."""
    for name in ("custody_metrics", "custody_coverage"):
        numbers = predicate.get(name, {})
        if not isinstance(numbers, dict) or not all(map(_is_number, numbers.values())):
            raise DocumentFault(f"{name} is no object of numbers")
    build = predicate.get("buildDefinition", {})
    for name in ("externalParameters", "internalParameters"):
        if not isinstance(build.get(name, {}), dict):
            raise DocumentFault(f"{name} is no object")


def _is_number(value: object) -> bool:
    return isinstance(value, float) or (type(value) is int and abs(value) <= _MAX_INTEGER)


def _check_signer(verified: Verified, signer: TrustedSigner, moment: datetime) -> None:
    kind = verified.kind
    if kind.name not in signer.may_sign:
        raise _invalid(
            kind,
            f"signer {signer.name!r} may sign {', '.join(sorted(signer.may_sign))}, not {kind.name}",
            "If it should, your security team adds it to the trust file.",
        )
    for instant in filter(None, (moment, verified.time)):
        fault = signer.fault_at(instant)
        if fault:
            raise _invalid(kind, f"{fault} (judged at {instant.isoformat()})")
    if verified.time is not None and verified.time > moment + _SKEW:
        raise _invalid(kind, f"it claims a time in the future, {verified.time.isoformat()}")


def _listing(path: Path, statement: Mapping[str, Any], kind: Kind) -> Listing | None:
    beside = path.parent / LISTING_NAME
    if kind is MODEL_SIGNATURE or not os.path.lexists(beside):
        return None
    try:
        data = read_document(beside, _MAX_LISTING)
    except DocumentFault as fault:
        raise _invalid(kind, f"{path.parent.name}/{beside.name}: {fault}") from fault
    require_digest(statement["subject"][0]["digest"]["sha256"], sha256_bytes(data), beside.name, kind.name)
    return read_listing(data, f"{path.parent.name}/{beside.name}")


def _check_attachment(path: Path, verified: Verified) -> None:
    found = sha256_file(path) if path.is_file() and not path.is_symlink() else "(no regular file)"
    if found not in bound_digests(verified.statement):
        expected = ", ".join(
            f"{entry['name']} sha256:{entry['digest']['sha256']}"
            for entry in descriptors(verified.statement)
            if entry["name"] == path.stem
        )
        raise _invalid(
            verified.kind,
            f"{path.name!a} sha256:{found} is not bound by the statement (expected {expected or 'no such file'})",
        )


def _time(statement: Mapping[str, Any], kind: Kind) -> datetime | None:
    if kind is MODEL_SIGNATURE:
        return None  # OpenSSF model signatures by key carry no time
    predicate = statement["predicate"]
    value = (
        predicate.get("custody_finishedOn")
        or predicate.get("timeVerified")
        or predicate.get("runDetails", {}).get("metadata", {}).get("finishedOn")
    )
    try:
        return datetime.strptime(value, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    except (TypeError, ValueError) as error:
        raise _invalid(kind, "its time is no RFC 3339 time in UTC") from error


def _run(statement: Mapping[str, Any]) -> str | None:
    predicate = statement["predicate"]
    run = predicate.get("custody_runId") or predicate.get("runDetails", {}).get("metadata", {}).get("invocationId")
    return run if isinstance(run, str) and run else None


def _base64(value: Any, what: str) -> bytes:
    try:
        return base64.b64decode(value, validate=True)
    except (binascii.Error, TypeError, ValueError) as error:
        raise DocumentFault(f"{what} is no base64") from error


def _invalid(kind: Kind, why: str, remedy: str | None = None) -> EvidenceInvalid:
    return EvidenceInvalid(
        f"The evidence {kind.name} was not accepted.",
        evidence=why,
        remedy=remedy or "Do not use what it speaks for. Find out who made or changed it, then run the stage again.",
    )
