"""Keyless evidence, made through a private Sigstore with stock clients, and verified when it is gone."""

import base64
import json
import logging
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID

from forging import bundle_of, edit_bundle, payload_of
from genuine_chain import RUN, trust_entry, write_masking, write_tree
from kfp_custody.components._shared import codes
from kfp_custody.components._shared.errors import EvidenceInvalid, Misconfigured, ServiceUnreachable
from kfp_custody.components._shared.evidence import MASKING, PAYLOAD_TYPE
from kfp_custody.components._shared.kinds import KINDS
from kfp_custody.components._shared.model_signature import sign_model_tree, verify_model_signature
from kfp_custody.components._shared.signers import keyless
from kfp_custody.components._shared.signers.loading import load_signer
from kfp_custody.components._shared.trust import Trust, load_trust
from kfp_custody.components._shared.verification import Verified, read_evidence
from services.private_sigstore import ISSUER, TRAINING, PrivateSigstore, b64

pytestmark = pytest.mark.services
OTHER = "https://kubernetes.io/namespaces/ml/serviceaccounts/notebook"
FILES = {"model.ubj": b"weights", "sub/ü.txt": b"u", ".gitignore": b"*.pyc\n", "empty": b""}


@pytest.fixture
def sigstore(tmp_path: Path) -> Iterator[PrivateSigstore]:
    with PrivateSigstore(tmp_path / "sigstore") as instance:
        yield instance


