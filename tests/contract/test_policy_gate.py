"""enforce_policy and refuse as KFP calls them: artifacts in, artifacts out, one verdict."""

from pathlib import Path

import pytest
from kfp.dsl import HTML

from genuine_chain import RUN, TRAINED, Site
from kfp_custody.components._shared.artifacts import (
    DatasetAttestation,
    Decision,
    MaskedDataset,
    SignedModel,
    SourceAttestation,
    TestResult,
    TrainingProvenance,
)
from kfp_custody.components._shared.documents import parse_json
from kfp_custody.components._shared.errors import Misconfigured, PolicyRefused
from kfp_custody.components._shared.evidence import DECISION
from kfp_custody.components._shared.verification import read_evidence
from kfp_custody.components.policy_gate.checks import Chain
from kfp_custody.components.policy_gate.component import enforce_policy, refuse


class Call:
    def __init__(self, site: Site, chain: Chain) -> None:
        self.inputs = {
            "dataset": MaskedDataset(uri=str(chain.dataset)),
            "masking": TestResult(uri=str(chain.masking)),
            "attestation": DatasetAttestation(uri=str(chain.attestation)),
            "provenance": TrainingProvenance(uri=str(chain.provenance)),
            "model": SignedModel(uri=str(chain.model)),
            "current": MaskedDataset(uri=str(chain.current)),
            "current_masking": TestResult(uri=str(chain.current_masking)),
            "drift": TestResult(uri=str(chain.drift)),
            "source": SourceAttestation(uri=str(chain.source)),
            "current_source": SourceAttestation(uri=str(chain.current_source)),
        }
        self.site = site
        self.decision = Decision(uri=str(site.root / "out" / "decision"))
        self.report = HTML(uri=str(site.root / "out" / "report.html"))

    def run(self, **parameters: str) -> str:
        verdict: str = enforce_policy.python_func(
            **self.inputs, decision=self.decision, report=self.report, **({"run_id": RUN} | parameters)
        )
        return verdict

    @property
    def decided(self) -> str | None:
        return read_evidence(Path(self.decision.path), DECISION, self.site.trust, run_id=RUN).result


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    site = Site(tmp_path)
    for name, value in site.environment.items():
        monkeypatch.setenv(name, value)
    return site


def test_the_genuine_chain_passes(site: Site) -> None:
    call = Call(site, site.chain())
    assert (call.run(), call.decided) == ("PASSED", "PASSED")
    assert "PASSED" in Path(call.report.path).read_text()
    assert call.decision.metadata["verdict"] == "PASSED"
    assert {type(value) for value in call.decision.metadata.values()} == {str, float}


def test_each_input_is_the_one_of_its_name(site: Site) -> None:
    """Two inputs of one type that were exchanged in the component's body would go unnoticed by any type."""
    chain = site.chain()
    for name in ("masking", "current_masking", "drift", "source", "current_source"):
        call = Call(site, chain)
        call.decision, call.report = Decision(uri=str(site.root / name)), HTML(uri=str(site.root / f"{name}.html"))
        call.inputs[name] = TestResult(uri=str(site.root / "nowhere"))
        assert call.run() == "FAILED"
        explained = parse_json((Path(call.decision.path) / "report.json").read_bytes())
        failed = [check["id"] for check in explained["checks"] if check["verdict"] == "FAILED"]
        assert [check for check in failed if check.startswith("evidence:")] == [f"evidence:{name.replace('_', '-')}"]


def test_a_refusal_lets_the_task_succeed_and_keeps_the_report(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("_KFP_RUNTIME", "true")
    call = Call(site, site.chain(training=TRAINED | {"roc_auc": 0.6}))
    assert (call.run(), call.decided) == ("FAILED", "FAILED")
    assert "training.metrics.roc_auc = 0.6" in Path(call.report.path).read_text()
    with pytest.raises(
        SystemExit, match=r"REFUSED PolicyRefused: \[CUS-E301\] The gate said FAILED(.*\n)+.*rule:roc-auc-floor"
    ):
        refuse.python_func(call.decision, RUN)


def test_refuse_outside_of_a_task_raises(site: Site) -> None:
    call = Call(site, site.chain(training=TRAINED | {"roc_auc": 0.6}))
    call.run()
    with pytest.raises(PolicyRefused, match="nothing was deployed"):
        refuse.python_func(call.decision, RUN)


def test_a_policy_that_does_not_exist_is_a_mistake_not_a_verdict(site: Site) -> None:
    call = Call(site, site.chain())
    with pytest.raises(Misconfigured, match="strictest: it cannot be read"):
        call.run(policy="strictest")
    assert not Path(call.decision.path).exists()
