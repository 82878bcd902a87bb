"""Forged evidence: each forgery is refused for its own reason, with a genuine signature where it needs one."""

import base64
import gzip
import json
import os
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from securesystemslib.signer import CryptoSigner, Signer

from forging import bundle_of, edit_bundle, edit_payload, edit_statement, payload_of, sign_payload, statement_of
from genuine_chain import RUN, parquet, trust_entry, write_masking, write_tree
from kfp_custody.components._shared import codes
from kfp_custody.components._shared.digests import list_tree
from kfp_custody.components._shared.documents import MAX_JSON
from kfp_custody.components._shared.errors import EvidenceInvalid
from kfp_custody.components._shared.evidence import (
    ATTESTATION,
    MASKING,
    TRAINING,
    Kind,
    now,
    provenance,
    resource,
    stamp,
    verification_summary,
    write_evidence,
)
from kfp_custody.components._shared.keys import key_hint
from kfp_custody.components._shared.kinds import DECISION, KINDS
from kfp_custody.components._shared.signers.file import generate_key
from kfp_custody.components._shared.signers.loading import load_signer, public_key
from kfp_custody.components._shared.trust import load_trust
from kfp_custody.components._shared.verification import read_evidence

DIGEST = "ab" * 32


@dataclass
class Case:
    """Genuine masking evidence in `directory`, a trusted signer, and others."""

    root: Path
    directory: Path
    pipeline: Signer
    trainer: Signer
    stranger: Signer

    @property
    def bundle(self) -> Path:
        return bundle_of(self.directory)

    def restate(self, edit: Callable[[dict[str, Any]], object]) -> None:
        """Sign a changed statement with the trusted key."""
        edit_statement(self.bundle, self.pipeline, edit)

    def predicate(self, **changes: object) -> None:
        self.restate(lambda statement: statement["predicate"].update(changes))

    def envelope(self, **changes: object) -> None:
        edit_bundle(self.bundle, lambda bundle: bundle["dsseEnvelope"].update(changes))

    def trust(self, **more: object) -> None:
        entries = [
            trust_entry("pipeline", self.pipeline, **more),
            trust_entry("trainer", self.trainer, ["train-model"]),
        ]
        (self.root / "trust.yaml").write_text(yaml.safe_dump({"version": 1, "signers": entries}))

    def read(self, kind: Kind = MASKING, run_id: str = RUN, at: datetime | None = None) -> Any:
        return read_evidence(self.directory, kind, load_trust(self.root / "trust.yaml"), run_id=run_id, at=at)


@pytest.fixture
def case(tmp_path: Path) -> Case:
    for name in ("pipeline", "trainer", "stranger"):
        generate_key(tmp_path / f"{name}.pem")
    signers = [load_signer(f"file:{tmp_path}/{name}.pem") for name in ("pipeline", "trainer", "stranger")]
    dataset = write_tree(tmp_path / "dataset", {"data.parquet": parquet("rows"), "part/more.parquet": parquet("more")})
    made = Case(tmp_path, write_masking(tmp_path / "masking", dataset, signers[0]), *signers)
    made.trust()
    return made


def test_the_genuine_evidence_is_accepted(case: Case) -> None:
    verified = case.read()
    assert (verified.signer, verified.run_id, verified.result) == ("pipeline", RUN, "PASSED")
    assert verified.subject_sha256 == list_tree(case.root / "dataset").sha256
    assert verified.metrics["rows"] == 100_000.0
    assert verified.listing.sha256 == verified.subject_sha256


# --- keys and signers ------------------------------------------------------------------------------------------------


def untrusted_key(case: Case) -> None:
    sign_payload(case.bundle, payload_of(case.bundle), case.stranger)


def trusted_key_of_another_role(case: Case) -> None:
    sign_payload(case.bundle, payload_of(case.bundle), case.trainer)


def evil_signature_under_a_trusted_hint(case: Case) -> None:
    sign_payload(case.bundle, payload_of(case.bundle), case.stranger)
    hint = key_hint(public_key(case.pipeline))
    edit_bundle(case.bundle, lambda bundle: bundle["verificationMaterial"]["publicKey"].update(hint=hint))


def trusted_role_claimed_by_hint(case: Case) -> None:
    """Signed by the trainer's genuine key, under the hint of the signer that may."""
    sign_payload(case.bundle, payload_of(case.bundle), case.trainer)
    hint = key_hint(public_key(case.pipeline))
    edit_bundle(case.bundle, lambda bundle: bundle["verificationMaterial"]["publicKey"].update(hint=hint))


def hint_removed(case: Case) -> None:
    edit_bundle(case.bundle, lambda bundle: bundle["verificationMaterial"]["publicKey"].clear())


def hint_that_is_no_text(case: Case) -> None:
    edit_bundle(case.bundle, lambda bundle: bundle["verificationMaterial"]["publicKey"].update(hint=["x"]))


