"""CEL rules: whatever is not plainly true denies, and says why."""

import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from genuine_chain import Site
from kfp_custody.components.policy_gate.checks import Check
from kfp_custody.components.policy_gate.policy import load_policy
from kfp_custody.components.policy_gate.rules import GATE, VARIABLES, evaluate, facts

SEEN: dict[str, dict[str, Any]] = {name: {} for name in VARIABLES} | {
    "training": {
        "result": "",
        "metrics": {"average_precision": 0.7},
        "parameters": {"algorithm": "xgboost", "note": None, "seed": 7},
    },
    "drift": {"result": "PASSED", "age_hours": 1.5, "metrics": {}},
}


def write_policy(path: Path, *rules: dict[str, str], **changes: object) -> Path:
    document = {
        "version": 1,
        "name": "local",
        "description": "for a test",
        "max_age_hours": 24,
        "requires": [{"kind": "train-model"}],
        "rules": list(rules) or [{"id": "always", "expr": "true", "message": "Always."}],
    }
    path.write_text(yaml.safe_dump(document | changes))
    return path


def judge(tmp_path: Path, expr: str, when: str = "") -> Check:
    rule = {"id": "one", "expr": expr, "message": "As asked."} | ({"when": when} if when else {})
    (check,) = evaluate(load_policy(str(write_policy(tmp_path / "policy.yaml", rule))), SEEN)
    assert check.id == "rule:one"
    assert check.detail.startswith("As asked.")
    return check


@pytest.mark.parametrize(
    "expr",
    [
        "training.metrics.average_precision >= 0.5",
        "training.metrics.average_precision >= 0.5 && drift.result in ['PASSED', 'WARNED']",
        "training.parameters.algorithm == 'xgboost'",
        "!has(drift.metrics.max_psi)",
    ],
)
def test_true_passes(tmp_path: Path, expr: str) -> None:
    assert judge(tmp_path, expr).verdict == "PASSED"


@pytest.mark.parametrize(
    ("expr", "said"),
    [
        ("training.metrics.average_precision >= 0.9", "average_precision = 0.7"),
        ("training.metrics.average_precison >= 0.5", r'"average_precison".*|absent'),
        ("training.metrics.missing > 0.1", "Key not found"),
        ("!(training.metrics.missing > 0.1)", "Key not found"),
        ("masking.result == 'PASSED'", "Key not found"),
        ("trainng.metrics.average_precision > 0.1", "undeclared reference to 'trainng"),
        ("training.parameters.algorithm > 0.5", "No matching overload"),
        ("training.parameters.note > 0.5", "No matching overload"),
        ("training.metrics", "not a boolean"),
        ("training.metrics.average_precision", "not a boolean"),
        ("'true'", "not a boolean"),
        ("1", "not a boolean"),
        ("null", "not a boolean"),
        ("1 / 0 == 1", "divide by zero"),
        ("training.metrics.average_precision >=", "Syntax error"),
        ("eval('1')", "undeclared reference to 'eval'"),
        ("(" * 200 + "true" + ")" * 200, "recursion"),
        ("'a'.matches('((')", "regular expression"),
        ("[true][5]", "size=1"),
    ],
)
def test_anything_else_denies_with_its_reason(tmp_path: Path, expr: str, said: str) -> None:
    check = judge(tmp_path, expr)
    assert check.verdict == "FAILED"
    assert re.search(said, check.detail), check.detail


def test_a_field_that_is_absent_is_shown_as_absent(tmp_path: Path) -> None:
    assert "training.metrics.roc = absent" in judge(tmp_path, "training.metrics.roc > 0.9").detail


@pytest.mark.parametrize(
    ("when", "expr", "verdict", "said"),
    [
        ("drift.result == 'PASSED'", "true", "PASSED", ""),
        ("drift.result == 'PASSED'", "false", "FAILED", ""),
        ("drift.result == 'FAILED'", "false", "PASSED", "Does not apply here"),
        ("drift.metrics.nothing > 1.0", "true", "FAILED", "'when' could not be decided"),
        ("drift.result", "true", "FAILED", "not a boolean"),
        ("drft.result == 'PASSED'", "true", "FAILED", "undeclared reference"),
    ],
)
def test_a_condition_that_cannot_be_decided_denies(
    tmp_path: Path, when: str, expr: str, verdict: str, said: str
) -> None:
    check = judge(tmp_path, expr, when)
    assert check.verdict == verdict
    assert said in check.detail


def test_one_failing_rule_hides_no_other(tmp_path: Path) -> None:
    rules = [{"id": f"r{n}", "expr": expr, "message": "."} for n, expr in enumerate(("oops", "false", "true"))]
    checks = evaluate(load_policy(str(write_policy(tmp_path / "policy.yaml", *rules))), SEEN)
    assert [check.verdict for check in checks] == ["FAILED", "FAILED", "PASSED"]


def test_what_has_no_time_has_no_age(tmp_path: Path) -> None:
    """A model signature carries no time: a rule about its age must deny, not see a fresh one."""
    site = Site(tmp_path)
    rule = {"id": "fresh", "expr": "model.age_hours < 24.0", "message": "The signature is fresh."}
    path = write_policy(tmp_path / "policy.yaml", rule)
    site.pin({"local": load_policy(str(path)).sha256})
    done, _, _ = site.gate(site.chain(), policy=str(path))
    assert [check.id for check in done.failed] == ["rule:fresh"]


def test_evidence_that_did_not_verify_has_no_fields() -> None:
    assert facts({}, datetime.now(UTC)) == {name: {} for name in (*VARIABLES, GATE)}
