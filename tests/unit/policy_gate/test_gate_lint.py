"""Linting a policy: what can never work, and what would refuse nothing, is found before it meets evidence."""

from pathlib import Path

import pytest
import yaml

from kfp_custody.components._shared.errors import Misconfigured
from kfp_custody.components.policy_gate.lint import ERROR, WARNING, Finding, lint_policy
from kfp_custody.components.policy_gate.policy import shipped

KINDS = ("mask-pii", "attest-dataset", "train-model", "sign-model", "check-drift")


def lint(tmp_path: Path, expr: str, when: str = "", requires: tuple[str, ...] = KINDS) -> list[Finding]:
    path = tmp_path / "policy.yaml"
    rule = {"id": "one", "expr": expr, "message": "As asked."} | ({"when": when} if when else {})
    document = {
        "version": 1,
        "name": "local",
        "description": "for a test",
        "max_age_hours": 24,
        "requires": [{"kind": kind} for kind in requires],
        "rules": [rule],
    }
    path.write_text(yaml.safe_dump(document))
    return lint_policy(str(path))


@pytest.mark.parametrize("name", shipped())
def test_every_shipped_policy_is_clean(name: str) -> None:
    assert [str(finding) for finding in lint_policy(name)] == []


def test_the_shipped_policies_are_known() -> None:
    assert shipped() == ["baseline", "permissive-dev", "regulated"]


@pytest.mark.parametrize(
    "expr",
    [
        "training.metrics.average_precision >= 0.5",
        'training.metrics["average_precision"] >= 0.5',
        "has(training.metrics.roc_auc) && training.metrics.roc_auc > 0.9",
        "masking.metrics.entities_email >= 0.0",
        "training.parameters.seed == 7.0",
        "dataset.internal.dvc_pushed == true",
        "dataset.internal.files == 2.0",
        "size(drift.failed) == 0",
        '"prediction" in drift.passed',
        '["a", "b"].all(test, test in masking.passed)',
        'masking.resources["masking-key"].annotations.id != ""',
        "!(training.signer in gate.deciders) && gate.signer != training.signer",
        'drift.result in ["PASSED", "WARNED"]',
        'training.signer.startsWith("train")',
    ],
)
def test_what_can_work_is_not_found(tmp_path: Path, expr: str) -> None:
    assert lint(tmp_path, expr) == []


@pytest.mark.parametrize(
    ("expr", "said"),
    [
        ("trainng.metrics.roc_auc > 0.9", "nothing is called trainng.metrics.roc_auc; did you mean training?"),
        ("eval('1')", "nothing is called eval"),
        ("training.metricz.roc_auc > 0.9", "training has no field metricz; did you mean metrics?"),
        ("training.result == 'PASSED'", "training has no field result"),
        ("model.age_hours < 24.0", "model has no field age_hours"),
        ("gate.sinner == 'me'", "gate has no field sinner; did you mean signer?"),
        ("training == training", "training is used as a whole"),
        ("training['metrics'].roc_auc > 0.9", "write training.metrics"),
        ("has(training.age_hours)", "it is a double, not a boolean"),
        ("training.metrics.roc_auc", "it is a double, not a boolean"),
        ("training.signer", "it is a string, not a boolean"),
        ("1 + 1", "it is a int, not a boolean"),
        ("dataset.internal.dvc_pushed", "known only at run time"),
        ("training.metrics.roc_auc >= 1", "numbers are doubles, write 5.0, not 5"),
        ("masking.coverage.errors == 0", "numbers are doubles"),
        ("training.age_hours < 24", "numbers are doubles"),
        ("training.metrics.rows_train * 2 > 1.0", "numbers are doubles"),
        ("training.parameters.seed == 7", "training.parameters.seed is compared with the integer 7"),
        ("7 <= training.parameters.seed", "training.parameters.seed is compared with the integer 7"),
        ("drift.result > 0.5", "> does not take (string, double)"),
        ("training.metrics.roc_auc >=", "Syntax error"),
        ("drift.result == 'DRIFT'", "it is never true: it denies all"),
        ("drift.result == 'PASSED' && drift.result == 'WARNED'", "it is never true"),
        ("false", "it is never true"),
        ("true", "it is always true: it denies nothing"),
        ("drift.result != 'DRIFT'", "it is always true"),
    ],
)
def test_what_cannot_work_is_found(tmp_path: Path, expr: str, said: str) -> None:
    findings = lint(tmp_path, expr)
    assert [(finding.level, finding.rule) for finding in findings] == [(ERROR, "one")]
    assert findings[0].what.startswith("expr: ")
    assert said in findings[0].what