def keyless(name: str, entries: int) -> Callable[[Case], None]:
    """Return a forgery with a certificate of the forger's own making, for a trust file that knows keys only."""

    def forge(case: Case) -> None:
        key, subject = ec.generate_private_key(ec.SECP256R1()), x509.Name([])
        when = now()
        names = [x509.UniformResourceIdentifier("https://ci.example.com/pipeline")]
        issuer = x509.ObjectIdentifier("1.3.6.1.4.1.57264.1.1")
        certificate = (
            x509.CertificateBuilder(subject, subject, key.public_key(), 7, when, when + timedelta(minutes=10))
            .add_extension(x509.SubjectAlternativeName(names), critical=True)
            .add_extension(x509.UnrecognizedExtension(issuer, b"https://issuer.example.com"), critical=False)
            .sign(key, SHA256())
        )
        entry = {
            "logIndex": "1",
            "logId": {"keyId": "AAAA"},
            "kindVersion": {"kind": "dsse", "version": "0.0.1"},
            "integratedTime": str(int(when.timestamp())),
            "inclusionPromise": {"signedEntryTimestamp": "AAAA"},
            "inclusionProof": {
                "rootHash": "AAAA",
                "treeSize": "2",
                "checkpoint": {"envelope": "x\n2\n"},
                "logIndex": "1",
            },
            "canonicalizedBody": "AAAA",
        }
        raw = base64.b64encode(certificate.public_bytes(Encoding.DER)).decode()
        sign_payload(case.bundle, payload_of(case.bundle), CryptoSigner(key))
        material = {"certificate": {"rawBytes": raw}, "tlogEntries": [entry] * entries}
        edit_bundle(case.bundle, lambda bundle: bundle.update(verificationMaterial=material))

    forge.__name__ = name
    return forge


def key_rotated_out(case: Case) -> None:
    entries = [trust_entry("pipeline", case.stranger)]
    (case.root / "trust.yaml").write_text(yaml.safe_dump({"version": 1, "signers": entries}))


def key_revoked(case: Case) -> None:
    case.trust(revoked=datetime(2020, 1, 1, tzinfo=UTC))


def key_expired(case: Case) -> None:
    case.trust(not_after=datetime(2020, 1, 1, tzinfo=UTC))


def key_not_yet_valid(case: Case) -> None:
    case.trust(not_before=datetime(2999, 1, 1, tzinfo=UTC))


def back_dated_before_the_key(case: Case) -> None:
    case.trust(not_before=datetime(2020, 1, 1, tzinfo=UTC))
    case.predicate(custody_finishedOn="2019-12-31T23:59:59Z")


KEYS = [
    (
        untrusted_key,
        codes.SIGNER_UNKNOWN,
        r"signed by key '[0-9a-f]{64}', which the trust file does not know \(pipeline=",
    ),
    (trusted_key_of_another_role, codes.SIGNER_ROLE, "signer 'trainer' may sign train-model, not mask-pii"),
    (evil_signature_under_a_trusted_hint, codes.SIGNATURE, r"the signature is not by 'pipeline' over this payload"),
    (trusted_role_claimed_by_hint, codes.SIGNATURE, r"the signature is not by 'pipeline' over this payload"),
    (hint_removed, codes.FIELDS, "publicKey lacks hint"),
    (hint_that_is_no_text, codes.SIGNER_UNKNOWN, "which the trust file does not know"),
    (keyless("keyless_for_a_trust_file_of_keys", 1), codes.SIGNER_UNKNOWN, "ci.example.com/pipeline' as"),
    (keyless("keyless_without_a_log", 0), codes.LOG_ENTRY, "exactly one transparency log entry"),
    (keyless("keyless_with_two_log_entries", 2), codes.LOG_ENTRY, "exactly one transparency log entry"),
    (key_rotated_out, codes.SIGNER_UNKNOWN, "which the trust file does not know"),
    (key_revoked, codes.SIGNER_REVOKED, "signer 'pipeline' was revoked at 2020"),
    (key_expired, codes.SIGNER_PERIOD, "signer 'pipeline' is not valid after 2020"),
    (key_not_yet_valid, codes.SIGNER_PERIOD, "signer 'pipeline' is not valid before 2999"),
    (back_dated_before_the_key, codes.SIGNER_PERIOD, r"is not valid before 2020.*judged at 2019-12-31"),
]


# --- the envelope ----------------------------------------------------------------------------------------------------


def unsigned(case: Case) -> None:
    case.envelope(signatures=[])


def signatures_removed(case: Case) -> None:
    edit_bundle(case.bundle, lambda bundle: bundle["dsseEnvelope"].pop("signatures"))


def signatures_no_list(case: Case) -> None:
    case.envelope(signatures={"sig": "x"})


def empty_signature(case: Case) -> None:
    case.envelope(signatures=[{"sig": ""}])


def second_signature(case: Case) -> None:
    edit_bundle(case.bundle, lambda bundle: bundle["dsseEnvelope"]["signatures"].append({"sig": "AAAA", "keyid": "x"}))


def same_signature_twice(case: Case) -> None:
    edit_bundle(
        case.bundle, lambda bundle: bundle["dsseEnvelope"].update(signatures=bundle["dsseEnvelope"]["signatures"] * 2)
    )


def signature_no_object(case: Case) -> None:
    case.envelope(signatures=["AAAA"])


