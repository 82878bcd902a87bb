"""What rules see of evidence: everything that was verified, as doubles, and nothing that was not."""

from datetime import timedelta
from pathlib import Path

import pytest

from forging import bundle_of, edit_statement
from genuine_chain import MASKED, Site, trust_entry
from kfp_custody.components._shared.digests import sha256_bytes
from kfp_custody.components._shared.evidence import KINDS, now
from kfp_custody.components._shared.signers.loading import load_signer
from kfp_custody.components.policy_gate.checks import Chain, Findings, check_chain
from kfp_custody.components.policy_gate.facts import FIELDS, GATE, REPORTED, VARIABLES, facts
from kfp_custody.components.policy_gate.gate import gate_facts

RUN = "fraud-detection-test-run"


@pytest.fixture
def site(tmp_path: Path) -> Site:
    site = Site(tmp_path)
    site.environment |= {
        "CUSTODY_IMAGE_DIGEST": "sha256:" + "ab" * 32,
        "CUSTODY_SOURCE_REVISION": "0123abc",
        "CUSTODY_DVC_REMOTE": str(tmp_path / "remote"),
    }
    return site


def verify(site: Site, chain: Chain) -> Findings:
    return check_chain(chain, site.trust, RUN, now())


def test_rules_see_what_the_statements_say(site: Site) -> None:
    findings = verify(site, site.chain())
    seen = facts(findings.verified, now() + timedelta(hours=2))
    masking, dataset, training = seen["masking"], seen["dataset"], seen["training"]
    assert masking["passed"] == MASKED
    assert masking["failed"] == masking["warned"] == []
    assert masking["resources"]["masking-key"] == {"annotations": {"id": "e7134987b9ef3f82"}}
    assert masking["resources"]["policy"]["sha256"] == sha256_bytes(b"masking policy")
    assert masking["coverage"] == {"checked": 28.0, "skipped": 0.0, "errors": 0.0}
    assert {type(number) for number in masking["coverage"].values()} == {float}
    assert 2.0 <= masking["age_hours"] < 2.1
    assert dataset["internal"]["dvc_pushed"] is True
    assert dataset["resources"]["dvc"]["annotations"]["dvc_md5"].endswith(".dir")
    assert training["parameters"] == {"algorithm": "xgboost", "seed": 7.0}
    assert training["internal"] == {"mlflow": {"run_id": "ab12"}}
    assert training["resources"]["image"]["sha256"] == "ab" * 32
    assert training["resources"]["source"]["annotations"] == {"revision": "0123abc"}
    assert seen["model"]["signer"] == "pipeline"
    assert seen["model"]["subject"] == training["subject"]
    assert "age_hours" not in seen["model"]
    assert seen[GATE] == {}


def test_every_field_that_the_lint_knows_is_there(site: Site) -> None:
    findings = verify(site, site.chain())
    seen = facts(findings.verified, now(), gate_facts(site.trust, site.signer, "fraud-detection"))
    assert set(seen) == set(FIELDS) == {*VARIABLES, GATE}
    for variable, fields in FIELDS.items():
        assert set(fields) <= set(seen[variable]), variable
    for variable, maps in REPORTED.items():
        assert set(maps) <= set(FIELDS[variable])


def test_evidence_that_did_not_verify_is_not_seen(site: Site) -> None:
    chain = site.chain()
    bundle = bundle_of(chain.masking)
    edit_statement(bundle, site.key("stranger"), lambda statement: None)
    seen = facts(verify(site, chain).verified, now())
    assert seen["masking"] == {}
    assert seen["dataset"] != {}


@pytest.mark.parametrize("tests", [None, "none", {}, [1], [["a"]]])
def test_a_list_of_tests_that_is_none_is_absent(site: Site, tests: object) -> None:
    """`size(masking.failed) == 0` must not hold because the list is missing or something else."""
    chain = site.chain()

    def edit(statement: dict[str, dict[str, object]]) -> None:
        statement["predicate"]["failedTests"] = tests

    edit_statement(bundle_of(chain.masking), site.signer, edit)
    seen = facts(verify(site, chain).verified, now())
    assert "failed" not in seen["masking"]


def test_a_number_that_no_double_holds_is_text(site: Site) -> None:
    chain = site.chain()

    def edit(statement: dict[str, dict[str, dict[str, object]]]) -> None:
        statement["predicate"]["buildDefinition"]["internalParameters"] = {"huge": 10**30, "list": [2**53 + 1, 1]}

    edit_statement(bundle_of(chain.provenance), site.signer, edit)
    seen = facts(verify(site, chain).verified, now())["training"]["internal"]
    assert seen == {"huge": str(10**30), "list": [str(2**53 + 1), 1.0]}


def test_the_gate_is_known_by_its_name_in_the_trust_file(site: Site) -> None:
    decider = site.key("gate")
    makers = sorted(set(KINDS) - {"enforce-policy"})
    site.pin({}, [trust_entry("pipeline", site.signer, makers), trust_entry("gate", decider, ["enforce-policy"])])
    assert gate_facts(site.trust, decider, "m") == {"deciders": ["gate"], "model_name": "m", "signer": "gate"}
    assert "signer" not in gate_facts(site.trust, site.key("stranger"), "m")
    assert "signer" not in gate_facts(site.trust, load_signer("sigstore:"), "m")