@pytest.mark.parametrize(
    ("expr", "said"),
    [
        (
            "training.metrics.average_precison > 0.5",
            "average_precison into training.metrics; did you mean average_prec",
        ),
        ("masking.coverage.errs == 0.0", "did you mean errors?"),
        ("training.parameters.sed == 7.0", "did you mean seed?"),
        ("masking.resources.polcy.sha256 != ''", "did you mean policy?"),
        ("dataset.metrics.rows > 1.0", "no stage of this version puts rows into dataset.metrics"),
    ],
)
def test_what_no_stage_reports_is_a_warning(tmp_path: Path, expr: str, said: str) -> None:
    (finding,) = lint(tmp_path, expr)
    assert finding.level == WARNING
    assert said in finding.what


@pytest.mark.parametrize(
    ("when", "level", "said"),
    [
        ("drift.result == 'DRIFT'", ERROR, "when: it is never true, so the rule never counts"),
        ("false", ERROR, "when: it is never true"),
        ("drift.result != 'DRIFT'", WARNING, "when: it is always true: leave it out"),
        ("drift.reslt == 'PASSED'", ERROR, "when: drift has no field reslt"),
        ("drift.result", ERROR, "when: it is a string, not a boolean"),
    ],
)
def test_a_condition_is_looked_at_too(tmp_path: Path, when: str, level: str, said: str) -> None:
    (finding,) = lint(tmp_path, "training.metrics.roc_auc > 0.9", when)
    assert finding.level == level
    assert said in finding.what


@pytest.mark.parametrize("when", ["drift.result == 'PASSED'", "masking.result != current_masking.result"])
def test_a_condition_that_can_be_true_is_fine(tmp_path: Path, when: str) -> None:
    assert lint(tmp_path, "training.metrics.roc_auc > 0.9", when) == []


def test_a_rule_about_evidence_that_is_not_required_is_found(tmp_path: Path) -> None:
    findings = lint(tmp_path, "masking.coverage.errors + drift.coverage.errors == 0.0", requires=("check-drift",))
    assert [str(finding) for finding in findings] == [
        "error: rule one: expr: it speaks of masking, and the policy does not require mask-pii: add it to requires"
    ]


def test_one_finding_hides_no_other(tmp_path: Path) -> None:
    findings = lint(tmp_path, "trainng.x && drift.reslt == 'A' && training.metrics.foo > 1.0", "model.x == 'A'")
    assert [finding.level for finding in findings] == [ERROR, ERROR, WARNING]


def test_an_id_twice_is_found(tmp_path: Path) -> None:
    path = tmp_path / "policy.yaml"
    lint(tmp_path, "training.metrics.roc_auc > 0.9")
    document = yaml.safe_load(path.read_text())
    document["rules"] = [*document["rules"], dict(document["rules"][0])]
    path.write_text(yaml.safe_dump(document))
    assert [str(finding) for finding in lint_policy(str(path))] == ["error: rules names something twice: one"]


@pytest.mark.parametrize(
    ("data", "said"), [(b"", "it is empty"), (b"version: 1\n", "the policy lacks"), (b"a: [", "no YAML")]
)
def test_what_is_no_policy_is_one_finding(tmp_path: Path, data: bytes, said: str) -> None:
    (tmp_path / "policy.yaml").write_bytes(data)
    (finding,) = lint_policy(str(tmp_path / "policy.yaml"))
    assert (finding.level, finding.rule) == (ERROR, "")
    assert said in finding.what


def test_a_policy_that_is_not_there_is_refused() -> None:
    with pytest.raises(Misconfigured, match="cannot be read"):
        lint_policy("/nowhere/policy.yaml")