def signature_no_base64(case: Case) -> None:
    case.envelope(signatures=[{"sig": "no base64!"}])


def signature_of_junk(case: Case) -> None:
    case.envelope(signatures=[{"sig": base64.b64encode(b"junk").decode()}])


def unknown_field_in_the_signature(case: Case) -> None:
    edit_bundle(case.bundle, lambda bundle: bundle["dsseEnvelope"]["signatures"][0].update(cert="x"))


def payload_edited(case: Case) -> None:
    edit_payload(case.bundle, b'"PASSED"', b'"FAILED"')


def payload_with_a_space(case: Case) -> None:
    payload = base64.b64encode(payload_of(case.bundle) + b" ").decode()
    case.envelope(payload=payload)


def payload_of_another_evidence(case: Case) -> None:
    other = write_masking(case.root / "other", write_tree(case.root / "twin", {"data": b"evil"}), case.pipeline)
    case.envelope(payload=base64.b64encode(payload_of(bundle_of(other))).decode())


def payload_type(case: Case) -> None:
    case.envelope(payloadType="application/vnd.in-toto+xml")


def payload_no_base64(case: Case) -> None:
    case.envelope(payload="%%%")


def payload_no_text(case: Case) -> None:
    case.envelope(payload=["x"])


def payload_with_spare_bits(case: Case) -> None:
    """Another text for the same bytes, which Python's decoder takes."""
    payload = payload_of(case.bundle)
    sign_payload(case.bundle, payload + b" " * (3 - len(payload) % 3 + 1), case.pipeline)
    text = base64.b64encode(payload_of(case.bundle)).decode()
    assert text.endswith("A==")
    spare = text.removesuffix("A==") + "B=="
    assert base64.b64decode(spare, validate=True) == base64.b64decode(text)
    case.envelope(payload=spare)


def payload_url_base64(case: Case) -> None:
    case.envelope(payload="_-__" + base64.b64encode(payload_of(case.bundle)).decode())


def media_type(case: Case) -> None:
    edit_bundle(
        case.bundle, lambda bundle: bundle.update(mediaType="application/vnd.dev.sigstore.bundle+json;version=0.1")
    )


def unknown_field_in_the_bundle(case: Case) -> None:
    edit_bundle(case.bundle, lambda bundle: bundle.update(note="x"))


def unknown_field_in_the_envelope(case: Case) -> None:
    case.envelope(extra=1)


def certificate_beside_the_key(case: Case) -> None:
    edit_bundle(case.bundle, lambda bundle: bundle["verificationMaterial"].update(certificate={"rawBytes": ""}))


def log_entry_made_up(case: Case) -> None:
    edit_bundle(case.bundle, lambda bundle: bundle["verificationMaterial"].update(tlogEntries=[{"logIndex": "1"}]))


def message_signature_instead(case: Case) -> None:
    edit_bundle(case.bundle, lambda bundle: bundle.update(messageSignature=bundle.pop("dsseEnvelope")))


def truncated(case: Case) -> None:
    case.bundle.write_bytes(case.bundle.read_bytes()[:-40])


def empty(case: Case) -> None:
    case.bundle.write_bytes(b"")


def compressed(case: Case) -> None:
    """Nothing here unpacks anything, so no archive is a bomb."""
    case.bundle.write_bytes(gzip.compress(b"{" + b" " * 50_000_000 + b"}"))


def array(case: Case) -> None:
    case.bundle.write_bytes(b"[" + case.bundle.read_bytes() + b"]")


def deep_payload(case: Case) -> None:
    sign_payload(case.bundle, b'{"a":' * 100 + b"1" + b"}" * 100, case.pipeline)


def deep(case: Case) -> None:
    case.bundle.write_bytes(b"[" * 200_000)


def oversized(case: Case) -> None:
    with case.bundle.open("ab") as file:
        file.truncate(2 * 1024**3)


def duplicate_key_in_the_bundle(case: Case) -> None:
    text = case.bundle.read_text()
    case.bundle.write_text(text.replace('"payloadType":', '"payloadType":"x","payloadType":'))


def bytes_that_are_no_text(case: Case) -> None:
    case.bundle.write_bytes(b"\xff" + case.bundle.read_bytes())


def half_a_surrogate(case: Case) -> None:
    edit_bundle(case.bundle, lambda bundle: bundle.update({"\ud800": 1}))


def replaced_by_a_link(case: Case) -> None:
    shutil.move(case.bundle, case.root / "elsewhere")
    (case.directory / "mask-pii.sigstore.json").symlink_to(case.root / "elsewhere")


def replaced_by_a_pipe(case: Case) -> None:
    bundle = case.bundle
    bundle.unlink()
    os.mkfifo(bundle)


def replaced_by_a_folder(case: Case) -> None:
    bundle = case.bundle
    bundle.unlink()
    bundle.mkdir()


