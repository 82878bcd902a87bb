"""What the tests of every signer ask: does it verify, is its evidence accepted, and is a refusal clear and discreet."""

import subprocess
import sys
import time
import traceback
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from genuine_chain import RUN, trust_entry
from kfp_custody.components._shared.digests import list_tree
from kfp_custody.components._shared.errors import CustodyError
from kfp_custody.components._shared.evidence import test_result as make_test_result
from kfp_custody.components._shared.evidence import write_evidence
from kfp_custody.components._shared.keys import public_pem
from kfp_custody.components._shared.kinds import DRIFT
from kfp_custody.components._shared.model_signature import sign_model_tree, verify_model_signature
from kfp_custody.components._shared.signers.loading import public_key
from kfp_custody.components._shared.trust import Trust, load_trust
from kfp_custody.components._shared.verification import Verified, read_evidence


@contextmanager
def refused(kind: type[CustodyError], code: str, *, without: Collection[str] = ()) -> Iterator[Any]:
    """Expect a refusal of a kind with a code, within ten seconds, that shows no secret, not even in its traceback."""
    started = time.monotonic()
    with pytest.raises(kind) as caught:
        yield caught
    assert time.monotonic() - started < 10
    assert type(caught.value) is kind
    assert caught.value.code == code, str(caught.value)
    assert caught.value.remedy
    shown = "".join(traceback.format_exception(caught.value))
    assert not [secret for secret in without if secret in shown], shown


def signs(signer: Any, payload: bytes = b"payload") -> bool:
    """Tell whether what a signer makes of a payload verifies with its public key."""
    try:
        public_key(signer).verify(bytes.fromhex(signer.sign(payload).signature), payload, ec.ECDSA(hashes.SHA256()))
    except InvalidSignature:
        return False
    return True


def trusting(folder: Path, **signers: Any) -> Trust:
    """Write and read a trust file that trusts signers, by name, for everything."""
    path = folder / f"trust-{'-'.join(signers)}.yaml"
    entries = [trust_entry(name, signer) for name, signer in signers.items()]
    path.write_text(yaml.safe_dump({"version": 1, "signers": entries}))
    return load_trust(path)


def write(directory: Path, dataset: Path, signer: Any) -> Path:
    """Write evidence about a dataset."""
    subject = list_tree(dataset)
    statement = make_test_result(DRIFT, subject, result="PASSED", run_id=RUN, configuration=[], passed=["drift"])
    write_evidence(directory, statement, signer, subject)
    return directory


def read(directory: Path, trust: Trust) -> Verified:
    """Read that evidence, as every stage does."""
    return read_evidence(directory, DRIFT, trust, run_id=RUN)


def model_is_accepted_by_us_and_the_stock_tool(model: Path, folder: Path, signer: Any) -> None:
    """Sign a model; our verification and `model_signing verify key` accept it, and no longer when a byte changed."""
    signature, pem = folder / "model.sig", folder / "key.pub"
    sign_model_tree(model, signature, signer)
    pem.write_bytes(public_pem(public_key(signer)))
    assert verify_model_signature(model, signature, trusting(folder, model=signer)).signer == "model"
    command = [str(Path(sys.executable).with_name("model_signing")), "verify", "key"]
    command += ["--signature", str(signature), "--public_key", str(pem), str(model)]
    assert subprocess.run(command, capture_output=True, timeout=60).returncode == 0
    changed = next(path for path in sorted(model.rglob("*")) if path.is_file())
    changed.write_bytes(changed.read_bytes() + b"!")
    assert subprocess.run(command, capture_output=True, timeout=60).returncode != 0
