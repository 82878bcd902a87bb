"""Trust files that say something else than their reader thinks, or would trust more than they should."""

from pathlib import Path

import pytest
import yaml
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from kfp_custody.components._shared import codes
from kfp_custody.components._shared.errors import Misconfigured
from kfp_custody.components._shared.trust import load_trust

PIN = "ab" * 32


def configured(code: str) -> str:
    """Return a document's code as a configuration file has it."""
    return codes.in_series(code, 5)


def public(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> str:
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


KEY = public(ec.generate_private_key(ec.SECP256R1()))
OTHER = public(ec.generate_private_key(ec.SECP256R1()))
GOOD: dict[str, object] = {"name": "a", "key": KEY, "may_sign": ["mask-pii"]}


def trust_with(**changes: object) -> dict[str, object]:
    return {"version": 1, "signers": [GOOD | changes]}


def without(field: str, **changes: object) -> dict[str, object]:
    return {"version": 1, "signers": [{name: value for name, value in (GOOD | changes).items() if name != field}]}


MALFORMED = [
    ([], configured(codes.FIELDS), "the trust file is no object"),
    ("text", configured(codes.FIELDS), "the trust file is no object"),
    ({"signers": []}, configured(codes.FIELDS), "lacks version"),
    ({"version": 1}, configured(codes.FIELDS), "lacks signers"),
    ({"version": 2, "signers": []}, codes.TRUST_VERSION, "version 2 is not 1"),
    ({"version": True, "signers": []}, codes.TRUST_VERSION, "version True is not 1"),
    ({"version": "1", "signers": []}, codes.TRUST_VERSION, "version '1' is not 1"),
    ({"version": 1, "signers": [], "unsafe": True}, configured(codes.FIELDS), "unknown 'unsafe'"),
    ({"version": 1, "signers": True}, configured(codes.FIELDS), "signers is no list"),
    ({"version": 1, "signers": 5}, configured(codes.FIELDS), "signers is no list"),
    ({"version": 1, "signers": {"a": GOOD}}, configured(codes.FIELDS), "signers is no list"),
    ({"version": 1, "signers": ["a"]}, configured(codes.FIELDS), r"signers\[0\] is no object"),
    ({"version": 1, "signers": [], "policies": {"baseline": PIN}}, configured(codes.FIELDS), "policies is no list"),
    (
        {"version": 1, "signers": [], "policies": [{"name": "x"}]},
        configured(codes.FIELDS),
        r"policies\[0\] lacks sha256",
    ),
    (
        {"version": 1, "signers": [], "policies": [{"name": "x", "sha256": PIN.upper()}]},
        codes.TRUST_PIN,
        "no lower-case SHA-256",
    ),
    (
        {"version": 1, "signers": [], "policies": [{"name": "x", "sha256": PIN[:-1]}]},
        codes.TRUST_PIN,
        "no lower-case SHA-256",
    ),
    (
        {"version": 1, "signers": [], "policies": [{"name": ["x"], "sha256": PIN}]},
        configured(codes.FIELDS),
        r"policies\[0\].name is no text",
    ),
    (
        {"version": 1, "signers": [], "policies": [{"name": "x", "sha256": PIN}, {"name": "x", "sha256": PIN[::-1]}]},
        codes.TRUST_TWICE,
        "repeats a name",
    ),
    (trust_with(name=None), configured(codes.FIELDS), r"signers\[0\].name is no text"),
    (trust_with(name=" "), configured(codes.FIELDS), r"signers\[0\].name is no text"),
    (trust_with(name=["a"]), configured(codes.FIELDS), r"signers\[0\].name is no text"),
    (trust_with(email="x"), configured(codes.FIELDS), "unknown 'email'"),
    (trust_with(may_sign=[]), codes.TRUST_ROLE, "may_sign must list some of"),
    (trust_with(may_sign="mask-pii"), codes.TRUST_ROLE, "may_sign must list some of"),
    (trust_with(may_sign=["*"]), codes.TRUST_ROLE, "may_sign must list some of"),
    (trust_with(may_sign=[["mask-pii"]]), codes.TRUST_ROLE, "may_sign must list some of"),
    (trust_with(may_sign=["mask-pii", "everything"]), codes.TRUST_ROLE, "may_sign must list some of"),
    (trust_with(key="no key"), codes.TRUST_KEY, "no PEM public key"),
    (trust_with(key=None), codes.TRUST_KEY, "no PEM public key"),
    (trust_with(key=KEY.replace("PUBLIC", "PRIVATE")), codes.TRUST_KEY, "no PEM public key"),
    (trust_with(key=KEY[:80]), codes.TRUST_KEY, "no PEM public key"),
    (trust_with(key=public(ec.generate_private_key(ec.SECP384R1()))), codes.TRUST_KEY, "not on the curve P-256"),
    (trust_with(key=public(rsa.generate_private_key(65537, 2048))), codes.TRUST_KEY, "not on the curve P-256"),
    (trust_with(issuer="https://x"), codes.TRUST_CREDENTIAL, "exactly one of"),
    (trust_with(hmac="vault-hmac:x"), codes.TRUST_CREDENTIAL, "exactly one of"),
    (without("key", issuer="https://x"), codes.TRUST_CREDENTIAL, "exactly one of"),
    (without("key", identity="ci@example.com"), codes.TRUST_CREDENTIAL, "exactly one of"),
    (without("key"), codes.TRUST_CREDENTIAL, "exactly one of"),
    (without("key", hmac="file:/tmp/key"), codes.TRUST_CREDENTIAL, "no vault-hmac"),
    (without("key", issuer="", identity="ci@example.com"), configured(codes.FIELDS), "issuer is no text"),
    (without("key", issuer="https://x", identity=["*"]), configured(codes.FIELDS), "identity is no text"),
    (without("may_sign"), configured(codes.FIELDS), "lacks may_sign"),
    (
        {"version": 1, "signers": [], "sigstore_root": "no-such-root.json"},
        codes.SIGSTORE_ROOT,
        "no-such-root.json: No such file",
    ),
    (trust_with(not_before="2026"), codes.TRUST_MOMENT, "not_before is no timestamp"),
    (trust_with(not_after=20260101), codes.TRUST_MOMENT, "not_after is no timestamp"),
    (trust_with(revoked=None), codes.TRUST_MOMENT, "revoked is no timestamp"),
    (trust_with(not_after=None), codes.TRUST_MOMENT, "not_after is no timestamp"),
    ({"version": 1, "signers": [], "sigstore_root": None}, configured(codes.FIELDS), "sigstore_root is no text"),
    (trust_with(revoked=True), codes.TRUST_MOMENT, "revoked is no timestamp"),
    ({"version": 1, "signers": [GOOD, GOOD | {"name": "b"}]}, codes.TRUST_TWICE, "repeats a name or key"),
    ({"version": 1, "signers": [GOOD, GOOD | {"key": OTHER}]}, codes.TRUST_TWICE, "repeats a name or key"),
]


class NoAlias(yaml.SafeDumper):
    def ignore_aliases(self, data: object) -> bool:
        return True


@pytest.mark.parametrize(("document", "code", "said"), MALFORMED)
def test_a_malformed_trust_file_is_refused(tmp_path: Path, document: object, code: str, said: str) -> None:
    path = tmp_path / "trust.yaml"
    path.write_text(yaml.dump(document, Dumper=NoAlias))
    with pytest.raises(Misconfigured, match=said) as refusal:
        load_trust(path)
    assert str(path) in refusal.value.evidence
    assert refusal.value.code == code


UNCLEAN = [
    (b"", configured(codes.EMPTY), "it is empty"),
    (b"\xff", configured(codes.NOT_UTF8), "it is not UTF-8"),
    (b"version: 1\nsigners: []\nsigners: []\n", configured(codes.NAME_TWICE), "the name 'signers' stands in it twice"),
    (b"version: 1\nsigners: &a []\npolicies: *a\n", configured(codes.ALIAS), "YAML alias"),
    (b"version: 1\nsigners: !!python/name:os.system x\n", configured(codes.MALFORMED), "it is no YAML"),
    (b"version: 1\n<<: {signers: []}\n", configured(codes.MALFORMED), "it is no YAML"),
    (b"version: 1\nsigners: []\n---\nversion: 1\nsigners: []\n", configured(codes.MALFORMED), "it is no YAML"),
    (b"version: 1\nsigners: " + b"[" * 5000, configured(codes.MALFORMED), "it is no YAML"),
    (b"version: 1\nsigners: []\n#" + b"x" * 1024 * 1024, configured(codes.TOO_LARGE), "more than 1048576"),
    (b"version: 1\nsigners: !!bool x\n", configured(codes.MALFORMED), "it is no YAML"),
    (b"\xef\xbb\xbfversion: 1\nversion: 1\nsigners: []\n", configured(codes.NAME_TWICE), "stands in it twice"),
    (b"? [version]\n: 1\n", configured(codes.MALFORMED), "it is no YAML"),
    (b"version: 1\nsigners: [\n", configured(codes.MALFORMED), "it is no YAML"),
]


@pytest.mark.parametrize(("data", "code", "said"), UNCLEAN)
def test_a_trust_file_that_is_no_clean_yaml_is_refused(tmp_path: Path, data: bytes, code: str, said: str) -> None:
    path = tmp_path / "trust.yaml"
    path.write_bytes(data)
    with pytest.raises(Misconfigured, match=said) as refusal:
        load_trust(path)
    assert refusal.value.code == code