ENVELOPES = [
    (unsigned, codes.SIGNATURE_COUNT, "does not hold exactly one signature"),
    (signatures_removed, codes.FIELDS, "dsseEnvelope lacks signatures"),
    (signatures_no_list, codes.SIGNATURE_COUNT, "does not hold exactly one signature"),
    (empty_signature, codes.SIGNATURE, "the signature is not by 'pipeline'"),
    (second_signature, codes.SIGNATURE_COUNT, "does not hold exactly one signature"),
    (same_signature_twice, codes.SIGNATURE_COUNT, "does not hold exactly one signature"),
    (signature_no_object, codes.FIELDS, "the signature is no object"),
    (signature_no_base64, codes.BASE64, "the signature is no base64"),
    (signature_of_junk, codes.SIGNATURE, "the signature is not by 'pipeline'"),
    (unknown_field_in_the_signature, codes.FIELDS, "the signature has unknown 'cert'"),
    (payload_edited, codes.SIGNATURE, "the signature is not by 'pipeline' over this payload"),
    (payload_with_a_space, codes.SIGNATURE, "the signature is not by 'pipeline' over this payload"),
    (payload_of_another_evidence, codes.SIGNATURE, "the signature is not by 'pipeline' over this payload"),
    (payload_type, codes.BUNDLE, "its payload type is not application/vnd.in-toto"),
    (payload_no_base64, codes.BASE64, "the payload is no base64"),
    (payload_no_text, codes.BASE64, "the payload is no base64"),
    (payload_with_spare_bits, codes.BASE64, "the payload is no base64"),
    (payload_url_base64, codes.BASE64, "the payload is no base64"),
    (media_type, codes.BUNDLE, "its media type is not application/vnd.dev.sigstore.bundle.v0.3"),
    (unknown_field_in_the_bundle, codes.FIELDS, "the bundle has unknown 'note'"),
    (unknown_field_in_the_envelope, codes.FIELDS, "dsseEnvelope has unknown 'extra'"),
    (certificate_beside_the_key, codes.FIELDS, "verificationMaterial has unknown 'publicKey'"),
    (log_entry_made_up, codes.LOG_ENTRIES, "it has transparency log entries"),
    (message_signature_instead, codes.FIELDS, "the bundle lacks dsseEnvelope"),
    (truncated, codes.MALFORMED, "it is no JSON"),
    (empty, codes.EMPTY, "it is empty"),
    (compressed, codes.NOT_UTF8, "it is not UTF-8"),
    (array, codes.FIELDS, "the bundle is no object"),
    (deep_payload, codes.TOO_DEEP, "nested deeper than 64"),
    (deep, codes.TOO_DEEP, "nested deeper than 64"),
    (oversized, codes.TOO_LARGE, f"more than {MAX_JSON} bytes"),
    (duplicate_key_in_the_bundle, codes.NAME_TWICE, "the name 'payloadType' stands in it twice"),
    (bytes_that_are_no_text, codes.NOT_UTF8, "it is not UTF-8"),
    (half_a_surrogate, codes.MALFORMED, "it is no JSON"),
    (replaced_by_a_link, codes.NO_REGULAR_FILE, "it is no regular file"),
    (replaced_by_a_pipe, codes.NO_REGULAR_FILE, "it is no regular file"),
    (replaced_by_a_folder, codes.NO_REGULAR_FILE, "it is no regular file"),
]


# --- the statement, signed genuinely ---------------------------------------------------------------------------------


def raw(old: bytes, new: bytes) -> Callable[[Case], None]:
    """Return a forgery that signs a payload which is no clean JSON."""

    def forge(case: Case) -> None:
        payload = payload_of(case.bundle)
        assert old in payload
        sign_payload(case.bundle, payload.replace(old, new, 1), case.pipeline)

    forge.__name__ = f"raw_{old.decode()}"
    return forge


def stated(name: str, edit: Callable[[dict[str, Any]], object]) -> Callable[[Case], None]:
    """Return a forgery that signs a changed statement."""

    def forge(case: Case) -> None:
        case.restate(edit)

    forge.__name__ = name
    return forge


def told(name: str, **changes: object) -> Callable[[Case], None]:
    """Return a forgery that signs a changed predicate."""
    return stated(name, lambda statement: statement["predicate"].update(changes))


def subject(name: str, **changes: object) -> Callable[[Case], None]:
    return stated(name, lambda statement: statement["subject"][0].update(changes))


