"""Other tools read what we write, and we read what they write as strictly as our own."""

import base64
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from securesystemslib.signer import Signer

from forging import bundle_of, edit_bundle, edit_statement, payload_of, sign_payload
from genuine_chain import RUN, trust_entry, write_masking, write_tree
from kfp_custody.components._shared.digests import list_tree
from kfp_custody.components._shared.errors import EvidenceInvalid, InputRefused
from kfp_custody.components._shared.evidence import MASKING, pae
from kfp_custody.components._shared.keys import public_pem
from kfp_custody.components._shared.model_signature import sign_model_tree, verify_model_signature
from kfp_custody.components._shared.signers import public_key
from kfp_custody.components._shared.trust import Trust, load_trust
from kfp_custody.components._shared.verification import read_evidence, require_subject

STOCK = [str(Path(sys.executable).parent / "model_signing")]
FILES = {"model.ubj": b"weights", "signature.json": b"{}", "sub/ü.txt": b"u", ".gitignore": b"*.pyc\n", "empty": b""}


@pytest.fixture
def model(tmp_path: Path, signer: Signer) -> Path:
    model = write_tree(tmp_path / "signed" / "model", FILES)
    sign_model_tree(model, model.parent / "model.sig", signer)
    return model


def verify(model: Path, trust: Trust) -> Any:
    return verify_model_signature(model, model.parent / "model.sig", trust)


def stock(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*STOCK, *arguments], capture_output=True, text=True, timeout=120)


def stock_verify(model: Path, tmp_path: Path, signer: Signer) -> subprocess.CompletedProcess[str]:
    (tmp_path / "key.pub").write_bytes(public_pem(public_key(signer)))
    return stock(
        *("verify", "key", "--signature", str(model.parent / "model.sig"), "--public_key", str(tmp_path / "key.pub")),
        *("--no-ignore-git-paths", str(model)),
    )


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")
def test_openssl_verifies_the_signature_of_a_bundle(tmp_path: Path, dataset: Path, signer: Signer) -> None:
    bundle = bundle_of(write_masking(tmp_path / "evidence", dataset, signer))
    signature = json.loads(bundle.read_bytes())["dsseEnvelope"]["signatures"][0]["sig"]
    (tmp_path / "sig").write_bytes(base64.b64decode(signature))
    (tmp_path / "pub").write_bytes(public_pem(public_key(signer)))

    def openssl(payload: bytes) -> str:
        command = ["openssl", "dgst", "-sha256", "-verify", str(tmp_path / "pub"), "-signature", str(tmp_path / "sig")]
        return subprocess.run(command, input=pae(payload), capture_output=True).stdout.decode().strip()

    assert openssl(payload_of(bundle)) == "Verified OK"
    assert openssl(payload_of(bundle) + b" ") == "Verification failure"


def test_the_stock_tool_verifies_our_model_signature(tmp_path: Path, model: Path, signer: Signer) -> None:
    done = stock_verify(model, tmp_path, signer)
    assert (done.returncode, done.stdout.strip()) == (0, "Verification succeeded"), done.stderr
    (model / "model.ubj").write_bytes(b"weightz")
    assert stock_verify(model, tmp_path, signer).returncode != 0


def test_a_model_signed_by_the_stock_tool_is_accepted_when_nothing_is_ignored(
    tmp_path: Path, model: Path, signer: Signer, trust: Trust
) -> None:
    signature, key = str(model.parent / "model.sig"), f"{tmp_path}/keys/pipeline.pem"
    done = stock("sign", "key", "--private_key", key, "--signature", signature, "--no-ignore-git-paths", str(model))
    assert done.returncode == 0, done.stderr
    verified = verify(model, trust)
    assert verified.signer == "pipeline"
    assert verified.listing.sha256 == list_tree(model).sha256

    # By default the stock tool leaves git's files out, and says so in the signature.
    assert stock("sign", "key", "--private_key", key, "--signature", signature, str(model)).returncode == 0
    with pytest.raises(EvidenceInvalid, match="it follows links or ignores files"):
        verify(model, trust)


