"""The shipped policies on whole chains: what each asks, and that each rule of `regulated` bites."""

import re
from collections.abc import Callable
from html import escape
from pathlib import Path
from typing import Any

import pytest

from genuine_chain import COVERAGE, DRIFTED, MASKED, TRAINED, Site, trust_entry
from kfp_custody.components._shared.evidence import KINDS, now
from kfp_custody.components.policy_gate import policy as policy_module
from kfp_custody.components.policy_gate.checks import check_chain
from kfp_custody.components.policy_gate.gate import gate_facts
from kfp_custody.components.policy_gate.policy import load_policy, shipped
from kfp_custody.components.policy_gate.rules import evaluate, facts

RUN = "fraud-detection-test-run"
ROOM = Path(policy_module.__file__).parent
MAKERS = sorted(set(KINDS) - {"enforce-policy"})


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """A platform as `regulated` wants it: a gate with its own key, a DVC remote, image and revision known."""
    site = Site(tmp_path)
    gate = site.key("gate")
    site.environment |= {
        "CUSTODY_SIGNER_POLICY_GATE": f"file:{tmp_path}/keys/gate.pem",
        "CUSTODY_IMAGE_DIGEST": "sha256:" + "ab" * 32,
        "CUSTODY_SOURCE_REVISION": "0123abc",
        "CUSTODY_DVC_REMOTE": str(tmp_path / "remote"),
    }
    site.pin(
        {name: load_policy(name).sha256 for name in shipped()},
        [trust_entry("pipeline", site.signer, MAKERS), trust_entry("gate", gate, ["enforce-policy"])],
    )
    return site


@pytest.fixture
def seen(site: Site) -> dict[str, dict[str, Any]]:
    """What the rules see of a chain that `regulated` lets pass."""
    findings = check_chain(site.chain(), site.trust, RUN, now())
    return facts(findings.verified, now(), gate_facts(site.trust, site.signer, "fraud-detection"))


@pytest.mark.parametrize("policy", ["baseline", "permissive-dev", "regulated"])
def test_a_good_release_passes(site: Site, policy: str) -> None:
    done, _, html = site.gate(site.chain(), policy=policy)
    assert [(check.id, check.detail) for check in done.failed] == []
    assert done.policy == policy
    assert escape(load_policy(policy).description) in html


@pytest.mark.parametrize("missing", ["CUSTODY_IMAGE_DIGEST", "CUSTODY_SOURCE_REVISION", "CUSTODY_DVC_REMOTE"])
def test_regulated_wants_image_revision_and_remote(site: Site, missing: str) -> None:
    del site.environment[missing]
    done, _, _ = site.gate(site.chain(), policy="regulated")
    expected = "rule:dataset-kept" if missing == "CUSTODY_DVC_REMOTE" else "rule:training-identified"
    assert [check.id for check in done.failed] == [expected]


def test_regulated_wants_a_gate_of_its_own(site: Site) -> None:
    site.pin({"regulated": load_policy("regulated").sha256})  # one signer for everything
    del site.environment["CUSTODY_SIGNER_POLICY_GATE"]
    done, _, _ = site.gate(site.chain(), policy="regulated")
    assert [check.id for check in done.failed] == ["rule:deciders-separate"]


def test_regulated_wants_no_drifted_column(site: Site) -> None:
    done, _, _ = site.gate(site.chain(drift=DRIFTED | {"columns_drifted": 1.0}), policy="regulated")
    assert [check.id for check in done.failed] == ["rule:drift-limited"]
    assert "needs drift.metrics.columns_drifted == 0.0, is 1" in done.failed[0].detail


def drop(*path: str) -> Callable[[dict[str, Any]], None]:
    def change(seen: dict[str, Any]) -> None:
        for part in path[:-1]:
            seen = seen[part]
        del seen[path[-1]]

    return change


def put(value: object, *path: str) -> Callable[[dict[str, Any]], None]:
    def change(seen: dict[str, Any]) -> None:
        for part in path[:-1]:
            seen = seen[part]
        seen[path[-1]] = value

    return change


