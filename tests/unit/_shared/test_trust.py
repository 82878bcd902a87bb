"""The trust file: strict, and trusting nobody unless it says so."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
import yaml
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from securesystemslib.signer import Signer

from genuine_chain import RUN, trust_entry, write_masking
from kfp_custody.components._shared import codes
from kfp_custody.components._shared.errors import EvidenceInvalid, Misconfigured
from kfp_custody.components._shared.evidence import MASKING
from kfp_custody.components._shared.trust import Identity, SharedKey, Trust, add_signer, load_trust, revoke_signer
from kfp_custody.components._shared.verification import read_evidence

PIN = "ab" * 32


def public(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> str:
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


KEY = public(ec.generate_private_key(ec.SECP256R1()))
OTHER = public(ec.generate_private_key(ec.SECP256R1()))
GOOD: dict[str, object] = {"name": "a", "key": KEY, "may_sign": ["mask-pii"]}


def trust_with(**changes: object) -> dict[str, object]:
    return {"version": 1, "signers": [GOOD | changes]}


def test_a_missing_trust_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match="cannot be read"):
        load_trust(tmp_path / "trust.yaml")
    with pytest.raises(Misconfigured, match="cannot be read"):
        load_trust(tmp_path)


@pytest.mark.parametrize("signers", ["[]", ""])
def test_an_empty_trust_file_trusts_nobody(tmp_path: Path, dataset: Path, signer: Signer, signers: str) -> None:
    (tmp_path / "nobody.yaml").write_text(f"version: 1\nsigners: {signers}\n")
    trust = load_trust(tmp_path / "nobody.yaml")
    assert (dict(trust.signers), dict(trust.policies)) == ({}, {})
    evidence = write_masking(tmp_path / "evidence", dataset, signer)
    with pytest.raises(EvidenceInvalid, match=r"which the trust file does not know \(nobody\)"):
        read_evidence(evidence, MASKING, trust, run_id=RUN)


def test_a_whole_trust_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "trust.yaml"
    dates = "    not_before: 2026-01-01T00:00:00+02:00\n    not_after: 2027-01-01 00:00:00\n"
    dates += "    revoked: 2026-06-01T00:00:00Z\n"
    key = "".join(f"      {line}\n" for line in KEY.splitlines())
    signers = f"  - name: a\n    key: |\n{key}    may_sign: [mask-pii, check-drift]\n{dates}"
    path.write_text(f"version: 1\nsigners:\n{signers}policies:\n  - name: baseline\n    sha256: {PIN}\n")
    trust = load_trust(path)
    (entry,) = trust.signers.values()
    assert trust.policies == {"baseline": PIN}
    assert entry.may_sign == {"mask-pii", "check-drift"}
    assert entry.not_before == datetime(2025, 12, 31, 22, tzinfo=UTC)
    assert entry.not_after == datetime(2027, 1, 1, tzinfo=UTC)
    assert entry.revoked == datetime(2026, 6, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("when", "said"),
    [
        ({"not_before": datetime(2999, 1, 1, tzinfo=UTC)}, "is not valid before 2999"),
        ({"not_after": datetime(2020, 1, 1, tzinfo=UTC)}, "is not valid after 2020"),
        ({"revoked": datetime(2020, 1, 1, tzinfo=UTC)}, "was revoked at 2020"),
        ({"not_before": datetime(2020, 1, 1, tzinfo=UTC), "not_after": datetime(2999, 1, 1, tzinfo=UTC)}, None),
        ({"revoked": datetime(2999, 1, 1, tzinfo=UTC)}, None),
    ],
)
def test_a_signer_counts_only_while_it_is_valid(
    tmp_path: Path, dataset: Path, signer: Signer, when: dict[str, datetime], said: str | None
) -> None:
    (tmp_path / "t.yaml").write_text(yaml.safe_dump({"version": 1, "signers": [trust_entry("p", signer, **when)]}))
    trust = load_trust(tmp_path / "t.yaml")
    evidence = write_masking(tmp_path / "evidence", dataset, signer)
    if said is None:
        assert read_evidence(evidence, MASKING, trust, run_id=RUN).signer == "p"
    else:
        with pytest.raises(EvidenceInvalid, match=f"signer 'p' {said}"):
            read_evidence(evidence, MASKING, trust, run_id=RUN)


@pytest.mark.parametrize(
    ("moment", "valid"),
    [
        (datetime(2026, 1, 1, tzinfo=UTC), True),
        (datetime(2025, 12, 31, 23, 59, 59, tzinfo=UTC), False),
        (datetime(2026, 6, 30, 23, 59, 59, tzinfo=UTC), True),
        (datetime(2026, 7, 1, tzinfo=UTC), False),
    ],
)
def test_the_edges_of_validity(
    tmp_path: Path, make_signer: Callable[[str], Signer], moment: datetime, valid: bool
) -> None:
    dates = {"not_before": datetime(2026, 1, 1, tzinfo=UTC), "revoked": datetime(2026, 7, 1, tzinfo=UTC)}
    entry = trust_entry("p", make_signer("p"), **dates)
    (tmp_path / "t.yaml").write_text(yaml.safe_dump({"version": 1, "signers": [entry]}))
    (trusted,) = load_trust(tmp_path / "t.yaml").signers.values()
    assert (trusted.fault_at(moment) is None) is valid


WHO = {"issuer": "https://kubernetes.default.svc", "identity": "https://kubernetes.io/namespaces/ml/serviceaccounts/a"}
SHARED = {"hmac": "vault-hmac:transit/custody"}
ROLE = {"name": "a", "may_sign": ["mask-pii"]}


@pytest.mark.parametrize(
    ("entry", "code"),
    [
        ({}, codes.TRUST_CREDENTIAL),
        ({"key": KEY, **WHO}, codes.TRUST_CREDENTIAL),
        ({"key": KEY, **SHARED}, codes.TRUST_CREDENTIAL),
        ({**WHO, **SHARED}, codes.TRUST_CREDENTIAL),
        ({"key": KEY, "issuer": WHO["issuer"]}, codes.TRUST_CREDENTIAL),
        ({"issuer": WHO["issuer"]}, codes.TRUST_CREDENTIAL),
        ({"identity": WHO["identity"]}, codes.TRUST_CREDENTIAL),
        ({"hmac": "vault:transit/custody"}, codes.TRUST_CREDENTIAL),
        ({"hmac": 7}, codes.FIELDS),
        ({**WHO, "issuer": ""}, codes.FIELDS),
        ({**WHO, "identity": ["a"]}, codes.FIELDS),
        ({**WHO, "identity_regexp": ".*"}, codes.FIELDS),
    ],
)
def test_a_signer_has_exactly_one_way_to_be_known(tmp_path: Path, entry: dict[str, object], code: str) -> None:
    (tmp_path / "t.yaml").write_text(json.dumps({"version": 1, "signers": [ROLE | entry]}))
    with pytest.raises(Misconfigured) as refusal:
        load_trust(tmp_path / "t.yaml")
    assert refusal.value.code == codes.in_series(code, 5)


def test_signers_of_every_kind(tmp_path: Path) -> None:
    entries = [GOOD | {"name": "k"}, ROLE | WHO | {"name": "i"}, ROLE | SHARED | {"name": "h"}]
    (tmp_path / "t.yaml").write_text(json.dumps({"version": 1, "signers": entries}))
    key, identity, shared = load_trust(tmp_path / "t.yaml").signers.values()
    assert isinstance(key.credential, ec.EllipticCurvePublicKey)
    assert identity.credential == Identity(WHO["issuer"], WHO["identity"])
    assert shared.credential == SharedKey(SHARED["hmac"])


def test_an_identity_stands_only_once(tmp_path: Path) -> None:
    entries = [ROLE | WHO, ROLE | WHO | {"name": "b"}]
    (tmp_path / "t.yaml").write_text(json.dumps({"version": 1, "signers": entries}))
    with pytest.raises(Misconfigured) as refusal:
        load_trust(tmp_path / "t.yaml")
    assert refusal.value.code == codes.TRUST_TWICE


@pytest.mark.parametrize(
    ("name", "text"),
    [("root.json", None), ("root.json", ""), ("root.json", "[]"), ("root.json", "{}"), ("root.json", '{"a":1,"a":2}')]
    + [(7, "{}"), ("", "{}"), ("root.json", '{"tlogs": []}'), ("root.json", '{"trustedRoot": 5}')],
)
def test_a_sigstore_root_that_is_none_is_refused(tmp_path: Path, name: object, text: str | None) -> None:
    if text is not None:
        (tmp_path / "root.json").write_text(text)
    (tmp_path / "t.yaml").write_text(yaml.safe_dump({"version": 1, "signers": [], "sigstore_root": name}))
    with pytest.raises(Misconfigured) as refusal:
        load_trust(tmp_path / "t.yaml")
    assert refusal.value.code in (codes.SIGSTORE_ROOT, codes.in_series(codes.FIELDS, 5))


def read_text(tmp_path: Path, text: str) -> Trust:
    (tmp_path / "t.yaml").write_text(text)
    return load_trust(tmp_path / "t.yaml")


def test_signers_are_added_and_revoked(tmp_path: Path) -> None:
    text = add_signer("", "a", {"key": KEY}, ["mask-pii"], not_after=datetime(2027, 1, 1, tzinfo=UTC))
    assert "  key: |\n    -----BEGIN" in text
    assert "not_after: 2027-01-01T00:00:00Z\n" in text
    text = add_signer(f"{text}policies:\n- name: baseline\n  sha256: {PIN}\n", "ü", WHO, ["train-model", "sign-model"])
    text = add_signer(text, "h", SHARED, ["mask-pii"])
    trust = read_text(tmp_path, text)
    assert [signer.name for signer in trust.signers.values()] == ["a", "ü", "h"]
    assert trust.policies == {"baseline": PIN}
    first, second = datetime(2026, 6, 1, tzinfo=UTC), datetime(2026, 7, 1, tzinfo=UTC)
    text = revoke_signer(text, "ü", second)
    text = revoke_signer(text, "ü", first)
    trust = read_text(tmp_path, revoke_signer(text, "ü", second))
    assert [signer.revoked for signer in trust.signers.values()] == [None, first, None]
    a, _, _ = trust.signers.values()
    assert (a.not_after, a.may_sign) == (datetime(2027, 1, 1, tzinfo=UTC), {"mask-pii"})


@pytest.mark.parametrize(
    ("name", "credential", "may_sign", "code"),
    [
        ("a", {"key": OTHER}, ["mask-pii"], codes.TRUST_TWICE),
        ("b", {"key": KEY}, ["mask-pii"], codes.TRUST_TWICE),
        ("b", {"key": "no key"}, ["mask-pii"], codes.TRUST_KEY),
        ("b", {"key": OTHER}, [], codes.TRUST_ROLE),
        ("b", {"key": OTHER}, ["everything"], codes.TRUST_ROLE),
        ("b", {"key": OTHER, **WHO}, ["mask-pii"], codes.TRUST_CREDENTIAL),
        ("b", {"key": OTHER, "revoked": "never"}, ["mask-pii"], codes.TRUST_MOMENT),
        (" ", {"key": OTHER}, ["mask-pii"], codes.in_series(codes.FIELDS, 5)),
    ],
)
def test_nothing_is_added_that_could_not_be_read(
    name: str, credential: dict[str, str], may_sign: list[str], code: str
) -> None:
    text = add_signer("", "a", {"key": KEY}, ["mask-pii"])
    with pytest.raises(Misconfigured) as refusal:
        add_signer(text, name, credential, may_sign)
    assert refusal.value.code == code


@pytest.mark.parametrize("text", ["version: 2\nsigners: []\n", "signers: []\n", "[", "version: 1\nsigners: 5\n"])
def test_what_is_no_trust_file_is_not_edited(text: str) -> None:
    with pytest.raises(Misconfigured):
        add_signer(text, "a", {"key": KEY}, ["mask-pii"])
    with pytest.raises(Misconfigured):
        revoke_signer(text, "a", datetime(2026, 1, 1, tzinfo=UTC))


def test_a_signer_that_is_not_there_cannot_be_revoked() -> None:
    with pytest.raises(Misconfigured, match="it has no signer 'b'"):
        revoke_signer(add_signer("", "a", {"key": KEY}, ["mask-pii"]), "b", datetime(2026, 1, 1, tzinfo=UTC))
