"""deploy_model with real artifacts, up to the refusals that need no server; what it serves is in tests/services."""

from pathlib import Path

import pytest
from kfp import dsl
from securesystemslib.signer import Signer

from kfp_custody.components import deploy_model
from kfp_custody.components._shared.artifacts import Decision, SignedModel, TestResult
from kfp_custody.components._shared.errors import CustodyError, EvidenceInvalid, Misconfigured, PolicyRefused
from kfp_custody.components._shared.settings import Settings
from unit.seldon_deployment.signed_models import decide, sign, trust_text, write_model


def run(
    tmp_path: Path, signer: Signer, *, decided: str = "PASSED", of_run: str = "run-1", **parameters: object
) -> None:
    """Call the component's function as a task would, with a decision that may be wrong."""
    model = write_model(tmp_path / "signed" / "model")
    decide(tmp_path / "decision", model, signer, of_run, passed=decided == "PASSED")
    out = tmp_path / "out"
    deploy_model.python_func(
        model=SignedModel(name="model", uri=str(sign(model, signer))),
        decision=Decision(name="decision", uri=str(tmp_path / "decision")),
        evidence=TestResult(name="evidence", uri=str(out / "evidence")),
        report=dsl.HTML(name="report", uri=str(out / "report.html")),
        endpoint=dsl.Artifact(name="endpoint", uri=str(out / "endpoint.json")),
        **{"run_id": "run-1", "name": "fraud-detection", "target": "local", "timeout_seconds": 60, **parameters},
    )


@pytest.mark.parametrize(
    ("case", "kind"),
    [
        ({"decided": "FAILED"}, PolicyRefused),
        ({"of_run": "run-0"}, EvidenceInvalid),
        ({"name": "another-service"}, PolicyRefused),
        ({"target": "mars"}, Misconfigured),
        ({"target": "seldon-v2"}, Misconfigured),
    ],
    ids=["failed", "other-run", "other-service", "target", "no-model-uri"],
)
def test_a_refusal_leaves_no_output(
    tmp_path: Path, settings: Settings, signer: Signer, pinned: None, case: dict[str, str], kind: type[CustodyError]
) -> None:
    with pytest.raises(kind):
        run(tmp_path, signer, **case)
    assert not (tmp_path / "out").exists()
    assert not settings.serving_dir.exists()


def test_an_unpinned_policy_is_refused(tmp_path: Path, settings: Settings, signer: Signer) -> None:
    with pytest.raises(PolicyRefused, match="not pinned"):
        run(tmp_path, signer)


def test_in_a_task_a_refusal_is_three_lines_and_no_traceback(
    tmp_path: Path, settings: Settings, signer: Signer, pinned: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("_KFP_RUNTIME", "true")
    with pytest.raises(SystemExit, match="REFUSED PolicyRefused: .CUS-E3.*. The gate did not let this model pass"):
        run(tmp_path, signer, decided="FAILED")


@pytest.fixture
def pinned(trust_file: Path, signer: Signer) -> None:
    """Pin the policy that the decisions of these tests rest on."""
    trust_file.write_text(trust_text(signer))
