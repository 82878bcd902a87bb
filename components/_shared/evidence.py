"""Making evidence: in-toto statements, signed, in Sigstore bundles.

One format everywhere: a Sigstore bundle v0.3 that holds one DSSE envelope with one in-toto Statement v1 and exactly one
ECDSA P-256 signature, by a key or keyless, so that cosign and other Sigstore clients can verify it as well. An evidence
directory holds

    <kind>.sigstore.json   the bundle
    SHA256SUMS             the listing of the subject; its SHA-256 is the statement's subject
    report.json            the stage's own report, where it has one; its digest stands in the statement, as that of
                           every other file there does

Sources: https://github.com/in-toto/attestation/tree/main/spec, https://slsa.dev/spec/v1.0/provenance,
https://slsa.dev/spec/v1.0/verification_summary, https://github.com/secure-systems-lab/dsse,
https://github.com/sigstore/protobuf-specs. Fields of our own are prefixed `custody_`, as the predicates ask.
"""

import base64
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from kfp_custody.components._shared.digests import Listing, sha256_bytes
from kfp_custody.components._shared.documents import canonical_json
from kfp_custody.components._shared.files import atomic_directory
from kfp_custody.components._shared.images import VERSION
from kfp_custody.components._shared.keys import key_hint
from kfp_custody.components._shared.kinds import (
    ATTESTATION,
    CANARY,
    COLLECTION,
    DECISION,
    DEPLOYMENT,
    DRIFT,
    FETCHING,
    KINDS,
    MASKING,
    MODEL_SIGNATURE,
    MONITORING,
    POISONING,
    PROFILE,
    PROFILE_DRIFT,
    RETRAINING,
    ROBUSTNESS,
    ROLLOUT,
    SCAN,
    SHARD_ATTESTATION,
    SHARD_MASKING,
    TRAINING,
    Kind,
)
from kfp_custody.components._shared.signers.keyless import KeylessSigner
from kfp_custody.components._shared.signers.loading import public_key

if TYPE_CHECKING:
    from securesystemslib.signer import Signer  # imports every cloud's client that is installed

__all__ = [
    "ATTESTATION",
    "CANARY",
    "COLLECTION",
    "DECISION",
    "DEPLOYMENT",
    "DRIFT",
    "FETCHING",
    "KINDS",
    "MASKING",
    "MODEL_SIGNATURE",
    "MONITORING",
    "POISONING",
    "PROFILE",
    "PROFILE_DRIFT",
    "RETRAINING",
    "ROBUSTNESS",
    "ROLLOUT",
    "SCAN",
    "SHARD_ATTESTATION",
    "SHARD_MASKING",
    "TRAINING",
    "Kind",
    "now",
    "pae",
    "provenance",
    "resource",
    "sign_payload",
    "sign_statement",
    "test_result",
    "verification_summary",
    "write_evidence",
]

STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PAYLOAD_TYPE = "application/vnd.in-toto+json"
BUNDLE_TYPE: Final = "application/vnd.dev.sigstore.bundle.v0.3+json"
LISTING_NAME = "SHA256SUMS"
REPORT_NAME = "report.json"


def now() -> datetime:
    """Return the present time in UTC, to the second: the resolution of every time stamp in evidence."""
    return datetime.now(UTC).replace(microsecond=0)


def stamp(moment: datetime) -> str:
    """Return a time as RFC 3339 in UTC, to the second."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def resource(
    name: str,
    sha256: str | None = None,
    *,
    uri: str | None = None,
    md5: str | None = None,
    git_commit: str | None = None,
    media_type: str | None = None,
    annotations: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Describe something that a statement refers to (an in-toto ResourceDescriptor).

    `md5` and `git_commit` are only other tools' identities (DVC, Git) and are never checked by ours; where there is
    content to bind, give its `sha256`.
    """
    digest = {name: value for name, value in (("sha256", sha256), ("md5", md5), ("gitCommit", git_commit)) if value}
    fields = {"uri": uri, "digest": digest, "mediaType": media_type, "annotations": dict(annotations or {})}
    return {"name": name, **{key: value for key, value in fields.items() if value}}