STATEMENTS = [
    (raw(b'"result":', b'"result":"FAILED","result":'), codes.NAME_TWICE, "the name 'result' stands in it twice"),
    (raw(b'"subject":', b'"subject":[],"subject":'), codes.NAME_TWICE, "the name 'subject' stands in it twice"),
    (raw(b"100000.0", b"NaN"), codes.NUMBER, "it holds NaN"),
    (raw(b"100000.0", b"1e999"), codes.NUMBER, "a number that does not fit"),
    (raw(b"}", b""), codes.MALFORMED, "it is no JSON"),
    (stated("array", lambda s: s.update(predicate=[])), codes.FIELDS, "the predicate is no object"),
    (
        stated("statement_v0_1", lambda s: s.update(_type="https://in-toto.io/Statement/v0.1")),
        codes.STATEMENT,
        "its type is not",
    ),
    (stated("unknown_top_level_field", lambda s: s.update(note=1)), codes.FIELDS, "the statement has unknown 'note'"),
    (stated("no_predicate_type", lambda s: s.pop("predicateType")), codes.FIELDS, "the statement lacks predicateType"),
    (
        stated("other_predicate", lambda s: s.update(predicateType="https://x/y")),
        codes.KIND,
        "its predicate is 'https://x/y'",
    ),
    (stated("two_subjects", lambda s: s.update(subject=s["subject"] * 2)), codes.SUBJECT, "exactly one subject"),
    (stated("no_subject", lambda s: s.update(subject=[])), codes.SUBJECT, "exactly one subject"),
    (stated("subject_removed", lambda s: s.pop("subject")), codes.FIELDS, "the statement lacks subject"),
    (stated("subject_no_list", lambda s: s.update(subject=s["subject"][0])), codes.SUBJECT, "exactly one subject"),
    (subject("upper_case_digest", digest={"sha256": DIGEST.upper()}), codes.SUBJECT, "no SHA-256 in lower-case hex"),
    (subject("short_digest", digest={"sha256": DIGEST[:-1]}), codes.SUBJECT, "no SHA-256 in lower-case hex"),
    (subject("digest_no_text", digest={"sha256": 7}), codes.SUBJECT, "no SHA-256 in lower-case hex"),
    (subject("md5_only", digest={"md5": "ab" * 16}), codes.FIELDS, "the subject's digest lacks sha256"),
    (subject("md5_beside", digest={"sha256": DIGEST, "md5": "ab" * 16}), codes.FIELDS, "unknown 'md5'"),
    (subject("uri", uri="file:///x"), codes.FIELDS, "the subject has unknown 'uri'"),
    (
        subject("other_subject", digest={"sha256": DIGEST}),
        codes.LINK,
        rf"SHA256SUMS expected sha256:{DIGEST}, found sha256:",
    ),
    (told("unknown_predicate_field", note=1), codes.FIELDS, "the predicate has unknown 'note'"),
    (told("unknown_result", result="OK"), codes.RESULT, "its result is none of"),
    (told("lower_case_result", result="passed"), codes.RESULT, "its result is none of"),
    (told("result_no_text", result=["PASSED"]), codes.RESULT, "its result is none of"),
    (
        told("other_test", custody_test="https://kfp-custody.github.io/spec/check-drift/v1"),
        codes.KIND,
        "not .*/mask-pii/v1",
    ),
    (
        told("other_run", custody_runId="run-of-yesterday"),
        codes.OTHER_RUN,
        f"belongs to run 'run-of-yesterday', this is run '{RUN}'",
    ),
    (told("no_run", custody_runId=""), codes.VALUE, "does not say which run"),
    (told("run_no_text", custody_runId=[RUN]), codes.VALUE, "does not say which run"),
    (told("future", custody_finishedOn=stamp(now() + timedelta(hours=1))), codes.FUTURE, "claims a time in the future"),
    (
        told("local_time", custody_finishedOn="2026-01-01T00:00:00+02:00"),
        codes.TIME,
        "its time is no RFC 3339 time in UTC",
    ),
    (told("no_time", custody_finishedOn=None), codes.TIME, "its time is no RFC 3339 time in UTC"),
    (told("time_no_text", custody_finishedOn=1_700_000_000), codes.TIME, "its time is no RFC 3339 time in UTC"),
    (told("metrics_no_object", custody_metrics=[1, 2]), codes.VALUE, "custody_metrics is no object of numbers"),
    (told("metric_text", custody_metrics={"rows": "many"}), codes.VALUE, "custody_metrics is no object of numbers"),
    (told("metric_boolean", custody_metrics={"rows": True}), codes.VALUE, "custody_metrics is no object of numbers"),
    (told("metric_huge", custody_metrics={"rows": 10**400}), codes.VALUE, "custody_metrics is no object of numbers"),
    (told("coverage_text", custody_coverage={"errors": "0"}), codes.VALUE, "custody_coverage is no object of numbers"),
    (told("configuration_no_list", configuration=7), codes.RESOURCE, "a list of resources is malformed"),
    (told("configuration_object", configuration={"name": "x"}), codes.RESOURCE, "a list of resources is"),
    (told("resource_without_name", configuration=[{"digest": {}}]), codes.FIELDS, "a resource lacks name"),
    (told("resource_unknown_field", configuration=[{"name": "x", "content": "y"}]), codes.FIELDS, "unknown 'content'"),
    (
        told("resource_upper_case", configuration=[resource("x", DIGEST.upper())]),
        codes.RESOURCE,
        "'x'.digest is no SHA-256",
    ),
    (
        told("resource_twice", configuration=[resource("input", DIGEST)] * 2),
        codes.RESOURCE,
        "'input' has no proper name or stands",
    ),
    (told("resource_name_no_text", configuration=[{"name": 7}]), codes.RESOURCE, "'7' has no proper name"),
    (told("resource_md5_no_text", configuration=[{"name": "x", "digest": {"md5": 7}}]), codes.RESOURCE, "is no text"),
    (told("resource_uri_no_text", configuration=[{"name": "x", "uri": {}}]), codes.RESOURCE, "is no text"),
    (told("configuration_empty_text", configuration=""), codes.RESOURCE, "a list of resources is malformed"),
    (told("tests_no_list", failedTests="none"), codes.VALUE, "failedTests is no list of texts"),
    (
        told("time_of_one_digit", custody_finishedOn="2026-1-1T1:1:1Z"),
        codes.TIME,
        "its time is no RFC 3339 time in UTC",
    ),
    (told("time_in_other_digits", custody_finishedOn="２０２６-01-01T00:00:00Z"), codes.TIME, "no RFC 3339 time"),
    (told("leap_year_that_is_none", custody_finishedOn="2026-02-29T00:00:00Z"), codes.TIME, "no RFC 3339 time"),
    (
        told("annotations_no_object", configuration=[{"name": "x", "annotations": [1]}]),
        codes.RESOURCE,
        "annotations is no object",
    ),
]


