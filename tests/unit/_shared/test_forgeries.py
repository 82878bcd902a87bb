"""Forged evidence: each forgery is refused for its own reason, with a genuine signature where it needs one."""

import base64
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
from securesystemslib.signer import Signer

from forging import bundle_of, edit_bundle, edit_payload, edit_statement, payload_of, sign_payload, statement_of
from genuine_chain import RUN, trust_entry, write_masking, write_tree
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
from kfp_custody.components._shared.signers import generate_key, load_signer, public_key
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
    dataset = write_tree(tmp_path / "dataset", {"data.parquet": b"rows", "part/more.parquet": b"more"})
    made = Case(tmp_path, write_masking(tmp_path / "masking", dataset, signers[0]), *signers)
    made.trust()
    return made


def test_the_genuine_evidence_is_accepted(case: Case) -> None:
    verified = case.read()
    assert (verified.signer, verified.run_id, verified.result) == ("pipeline", RUN, "PASSED")
    assert verified.subject_sha256 == list_tree(case.root / "dataset").sha256
    assert verified.metrics == {"rows": 100_000.0}
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
    (untrusted_key, r"signed by key '[0-9a-f]{64}', which the trust file does not know \(pipeline="),
    (trusted_key_of_another_role, "signer 'trainer' may sign train-model, not mask-pii"),
    (evil_signature_under_a_trusted_hint, r"the signature is not by 'pipeline' over this payload"),
    (trusted_role_claimed_by_hint, r"the signature is not by 'pipeline' over this payload"),
    (hint_removed, "publicKey lacks hint"),
    (hint_that_is_no_text, "which the trust file does not know"),
    (key_rotated_out, "which the trust file does not know"),
    (key_revoked, "signer 'pipeline' was revoked at 2020"),
    (key_expired, "signer 'pipeline' is not valid after 2020"),
    (key_not_yet_valid, "signer 'pipeline' is not valid before 2999"),
    (back_dated_before_the_key, r"is not valid before 2020.*judged at 2019-12-31"),
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