def test_result(
    kind: Kind,
    subject: Listing,
    *,
    result: str,
    run_id: str,
    configuration: Sequence[Mapping[str, Any]],
    passed: Sequence[str],
    warned: Sequence[str] = (),
    failed: Sequence[str] = (),
    metrics: Mapping[str, float] | None = None,
    coverage: Mapping[str, int] | None = None,
) -> dict[str, Any]:
    """Build an in-toto test-result statement about `subject`.

    Args:
        kind: Which test this is.
        subject: The tree that was examined.
        result: PASSED, WARNED or FAILED.
        run_id: The pipeline run.
        configuration: What the test was made with: inputs, policies, reports (`resource(...)`).
        passed: Names of the checks that passed.
        warned: Names of the checks that warned.
        failed: Names of the checks that failed.
        metrics: Finite numbers for the gate's rules.
        coverage: How many things were `checked`, `skipped` and ended in `errors`.
    """
    predicate = {
        "result": result,
        "configuration": list(configuration),
        "passedTests": list(passed),
        "warnedTests": list(warned),
        "failedTests": list(failed),
        "custody_test": kind.type_uri,
        "custody_runId": run_id,
        "custody_finishedOn": stamp(now()),
        "custody_metrics": {name: float(value) for name, value in (metrics or {}).items()},
        "custody_coverage": dict(coverage or {}),
    }
    return _statement(kind, subject, predicate)


test_result.__test__ = False  # type: ignore[attr-defined]  # the predicate's name, not a test of ours


