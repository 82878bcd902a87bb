"""Models and OpenSSF signatures that the stock tool would take, or another tree under a genuine signature.

What `model_signing` 1.1.1 accepts and we refuse: files below `.git` and the like, empty folders, a missing hint, a
second signature, names given twice in the JSON, a file listed twice.
"""

import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from securesystemslib.signer import Signer

from forging import bundle_of, edit_bundle, edit_statement, payload_of, sign_payload
from genuine_chain import trust_entry, write_masking, write_tree
from kfp_custody.components._shared import codes
from kfp_custody.components._shared.errors import EvidenceInvalid, InputRefused
from kfp_custody.components._shared.model_signature import sign_model_tree, verify_model_signature
from kfp_custody.components._shared.trust import Trust, load_trust

FILES = {"model.ubj": b"weights", "signature.json": b"{}", "sub/ü.txt": b"u", ".gitignore": b"*.pyc\n", "empty": b""}


@pytest.fixture
def model(tmp_path: Path, signer: Signer) -> Path:
    model = write_tree(tmp_path / "signed" / "model", FILES)
    sign_model_tree(model, model.parent / "model.sig", signer)
    return model


def verify(model: Path, trust: Trust) -> Any:
    return verify_model_signature(model, model.parent / "model.sig", trust)


def flipped(model: Path) -> None:
    (model / "model.ubj").write_bytes(b"weightz")


def added(model: Path) -> None:
    (model / "evil.py").write_bytes(b"")


def added_where_git_lives(model: Path) -> None:
    """The library passes over these in silence unless it is told not to."""
    write_tree(model, {".git/hooks/post-checkout": b"evil", ".github/evil": b"x"})


def removed(model: Path) -> None:
    (model / "empty").unlink()


def renamed(model: Path) -> None:
    """The order of the files stays, so the root digest of the format stays too."""
    (model / "model.ubj").rename(model / "model.ubk")


TREES = [
    (flipped, codes.BYTES, r"changed 'model.ubj' \(expected [0-9a-f]{64}, found [0-9a-f]{64}\)"),
    (added, codes.BYTES, "unexpected 'evil.py'"),
    (added_where_git_lives, codes.BYTES, "unexpected '.git/hooks/post-checkout'; unexpected '.github/evil'"),
    (removed, codes.BYTES, "missing 'empty'"),
    (renamed, codes.BYTES, "missing 'model.ubj'; unexpected 'model.ubk'"),
]


@pytest.mark.parametrize(("spoil", "code", "said"), TREES)
def test_a_model_that_is_not_the_signed_one_is_refused(
    model: Path, trust: Trust, spoil: Callable[[Path], None], code: str, said: str
) -> None:
    spoil(model)
    with pytest.raises(EvidenceInvalid, match=said) as refusal:
        verify(model, trust)
    assert refusal.value.code == code


def empty_folder(model: Path) -> None:
    (model / "nothing").mkdir()


def link(model: Path) -> None:
    (model / "link").symlink_to("model.ubj")


def pipe(model: Path) -> None:
    os.mkfifo(model / "pipe")


@pytest.mark.parametrize("spoil", [empty_folder, link, pipe])
def test_a_model_that_cannot_be_listed_is_refused(
    model: Path, trust: Trust, signer: Signer, spoil: Callable[[Path], None]
) -> None:
    spoil(model)
    with pytest.raises(InputRefused) as refusal:
        verify(model, trust)
    assert refusal.value.code == codes.NOT_LISTABLE
    with pytest.raises(InputRefused):
        sign_model_tree(model, model.parent / "new.sig", signer)
    assert not (model.parent / "new.sig").exists()


def resign(model: Path, signer: Signer, edit: Callable[[dict[str, Any]], object]) -> None:
    edit_statement(model.parent / "model.sig", signer, edit)


def no_signature(model: Path, signer: Signer) -> None:
    (model.parent / "model.sig").unlink()


def linked_signature(model: Path, signer: Signer) -> None:
    shutil.move(model.parent / "model.sig", model.parent / "other")
    (model.parent / "model.sig").symlink_to("other")


def no_hint(model: Path, signer: Signer) -> None:
    edit_bundle(model.parent / "model.sig", lambda b: b["verificationMaterial"]["publicKey"].clear())


def second_signature(model: Path, signer: Signer) -> None:
    edit_bundle(model.parent / "model.sig", lambda b: b["dsseEnvelope"]["signatures"].append({"sig": "AAAA"}))


def duplicate_key(model: Path, signer: Signer) -> None:
    payload = payload_of(model.parent / "model.sig")
    sign_payload(model.parent / "model.sig", payload.replace(b"{", b'{"_type": "x",', 1), signer)


def duplicate_key_in_the_bundle(model: Path, signer: Signer) -> None:
    text = (model.parent / "model.sig").read_text()
    (model.parent / "model.sig").write_text(text.replace('"payloadType":', '"payloadType":"x","payloadType":', 1))


def predicate_of_an_older_format(model: Path, signer: Signer) -> None:
    resign(model, signer, lambda s: s.update(predicateType="https://model_signing/Digests/v0.1"))


def resource_twice(model: Path, signer: Signer) -> None:
    resign(model, signer, lambda s: s["predicate"]["resources"].append(s["predicate"]["resources"][0]))