# --- what lies beside the bundle -------------------------------------------------------------------------------------


def report_edited(case: Case) -> None:
    (case.directory / "report.json").write_text('{"columns":29}')


def report_without_a_digest(case: Case) -> None:
    """Signed genuinely: a statement that names the report and binds nothing."""
    case.predicate(configuration=[resource("report")])


def attachment_added(case: Case) -> None:
    (case.directory / "more.json").write_text("{}")


def second_bundle_added(case: Case) -> None:
    shutil.copy(case.bundle, case.directory / "check-drift.sigstore.json")


def attachment_replaced_by_a_link(case: Case) -> None:
    shutil.move(case.directory / "report.json", case.root / "report.json")
    (case.directory / "report.json").symlink_to(case.root / "report.json")


def folder_added(case: Case) -> None:
    (case.directory / "more").mkdir()


def hostile_name_added(case: Case) -> None:
    with open(os.fsencode(case.directory) + b"/\xff\x1b[2J", "wb"):
        pass


def listing_edited(case: Case) -> None:
    path = case.directory / "SHA256SUMS"
    path.write_bytes(path.read_bytes().replace(b"data.parquet", b"data.parquot"))


def listing_emptied(case: Case) -> None:
    (case.directory / "SHA256SUMS").write_bytes(b"")


def listing_replaced_by_a_link(case: Case) -> None:
    shutil.move(case.directory / "SHA256SUMS", case.root / "SUMS")
    (case.directory / "SHA256SUMS").symlink_to(case.root / "SUMS")


def listing_replaced_by_a_pipe(case: Case) -> None:
    (case.directory / "SHA256SUMS").unlink()
    os.mkfifo(case.directory / "SHA256SUMS")


def listing_that_climbs(case: Case) -> None:
    """A listing with `../` that is signed for genuinely."""
    from kfp_custody.components._shared.digests import sha256_bytes

    data = f"{DIGEST}  ../../etc/passwd\n".encode()
    (case.directory / "SHA256SUMS").write_bytes(data)
    case.restate(lambda statement: statement["subject"][0]["digest"].update(sha256=sha256_bytes(data)))


def bundle_renamed(case: Case) -> None:
    case.bundle.rename(case.directory / "check-drift.sigstore.json")


def directory_emptied(case: Case) -> None:
    for path in case.directory.iterdir():
        path.unlink()


def directory_removed(case: Case) -> None:
    shutil.rmtree(case.directory)


def directory_is_a_file(case: Case) -> None:
    shutil.rmtree(case.directory)
    case.directory.write_bytes(b"x")


BESIDE = [
    (
        report_edited,
        codes.ATTACHMENT,
        r"'report.json' sha256:[0-9a-f]{64} is not bound .*expected sha256:[0-9a-f]{64}",
    ),
    (report_without_a_digest, codes.ATTACHMENT, "'report.json' sha256:[0-9a-f]{64} is not bound"),
    (
        attachment_added,
        codes.ATTACHMENT,
        r"'more.json' sha256:[0-9a-f]{64} is not bound by the statement \(expected no such file\)",
    ),
    (second_bundle_added, codes.ATTACHMENT, "'check-drift.sigstore.json' sha256:[0-9a-f]{64} is not bound"),
    (attachment_replaced_by_a_link, codes.ATTACHMENT, r"'report.json' sha256:\(no regular file\) is not bound"),
    (folder_added, codes.ATTACHMENT, r"'more' sha256:\(no regular file\) is not bound"),
    (hostile_name_added, codes.ATTACHMENT, r"'\\udcff\\x1b\[2J' sha256:[0-9a-f]{64} is not bound"),
    (listing_edited, codes.LINK, "SHA256SUMS expected sha256:[0-9a-f]{64}, found sha256:[0-9a-f]{64}"),
    (listing_emptied, codes.LINK, "SHA256SUMS expected sha256:[0-9a-f]{64}, found sha256:e3b0c442"),
    (listing_replaced_by_a_link, codes.NO_REGULAR_FILE, "masking/SHA256SUMS: it is no regular file"),
    (listing_replaced_by_a_pipe, codes.NO_REGULAR_FILE, "masking/SHA256SUMS: it is no regular file"),
    (listing_that_climbs, codes.LISTING, "masking/SHA256SUMS: line 1 is no"),
    (
        bundle_renamed,
        codes.NO_EVIDENCE,
        "masking/ holds 'SHA256SUMS', 'check-drift.sigstore.json', 'report.json', expected mask-pii",
    ),
    (directory_emptied, codes.NO_EVIDENCE, "masking/ holds nothing, expected mask-pii"),
    (directory_removed, codes.NO_EVIDENCE, "masking/ is no evidence directory"),
    (directory_is_a_file, codes.NO_EVIDENCE, "masking/ is no evidence directory"),
]

