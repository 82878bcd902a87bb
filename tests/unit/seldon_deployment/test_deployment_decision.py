"""The decision is verified again by the deployer; nothing is taken on the word of the run."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from securesystemslib.signer import Signer

from kfp_custody.components._shared.digests import list_tree, sha256_file
from kfp_custody.components._shared.errors import EvidenceInvalid, PolicyRefused
from kfp_custody.components._shared.trust import Trust, load_trust
from kfp_custody.components.seldon_deployment.decision import require_admitted
from unit.seldon_deployment.signed_models import POLICY, decide, sign, trust_text, write_model

NAME = "fraud-detection"


@pytest.fixture
def trust_file(tmp_path: Path, signer: Signer) -> Path:
    path = tmp_path / "trust.yaml"
    path.write_text(trust_text(signer))
    return path


@pytest.fixture
def signed_model(tmp_path: Path, signer: Signer) -> Path:
    return sign(write_model(tmp_path / "signed" / "model"), signer)


@pytest.fixture
def decision(tmp_path: Path, signed_model: Path, signer: Signer, run_id: str) -> Path:
    return decide(tmp_path / "decision", signed_model / "model", signer, run_id)


def test_a_model_that_passed_is_admitted_with_every_digest(
    signed_model: Path, decision: Path, trust: Trust, run_id: str
) -> None:
    admitted = require_admitted(signed_model, decision, trust, run_id=run_id, name=NAME)
    assert admitted.digest == list_tree(signed_model / "model").sha256
    assert admitted.version == admitted.digest[:8]
    assert admitted.signature_sha256 == sha256_file(signed_model / "model.sig")
    assert admitted.decision_sha256 == sha256_file(decision / "enforce-policy.sigstore.json")
    assert admitted.policy_sha256 == POLICY
    assert admitted.decided_by == admitted.signed_by == "pipeline"


def test_a_changed_byte_is_named_with_both_digests(
    signed_model: Path, decision: Path, trust: Trust, run_id: str
) -> None:
    before = list_tree(signed_model / "model").sha256
    path = signed_model / "model" / "model.ubj"
    path.write_bytes(path.read_bytes() + b"x")
    with pytest.raises(EvidenceInvalid) as refusal:
        require_admitted(signed_model, decision, trust, run_id=run_id, name=NAME)
    after = list_tree(signed_model / "model").sha256
    assert before in str(refusal.value)
    assert after in str(refusal.value)
    assert "model.ubj" in str(refusal.value)


@pytest.mark.parametrize(
    "tamper",
    [
        lambda signed: (signed / "model" / "added").write_text("x"),
        lambda signed: (signed / "model" / "signature.json").unlink(),
        lambda signed: (signed / "extra").write_text("x"),
        lambda signed: (signed / "model.sig").unlink(),
        lambda signed: (signed / "model.sig").write_text("{}"),
        lambda signed: (signed / "model").rename(signed / "models"),
        lambda signed: ((signed / "model").rename(signed.parent / "moved"), (signed / "model").symlink_to("../moved")),
    ],
    ids=["added", "removed", "beside", "unsigned", "no-signature", "renamed", "link"],
)
def test_a_changed_tree_is_refused(
    signed_model: Path, decision: Path, trust: Trust, run_id: str, tamper: Callable[[Path], object]
) -> None:
    tamper(signed_model)
    with pytest.raises(EvidenceInvalid):
        require_admitted(signed_model, decision, trust, run_id=run_id, name=NAME)


def test_another_model_with_its_own_valid_signature_is_refused(
    tmp_path: Path, signer: Signer, decision: Path, trust: Trust, run_id: str
) -> None:
    other = sign(write_model(tmp_path / "other" / "model", seed=1), signer)
    with pytest.raises(EvidenceInvalid):
        require_admitted(other, decision, trust, run_id=run_id, name=NAME)


def test_a_model_signed_by_a_stranger_is_refused(
    tmp_path: Path, signer: Signer, make_signer: Callable[[str], Signer], trust: Trust, run_id: str
) -> None:
    model = write_model(tmp_path / "stranger" / "model")
    signed = sign(model, make_signer("stranger"))
    with pytest.raises(EvidenceInvalid, match="sign-model"):
        require_admitted(signed, decide(tmp_path / "d", model, signer, run_id), trust, run_id=run_id, name=NAME)


def test_a_decision_of_another_run_is_refused(signed_model: Path, decision: Path, trust: Trust) -> None:
    with pytest.raises(EvidenceInvalid, match="another-run"):
        require_admitted(signed_model, decision, trust, run_id="another-run", name=NAME)


def test_a_signer_who_may_not_decide_is_refused(
    signed_model: Path, decision: Path, trust_file: Path, signer: Signer, run_id: str
) -> None:
    trust_file.write_text(trust_text(signer, ["sign-model", "deploy-model"]))
    with pytest.raises(EvidenceInvalid, match="enforce-policy"):
        require_admitted(signed_model, decision, load_trust(trust_file), run_id=run_id, name=NAME)


def test_an_edited_decision_is_refused(signed_model: Path, decision: Path, trust: Trust, run_id: str) -> None:
    bundle = decision / "enforce-policy.sigstore.json"
    bundle.write_bytes(bundle.read_bytes().replace(b'"payload":"e', b'"payload":"f'))
    with pytest.raises(EvidenceInvalid):
        require_admitted(signed_model, decision, trust, run_id=run_id, name=NAME)


def test_a_failed_verdict_is_not_deployed(
    tmp_path: Path, signed_model: Path, signer: Signer, trust: Trust, run_id: str
) -> None:
    failed = decide(tmp_path / "failed", signed_model / "model", signer, run_id, passed=False)
    with pytest.raises(PolicyRefused, match="did not let"):
        require_admitted(signed_model, failed, trust, run_id=run_id, name=NAME)


def test_a_policy_that_is_not_pinned_is_refused(
    tmp_path: Path, signed_model: Path, signer: Signer, trust: Trust, run_id: str
) -> None:
    lenient = decide(tmp_path / "lenient", signed_model / "model", signer, run_id, policy="ef" * 32)
    with pytest.raises(PolicyRefused, match="not pinned"):
        require_admitted(signed_model, lenient, trust, run_id=run_id, name=NAME)


def test_without_any_pin_every_policy_is_refused(signed_model: Path, decision: Path, trust: Trust, run_id: str) -> None:
    with pytest.raises(PolicyRefused, match="not pinned"):
        require_admitted(signed_model, decision, replace(trust, policies={}), run_id=run_id, name=NAME)


@pytest.mark.parametrize(
    ("service", "admitted"), [(NAME, True), (f"{NAME}/3", True), (f"{NAME}-2", False), ("x", False)]
)
def test_a_decision_speaks_of_one_service(
    tmp_path: Path, signed_model: Path, signer: Signer, trust: Trust, run_id: str, service: str, admitted: bool
) -> None:
    decision = decide(tmp_path / "other", signed_model / "model", signer, run_id, service=service)
    if admitted:
        require_admitted(signed_model, decision, trust, run_id=run_id, name=NAME)
    else:
        with pytest.raises(PolicyRefused, match="another service"):
            require_admitted(signed_model, decision, trust, run_id=run_id, name=NAME)


def test_a_decision_ages(signed_model: Path, decision: Path, trust: Trust, run_id: str) -> None:
    moment = datetime.now(UTC)
    require_admitted(signed_model, decision, trust, run_id=run_id, name=NAME, now=moment + timedelta(hours=23))
    with pytest.raises(PolicyRefused, match="too old"):
        require_admitted(signed_model, decision, trust, run_id=run_id, name=NAME, now=moment + timedelta(hours=25))
