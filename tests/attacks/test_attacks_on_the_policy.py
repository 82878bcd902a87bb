"""Policies that would let through what they do not understand: whatever is not plainly true denies."""

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from genuine_chain import Site
from kfp_custody.components._shared import codes
from kfp_custody.components._shared.digests import sha256_file
from kfp_custody.components._shared.errors import Misconfigured
from kfp_custody.components.policy_gate.checks import Chain
from kfp_custody.components.policy_gate.policy import load_policy

RULE = {"id": "probe", "expr": "training.metrics.roc_auc >= 0.9", "message": "A probe."}
GOOD = {
    "version": 1,
    "name": "probe",
    "description": "One rule.",
    "max_age_hours": 24,
    "requires": [{"kind": "train-model"}],
    "rules": [RULE],
}


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory) -> tuple[Site, Chain]:
    site = Site(tmp_path_factory.mktemp("site"))
    return site, site.chain()


def text(**changes: object) -> str:
    return yaml.safe_dump(GOOD | changes)


def refused_at(load: Callable[[], object]) -> str:
    with pytest.raises(Misconfigured) as refusal:
        load()
    return refusal.value.code


def failed(site: Site, chain: Chain, path: Path, document: str) -> list[tuple[str, str]]:
    """Ask the gate with a policy that the trust file pins; return the failed checks and their codes."""
    path.write_text(document)
    site.pin({"probe": sha256_file(path)})
    done, _, _ = site.gate(chain, policy=str(path))
    return [(check.id, check.code) for check in done.failed]


def test_the_honest_rule_lets_the_chain_pass(released: tuple[Site, Chain], tmp_path: Path) -> None:
    assert failed(*released, tmp_path / "policy.yaml", text()) == []


UNDECIDED = {
    "field_misspelt": "training.metrics.roc_auk >= 0.9",
    "evidence_misspelt": "trainning.metrics.roc_auc >= 0.9",
    "negated_field_misspelt": "!(training.metrics.roc_auk < 0.9)",
    "number_against_text": "training.metrics.roc_auc >= '0.9'",
    "no_boolean": "training.metrics.roc_auc",
    "no_boolean_but_text": "'true'",
    "null": "null",
    "division_by_zero": "1 / 0 > 0",
    "index_out_of_range": "[1.0][7] > 0.0",
    "unknown_function": "trusted(training)",
    "syntax": "training.metrics.roc_auc >=",
    "absent_evidence": "deployment.result == 'PASSED'",
}


@pytest.mark.parametrize("expression", UNDECIDED.values(), ids=UNDECIDED)
def test_a_rule_that_cannot_be_decided_denies(released: tuple[Site, Chain], tmp_path: Path, expression: str) -> None:
    """Either the policy is not accepted at all, or the rule denies."""
    path = tmp_path / "policy.yaml"
    try:
        assert failed(*released, path, text(rules=[RULE | {"expr": expression}])) == [
            ("rule:probe", codes.RULE_UNDECIDED)
        ]
    except Misconfigured as refusal:
        assert refusal.code == codes.POLICY_FILE  # noqa: PT017


@pytest.mark.parametrize("when", [UNDECIDED["field_misspelt"], UNDECIDED["no_boolean"], UNDECIDED["division_by_zero"]])
def test_a_condition_that_cannot_be_decided_denies(released: tuple[Site, Chain], tmp_path: Path, when: str) -> None:
    try:
        found = failed(*released, tmp_path / "policy.yaml", text(rules=[RULE | {"when": when}]))
        assert found == [("rule:probe", codes.RULE_UNDECIDED)]
    except Misconfigured as refusal:
        assert refusal.code == codes.POLICY_FILE  # noqa: PT017


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"rules": [RULE | {"expr": "training.metrics.roc_auc >= 0.999"}]}, [("rule:probe", codes.RULE)]),
        ({"rules": [RULE | {"expr": "false"}]}, [("rule:probe", codes.RULE)]),
        ({"requires": [{"kind": "deploy-model"}]}, [("requires:deploy-model", codes.REQUIREMENT)]),
        (
            {"requires": [{"kind": "train-model", "signers": ["somebody"]}]},
            [("requires:train-model", codes.REQUIREMENT)],
        ),
    ],
)
def test_a_rule_that_does_not_hold_denies(
    released: tuple[Site, Chain], tmp_path: Path, changes: dict[str, object], found: list[tuple[str, str]]
) -> None:
    assert failed(*released, tmp_path / "policy.yaml", text(**changes)) == found


MALFORMED = {
    "empty": "",
    "no_yaml": "rules: [",
    "key_twice": text() + "rules: []\n",
    "alias": text(description="x") + "more: &a [*a]\n",
    "python_object": "!!python/object/apply:os.system [id]",
    "two_documents": text() + "---\n" + text(),
    "unknown_field": text(allow_all=True),
    "rule_twice": text(rules=[dict(RULE), dict(RULE)]),
    "rule_without_expression": text(rules=[{"id": "probe", "message": "x"}]),
    "rule_with_an_unknown_field": text(rules=[RULE | {"skip": True}]),
    "expression_no_text": text(rules=[RULE | {"expr": True}]),
    "no_rules": text(rules=[]),
    "nothing_required": text(requires=[]),
    "unknown_kind": text(requires=[{"kind": "trust-me"}]),
    "no_signers": text(requires=[{"kind": "train-model", "signers": []}]),
    "endless_age": text(max_age_hours=float("inf")),
    "age_not_a_number": text(max_age_hours=float("nan")),
    "age_true": text(max_age_hours=True),
    "negative_age": text(max_age_hours=-1),
    "other_version": text(version=2),
}


@pytest.mark.parametrize("document", MALFORMED.values(), ids=MALFORMED)
def test_a_malformed_policy_is_refused(tmp_path: Path, document: str) -> None:
    (tmp_path / "policy.yaml").write_text(document)
    assert refused_at(lambda: load_policy(str(tmp_path / "policy.yaml"))) == codes.POLICY_FILE


def test_a_policy_that_is_not_there_is_refused(tmp_path: Path) -> None:
    for name in (str(tmp_path / "none.yaml"), str(tmp_path), "no-such-policy", "../policies/baseline"):
        assert refused_at(lambda name=name: load_policy(name)) == codes.POLICY_FILE  # type: ignore[misc]


def test_a_policy_pinned_under_another_name_is_refused(released: tuple[Site, Chain], tmp_path: Path) -> None:
    site, chain = released
    (tmp_path / "policy.yaml").write_text(text())
    site.pin({"baseline": sha256_file(tmp_path / "policy.yaml")})
    done, _, _ = site.gate(chain, policy=str(tmp_path / "policy.yaml"))
    assert [(check.id, check.code) for check in done.failed] == [("policy:pinned", codes.POLICY_NOT_PINNED)]