FORGERIES = KEYS + ENVELOPES + STATEMENTS + BESIDE


@pytest.mark.parametrize(("forge", "code", "said"), FORGERIES, ids=[forge.__name__ for forge, _, _ in FORGERIES])
def test_forged_evidence_is_refused_for_its_reason(
    case: Case, forge: Callable[[Case], None], code: str, said: str
) -> None:
    forge(case)
    with pytest.raises(EvidenceInvalid, match=r"(was not accepted|speaks of|malformed)") as refusal:
        case.read()
    assert re.search(said, refusal.value.evidence), refusal.value.evidence
    assert refusal.value.code == code
    assert len(str(refusal.value)) < 2000
    str(refusal.value).encode()  # can be written to any report


# --- provenance and decisions ----------------------------------------------------------------------------------------


@pytest.fixture
def trained(case: Case) -> Case:
    listing = list_tree(case.root / "dataset")
    statement = provenance(
        TRAINING,
        listing,
        run_id=RUN,
        started=now(),
        parameters={"seed": 1},
        internal={},
        dependencies=[resource("dataset", DIGEST)],
        byproducts=[resource("metrics", DIGEST, annotations={"auc": 0.9, "flag": True, "note": "text"})],
    )
    case.directory = case.root / "provenance"
    write_evidence(case.directory, statement, case.pipeline, listing)
    return case


def test_metrics_are_the_numbers_of_the_by_product_alone(trained: Case) -> None:
    assert trained.read(TRAINING).metrics == {"auc": 0.9}
    trained.restate(
        lambda s: s["predicate"]["buildDefinition"]["resolvedDependencies"].append(
            {"name": "more", "annotations": {"auc": 1.0}}
        )
    )
    assert trained.read(TRAINING).metrics == {"auc": 0.9}


def test_a_dependency_is_named_once_with_a_digest(trained: Case) -> None:
    verified = trained.read(TRAINING)
    assert verified.dependency("dataset") == DIGEST
    with pytest.raises(EvidenceInvalid, match="does not say which image it is about"):
        verified.dependency("image")


PROVENANCES = [
    (
        lambda s: s["predicate"]["buildDefinition"].pop("externalParameters"),
        codes.FIELDS,
        "buildDefinition lacks externalParameters",
    ),
    (
        lambda s: s["predicate"]["buildDefinition"].update(externalParameters=[1]),
        codes.VALUE,
        "externalParameters is no object",
    ),
    (
        lambda s: s["predicate"]["buildDefinition"].update(internalParameters=7),
        codes.VALUE,
        "internalParameters is no object",
    ),
    (
        lambda s: s["predicate"]["buildDefinition"].update(resolvedDependencies=None),
        codes.RESOURCE,
        "a list of resources is malformed",
    ),
    (lambda s: s["predicate"]["buildDefinition"].update(extra=1), codes.FIELDS, "buildDefinition has unknown 'extra'"),
    (lambda s: s["predicate"]["buildDefinition"].update(buildType="https://x"), codes.KIND, "it is of type"),
    (lambda s: s["predicate"]["runDetails"]["builder"].update(id="https://x"), codes.KIND, "it is of type"),
    (lambda s: s["predicate"]["runDetails"].update(builder="x"), codes.FIELDS, "builder is no object"),
    (
        lambda s: s["predicate"]["runDetails"]["metadata"].pop("invocationId"),
        codes.FIELDS,
        "metadata lacks invocationId",
    ),
    (
        lambda s: s["predicate"]["runDetails"]["metadata"].update(invocationId="old"),
        codes.OTHER_RUN,
        "belongs to run 'old'",
    ),
    (lambda s: s["predicate"]["runDetails"]["metadata"].update(finishedOn="now"), codes.TIME, "no RFC 3339 time"),
    (
        lambda s: s["predicate"]["runDetails"]["byproducts"].append(resource("metrics", DIGEST)),
        codes.RESOURCE,
        "stands in it twice",
    ),
    (lambda s: s["predicate"].update(note=1), codes.FIELDS, "the predicate has unknown 'note'"),
    (
        lambda s: s["predicate"]["buildDefinition"]["resolvedDependencies"].append(resource("image", "registry/x:1.2")),
        codes.RESOURCE,  # a tag may name another image tomorrow
        "'image'.digest is no SHA-256",
    ),
    (
        lambda s: s["predicate"]["runDetails"].update(byproducts={}),
        codes.RESOURCE,
        "resources is malformed: byproducts",
    ),
    (
        lambda s: s["predicate"]["runDetails"]["metadata"].update(invocationId=7),
        codes.VALUE,
        "does not say which run",
    ),
]


