"""Other tools read what we write, and we read what they write as strictly as our own."""

import base64
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from securesystemslib.signer import Signer

from forging import bundle_of, payload_of
from genuine_chain import RUN, write_masking, write_tree
from kfp_custody.components._shared.digests import list_tree
from kfp_custody.components._shared.errors import EvidenceInvalid
from kfp_custody.components._shared.evidence import MASKING, pae
from kfp_custody.components._shared.keys import public_pem
from kfp_custody.components._shared.model_signature import sign_model_tree, verify_model_signature
from kfp_custody.components._shared.signers.loading import public_key
from kfp_custody.components._shared.trust import Trust
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


@pytest.mark.parametrize("added", [".gitignore", ".gitattributes", ".git/config", ".github/workflow.yaml"])
def test_a_model_signed_by_the_stock_tool_as_it_is_is_accepted_and_hides_nothing(
    tmp_path: Path, model: Path, signer: Signer, trust: Trust, added: str
) -> None:
    """By default the stock tool leaves git's files out, and says so in the signature."""
    (model / ".gitignore").unlink()  # it would stay unsigned, and so the model would be refused, as below
    signature, key = str(model.parent / "model.sig"), f"{tmp_path}/keys/pipeline.pem"
    assert stock("sign", "key", "--private_key", key, "--signature", signature, str(model)).returncode == 0
    assert verify(model, trust).listing.sha256 == list_tree(model).sha256
    (model / added).parent.mkdir(exist_ok=True)
    (model / added).write_text("evil")
    with pytest.raises(EvidenceInvalid, match=f"unexpected '{added}'"):
        verify(model, trust)


def test_the_genuine_model_is_accepted(model: Path, trust: Trust) -> None:
    verified = verify(model, trust)
    assert (verified.signer, verified.time, verified.run_id) == ("pipeline", None, None)
    assert [entry.name for entry in verified.listing.entries] == sorted(FILES, key=str.encode)


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
