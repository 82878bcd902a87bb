"""Verifying evidence: the strict reading that every later stage does before it uses anything.

In this order, each step refusing on its own: one bundle of the right name; strict JSON; exactly the fields of a
Sigstore bundle with one signature; a signer of the trust file whose signature verifies over the payload; strict JSON of
the payload; the statement's shape and kind; the signer's right to speak for this kind, now and at the time it claims
(which a keyless signature's log must confirm); the run. Signature checking itself is `cryptography`'s for a key,
sigstore-python's for a keyless certificate (`keyless.py`), and the Vault's that holds the key for an HMAC.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from kfp_custody.components._shared import codes
from kfp_custody.components._shared.digests import (
    Listing,
    list_tree,
    read_listing,
    require_same,
    sha256_bytes,
    sha256_file,
)
from kfp_custody.components._shared.documents import (
    DocumentFault,
    decode_base64,
    parse_json,
    read_document,
    require_keys,
)
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
    stamp,
)
from kfp_custody.components._shared.keys import is_sha256
from kfp_custody.components._shared.kinds import DECISION, MODEL_SIGNATURE, TEST_RESULT, Kind
from kfp_custody.components._shared.trust import Identity, SharedKey, Trust, TrustedSigner

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
        ("slsaVersion", "custody_reports"),
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
                code=codes.LINK_MISSING,
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
        raise _invalid(
            kind,
            f"{directory.name}/ is no evidence directory",
            codes.NO_EVIDENCE,
            "Wire the output of the stage itself.",
        )
    present = sorted(entry.name for entry in directory.iterdir())
    if path.name not in present:
        shown = ", ".join(ascii(name) for name in present[:5])
        raise _invalid(
            kind,
            f"{directory.name}/ holds {shown or 'nothing'}, expected {path.name}",
            codes.NO_EVIDENCE,
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
        payload, signer, logged = _open_envelope(parse_json(data), trust)
        statement = _check_statement(parse_json(payload), kind)
    except DocumentFault as fault:
        raise _invalid(kind, f"{path.name}: {fault}", fault.code) from fault
    verified = Verified(
        kind,
        statement,
        sha256_bytes(data),
        signer.name,
        _time(statement, kind, logged),
        _run(statement),
        _listing(path, statement, kind),
    )
    _check_signer(verified, signer, moment)
    if run_id is not None and kind is not MODEL_SIGNATURE and verified.run_id != run_id:
        raise _invalid(
            kind,
            f"{path.name} belongs to run {verified.run_id!r}, this is run {run_id!r}",
            codes.OTHER_RUN,
            "Evidence of another run is never accepted; run the stage again in this run.",
        )
    return verified


def require_subject(verified: Verified, root: Path, artifact: str, *, md5: bool = False) -> Listing:
    """Hash a tree again and refuse it when it is not the subject of the evidence.

    Args:
        verified: The evidence.
        root: The tree.
        artifact: What the tree is called in a message.
        md5: Compute the files' MD5 in the same reading.

    Returns:
        The listing of the tree as it is now.

    Raises:
        EvidenceInvalid: the digests differ; the message names the artifact, the first files and both digests.
        InputRefused: the tree cannot be listed at all.
    """
    actual = list_tree(root, md5=md5)
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
            code=codes.LINK,
        )


def _open_envelope(bundle: Any, trust: Trust) -> tuple[bytes, TrustedSigner, datetime | None]:
    """Return the payload, its signer, and the time of the log if there is one, once the one signature verified."""
    require_keys(bundle, "the bundle", ("mediaType", "verificationMaterial", "dsseEnvelope"))
    if bundle["mediaType"] != BUNDLE_TYPE:
        raise DocumentFault(f"its media type is not {BUNDLE_TYPE}", codes.BUNDLE)
    envelope = require_keys(bundle["dsseEnvelope"], "dsseEnvelope", ("payload", "payloadType", "signatures"))
    if envelope["payloadType"] != PAYLOAD_TYPE:
        raise DocumentFault(f"its payload type is not {PAYLOAD_TYPE}", codes.BUNDLE)
    signatures = envelope["signatures"]
    if not isinstance(signatures, list) or len(signatures) != 1:
        raise DocumentFault("it does not hold exactly one signature", codes.SIGNATURE_COUNT)
    signature = decode_base64(
        require_keys(signatures[0], "the signature", ("sig",), ("keyid",))["sig"], "the signature"
    )
    payload = decode_base64(envelope["payload"], "the payload")
    material = bundle["verificationMaterial"]
    if isinstance(material, dict) and "certificate" in material:
        from kfp_custody.components._shared.keyless import verify_keyless

        return payload, *verify_keyless(bundle, payload, trust)
    require_keys(material, "verificationMaterial", ("publicKey",), ("tlogEntries",))
    hint = require_keys(material["publicKey"], "publicKey", ("hint",))["hint"]
    if material.get("tlogEntries"):
        why = "it has transparency log entries, which a key-signed bundle of ours never has"
        raise DocumentFault(why, codes.LOG_ENTRIES)
    signer = trust.signers.get(hint) if isinstance(hint, str) else None
    if signer is None or isinstance(signer.credential, Identity):
        known = ", ".join(f"{entry.name}={key[:16]}…" for key, entry in trust.signers.items()) or "nobody"
        why = f"it is signed by key {str(hint)[:64]!r}, which the trust file does not know ({known})"
        raise DocumentFault(why, codes.SIGNER_UNKNOWN)
    if not _is_signed(payload, signature, signer.credential):
        why = f"the signature is not by {signer.name!r} over this payload (sha256:{sha256_bytes(payload)})"
        raise DocumentFault(why, codes.SIGNATURE)
    return payload, signer, None


def _is_signed(payload: bytes, signature: bytes, credential: ec.EllipticCurvePublicKey | SharedKey) -> bool:
    if isinstance(credential, SharedKey):
        from kfp_custody.components._shared.signers.hmac import verify_hmac

        return verify_hmac(credential.uri, pae(payload), signature)
    try:
        credential.verify(signature, pae(payload), ec.ECDSA(hashes.SHA256()))
    except InvalidSignature:
        return False
    return True


def _check_statement(statement: Any, kind: Kind) -> Mapping[str, Any]:
    require_keys(statement, "the statement", ("_type", "subject", "predicateType", "predicate"))
    if statement["_type"] != STATEMENT_TYPE:
        raise DocumentFault(f"its type is not {STATEMENT_TYPE}", codes.STATEMENT)
    subjects = statement["subject"]
    if not isinstance(subjects, list) or len(subjects) != 1:
        raise DocumentFault("it does not have exactly one subject", codes.SUBJECT)
    subject = require_keys(subjects[0], "the subject", ("name", "digest"))
    digest = require_keys(subject["digest"], "the subject's digest", ("sha256",))
    if not is_sha256(digest["sha256"]) or not isinstance(subject["name"], str):
        raise DocumentFault("its subject's digest is no SHA-256 in lower-case hex, or its name no text", codes.SUBJECT)
    if statement["predicateType"] != kind.predicate_type:
        found = str(statement["predicateType"])[:100]
        raise DocumentFault(f"its predicate is {found!r}, not {kind.predicate_type}", codes.KIND)
    predicate = require_keys(
        statement["predicate"], "the predicate", *_PREDICATES.get(kind.predicate_type, _PROVENANCE)
    )
    if kind.predicate_type == TEST_RESULT:
        own = predicate["custody_test"]
        if predicate["result"] not in ("PASSED", "WARNED", "FAILED"):
            raise DocumentFault("its result is none of PASSED, WARNED, FAILED", codes.RESULT)
    elif kind is DECISION:
        own = require_keys(predicate["verifier"], "verifier", ("id",), ("version",))["id"]
        if predicate["verificationResult"] not in ("PASSED", "FAILED"):
            raise DocumentFault("its verificationResult is neither PASSED nor FAILED", codes.RESULT)
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
        builder = require_keys(run["builder"], "builder", ("id",), ("version",))
        own = build["buildType"] if build["buildType"] == builder["id"] else [build["buildType"], builder["id"]]
    if own != kind.type_uri:
        raise DocumentFault(f"it is of type {str(own)[:100]!r}, not {kind.type_uri}", codes.KIND)
    _check_descriptors(statement)
    _check_values(predicate, kind)
    return statement  # type: ignore[no-any-return]


def _check_descriptors(statement: Mapping[str, Any]) -> None:
    predicate = statement["predicate"]
    build, run = predicate.get("buildDefinition", {}), predicate.get("runDetails", {})
    for holder, name in (
        *((predicate, "configuration"), (predicate, "custody_reports")),
        *((build, "resolvedDependencies"), (run, "byproducts")),
    ):
        if not isinstance(holder.get(name, []), list):
            raise DocumentFault(f"a list of resources is malformed: {name}", codes.RESOURCE)
    entries = descriptors(statement)
    seen: set[str] = set()
    for entry in entries:
        require_keys(entry, "a resource", ("name",), ("uri", "digest", "mediaType", "annotations"))
        name = entry["name"]
        if not isinstance(name, str) or name in seen:
            shown = f"{str(name)[:80]!a}"
            raise DocumentFault(f"the resource {shown} has no proper name or stands in it twice", codes.RESOURCE)
        seen.add(name)
        digest = require_keys(entry.get("digest", {}), f"{name!a}.digest", (), ("sha256", "md5", "gitCommit"))
        if "sha256" in digest and not is_sha256(digest["sha256"]):
            raise DocumentFault(f"{name!a}.digest is no SHA-256 in lower-case hex", codes.RESOURCE)
        texts = (entry.get("uri", ""), entry.get("mediaType", ""), *digest.values())
        if not all(isinstance(text, str) for text in texts):
            raise DocumentFault(f"{name!a} has a uri, mediaType or digest that is no text", codes.RESOURCE)
        if not isinstance(entry.get("annotations", {}), dict):
            raise DocumentFault(f"{name!a}.annotations is no object", codes.RESOURCE)


def _check_values(predicate: Mapping[str, Any], kind: Kind) -> None:
    """Check what rules and readers use: numbers are numbers, texts are texts, parameters have names."""
    run = predicate.get("runDetails", {}).get("metadata", {}).get("invocationId") or predicate.get("custody_runId")
    if kind is not MODEL_SIGNATURE and not (isinstance(run, str) and run):
        raise DocumentFault("it does not say which run it belongs to", codes.VALUE)
    for name in ("passedTests", "warnedTests", "failedTests", "verifiedLevels"):
        texts = predicate.get(name, [])
        if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
            raise DocumentFault(f"{name} is no list of texts", codes.VALUE)
    if kind is DECISION:
        for entry in (predicate["policy"], *_objects(predicate["inputAttestations"])):
            require_keys(entry, "policy or inputAttestations", ("uri", "digest"))
            digest = require_keys(entry["digest"], "policy or inputAttestations", ("sha256",))["sha256"]
            if not is_sha256(digest) or not isinstance(entry["uri"], str):
                raise DocumentFault("policy or inputAttestations lack a uri or SHA-256 in lower-case hex", codes.VALUE)
        if not isinstance(predicate["resourceUri"], str):
            raise DocumentFault("resourceUri is no text", codes.VALUE)
    for name in ("custody_metrics", "custody_coverage"):
        numbers = predicate.get(name, {})
        if not isinstance(numbers, dict) or not all(map(_is_number, numbers.values())):
            raise DocumentFault(f"{name} is no object of numbers", codes.VALUE)
    build = predicate.get("buildDefinition", {})
    for name in ("externalParameters", "internalParameters"):
        if not isinstance(build.get(name, {}), dict):
            raise DocumentFault(f"{name} is no object", codes.VALUE)


def _objects(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise DocumentFault("inputAttestations is no list", codes.VALUE)
    return value


def _is_number(value: object) -> bool:
    return isinstance(value, float) or (type(value) is int and abs(value) <= _MAX_INTEGER)


def _check_signer(verified: Verified, signer: TrustedSigner, moment: datetime) -> None:
    kind = verified.kind
    if kind.name not in signer.may_sign:
        raise _invalid(
            kind,
            f"signer {signer.name!r} may sign {', '.join(sorted(signer.may_sign))}, not {kind.name}",
            codes.SIGNER_ROLE,
            "If it should, your security team adds it to the trust file.",
        )
    for instant in filter(None, (moment, verified.time)):
        fault = signer.fault_at(instant)
        if fault:
            raise _invalid(kind, f"{fault[0]} (judged at {instant.isoformat()})", fault[1])
    if verified.time is not None and verified.time > moment + _SKEW:
        raise _invalid(kind, f"it claims a time in the future, {verified.time.isoformat()}", codes.FUTURE)


def _listing(path: Path, statement: Mapping[str, Any], kind: Kind) -> Listing | None:
    beside = path.parent / LISTING_NAME
    if kind is MODEL_SIGNATURE or not os.path.lexists(beside):
        return None
    try:
        data = read_document(beside, _MAX_LISTING)
    except DocumentFault as fault:
        raise _invalid(kind, f"{path.parent.name}/{beside.name}: {fault}", fault.code) from fault
    require_digest(statement["subject"][0]["digest"]["sha256"], sha256_bytes(data), beside.name, kind.name)
    return read_listing(data, f"{path.parent.name}/{beside.name}")


def _check_attachment(path: Path, verified: Verified) -> None:
    found = sha256_file(path) if path.is_file() and not path.is_symlink() else "(no regular file)"
    if found not in bound_digests(verified.statement):
        expected = ", ".join(
            f"sha256:{entry.get('digest', {}).get('sha256')}"
            for entry in descriptors(verified.statement)
            if entry["name"] == path.stem
        )
        raise _invalid(
            verified.kind,
            f"{path.name!a} sha256:{found} is not bound by the statement (expected {expected or 'no such file'})",
            codes.ATTACHMENT,
        )


def _time(statement: Mapping[str, Any], kind: Kind, logged: datetime | None) -> datetime | None:
    """Return when the statement was signed: as the log says where there is one, else as the signer says."""
    if kind is MODEL_SIGNATURE:
        return logged  # OpenSSF model signatures carry no time of their own
    predicate = statement["predicate"]
    metadata = predicate.get("runDetails", {}).get("metadata", {})
    try:
        _moment(metadata.get("startedOn", "1970-01-01T00:00:00Z"))
        claimed = _moment(
            predicate.get("custody_finishedOn") or predicate.get("timeVerified") or metadata.get("finishedOn")
        )
    except (TypeError, ValueError) as error:
        raise _invalid(kind, "its time is no RFC 3339 time in UTC", codes.TIME) from error
    if logged is not None and abs(logged - claimed) > _SKEW:
        why = f"it claims {claimed.isoformat()}, the transparency log recorded it at {logged.isoformat()}"
        raise _invalid(kind, why, codes.LOG_TIME)
    return logged or claimed


def _moment(value: Any) -> datetime:
    moment = datetime.strptime(value, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    if stamp(moment) != value:  # strptime also takes 2026-1-1, and digits of other scripts
        raise ValueError(value)
    return moment


def _run(statement: Mapping[str, Any]) -> str | None:
    predicate = statement["predicate"]
    run = predicate.get("custody_runId") or predicate.get("runDetails", {}).get("metadata", {}).get("invocationId")
    return run if isinstance(run, str) and run else None


def _invalid(kind: Kind, why: str, code: str, remedy: str | None = None) -> EvidenceInvalid:
    return EvidenceInvalid(
        f"The evidence {kind.name} was not accepted.",
        evidence=why,
        remedy=remedy or "Do not use what it speaks for. Find out who made or changed it, then run the stage again.",
        code=code,
    )