def wrong_root_digest(model: Path, signer: Signer) -> None:
    """The files are right but the digest over them, which the library checks, is not."""
    resign(model, signer, lambda s: s["subject"][0]["digest"].update(sha256="ab" * 32))


def predicate(**changes: object) -> Callable[[Path, Signer], None]:
    def spoil(model: Path, signer: Signer) -> None:
        resign(model, signer, lambda s: s["predicate"].update(changes))

    return spoil


def serialization(**changes: object) -> Callable[[Path, Signer], None]:
    def spoil(model: Path, signer: Signer) -> None:
        resign(model, signer, lambda s: s["predicate"]["serialization"].update(changes))

    return spoil


def resource(**changes: object) -> Callable[[Path, Signer], None]:
    def spoil(model: Path, signer: Signer) -> None:
        resign(model, signer, lambda s: s["predicate"]["resources"][0].update(changes))

    return spoil


SIGNATURES = [
    (no_signature, codes.MODEL_UNSIGNED, "model.sig is missing"),
    (linked_signature, codes.MODEL_UNSIGNED, "model.sig is missing"),
    (no_hint, codes.FIELDS, "publicKey lacks hint"),
    (second_signature, codes.SIGNATURE_COUNT, "exactly one signature"),
    (duplicate_key, codes.NAME_TWICE, "the name '_type' stands in it twice"),
    (duplicate_key_in_the_bundle, codes.NAME_TWICE, "the name 'payloadType' stands in it twice"),
    (predicate_of_an_older_format, codes.KIND, "its predicate is 'https://model_signing/Digests/v0.1'"),
    (resource_twice, codes.MODEL_FILES, "it names a file twice"),
    (wrong_root_digest, codes.MODEL_LIBRARY, "model_signing: ValueError"),
    (predicate(note=1), codes.FIELDS, "the predicate has unknown 'note'"),
    (predicate(resources=7), codes.MODEL_FILES, "its resources are no list"),
    (predicate(resources=[7]), codes.FIELDS, "a resource is no object"),
    (predicate(resources=[]), codes.BYTES, "unexpected"),
    (predicate(serialization=[]), codes.FIELDS, "serialization is no object"),
    (serialization(method="shards"), codes.MODEL_SCOPE, "not made file by file with sha256"),
    (serialization(hash_type="blake3"), codes.MODEL_SCOPE, "not made file by file with sha256"),
    (serialization(allow_symlinks=True), codes.MODEL_SCOPE, "it follows links or ignores files"),
    (serialization(allow_symlinks=None), codes.MODEL_SCOPE, "it follows links or ignores files"),
    (serialization(ignore_paths=""), codes.MODEL_SCOPE, "it follows links or ignores files"),
    (serialization(ignore_paths=[".git", "model.ubj"]), codes.MODEL_SCOPE, "it follows links or ignores files"),
    (serialization(ignore_paths=[[".git"]]), codes.MODEL_SCOPE, "it follows links or ignores files"),
    (serialization(ignore_paths=["model.ubj"]), codes.MODEL_SCOPE, "it follows links or ignores files"),
    (serialization(shard_size=1), codes.FIELDS, "serialization has unknown 'shard_size'"),
    (resource(algorithm="md5"), codes.MODEL_FILES, "has no sha256 digest"),
    (resource(digest="AB" * 32), codes.MODEL_FILES, "has no sha256 digest"),
    (resource(name="../../etc/passwd"), codes.BYTES, r"missing '../../etc/passwd'"),
    (resource(name=["x"]), codes.MODEL_FILES, "a resource has no proper name"),
]


@pytest.mark.parametrize(("spoil", "code", "said"), SIGNATURES)
def test_a_model_signature_that_is_not_clean_is_refused(
    model: Path, trust: Trust, signer: Signer, spoil: Callable[[Path, Signer], None], code: str, said: str
) -> None:
    spoil(model, signer)
    with pytest.raises(EvidenceInvalid) as refusal:
        verify(model, trust)
    assert re.search(said, refusal.value.evidence), refusal.value.evidence
    assert refusal.value.code == code


def test_a_signer_without_the_right_signs_no_model(
    tmp_path: Path, model: Path, make_signer: Callable[[str], Signer], signer: Signer
) -> None:
    other = make_signer("other")
    (tmp_path / "t.yaml").write_text(
        yaml.safe_dump({"version": 1, "signers": [trust_entry("p", signer), trust_entry("o", other, ["train-model"])]})
    )
    sign_model_tree(model, model.parent / "model.sig", other)
    with pytest.raises(EvidenceInvalid, match="signer 'o' may sign train-model, not sign-model") as refusal:
        verify(model, load_trust(tmp_path / "t.yaml"))
    assert refusal.value.code == codes.SIGNER_ROLE


def test_masking_evidence_is_no_model_signature(model: Path, dataset: Path, trust: Trust, signer: Signer) -> None:
    shutil.copy(bundle_of(write_masking(model.parent / "e", dataset, signer)), model.parent / "model.sig")
    with pytest.raises(EvidenceInvalid, match="its predicate is") as refusal:
        verify(model, trust)
    assert refusal.value.code == codes.KIND
