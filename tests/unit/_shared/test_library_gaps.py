"""What model_signing accepts by itself, each shown to be so, and what our wrapper says to it.

When the library closes one of these, its test here fails: then the row can go.
"""

import hashlib
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from model_signing import hashing, signing, verifying
from securesystemslib.signer import Signer

from forging import edit_bundle, edit_statement, payload_of, sign_payload, statement_of
from genuine_chain import Site, write_tree
from kfp_custody.components._shared import codes
from kfp_custody.components._shared.digests import list_tree
from kfp_custody.components._shared.errors import CustodyError
from kfp_custody.components._shared.keys import public_pem
from kfp_custody.components._shared.model_signature import sign_model_tree, verify_model_signature
from kfp_custody.components._shared.signers.loading import public_key
from kfp_custody.components._shared.trust import Trust

FILES = {"model.ubj": b"weights", "sub/config.json": b"{}"}


@pytest.fixture
def model(tmp_path: Path, signer: Signer) -> Path:
    model = write_tree(tmp_path / "signed" / "model", FILES)
    sign_model_tree(model, signature_of(model), signer)
    (tmp_path / "key.pub").write_bytes(public_pem(public_key(signer)))
    return model


def signature_of(model: Path) -> Path:
    return model.parent / "model.sig"


def by_key(tmp_path: Path) -> verifying.Config:
    return verifying.Config().use_elliptic_key_verifier(public_key=tmp_path / "key.pub")


def check(model: Path, trust: Trust, library: verifying.Config, code: str) -> None:
    """The library accepts it, we refuse it."""
    library.verify(model, signature_of(model))
    with pytest.raises(CustodyError) as refusal:
        verify_model_signature(model, signature_of(model), trust)
    assert refusal.value.code == code, refusal.value


@pytest.mark.parametrize("name", [".git/hooks/post-checkout", ".github/workflow", ".gitignore", ".gitattributes"])
def test_extra_file_where_git_lives(tmp_path: Path, model: Path, trust: Trust, name: str) -> None:
    write_tree(model, {name: b"evil"})
    check(model, trust, by_key(tmp_path), codes.BYTES)


def test_extra_empty_directory(tmp_path: Path, model: Path, trust: Trust) -> None:
    (model / "nothing").mkdir()
    check(model, trust, by_key(tmp_path), codes.NOT_LISTABLE)


def test_content_of_a_linked_directory(tmp_path: Path, model: Path, trust: Trust) -> None:
    write_tree(tmp_path / "elsewhere", {"weights": b"w"})
    (model / "linked").symlink_to(tmp_path / "elsewhere")
    follow = hashing.Config().use_file_serialization().set_allow_symlinks(True)
    config = signing.Config().use_elliptic_key_signer(private_key=tmp_path / "keys" / "pipeline.pem")
    config.set_hashing_config(follow).sign(model, signature_of(model))
    write_tree(tmp_path / "elsewhere", {"weights": b"changed", "evil": b"evil"})
    check(model, trust, by_key(tmp_path).set_hashing_config(follow), codes.MODEL_SCOPE)


def test_extra_file_with_ignore_unsigned_files(tmp_path: Path, model: Path, trust: Trust) -> None:
    write_tree(model, {"evil.py": b"evil"})
    check(model, trust, by_key(tmp_path).set_ignore_unsigned_files(True), codes.BYTES)


def test_one_configuration_for_two_models(tmp_path: Path, model: Path, trust: Trust) -> None:
    """What the first model's signature ignores is ignored in the second as well."""
    first = write_tree(tmp_path / "first" / "model", {"a": b"a", "evil.py": b"fine here"})
    some = hashing.Config().use_file_serialization().set_ignored_paths(paths=[model / "evil.py", first / "evil.py"])
    config = signing.Config().use_elliptic_key_signer(private_key=tmp_path / "keys" / "pipeline.pem")
    config.set_hashing_config(some).sign(first, signature_of(first))
    library = by_key(tmp_path).set_hashing_config(
        hashing.Config().use_file_serialization().set_ignored_paths(paths=[model / "evil.py"])
    )
    check(first, trust, library, codes.MODEL_SCOPE)
    write_tree(model, {"evil.py": b"evil"})
    check(model, trust, library, codes.BYTES)


def no_hint(signature: Path, signer: Signer) -> None:
    edit_bundle(signature, lambda b: b["verificationMaterial"]["publicKey"].clear())


def second_signature(signature: Path, signer: Signer) -> None:
    edit_bundle(signature, lambda b: b["dsseEnvelope"]["signatures"].append({"sig": "AAAA", "keyid": ""}))


def names_twice_in_the_bundle(signature: Path, signer: Signer) -> None:
    signature.write_bytes(signature.read_bytes().replace(b'{"mediaType"', b'{"mediaType":"x","mediaType"', 1))


def names_twice_in_the_statement(signature: Path, signer: Signer) -> None:
    sign_payload(signature, payload_of(signature).replace(b"{", b'{"_type": "x",', 1), signer)