def array(case: Case) -> None:
    case.bundle.write_bytes(b"[" + case.bundle.read_bytes() + b"]")


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
    (unsigned, "does not hold exactly one signature"),
    (signatures_removed, "dsseEnvelope lacks signatures"),
    (signatures_no_list, "does not hold exactly one signature"),
    (empty_signature, "the signature is not by 'pipeline'"),
    (second_signature, "does not hold exactly one signature"),
    (same_signature_twice, "does not hold exactly one signature"),
    (signature_no_object, "the signature is no object"),
    (signature_no_base64, "the signature is no base64"),
    (signature_of_junk, "the signature is not by 'pipeline'"),
    (unknown_field_in_the_signature, "the signature has unknown 'cert'"),
    (payload_edited, "the signature is not by 'pipeline' over this payload"),
    (payload_with_a_space, "the signature is not by 'pipeline' over this payload"),
    (payload_of_another_evidence, "the signature is not by 'pipeline' over this payload"),
    (payload_type, "its payload type is not application/vnd.in-toto"),
    (payload_no_base64, "the payload is no base64"),
    (payload_no_text, "the payload is no base64"),
    (payload_url_base64, "the payload is no base64"),
    (media_type, "its media type is not application/vnd.dev.sigstore.bundle.v0.3"),
    (unknown_field_in_the_bundle, "the bundle has unknown 'note'"),
    (unknown_field_in_the_envelope, "dsseEnvelope has unknown 'extra'"),
    (certificate_beside_the_key, "verificationMaterial has unknown 'certificate'"),
    (log_entry_made_up, "it has transparency log entries"),
    (message_signature_instead, "the bundle lacks dsseEnvelope"),
    (truncated, "it is no JSON"),
    (empty, "it is empty"),
    (array, "the bundle is no object"),
    (deep, "nested deeper than 64"),
    (oversized, f"more than {MAX_JSON} bytes"),
    (duplicate_key_in_the_bundle, "the name 'payloadType' stands in it twice"),
    (bytes_that_are_no_text, "it is not UTF-8"),
    (half_a_surrogate, "it is no JSON"),
    (replaced_by_a_link, "it is no regular file"),
    (replaced_by_a_pipe, "it is no regular file"),
    (replaced_by_a_folder, "it is no regular file"),
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
    (raw(b'"result":', b'"result":"FAILED","result":'), "the name 'result' stands in it twice"),
    (raw(b'"subject":', b'"subject":[],"subject":'), "the name 'subject' stands in it twice"),
    (raw(b"100000.0", b"NaN"), "it holds NaN"),
    (raw(b"100000.0", b"1e999"), "a number that does not fit"),
    (raw(b"}", b""), "it is no JSON"),
    (stated("array", lambda s: s.update(predicate=[])), "the predicate is no object"),
    (stated("statement_v0_1", lambda s: s.update(_type="https://in-toto.io/Statement/v0.1")), "its type is not"),
    (stated("unknown_top_level_field", lambda s: s.update(note=1)), "the statement has unknown 'note'"),
    (stated("no_predicate_type", lambda s: s.pop("predicateType")), "the statement lacks predicateType"),
    (stated("other_predicate", lambda s: s.update(predicateType="https://x/y")), "its predicate is 'https://x/y'"),
    (stated("two_subjects", lambda s: s.update(subject=s["subject"] * 2)), "exactly one subject"),
    (stated("no_subject", lambda s: s.update(subject=[])), "exactly one subject"),
    (stated("subject_removed", lambda s: s.pop("subject")), "the statement lacks subject"),
    (stated("subject_no_list", lambda s: s.update(subject=s["subject"][0])), "exactly one subject"),
    (subject("upper_case_digest", digest={"sha256": DIGEST.upper()}), "no SHA-256 in lower-case hex"),
    (subject("short_digest", digest={"sha256": DIGEST[:-1]}), "no SHA-256 in lower-case hex"),
    (subject("digest_no_text", digest={"sha256": 7}), "no SHA-256 in lower-case hex"),
    (subject("md5_only", digest={"md5": "ab" * 16}), "the subject's digest lacks sha256"),
    (subject("md5_beside", digest={"sha256": DIGEST, "md5": "ab" * 16}), "unknown 'md5'"),
    (subject("uri", uri="file:///x"), "the subject has unknown 'uri'"),
    (subject("other_subject", digest={"sha256": DIGEST}), rf"SHA256SUMS expected sha256:{DIGEST}, found sha256:"),
    (told("unknown_predicate_field", note=1), "the predicate has unknown 'note'"),
    (told("unknown_result", result="OK"), "its result is none of"),
    (told("lower_case_result", result="passed"), "its result is none of"),
    (told("result_no_text", result=["PASSED"]), "its result is none of"),
    (told("other_test", custody_test="https://kfp-custody.github.io/spec/check-drift/v1"), "not .*/mask-pii/v1"),
    (told("other_run", custody_runId="run-of-yesterday"), f"belongs to run 'run-of-yesterday', this is run '{RUN}'"),
    (told("no_run", custody_runId=""), f"belongs to run None, this is run '{RUN}'"),
    (told("run_no_text", custody_runId=[RUN]), f"belongs to run None, this is run '{RUN}'"),
    (told("future", custody_finishedOn=stamp(now() + timedelta(hours=1))), "claims a time in the future"),
    (told("local_time", custody_finishedOn="2026-01-01T00:00:00+02:00"), "its time is no RFC 3339 time in UTC"),
    (told("no_time", custody_finishedOn=None), "its time is no RFC 3339 time in UTC"),
    (told("time_no_text", custody_finishedOn=1_700_000_000), "its time is no RFC 3339 time in UTC"),
    (told("metrics_no_object", custody_metrics=[1, 2]), "custody_metrics is no object of numbers"),
    (told("metric_text", custody_metrics={"rows": "many"}), "custody_metrics is no object of numbers"),
    (told("metric_boolean", custody_metrics={"rows": True}), "custody_metrics is no object of numbers"),
    (told("metric_huge", custody_metrics={"rows": 10**400}), "custody_metrics is no object of numbers"),
    (told("coverage_text", custody_coverage={"errors": "0"}), "custody_coverage is no object of numbers"),
    (told("configuration_no_list", configuration=7), "a list of resources is malformed"),
    (told("configuration_object", configuration={"name": "x"}), "a resource is no object"),
    (told("resource_without_name", configuration=[{"digest": {}}]), "a resource lacks name"),
    (told("resource_unknown_field", configuration=[{"name": "x", "content": "y"}]), "unknown 'content'"),
    (told("resource_upper_case", configuration=[resource("x", DIGEST.upper())]), "'x'.digest is no SHA-256"),
    (told("resource_twice", configuration=[resource("input", DIGEST)] * 2), "'input' has no proper name or stands"),
    (told("resource_name_no_text", configuration=[{"name": 7}]), "'7' has no proper name"),
    (told("annotations_no_object", configuration=[{"name": "x", "annotations": [1]}]), "annotations is no object"),
]


# --- what lies beside the bundle -------------------------------------------------------------------------------------