# Each rule of `regulated`, by everything that must make it deny.
BITES: dict[str, list[Callable[[dict[str, Any]], None]]] = {
    "masking-complete": [
        put("WARNED", "masking", "result"),
        put(1.0, "masking", "coverage", "errors"),
        put(1.0, "masking", "coverage", "skipped"),
        put(0.0, "masking", "coverage", "checked"),
        put(0.0, "masking", "metrics", "columns_masked"),
    ],
    "current-masking-complete": [
        put("FAILED", "current_masking", "result"),
        put(1.0, "current_masking", "coverage", "errors"),
        put(1.0, "current_masking", "coverage", "skipped"),
        put(0.0, "current_masking", "coverage", "checked"),
        drop("current_masking", "metrics", "columns_masked"),
    ],
    "masking-tests": [
        *(put([test for test in MASKED if test != left_out], "masking", "passed") for left_out in MASKED),
        put(MASKED[1:], "current_masking", "passed"),
        put(["no-pattern-left"], "masking", "failed"),
        put(["x"], "masking", "warned"),
        put(["x"], "current_masking", "failed"),
        put(["x"], "current_masking", "warned"),
        drop("masking", "failed"),
    ],
    "masking-keyed": [
        drop("masking", "resources", "masking-key"),
        put("", "masking", "resources", "masking-key", "annotations", "id"),
        put("other", "current_masking", "resources", "masking-key", "annotations", "id"),
    ],
    "masking-policy-same": [
        put("0" * 64, "current_masking", "resources", "policy", "sha256"),
        drop("masking", "resources", "policy"),
    ],
    "dataset-kept": [
        put(False, "dataset", "internal", "dvc_pushed"),
        put("true", "dataset", "internal", "dvc_pushed"),
        drop("dataset", "resources", "dvc"),
    ],
    "training-identified": [
        drop("training", "resources", "image"),
        put("latest", "training", "resources", "image", "sha256"),
        drop("training", "resources", "source"),
        put("", "training", "resources", "source", "annotations", "revision"),
    ],
    "deciders-separate": [
        put([], "gate", "deciders"),
        put(["pipeline"], "gate", "deciders"),
        *(
            put("gate", name, "signer")
            for name in ("masking", "dataset", "training", "model", "drift", "current_masking")
        ),
        drop("gate", "deciders"),
        drop("model", "signer"),
    ],
    "training-size": [
        put(9999.0, "training", "metrics", "rows_train"),
        put(19.0, "training", "metrics", "positives_test"),
    ],
    "auprc-floor": [put(0.49, "training", "metrics", "average_precision")],
    "auprc-ceiling": [put(1.0, "training", "metrics", "average_precision")],
    "roc-auc-floor": [put(0.89, "training", "metrics", "roc_auc")],
    "drift-limited": [
        put("FAILED", "drift", "result"),
        put(1.0, "drift", "coverage", "errors"),
        put(1.0, "drift", "metrics", "columns_drifted"),
        put(["column:amount"], "drift", "failed"),
    ],
    "drift-against-other-data": [lambda seen: put(seen["dataset"]["subject"], "current_masking", "subject")(seen)],
    "prediction-drift": [
        put(0.25, "drift", "metrics", "prediction_psi"),
        drop("drift", "metrics", "prediction_psi"),
    ],
}


def test_each_rule_of_regulated_bites(seen: dict[str, dict[str, Any]]) -> None:
    from copy import deepcopy

    policy = load_policy("regulated")
    assert list(BITES) == [rule.id for rule in policy.rules]
    assert [check.id for check in evaluate(policy, seen) if check.verdict != "PASSED"] == []
    for rule, changes in BITES.items():
        for number, change in enumerate(changes):
            worse = deepcopy(seen)
            change(worse)
            denied = {check.id for check in evaluate(policy, worse) if check.verdict != "PASSED"}
            assert f"rule:{rule}" in denied, (rule, number)


def test_permissive_dev_relaxes_the_model_and_nothing_else(site: Site) -> None:
    poor = TRAINED | {"average_precision": 0.02, "roc_auc": 0.51, "rows_train": 200.0, "positives_test": 1.0}
    chain = site.chain(training=poor)
    done, _, _ = site.gate(chain, policy="permissive-dev")
    assert done.verdict == "PASSED"
    assert site.gate(chain)[0].verdict == "FAILED"
    (chain.dataset / "data.parquet").write_bytes(b"changed")
    done, _, _ = site.gate(chain, policy="permissive-dev")
    assert {check.id for check in done.failed} == {"bytes:dataset=dataset", "bytes:dataset=masking"}


def test_permissive_dev_keeps_the_rules_about_masking_and_drift(site: Site) -> None:
    leaky = site.chain("leaky", coverage=COVERAGE | {"errors": 1})
    assert [check.id for check in site.gate(leaky, policy="permissive-dev")[0].failed] == ["rule:masking-complete"]
    relaxed = {rule.id: rule.expr for rule in load_policy("permissive-dev").rules}
    for rule in load_policy("baseline").rules:
        if rule.id in ("masking-complete", "drift-limited", "drift-against-other-data"):
            assert relaxed[rule.id] == rule.expr


def test_permissive_dev_says_what_it_is() -> None:
    assert load_policy("permissive-dev").description.startswith("NOT FOR RELEASE")


def test_regulated_claims_no_compliance() -> None:
    assert "No claim of compliance" in load_policy("regulated").description
    assert "**no claim of compliance**" in (ROOM / "REGULATED.md").read_text()


def test_the_table_of_controls_names_rules_and_checks_that_exist(site: Site) -> None:
    done, _, _ = site.gate(site.chain(), policy="regulated")
    text = (ROOM / "REGULATED.md").read_text()
    named = set(re.findall(r"`((?:rule|policy|requires|evidence|bytes|link):[^`]*)`", text)) - {"rule:*"}
    rules = {name for name in named if name.startswith("rule:")}
    assert rules == {check.id for check in done.checks if check.id.startswith("rule:")}
    prefixes = {check.id.partition(":")[0] for check in done.checks}
    assert {name.partition(":")[0] for name in named} <= prefixes
    assert named - rules == {"evidence:*", "bytes:*", "link:*", "policy:pinned", "requires:*"}


def test_every_control_says_what_is_not_covered() -> None:
    rows = [line for line in (ROOM / "REGULATED.md").read_text().splitlines() if line.startswith("|")]
    for row in rows:
        cells = [cell.strip() for cell in row.strip("|").split("|")]
        assert len(cells) == 4, row
        assert all(cells), row