def resource_twice(signature: Path, signer: Signer) -> None:
    def twice(statement: dict[str, Any]) -> None:
        resources = statement["predicate"]["resources"]
        resources.append(resources[0])
        joined = b"".join(bytes.fromhex(entry["digest"]) for entry in resources)
        statement["subject"][0]["digest"]["sha256"] = hashlib.sha256(joined).hexdigest()

    edit_statement(signature, signer, twice)


def legacy_predicate(signature: Path, signer: Signer) -> None:
    resources = statement_of(signature)["predicate"]["resources"]
    subjects = [{"name": entry["name"], "digest": {"sha256": entry["digest"]}} for entry in resources]
    kind = "https://model_signing/Digests/v0.1"
    old = {"_type": "https://in-toto.io/Statement/v1", "subject": subjects, "predicateType": kind, "predicate": {}}
    sign_payload(signature, json.dumps(old).encode(), signer)


@pytest.mark.parametrize(
    ("spoil", "code"),
    [
        (no_hint, codes.FIELDS),
        (second_signature, codes.SIGNATURE_COUNT),
        (names_twice_in_the_bundle, codes.NAME_TWICE),
        (names_twice_in_the_statement, codes.NAME_TWICE),
        (resource_twice, codes.MODEL_FILES),
        (legacy_predicate, codes.SUBJECT),
    ],
)
def test_sloppy_signature_files(
    tmp_path: Path, model: Path, trust: Trust, signer: Signer, spoil: Callable[[Path, Signer], None], code: str
) -> None:
    spoil(signature_of(model), signer)
    check(model, trust, by_key(tmp_path), code)


def certificate(
    subject: str,
    key: ec.EllipticCurvePrivateKey,
    issuer: x509.Certificate | None,
    issuer_key: ec.EllipticCurvePrivateKey,
    days: tuple[int, int] = (-1, 1),
    use: Any = ExtendedKeyUsageOID.CODE_SIGNING,
) -> x509.Certificate:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject)])
    start, end = (datetime.now(UTC) + timedelta(days=day) for day in days)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(issuer.subject if issuer else name)
    builder = builder.public_key(key.public_key()).serial_number(x509.random_serial_number())
    builder = builder.not_valid_before(start).not_valid_after(end)
    builder = builder.add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
    flags = dict.fromkeys(("content_commitment", "key_encipherment", "data_encipherment", "key_agreement"), False)
    flags |= {"crl_sign": False, "encipher_only": False, "decipher_only": False}
    usage = x509.KeyUsage(digital_signature=True, key_cert_sign=issuer is None, **flags)
    builder = builder.add_extension(usage, critical=True)
    if issuer is not None:
        builder = builder.add_extension(x509.ExtendedKeyUsage([use]), critical=False)
    return builder.sign(issuer_key, hashes.SHA256())


@pytest.mark.parametrize(
    "leaf",
    [
        {"days": (-9, -1)},
        {"days": (1, 9)},
        {"subject": "another identity of the same authority"},
        {"use": ExtendedKeyUsageOID.SERVER_AUTH},
    ],
    ids=["expired", "not yet valid", "other identity", "for another use"],
)
def test_certificates_that_say_nothing(tmp_path: Path, model: Path, trust: Trust, leaf: dict[str, Any]) -> None:
    """The trust file knows keys and identities; a certificate chain is refused, whatever is in it."""
    root_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    root = certificate("authority", root_key, None, root_key, days=(-30, 30))
    made = certificate(**({"subject": "training"} | leaf), key=key, issuer=root, issuer_key=root_key)
    for name, one in (("root", root), ("leaf", made)):
        (tmp_path / f"{name}.crt").write_bytes(one.public_bytes(Encoding.PEM))
    (tmp_path / "leaf.pem").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    signing.Config().use_certificate_signer(
        private_key=tmp_path / "leaf.pem",
        signing_certificate=tmp_path / "leaf.crt",
        certificate_chain=[tmp_path / "root.crt"],
    ).sign(model, signature_of(model))
    library = verifying.Config().use_certificate_verifier(certificate_chain=[tmp_path / "root.crt"])
    check(model, trust, library, codes.FIELDS)


def test_model_with_its_own_valid_signature_of_another_run(tmp_path: Path) -> None:
    """No signature can know; what binds a model to its run is its provenance, which the gate asks for."""
    site = Site(tmp_path)
    ours, other = site.chain("ours"), site.chain("other", run_id="another-run")
    swapped = type(ours)(**(vars(ours) | {"model": other.model}))
    accepted = verify_model_signature(other.model / "model", other.model / "model.sig", site.trust)
    assert (accepted.signer, accepted.run_id) == ("pipeline", None)
    assert site.gate(ours)[0].verdict == "PASSED"
    assert site.gate(swapped)[0].verdict == "FAILED"


def test_file_modes_are_no_part_of_a_model(tmp_path: Path, model: Path, trust: Trust) -> None:
    """This row stays open on purpose: object stores keep no modes and shared mounts show their own."""
    before = list_tree(model)
    (model / "model.ubj").chmod(0o777)
    assert list_tree(model) == before
    assert verify_model_signature(model, signature_of(model), trust).signer == "pipeline"