@pytest.fixture
def token_file(tmp_path: Path, sigstore: PrivateSigstore, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "token"
    path.write_text(sigstore.token() + "\n")
    path.chmod(0o600)
    monkeypatch.setenv("CUSTODY_OIDC_TOKEN_FILE", str(path))
    return path


@pytest.fixture
def signer(sigstore: PrivateSigstore, token_file: Path) -> Any:
    return load_signer(f"sigstore:?config={sigstore.config}")


def trust_in(folder: Path, root: Path | None, **changes: Any) -> Trust:
    """A trust file with the training identity, or one that differs in something."""
    entry = {"name": "training", "issuer": ISSUER, "identity": TRAINING, "may_sign": list(KINDS)} | changes
    document: dict[str, Any] = {"version": 1, "signers": [entry]}
    if root is not None:
        document["sigstore_root"] = os.path.relpath(root, folder)
    (folder / "trust.yaml").write_text(yaml.safe_dump(document))
    return load_trust(folder / "trust.yaml")


@pytest.fixture
def trust(tmp_path: Path, sigstore: PrivateSigstore) -> Trust:
    return trust_in(tmp_path, sigstore.config)


@pytest.fixture
def evidence(tmp_path: Path, dataset: Path, signer: Any) -> Path:
    return write_masking(tmp_path / "evidence", dataset, signer)


def read(evidence: Path, trust: Trust, at: datetime | None = None) -> Verified:
    return read_evidence(evidence, MASKING, trust, run_id=RUN, at=at)


def refused(evidence: Path, trust: Trust, code: str, said: str) -> None:
    with pytest.raises(EvidenceInvalid) as refusal:
        read(evidence, trust)
    assert refusal.value.code == code, refusal.value
    assert re.search(said, refusal.value.evidence), refusal.value.evidence


def test_keyless_evidence_is_accepted_also_when_the_servers_are_gone(
    sigstore: PrivateSigstore, evidence: Path, trust: Trust
) -> None:
    before = read(evidence, trust)
    sigstore.__exit__()
    verified = read(evidence, trust)
    entry = json.loads(bundle_of(evidence).read_bytes())["verificationMaterial"]["tlogEntries"][0]
    assert (verified.signer, verified) == ("training", before)
    assert verified.time == datetime.fromtimestamp(int(entry["integratedTime"]), UTC)


def test_the_trusted_root_alone_is_enough(tmp_path: Path, sigstore: PrivateSigstore, evidence: Path) -> None:
    root = json.loads(sigstore.config.read_bytes())["trustedRoot"]
    (tmp_path / "trusted_root.json").write_text(json.dumps(root))
    assert read(evidence, trust_in(tmp_path, tmp_path / "trusted_root.json")).signer == "training"


def test_sigstore_python_verifies_our_bundle(sigstore: PrivateSigstore, evidence: Path) -> None:
    from sigstore.models import Bundle, ClientTrustConfig
    from sigstore.verify import Verifier
    from sigstore.verify.policy import Identity

    verifier = Verifier(trusted_root=ClientTrustConfig.from_json(sigstore.config.read_text()).trusted_root)
    bundle = Bundle.from_json(bundle_of(evidence).read_bytes())
    found = verifier.verify_dsse(bundle, Identity(identity=TRAINING, issuer=ISSUER))
    assert found == (PAYLOAD_TYPE, payload_of(bundle_of(evidence)))


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_tree(tmp_path / "signed" / "model", FILES)


def stock(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).parent / "model_signing"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def test_the_stock_tool_verifies_our_keyless_model_signature(
    sigstore: PrivateSigstore, signer: Any, trust: Trust, model: Path
) -> None:
    signature = model.parent / "model.sig"
    sign_model_tree(model, signature, signer)
    verified = verify_model_signature(model, signature, trust)
    assert (verified.signer, verified.time is not None) == ("training", True)
    sigstore.__exit__()

    def verify() -> subprocess.CompletedProcess[str]:
        return stock(
            *("verify", "sigstore", "--trust_config", str(sigstore.config), "--signature", str(signature)),
            *("--identity", TRAINING, "--identity_provider", ISSUER, "--no-ignore-git-paths", str(model)),
        )

    assert verify().returncode == 0, verify().stderr
    (model / "model.ubj").write_bytes(b"weightz")
    assert verify().returncode != 0
    with pytest.raises(EvidenceInvalid, match="changed 'model.ubj'"):
        verify_model_signature(model, signature, trust)


def test_a_model_that_the_stock_tool_signed_without_a_key_is_accepted(
    sigstore: PrivateSigstore, trust: Trust, model: Path
) -> None:
    signature = model.parent / "model.sig"
    done = stock(
        *("sign", "sigstore", "--trust_config", str(sigstore.config), "--signature", str(signature)),
        *("--identity_token", sigstore.token(), "--no-ignore-git-paths", str(model)),
    )
    assert done.returncode == 0, done.stderr
    assert verify_model_signature(model, signature, trust).signer == "training"
    write_tree(model, {".github/evil": b"x"})
    with pytest.raises(EvidenceInvalid, match="unexpected '.github/evil'"):
        verify_model_signature(model, signature, trust)


@pytest.mark.parametrize(
    ("changes", "code", "said"),
    [
        ({"identity": OTHER}, codes.SIGNER_UNKNOWN, "serviceaccounts/training' as 'https://kubernetes.default.svc'"),
        ({"identity": TRAINING + "/"}, codes.SIGNER_UNKNOWN, "the trust file does not know"),
        ({"identity": TRAINING.upper()}, codes.SIGNER_UNKNOWN, "the trust file does not know"),
        ({"identity": ".*"}, codes.SIGNER_UNKNOWN, "the trust file does not know"),
        ({"issuer": "https://oauth2.sigstore.dev/auth"}, codes.SIGNER_UNKNOWN, "the trust file does not know"),
        ({"may_sign": ["train-model"]}, codes.SIGNER_ROLE, "may sign train-model, not mask-pii"),
        ({"revoked": datetime(2020, 1, 1, tzinfo=UTC)}, codes.SIGNER_REVOKED, "was revoked at 2020"),
        ({"not_after": datetime(2020, 1, 1, tzinfo=UTC)}, codes.SIGNER_PERIOD, "is not valid after 2020"),
        ({"not_before": datetime(2999, 1, 1, tzinfo=UTC)}, codes.SIGNER_PERIOD, "is not valid before 2999"),
    ],
)
def test_only_the_identity_of_the_trust_file_counts(
    tmp_path: Path, sigstore: PrivateSigstore, evidence: Path, changes: dict[str, Any], code: str, said: str
) -> None:
    refused(evidence, trust_in(tmp_path, sigstore.config, **changes), code, said)


def test_another_root_does_not_verify_it(tmp_path: Path, evidence: Path) -> None:
    other = PrivateSigstore(tmp_path / "other")
    refused(evidence, trust_in(tmp_path, other.config), codes.KEYLESS, "CertValidationError")
    refused(evidence, trust_in(tmp_path, None), codes.KEYLESS, "Sigstore does not verify it")  # the public one's


def part_of_another(part: str) -> Callable[[Path, PrivateSigstore], None]:
    """Take one part of the root from another instance."""

    def spoil(path: Path, other: PrivateSigstore) -> None:
        config = json.loads(path.read_bytes())
        config["trustedRoot"][part] = other.trust_config()["trustedRoot"][part]
        path.write_text(json.dumps(config))

    return spoil


@pytest.mark.parametrize("part", ["certificateAuthorities", "tlogs", "ctlogs"])
def test_every_part_of_the_root_counts(tmp_path: Path, sigstore: PrivateSigstore, evidence: Path, part: str) -> None:
    part_of_another(part)(sigstore.config, PrivateSigstore(tmp_path / "other"))
    refused(evidence, trust_in(tmp_path, sigstore.config), codes.KEYLESS, "Sigstore does not verify it")


@pytest.mark.parametrize("part", ["certificateAuthorities", "tlogs", "ctlogs"])
@pytest.mark.parametrize("days", [(-9, -8), (1, 9)])
def test_a_key_of_the_root_counts_only_while_it_is_valid(
    tmp_path: Path, sigstore: PrivateSigstore, evidence: Path, part: str, days: tuple[int, int]
) -> None:
    """The library itself accepts keys that had expired when the signature was made."""
    config = json.loads(sigstore.config.read_bytes())
    start, end = ((datetime.now(UTC) + timedelta(days=day)).strftime("%Y-%m-%dT%H:%M:%S.000Z") for day in days)
    for entry in config["trustedRoot"][part]:
        entry.get("publicKey", entry)["validFor"] = {"start": start, "end": end}
    sigstore.config.write_text(json.dumps(config))
    refused(evidence, trust_in(tmp_path, sigstore.config), codes.KEYLESS, "Sigstore does not verify it")


def entry_of(bundle: dict[str, Any]) -> dict[str, Any]:
    entry: dict[str, Any] = bundle["verificationMaterial"]["tlogEntries"][0]
    return entry


def shifted(seconds: int) -> Callable[[dict[str, Any]], object]:
    def shift(bundle: dict[str, Any]) -> None:
        entry = entry_of(bundle)
        entry["integratedTime"] = str(int(entry["integratedTime"]) + seconds)

    return shift


def other_body(bundle: dict[str, Any]) -> None:
    body = json.loads(base64.b64decode(entry_of(bundle)["canonicalizedBody"]))
    body["spec"]["payloadHash"]["value"] = "ab" * 32
    entry_of(bundle)["canonicalizedBody"] = b64(json.dumps(body).encode())


FORGERIES: dict[str, tuple[Callable[[dict[str, Any]], object], str, str]] = {
    "log entry dropped": (
        lambda b: b["verificationMaterial"]["tlogEntries"].clear(),
        codes.LOG_ENTRY,
        "exactly one transparency log entry",
    ),
    "log entries dropped": (
        lambda b: b["verificationMaterial"].pop("tlogEntries"),
        codes.FIELDS,
        "verificationMaterial lacks tlogEntries",
    ),
    "log entry twice": (
        lambda b: b["verificationMaterial"]["tlogEntries"].append(entry_of(b)),
        codes.LOG_ENTRY,
        "exactly one transparency log entry",
    ),
    "inclusion promise dropped": (
        lambda b: entry_of(b).pop("inclusionPromise"),
        codes.FIELDS,
        "the log entry lacks inclusionPromise",
    ),
    "inclusion promise of nothing": (
        lambda b: entry_of(b)["inclusionPromise"].update(signedEntryTimestamp=""),
        codes.KEYLESS,
        "VerificationError|InvalidBundle",
    ),
    "inclusion proof dropped": (lambda b: entry_of(b).pop("inclusionProof"), codes.FIELDS, "lacks inclusionProof"),
    "checkpoint dropped": (
        lambda b: entry_of(b)["inclusionProof"].pop("checkpoint"),
        codes.FIELDS,
        "inclusionProof lacks checkpoint",
    ),
    "hashes of the proof dropped": (
        lambda b: entry_of(b)["inclusionProof"].update(hashes=[]),
        codes.KEYLESS,
        "inclusion proof has wrong size",
    ),
    "another root hash": (
        lambda b: entry_of(b)["inclusionProof"].update(rootHash=b64(bytes(32))),
        codes.KEYLESS,
        "invalid root hash",
    ),
    "proof for a larger log": (
        lambda b: entry_of(b)["inclusionProof"].update(treeSize="3"),
        codes.LOG_ENTRY,
        "another size than its checkpoint",
    ),
    "proof without a list of hashes": (
        lambda b: entry_of(b)["inclusionProof"].update(hashes=5),
        codes.LOG_ENTRY,
        "no list of hashes",
    ),
    "base64 with something behind it": (
        lambda b: entry_of(b)["inclusionProof"].update(rootHash=entry_of(b)["inclusionProof"]["rootHash"] + "A"),
        codes.BASE64,
        "a value in the log entry is no base64",
    ),
    "log time one second later": (shifted(1), codes.KEYLESS, "inclusion promise"),
    "log time one hour earlier": (shifted(-3600), codes.KEYLESS, "Sigstore does not verify it"),
    "log time a day later": (shifted(86400), codes.KEYLESS, "Sigstore does not verify it"),
    "log time negative": (lambda b: entry_of(b).update(integratedTime="-1"), codes.LOG_ENTRY, "no time in seconds"),
    "log time a number": (lambda b: entry_of(b).update(integratedTime=1), codes.LOG_ENTRY, "no time in seconds"),
    "log time too far": (lambda b: entry_of(b).update(integratedTime="9" * 12), codes.LOG_ENTRY, "no time in seconds"),
    "log time zero": (lambda b: entry_of(b).update(integratedTime="0"), codes.KEYLESS, "Sigstore does not verify it"),
    "log entry with another payload hash": (other_body, codes.KEYLESS, "inclusion proof"),
    "log entry of another kind": (
        lambda b: entry_of(b).update(kindVersion={"kind": "hashedrekord", "version": "0.0.1"}),
        codes.LOG_ENTRY,
        "not of kind dsse",
    ),
    "log entry with an unknown field": (lambda b: entry_of(b).update(note=1), codes.FIELDS, "unknown 'note'"),
    "log entry that is text": (
        lambda b: b["verificationMaterial"].update(tlogEntries=["x"]),
        codes.FIELDS,
        "the log entry is no object",
    ),
    "certificate that is none": (
        lambda b: b["verificationMaterial"]["certificate"].update(rawBytes=b64(b"x")),
        codes.FIELDS,
        "names no issuer and identity",
    ),
    "certificate that is no base64": (
        lambda b: b["verificationMaterial"]["certificate"].update(rawBytes="!"),
        codes.BASE64,
        "the certificate is no base64",
    ),
    "a key hint beside the certificate": (
        lambda b: b["verificationMaterial"].update(publicKey={"hint": "ab"}),
        codes.FIELDS,
        "unknown 'publicKey'",
    ),
    "a certificate chain instead": (
        lambda b: b["verificationMaterial"].update(
            x509CertificateChain={"certificates": [b["verificationMaterial"].pop("certificate")]}
        ),
        codes.FIELDS,
        "verificationMaterial lacks publicKey",
    ),
    "the identity as a key hint": (
        lambda b: b.update(verificationMaterial={"publicKey": {"hint": f"{TRAINING} of {ISSUER}"}}),
        codes.SIGNER_UNKNOWN,
        "the trust file does not know",
    ),
    "two time stamps": (
        lambda b: b["verificationMaterial"].update(timestampVerificationData={"rfc3161Timestamps": [{}, {}]}),
        codes.LOG_ENTRY,
        "no list of at most one",
    ),
    "time stamps that are no list": (
        lambda b: b["verificationMaterial"].update(timestampVerificationData={"rfc3161Timestamps": 5}),
        codes.LOG_ENTRY,
        "no list of at most one",
    ),
    "a time stamp of nobody": (
        lambda b: b["verificationMaterial"].update(
            timestampVerificationData={"rfc3161Timestamps": [{"signedTimestamp": b64(b"x")}]}
        ),
        codes.KEYLESS,
        "Sigstore does not verify it",
    ),
    "second signature": (
        lambda b: b["dsseEnvelope"]["signatures"].append({"sig": "AAAA"}),
        codes.SIGNATURE_COUNT,
        "exactly one signature",
    ),
    "signature of nothing": (
        lambda b: b["dsseEnvelope"]["signatures"][0].update(sig=""),
        codes.KEYLESS,
        "Sigstore does not verify it",
    ),
    "payload changed": (
        lambda b: b["dsseEnvelope"].update(payload=b64(base64.b64decode(b["dsseEnvelope"]["payload"]) + b" ")),
        codes.KEYLESS,
        "DSSE: invalid signature",
    ),
    "payload type changed": (
        lambda b: b["dsseEnvelope"].update(payloadType="text/plain"),
        codes.BUNDLE,
        "payload type",
    ),
}


@pytest.mark.parametrize("forgery", FORGERIES)
def test_a_forged_keyless_bundle_is_refused(evidence: Path, trust: Trust, forgery: str) -> None:
    edit, code, said = FORGERIES[forgery]
    edit_bundle(bundle_of(evidence), edit)
    refused(evidence, trust, code, said)


def test_names_that_stand_twice_are_refused(evidence: Path, trust: Trust) -> None:
    bundle = bundle_of(evidence)
    bundle.write_bytes(
        bundle.read_bytes().replace(b'{"canonicalizedBody"', b'{"integratedTime":"1","canonicalizedBody"')
    )
    refused(evidence, trust, codes.NAME_TWICE, "the name 'integratedTime' stands in it twice")


def test_the_log_entry_of_another_statement_is_refused(
    tmp_path: Path, dataset: Path, signer: Any, evidence: Path, trust: Trust
) -> None:
    other = write_masking(tmp_path / "second", dataset, signer)
    entry = entry_of(json.loads(bundle_of(other).read_bytes()))
    edit_bundle(bundle_of(evidence), lambda b: b["verificationMaterial"].update(tlogEntries=[entry]))
    refused(evidence, trust, codes.KEYLESS, "Sigstore does not verify it")


def test_the_certificate_of_another_identity_is_refused(
    tmp_path: Path,
    sigstore: PrivateSigstore,
    dataset: Path,
    signer: Any,
    token_file: Path,
    evidence: Path,
    trust: Trust,
) -> None:
    token_file.write_text(sigstore.token(OTHER))
    other = write_masking(tmp_path / "second", dataset, signer)
    refused(other, trust, codes.SIGNER_UNKNOWN, "serviceaccounts/notebook'")
    material = json.loads(bundle_of(evidence).read_bytes())["verificationMaterial"]
    edit_bundle(bundle_of(other), lambda b: b["verificationMaterial"].update(certificate=material["certificate"]))
    refused(other, trust, codes.KEYLESS, "DSSE: invalid signature")


def made_by_hand(sigstore: PrivateSigstore, bundle: Path, **how: Any) -> None:
    """Sign a bundle's payload again under a certificate that the authority would not make, genuinely logged."""
    from cryptography.hazmat.primitives.serialization import Encoding

    from kfp_custody.components._shared.evidence import pae
    from services.private_sigstore import ECDSA, canonical, hashlib

    key, payload = ec.generate_private_key(ec.SECP256R1()), payload_of(bundle)
    leaf, signature = sigstore.leaf(key.public_key(), TRAINING, ISSUER, **how), key.sign(pae(payload), ECDSA)
    signed = {"signature": b64(signature), "verifier": b64(leaf.public_bytes(Encoding.PEM))}
    digest = {"algorithm": "sha256", "value": hashlib.sha256(payload).hexdigest()}
    spec = {"envelopeHash": digest, "payloadHash": digest, "signatures": [signed]}
    answer = sigstore.entry(canonical({"apiVersion": "0.0.1", "kind": "dsse", "spec": spec}))

    from sigstore.models import TransparencyLogEntry

    entry = json.loads(TransparencyLogEntry._from_v1_response(answer)._inner.to_json())

    def replace(document: dict[str, Any]) -> None:
        document["verificationMaterial"]["certificate"]["rawBytes"] = b64(leaf.public_bytes(Encoding.DER))
        document["verificationMaterial"]["tlogEntries"] = [entry]
        document["dsseEnvelope"]["signatures"] = [{"sig": b64(signature)}]

    edit_bundle(bundle, replace)


def test_a_certificate_for_another_use_is_refused(sigstore: PrivateSigstore, evidence: Path, trust: Trust) -> None:
    made_by_hand(sigstore, bundle_of(evidence))
    assert read(evidence, trust).signer == "training"
    made_by_hand(sigstore, bundle_of(evidence), eku=ExtendedKeyUsageOID.EMAIL_PROTECTION)
    refused(evidence, trust, codes.KEYLESS, "code signing")


@pytest.mark.parametrize("minutes", [11, -11])
def test_a_certificate_that_was_not_valid_when_it_was_logged_is_refused(
    tmp_path: Path, sigstore: PrivateSigstore, dataset: Path, signer: Any, trust: Trust, minutes: int
) -> None:
    sigstore.delay = timedelta(minutes=minutes)
    evidence = write_masking(tmp_path / "evidence", dataset, signer)
    refused(evidence, trust, codes.KEYLESS, "CertValidationError")


@pytest.mark.parametrize(("minutes", "accepted"), [(4, True), (6, False), (8, False)])
def test_the_claimed_time_must_be_the_log_s(
    tmp_path: Path, sigstore: PrivateSigstore, dataset: Path, signer: Any, trust: Trust, minutes: int, accepted: bool
) -> None:
    sigstore.delay = timedelta(minutes=minutes)
    evidence = write_masking(tmp_path / "evidence", dataset, signer)
    if accepted:
        assert read(evidence, trust).time > datetime.now(UTC) + timedelta(minutes=3)
    else:
        refused(evidence, trust, codes.LOG_TIME, "it claims .*, the transparency log recorded it at")


def test_evidence_is_judged_at_the_time_of_the_log(evidence: Path, trust: Trust) -> None:
    with pytest.raises(EvidenceInvalid) as refusal:
        read(evidence, trust, at=datetime.now(UTC) - timedelta(days=1))
    assert refusal.value.code == codes.FUTURE
    assert read(evidence, trust, at=datetime.now(UTC) + timedelta(days=3650)).signer == "training"


def test_keys_and_identities_live_in_one_trust_file(
    tmp_path: Path, sigstore: PrivateSigstore, dataset: Path, signer: Any, make_signer: Callable[[str], Any]
) -> None:
    key = make_signer("key")
    identity = {"name": "keyless", "issuer": ISSUER, "identity": TRAINING, "may_sign": ["mask-pii"]}
    document = {
        "version": 1,
        "sigstore_root": "sigstore/clienttrustconfig.json",
        "signers": [trust_entry("key", key), identity],
    }
    (tmp_path / "trust.yaml").write_text(yaml.safe_dump(document))
    trust = load_trust(tmp_path / "trust.yaml")
    assert read(write_masking(tmp_path / "a", dataset, signer), trust).signer == "keyless"
    assert read(write_masking(tmp_path / "b", dataset, key), trust).signer == "key"


# --- signing ---------------------------------------------------------------------------------------------------------


def signing_refused(signer: Any, kind: type[Exception], said: str, *secrets: str, root: Path | None = None) -> None:
    with pytest.raises(kind) as refusal:
        signer.sign_payload(
            b'{"_type":"https://in-toto.io/Statement/v1","subject":[{"name":"a","digest":{"sha256":"'
            + b"ab" * 32
            + b'"}}],"predicateType":"x","predicate":{}}'
        )
    assert re.search(said, str(refusal.value)), str(refusal.value)
    error: BaseException | None = refusal.value
    while error is not None:
        assert not any(secret in f"{error}{error!r}" for secret in secrets)
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def lasting(seconds: int) -> dict[str, int]:
    now = int(datetime.now(UTC).timestamp())
    return {"iat": now - 700, "exp": now + seconds}


def test_tokens_that_name_nobody_are_refused(
    sigstore: PrivateSigstore, token_file: Path, signer: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    forger = ec.generate_private_key(ec.SECP256R1())
    cases = {
        "forged": (sigstore.token(key=forger), "refused it with HTTP 401"),
        "of another issuer": (sigstore.token(iss="https://evil.example"), "refused it with HTTP 401"),
        "expired": (sigstore.token(**lasting(-600)), "Signature has expired"),
        "for somebody else": (sigstore.token(aud=["vault"]), "Audience doesn't match"),
        "no token": ("secret-canary-that-is-no-token", "Not enough segments"),
        "empty": ("\n", "is empty"),
    }
    for text, said in cases.values():
        token_file.write_text(text)
        signing_refused(signer, Misconfigured, rf"CUS-E551.*[\s\S]*{said}", text.strip() or "no secret")
        assert (text.strip() or "no secret") not in caplog.text


def test_a_token_that_others_may_read_is_refused(token_file: Path, signer: Any) -> None:
    token_file.chmod(0o644)
    signing_refused(signer, Misconfigured, "identity token may be read or written by others")


def test_where_the_token_comes_from(
    tmp_path: Path, sigstore: PrivateSigstore, token_file: Path, signer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("GITHUB_ACTIONS", "GITLAB_CI", "BUILDKITE", "CIRCLECI", "GOOGLE_SERVICE_ACCOUNT_NAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(keyless, "TOKEN_PATH", tmp_path / "oidc-token")
    monkeypatch.delenv("CUSTODY_OIDC_TOKEN_FILE")
    signing_refused(signer, Misconfigured, r"CUS-E551.*[\s\S]*no CI system is known")
    monkeypatch.setenv("GITHUB_ACTIONS", "true")  # without the permission to ask for a token
    signing_refused(signer, Misconfigured, r"CUS-E551.*[\s\S]*insufficient OIDC token permissions")
    monkeypatch.delenv("GITHUB_ACTIONS")
    monkeypatch.setenv("GITLAB_CI", "true")
    monkeypatch.setenv("SIGSTORE_ID_TOKEN", sigstore.token(aud="sigstore"))
    assert keyless._token() == os.environ["SIGSTORE_ID_TOKEN"]
    (tmp_path / "oidc-token").write_text("conventional")
    (tmp_path / "oidc-token").chmod(0o600)
    assert keyless._token() == "conventional"
    monkeypatch.setenv("CUSTODY_OIDC_TOKEN_FILE", str(token_file))
    assert keyless._token() == token_file.read_text().strip()
    monkeypatch.setenv("CUSTODY_OIDC_TOKEN_FILE", str(tmp_path / "missing"))  # never falls through to another identity
    signing_refused(signer, Misconfigured, "identity token cannot be read")


def test_servers_in_trouble(sigstore: PrivateSigstore, signer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for status, kind, said in (
        (500, ServiceUnreachable, r"CUS-E451.*[\s\S]*HTTP 500"),
        (429, ServiceUnreachable, r"CUS-E451.*[\s\S]*HTTP 429"),
        (403, Misconfigured, r"CUS-E551.*[\s\S]*HTTP 403"),
    ):
        sigstore.trouble = status
        signing_refused(signer, kind, said)
    sigstore.trouble = 0
    for nonsense in ({"x": {}}, {}, [], ["x"], {"x": 1}, "x", 1, None, {"x": {"body": "!"}}):  # from the log
        monkeypatch.setattr(sigstore, "_enter", lambda body, answer=nonsense: answer)
        signing_refused(signer, ServiceUnreachable, r"CUS-E451.*[\s\S]*does not accept")
    for nonsense in ({}, [], "x", 1, None, {"signedCertificateEmbeddedSct": {"chain": {"certificates": ["x", "y"]}}}):
        monkeypatch.setattr(sigstore, "_certify", lambda body, token, answer=nonsense: answer)
        signing_refused(signer, ServiceUnreachable, r"CUS-E451")
    sigstore.__exit__()
    signing_refused(signer, ServiceUnreachable, r"CUS-E451.*[\s\S]*ConnectionError at http://127.0.0.1")


def test_a_server_that_never_answers_is_given_up(
    sigstore: PrivateSigstore, signer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    import threading

    held = threading.Event()
    monkeypatch.setattr(keyless, "SILENCE", 0.2)
    monkeypatch.setattr(sigstore, "_certify", lambda body, token: held.wait(20))
    signing_refused(signer, ServiceUnreachable, r"CUS-E451.*[\s\S]*ReadTimeout")
    held.set()


def test_a_certificate_without_the_log_s_stamp_is_refused_when_signing(
    tmp_path: Path, sigstore: PrivateSigstore, signer: Any
) -> None:
    part_of_another("ctlogs")(sigstore.config, PrivateSigstore(tmp_path / "other"))
    signing_refused(signer, ServiceUnreachable, r"CUS-E451.*[\s\S]*VerificationError")


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"mediaType": "x"}', "\x00"])
def test_a_trust_config_that_is_none_is_refused(sigstore: PrivateSigstore, signer: Any, text: str) -> None:
    sigstore.config.write_text(text)
    signing_refused(signer, Misconfigured, r"CUS-E552.*[\s\S]*clienttrustconfig.json")
    sigstore.config.unlink()
    signing_refused(signer, Misconfigured, r"CUS-E552.*[\s\S]*No such file")


@pytest.mark.parametrize(
    "uri",
    ["sigstore:x", "sigstore:?config=", "sigstore:?config=a.json", "sigstore:?config=/a&token=b", "sigstore:?x=/a"],
)
def test_a_uri_that_means_something_else_is_refused(uri: str) -> None:
    with pytest.raises(Misconfigured) as refusal:
        load_signer(uri)
    assert refusal.value.code == codes.SIGNER_URI


def test_the_public_instance_without_a_network(
    tmp_path: Path, token_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its newest metadata is asked for first, so that is what is missing; nothing is signed with old metadata."""
    for name in ("XDG_DATA_HOME", "XDG_CACHE_HOME"):
        monkeypatch.setenv(name, str(tmp_path / name))
    for name in ("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    signing_refused(load_signer("sigstore:"), ServiceUnreachable, r"CUS-E451.*[\s\S]*Failed to refresh TUF metadata")


def test_key_signed_evidence_needs_no_sigstore(tmp_path: Path) -> None:
    code = "import sys, kfp_custody.components._shared.model_signature;"
    code += "print([name for name in sys.modules if name.partition('.')[0] in ('sigstore', 'id', 'model_signing')])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, cwd=tmp_path)
    assert done.stdout.strip() == "[]", done.stderr