def report_edited(case: Case) -> None:
    (case.directory / "report.json").write_text('{"columns":29}')


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
    (report_edited, r"'report.json' sha256:[0-9a-f]{64} is not bound .*expected report sha256:[0-9a-f]{64}"),
    (attachment_added, r"'more.json' sha256:[0-9a-f]{64} is not bound by the statement \(expected no such file\)"),
    (second_bundle_added, "'check-drift.sigstore.json' sha256:[0-9a-f]{64} is not bound"),
    (attachment_replaced_by_a_link, r"'report.json' sha256:\(no regular file\) is not bound"),
    (folder_added, r"'more' sha256:\(no regular file\) is not bound"),
    (hostile_name_added, r"'\\udcff\\x1b\[2J' sha256:[0-9a-f]{64} is not bound"),
    (listing_edited, "SHA256SUMS expected sha256:[0-9a-f]{64}, found sha256:[0-9a-f]{64}"),
    (listing_emptied, "SHA256SUMS expected sha256:[0-9a-f]{64}, found sha256:e3b0c442"),
    (listing_replaced_by_a_link, "masking/SHA256SUMS: it is no regular file"),
    (listing_replaced_by_a_pipe, "masking/SHA256SUMS: it is no regular file"),
    (listing_that_climbs, "masking/SHA256SUMS: line 1 is no"),
    (bundle_renamed, "masking/ holds 'SHA256SUMS', 'check-drift.sigstore.json', 'report.json', expected mask-pii"),
    (directory_emptied, "masking/ holds nothing, expected mask-pii"),
    (directory_removed, "masking/ is no evidence directory"),
    (directory_is_a_file, "masking/ is no evidence directory"),
]

FORGERIES = KEYS + ENVELOPES + STATEMENTS + BESIDE


@pytest.mark.parametrize(("forge", "said"), FORGERIES, ids=[forge.__name__ for forge, _ in FORGERIES])
def test_forged_evidence_is_refused_for_its_reason(case: Case, forge: Callable[[Case], None], said: str) -> None:
    forge(case)
    with pytest.raises(EvidenceInvalid, match=r"(was not accepted|speaks of|malformed)") as refusal:
        case.read()
    assert re.search(said, refusal.value.evidence), refusal.value.evidence
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
    (lambda s: s["predicate"]["buildDefinition"].pop("externalParameters"), "buildDefinition lacks externalParameters"),
    (lambda s: s["predicate"]["buildDefinition"].update(externalParameters=[1]), "externalParameters is no object"),
    (lambda s: s["predicate"]["buildDefinition"].update(internalParameters=7), "internalParameters is no object"),
    (lambda s: s["predicate"]["buildDefinition"].update(resolvedDependencies=None), "a list of resources is malformed"),
    (lambda s: s["predicate"]["buildDefinition"].update(extra=1), "buildDefinition has unknown 'extra'"),
    (lambda s: s["predicate"]["buildDefinition"].update(buildType="https://x"), "it is of type"),
    (lambda s: s["predicate"]["runDetails"]["builder"].update(id="https://x"), "it is of type"),
    (lambda s: s["predicate"]["runDetails"].update(builder="x"), "builder is no object"),
    (lambda s: s["predicate"]["runDetails"]["metadata"].pop("invocationId"), "metadata lacks invocationId"),
    (lambda s: s["predicate"]["runDetails"]["metadata"].update(invocationId="old"), "belongs to run 'old'"),
    (lambda s: s["predicate"]["runDetails"]["metadata"].update(finishedOn="now"), "no RFC 3339 time"),
    (lambda s: s["predicate"]["runDetails"]["byproducts"].append(resource("metrics", DIGEST)), "stands in it twice"),
    (lambda s: s["predicate"].update(note=1), "the predicate has unknown 'note'"),
]


@pytest.mark.parametrize(("edit", "said"), PROVENANCES, ids=[said for _, said in PROVENANCES])
def test_a_malformed_provenance_is_refused(trained: Case, edit: Callable[[dict[str, Any]], object], said: str) -> None:
    trained.restate(edit)
    with pytest.raises(EvidenceInvalid, match=said):
        trained.read(TRAINING)


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
    (lambda s: s["predicate"].update(verificationResult="OK"), "neither PASSED nor FAILED"),
    (lambda s: s["predicate"].pop("resourceUri"), "the predicate lacks resourceUri"),
    (lambda s: s["predicate"].update(verifier={"id": "https://x"}), "it is of type 'https://x'"),
    (lambda s: s["predicate"].update(verifier="x"), "verifier is no object"),
    (lambda s: s["predicate"].update(custody_runId="old"), "belongs to run 'old'"),
    (lambda s: s["predicate"].update(timeVerified="2999-01-01T00:00:00Z"), "in the future"),
    (lambda s: s["predicate"].update(custody_reports=[7]), "a resource is no object"),
]


@pytest.mark.parametrize(("edit", "said"), DECISIONS, ids=[said for _, said in DECISIONS])
def test_a_malformed_decision_is_refused(case: Case, edit: Callable[[dict[str, Any]], object], said: str) -> None:
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
    with pytest.raises(EvidenceInvalid, match=said):
        case.read(DECISION)


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