@pytest.mark.parametrize(("edit", "code", "said"), PROVENANCES, ids=[said for _, _, said in PROVENANCES])
def test_a_malformed_provenance_is_refused(
    trained: Case, edit: Callable[[dict[str, Any]], object], code: str, said: str
) -> None:
    trained.restate(edit)
    with pytest.raises(EvidenceInvalid, match=said) as refusal:
        trained.read(TRAINING)
    assert refusal.value.code == code


def test_provenance_of_one_build_is_not_that_of_another(trained: Case) -> None:
    """Same predicate, another buildType: an attestation offered as a training provenance and the other way round."""
    (trained.directory / "train-model.sigstore.json").rename(trained.directory / "attest-dataset.sigstore.json")
    with pytest.raises(EvidenceInvalid, match="it is of type '.*/train-model/v1', not .*/attest-dataset/v1"):
        trained.read(ATTESTATION)


@pytest.mark.parametrize("kind", [kind for kind in KINDS.values() if kind is not MASKING], ids=lambda kind: kind.name)
def test_masking_evidence_is_no_other_kind_even_under_its_name(case: Case, kind: Kind) -> None:
    case.bundle.rename(case.directory / f"{kind.name}.sigstore.json")
    with pytest.raises(EvidenceInvalid, match=r"its predicate is|it is of type"):
        case.read(kind)


DECISIONS = [
    (lambda s: s["predicate"].update(verificationResult="OK"), codes.RESULT, "neither PASSED nor FAILED"),
    (lambda s: s["predicate"].pop("resourceUri"), codes.FIELDS, "the predicate lacks resourceUri"),
    (lambda s: s["predicate"].update(verifier={"id": "https://x"}), codes.KIND, "it is of type 'https://x'"),
    (lambda s: s["predicate"].update(verifier="x"), codes.FIELDS, "verifier is no object"),
    (lambda s: s["predicate"].update(custody_runId="old"), codes.OTHER_RUN, "belongs to run 'old'"),
    (lambda s: s["predicate"].update(timeVerified="2999-01-01T00:00:00Z"), codes.FUTURE, "in the future"),
    (lambda s: s["predicate"].update(custody_reports=[7]), codes.FIELDS, "a resource is no object"),
    (lambda s: s["predicate"].update(policy={"uri": "baseline"}), codes.FIELDS, "lacks digest"),
    (
        lambda s: s["predicate"]["policy"]["digest"].update(sha256=DIGEST.upper()),
        codes.VALUE,
        "policy or inputAttestations lack a uri or SHA-256",
    ),
    (lambda s: s["predicate"].update(inputAttestations={}), codes.VALUE, "inputAttestations is no list"),
    (lambda s: s["predicate"].update(inputAttestations=["x"]), codes.FIELDS, "inputAttestations is no object"),
    (lambda s: s["predicate"].update(resourceUri=["models:/x"]), codes.VALUE, "resourceUri is no text"),
    (lambda s: s["predicate"].update(verifiedLevels="X"), codes.VALUE, "verifiedLevels is no list of texts"),
]


@pytest.mark.parametrize(("edit", "code", "said"), DECISIONS, ids=[said for _, _, said in DECISIONS])
def test_a_malformed_decision_is_refused(
    case: Case, edit: Callable[[dict[str, Any]], object], code: str, said: str
) -> None:
    listing = list_tree(case.root / "dataset")
    case.directory = case.root / "decision"
    statement = verification_summary(
        listing,
        passed=True,
        run_id=RUN,
        resource_uri="models:/x",
        policy_uri="baseline",
        policy_sha256=DIGEST,
        inputs={},
        levels=["X"],
    )
    write_evidence(case.directory, statement, case.pipeline, listing)
    assert case.read(DECISION).result == "PASSED"
    case.restate(edit)
    with pytest.raises(EvidenceInvalid, match=said) as refusal:
        case.read(DECISION)
    assert refusal.value.code == code


def test_clocks_may_differ_by_minutes_only(case: Case) -> None:
    written = case.read().time
    assert case.read(at=written - timedelta(minutes=5)).signer == "pipeline"
    with pytest.raises(EvidenceInvalid, match="in the future"):
        case.read(at=written - timedelta(minutes=6))


def test_an_auditor_may_read_any_run(case: Case) -> None:
    trust = load_trust(case.root / "trust.yaml")
    assert read_evidence(case.directory, MASKING, trust, run_id=None).run_id == RUN


def test_every_kind_of_field_in_a_genuine_bundle_is_needed(case: Case) -> None:
    """No field of the envelope or statement can be left out unnoticed."""
    statement = statement_of(case.bundle)
    required = {"result", "configuration", "custody_test", "custody_runId", "custody_finishedOn"}
    for name in required:
        changed = json.loads(json.dumps(statement))
        del changed["predicate"][name]
        sign_payload(case.bundle, json.dumps(changed).encode(), case.pipeline)
        with pytest.raises(EvidenceInvalid, match=f"the predicate lacks {name}"):
            case.read()