def provenance(
    kind: Kind,
    subject: Listing,
    *,
    run_id: str,
    started: datetime,
    parameters: Mapping[str, Any],
    internal: Mapping[str, Any],
    dependencies: Sequence[Mapping[str, Any]],
    byproducts: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    """Build a SLSA provenance statement: how `subject` was made.

    Args:
        kind: Which build this is.
        subject: The tree that was made.
        run_id: The pipeline run.
        started: When the stage started.
        parameters: What the user of the pipeline chose.
        internal: What the platform chose (versions, MLflow run).
        dependencies: What went in, by digest (`resource(...)`).
        byproducts: What else came out (`resource(...)`); the one named `metrics` carries numbers as annotations.
    """
    predicate = {
        "buildDefinition": {
            "buildType": kind.type_uri,
            "externalParameters": dict(parameters),
            "internalParameters": dict(internal),
            "resolvedDependencies": list(dependencies),
        },
        "runDetails": {
            "builder": {"id": kind.type_uri, "version": {"kfp-custody": VERSION}},
            "metadata": {"invocationId": run_id, "startedOn": stamp(started), "finishedOn": stamp(now())},
            "byproducts": list(byproducts),
        },
    }
    return _statement(kind, subject, predicate)


def verification_summary(
    subject: Listing,
    *,
    passed: bool,
    run_id: str,
    resource_uri: str,
    policy_uri: str,
    policy_sha256: str,
    inputs: Mapping[str, str],
    levels: Sequence[str],
    reports: Sequence[Mapping[str, Any]] = (),
) -> dict[str, Any]:
    """Build a SLSA verification summary: the gate's decision about `subject`.

    Args:
        subject: The model.
        passed: The decision.
        run_id: The pipeline run.
        resource_uri: What the decision lets be deployed (`models:/<name>`).
        policy_uri: Name of the policy.
        policy_sha256: Digest of the policy file.
        inputs: Every piece of evidence that the gate was shown: name -> SHA-256 of its bundle.
        levels: What was verified.
        reports: The gate's own reports (`resource(...)`).
    """
    predicate = {
        "verifier": {"id": DECISION.type_uri, "version": {"kfp-custody": VERSION}},
        "timeVerified": stamp(now()),
        "resourceUri": resource_uri,
        "policy": {"uri": policy_uri, "digest": {"sha256": policy_sha256}},
        "inputAttestations": [{"uri": name, "digest": {"sha256": digest}} for name, digest in sorted(inputs.items())],
        "verificationResult": "PASSED" if passed else "FAILED",
        "verifiedLevels": list(levels) if passed else ["FAILED"],
        "slsaVersion": "1.0",
        "custody_runId": run_id,
        "custody_reports": list(reports),
    }
    return _statement(DECISION, subject, predicate)


def sign_statement(statement: Mapping[str, Any], signer: "Signer | KeylessSigner") -> bytes:
    """Sign a statement and return the bundle file's bytes."""
    return canonical_json(sign_payload(canonical_json(statement), signer)) + b"\n"


def sign_payload(payload: bytes, signer: "Signer | KeylessSigner") -> dict[str, Any]:
    """Sign the bytes of an in-toto statement and return the bundle."""
    if isinstance(signer, KeylessSigner):
        return signer.sign_payload(payload)
    # An HMAC key has no public half, so its signer brings the hint.
    hint = getattr(signer, "hint", "") or key_hint(public_key(signer))
    signature = bytes.fromhex(signer.sign(pae(payload)).signature)
    return {
        "mediaType": BUNDLE_TYPE,
        "verificationMaterial": {"publicKey": {"hint": hint}, "tlogEntries": []},
        "dsseEnvelope": {
            "payload": base64.b64encode(payload).decode(),
            "payloadType": PAYLOAD_TYPE,
            "signatures": [{"sig": base64.b64encode(signature).decode(), "keyid": ""}],
        },
    }


def write_evidence(
    directory: Path,
    statement: Mapping[str, Any],
    signer: "Signer | KeylessSigner",
    subject: Listing,
    report: bytes | None = None,
    attachments: Mapping[str, bytes] | None = None,
) -> Path:
    """Sign a statement and write the evidence directory, all of it or nothing.

    Args:
        directory: Where; it must not exist, or be empty.
        statement: What to sign; `subject` must be its subject.
        signer: Who signs.
        subject: The listing of the subject, kept beside the bundle.
        report: The stage's report; its digest must stand in the statement as the resource `report`.
        attachments: Other files by name; their digests must stand in the statement too.

    Returns:
        The path of the bundle.

    Raises:
        OSError: the place cannot be written.
        Misconfigured: the signing key has the wrong type.
    """
    kind = kind_of(statement)
    bundle = sign_statement(statement, signer)
    with atomic_directory(directory) as partial:
        (partial / f"{kind.name}.sigstore.json").write_bytes(bundle)
        (partial / LISTING_NAME).write_bytes(subject.text)
        for name, data in {**({REPORT_NAME: report} if report is not None else {}), **(attachments or {})}.items():
            assert sha256_bytes(data) in bound_digests(statement), f"{name} is not bound"  # noqa: S101  (a bug of ours)
            (partial / name).write_bytes(data)
    return directory / f"{kind.name}.sigstore.json"


def pae(payload: bytes) -> bytes:
    """Return DSSE's pre-authentication encoding of an in-toto payload: what is really signed."""
    return b"DSSEv1 %d %s %d %s" % (len(PAYLOAD_TYPE), PAYLOAD_TYPE.encode(), len(payload), payload)


def kind_of(statement: Mapping[str, Any]) -> Kind:
    """Return the kind of a well-formed statement.

    Raises:
        KeyError: the statement is of no kind of ours.
    """
    predicate_type, predicate = statement["predicateType"], statement["predicate"]
    own = predicate.get("custody_test") or predicate.get("buildDefinition", {}).get("buildType")
    for kind in KINDS.values():
        if kind.predicate_type == predicate_type and own in (None, kind.type_uri):
            return kind
    raise KeyError(predicate_type)


def descriptors(statement: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return every resource that a statement refers to: configuration, dependencies, by-products, reports."""
    predicate = statement["predicate"]
    build, run = predicate.get("buildDefinition", {}), predicate.get("runDetails", {})
    return [
        *predicate.get("configuration", ()),
        *predicate.get("custody_reports", ()),
        *build.get("resolvedDependencies", ()),
        *run.get("byproducts", ()),
    ]


def bound_digests(statement: Mapping[str, Any]) -> set[str]:
    """Return every SHA-256 that a statement binds beside its subject's."""
    return {str(entry.get("digest", {}).get("sha256")) for entry in descriptors(statement)}


def _statement(kind: Kind, subject: Listing, predicate: dict[str, Any]) -> dict[str, Any]:
    return {
        "_type": STATEMENT_TYPE,
        "subject": [{"name": LISTING_NAME, "digest": {"sha256": subject.sha256}}],
        "predicateType": kind.predicate_type,
        "predicate": predicate,
    }