def test_the_genuine_model_is_accepted(model: Path, trust: Trust) -> None:
    verified = verify(model, trust)
    assert (verified.signer, verified.time, verified.run_id) == ("pipeline", None, None)
    assert [entry.name for entry in verified.listing.entries] == sorted(FILES, key=str.encode)


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


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (flipped, r"changed 'model.ubj' \(expected [0-9a-f]{64}, found [0-9a-f]{64}\)"),
        (added, "unexpected 'evil.py'"),
        (added_where_git_lives, "unexpected '.git/hooks/post-checkout'; unexpected '.github/evil'"),
        (removed, "missing 'empty'"),
        (renamed, "missing 'model.ubj'; unexpected 'model.ubk'"),
    ],
)
def test_a_model_that_is_not_the_signed_one_is_refused(
    model: Path, trust: Trust, spoil: Callable[[Path], None], said: str
) -> None:
    spoil(model)
    with pytest.raises(EvidenceInvalid, match=said):
        verify(model, trust)


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
    with pytest.raises(InputRefused):
        verify(model, trust)
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


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (no_signature, "model.sig is missing"),
        (linked_signature, "model.sig is missing"),
        (no_hint, "publicKey lacks hint"),
        (second_signature, "exactly one signature"),
        (duplicate_key, "the name '_type' stands in it twice"),
        (resource_twice, "it names a file twice"),
        (wrong_root_digest, "model_signing: ValueError"),
        (predicate(note=1), "the predicate has unknown 'note'"),
        (predicate(resources=7), "its resources are no list"),
        (predicate(resources=[7]), "a resource is no object"),
        (predicate(resources=[]), "unexpected"),
        (predicate(serialization=[]), "serialization is no object"),
        (serialization(method="shards"), "not made file by file with sha256"),
        (serialization(hash_type="blake3"), "not made file by file with sha256"),
        (serialization(allow_symlinks=True), "it follows links or ignores files"),
        (serialization(ignore_paths=["model.ubj"]), "it follows links or ignores files"),
        (serialization(shard_size=1), "serialization has unknown 'shard_size'"),
        (resource(algorithm="md5"), "has no sha256 digest"),
        (resource(digest="AB" * 32), "has no sha256 digest"),
        (resource(name="../../etc/passwd"), r"missing '../../etc/passwd'"),
        (resource(name=["x"]), "a resource has no proper name"),
    ],
)
def test_a_model_signature_that_is_not_clean_is_refused(
    model: Path, trust: Trust, signer: Signer, spoil: Callable[[Path, Signer], None], said: str
) -> None:
    spoil(model, signer)
    with pytest.raises(EvidenceInvalid) as refusal:
        verify(model, trust)
    assert re.search(said, refusal.value.evidence), refusal.value.evidence


def test_a_signer_without_the_right_signs_no_model(
    tmp_path: Path, model: Path, make_signer: Callable[[str], Signer], signer: Signer
) -> None:
    import yaml

    other = make_signer("other")
    (tmp_path / "t.yaml").write_text(
        yaml.safe_dump({"version": 1, "signers": [trust_entry("p", signer), trust_entry("o", other, ["train-model"])]})
    )
    sign_model_tree(model, model.parent / "model.sig", other)
    with pytest.raises(EvidenceInvalid, match="signer 'o' may sign train-model, not sign-model"):
        verify(model, load_trust(tmp_path / "t.yaml"))


def test_masking_evidence_is_no_model_signature(model: Path, dataset: Path, trust: Trust, signer: Signer) -> None:
    shutil.copy(bundle_of(write_masking(model.parent / "e", dataset, signer)), model.parent / "model.sig")
    with pytest.raises(EvidenceInvalid, match="its predicate is"):
        verify(model, trust)


def test_the_subject_is_hashed_again(tmp_path: Path, dataset: Path, signer: Signer, trust: Trust) -> None:
    evidence = write_masking(tmp_path / "evidence", dataset, signer)
    verified = read_evidence(evidence, MASKING, trust, run_id=RUN)
    assert require_subject(verified, dataset, "dataset") == list_tree(dataset)
    (dataset / "data.csv").write_text("a,b\n1,3\n")
    with pytest.raises(EvidenceInvalid, match="changed 'data.csv'"):
        require_subject(verified, dataset, "dataset")


def test_the_subject_is_hashed_again_also_without_the_listing(
    tmp_path: Path, dataset: Path, signer: Signer, trust: Trust
) -> None:
    """The listing beside the evidence helps to explain; the signed digest is what counts."""
    evidence = write_masking(tmp_path / "evidence", dataset, signer)
    (evidence / "SHA256SUMS").unlink()
    verified = read_evidence(evidence, MASKING, trust, run_id=RUN)
    require_subject(verified, dataset, "dataset")
    (dataset / "data.csv").unlink()
    with pytest.raises(EvidenceInvalid, match=f"dataset expected sha256:{verified.subject_sha256}, found sha256:"):
        require_subject(verified, dataset, "dataset")


def test_an_attachment_that_the_statement_does_not_bind_is_never_written(
    tmp_path: Path, dataset: Path, signer: Signer
) -> None:
    from kfp_custody.components._shared.evidence import test_result, write_evidence

    listing = list_tree(dataset)
    statement = test_result(MASKING, listing, result="PASSED", run_id=RUN, configuration=[], passed=[])
    with pytest.raises(AssertionError, match="report.json is not bound"):
        write_evidence(tmp_path / "evidence", statement, signer, listing, report=b"{}")
    assert not (tmp_path / "evidence").exists()
