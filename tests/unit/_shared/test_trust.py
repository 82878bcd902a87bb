"""The trust file: strict, and trusting nobody unless it says so."""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
import yaml
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from securesystemslib.signer import Signer

from genuine_chain import RUN, trust_entry, write_masking
from kfp_custody.components._shared.errors import EvidenceInvalid, Misconfigured
from kfp_custody.components._shared.evidence import MASKING
from kfp_custody.components._shared.trust import load_trust
from kfp_custody.components._shared.verification import read_evidence

PIN = "ab" * 32


def public(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> str:
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


KEY = public(ec.generate_private_key(ec.SECP256R1()))
OTHER = public(ec.generate_private_key(ec.SECP256R1()))
GOOD: dict[str, object] = {"name": "a", "key": KEY, "may_sign": ["mask-pii"]}


def trust_with(**changes: object) -> dict[str, object]:
    return {"version": 1, "signers": [GOOD | changes]}


MALFORMED = [
    ([], "the trust file is no object"),
    ("text", "the trust file is no object"),
    ({"signers": []}, "lacks version"),
    ({"version": 1}, "lacks signers"),
    ({"version": 2, "signers": []}, "version 2 is not 1"),
    ({"version": "1", "signers": []}, "version '1' is not 1"),
    ({"version": 1, "signers": [], "unsafe": True}, "unknown 'unsafe'"),
    ({"version": 1, "signers": True}, "signers is no list"),
    ({"version": 1, "signers": 5}, "signers is no list"),
    ({"version": 1, "signers": {"a": GOOD}}, "signers is no list"),
    ({"version": 1, "signers": ["a"]}, r"signers\[0\] is no object"),
    ({"version": 1, "signers": [], "policies": {"baseline": PIN}}, "policies is no list"),
    ({"version": 1, "signers": [], "policies": [{"name": "x"}]}, r"policies\[0\] lacks sha256"),
    ({"version": 1, "signers": [], "policies": [{"name": "x", "sha256": PIN.upper()}]}, "no lower-case SHA-256"),
    ({"version": 1, "signers": [], "policies": [{"name": "x", "sha256": PIN[:-1]}]}, "no lower-case SHA-256"),
    ({"version": 1, "signers": [], "policies": [{"name": ["x"], "sha256": PIN}]}, r"policies\[0\].name is no text"),
    (
        {"version": 1, "signers": [], "policies": [{"name": "x", "sha256": PIN}, {"name": "x", "sha256": PIN[::-1]}]},
        "repeats a name",
    ),
    (trust_with(name=None), r"signers\[0\].name is no text"),
    (trust_with(name=" "), r"signers\[0\].name is no text"),
    (trust_with(name=["a"]), r"signers\[0\].name is no text"),
    (trust_with(email="x"), "unknown 'email'"),
    (trust_with(may_sign=[]), "may_sign must list some of"),
    (trust_with(may_sign="mask-pii"), "may_sign must list some of"),
    (trust_with(may_sign=["*"]), "may_sign must list some of"),
    (trust_with(may_sign=[["mask-pii"]]), "may_sign must list some of"),
    (trust_with(may_sign=["mask-pii", "everything"]), "may_sign must list some of"),
    (trust_with(key="no key"), "no PEM public key"),
    (trust_with(key=None), "no PEM public key"),
    (trust_with(key=KEY.replace("PUBLIC", "PRIVATE")), "no PEM public key"),
    (trust_with(key=KEY[:80]), "no PEM public key"),
    (trust_with(key=public(ec.generate_private_key(ec.SECP384R1()))), "not on the curve P-256"),
    (trust_with(key=public(rsa.generate_private_key(65537, 2048))), "not on the curve P-256"),
    (trust_with(not_before="2026"), "not_before is no timestamp"),
    (trust_with(not_after=20260101), "not_after is no timestamp"),
    (trust_with(revoked=True), "revoked is no timestamp"),
    ({"version": 1, "signers": [GOOD, GOOD | {"name": "b"}]}, "repeats a name or key"),
    ({"version": 1, "signers": [GOOD, GOOD | {"key": OTHER}]}, "repeats a name or key"),
]


class NoAlias(yaml.SafeDumper):
    def ignore_aliases(self, data: object) -> bool:
        return True


@pytest.mark.parametrize(("document", "said"), MALFORMED)
def test_a_malformed_trust_file_is_refused(tmp_path: Path, document: object, said: str) -> None:
    path = tmp_path / "trust.yaml"
    path.write_text(yaml.dump(document, Dumper=NoAlias))
    with pytest.raises(Misconfigured, match=said) as refusal:
        load_trust(path)
    assert str(path) in refusal.value.evidence


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "it is empty"),
        (b"\xff", "it is not UTF-8"),
        (b"version: 1\nsigners: []\nsigners: []\n", "the name 'signers' stands in it twice"),
        (b"version: 1\nsigners: &a []\npolicies: *a\n", "YAML alias"),
        (b"version: 1\nsigners: !!python/name:os.system x\n", "it is no YAML"),
        (b"? [version]\n: 1\n", "it is no YAML"),
        (b"version: 1\nsigners: [\n", "it is no YAML"),
    ],
)
def test_a_trust_file_that_is_no_clean_yaml_is_refused(tmp_path: Path, data: bytes, said: str) -> None:
    path = tmp_path / "trust.yaml"
    path.write_bytes(data)
    with pytest.raises(Misconfigured, match=said):
        load_trust(path)


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
