"""Explanations: each part of a rule, its value against its threshold, and what would make it pass."""

from typing import Any

import pytest
from cel_expr_python import cel

from kfp_custody.components.policy_gate.explaining import explain
from kfp_custody.components.policy_gate.expressions import comparison, is_integer, paths, terms
from kfp_custody.components.policy_gate.facts import FIELDS

SEEN: dict[str, dict[str, Any]] = {name: {} for name in FIELDS} | {
    "training": {"metrics": {"average_precision": 0.42, "rows_train": 80000.0}, "signer": "pipeline"},
    "drift": {"result": "FAILED"},
    "masking": {
        "coverage": {"checked": 1000.0, "skipped": 5.0},
        "passed": ["a"],
        "resources": {"input": {}, "masking-key": {"annotations": {"id": ""}}},
    },
    "dataset": {"internal": {"dvc_pushed": False}},
}
ENVIRONMENT = cel.NewEnv(variables={name: cel.Type("map<string, dyn>") for name in FIELDS})


@pytest.mark.parametrize(
    ("term", "needs"),
    [
        (
            "training.metrics.average_precision >= 0.5",
            "needs training.metrics.average_precision >= 0.5, is 0.42 (0.08 short)",
        ),
        (
            "0.5 <= training.metrics.average_precision",
            "needs training.metrics.average_precision >= 0.5, is 0.42 (0.08 short)",
        ),
        (
            "training.metrics.average_precision > 0.42",
            "needs training.metrics.average_precision > 0.42, is 0.42 (must be more)",
        ),
        (
            "training.metrics.rows_train < 80000.0",
            "needs training.metrics.rows_train < 80000.0, is 80000 (must be less)",
        ),
        (
            "training.metrics.average_precision <= 0.1",
            "needs training.metrics.average_precision <= 0.1, is 0.42 (0.32 too much)",
        ),
        ("training.metrics.rows_train == 1.0", "needs training.metrics.rows_train == 1.0, is 80000"),
        ('training.signer != "pipeline"', 'needs training.signer != "pipeline", is "pipeline"'),
        ('drift.result in ["PASSED", "WARNED"]', 'needs drift.result in ["PASSED", "WARNED"], is "FAILED"'),
        ('"x" in masking.passed', 'needs "x" in masking.passed, is ["a"]'),
        ('"policy" in masking.resources', 'needs "policy" in masking.resources, is a map of input, masking-key'),
        (
            "masking.coverage.skipped <= 0.001 * masking.coverage.checked",
            "needs masking.coverage.skipped <= 0.001 * masking.coverage.checked (that is 1), is 5 (4 too much)",
        ),
        (
            'masking.resources["masking-key"].annotations.id != ""',
            'needs masking.resources["masking-key"].annotations.id != "", is ""',
        ),
        ("dataset.internal.dvc_pushed == true", "needs dataset.internal.dvc_pushed == true, is false"),
        ("size(masking.passed) == 2", "needs size(masking.passed) == 2, is 1"),
        ("training.metrics.nope > 1.0", "needs training.metrics.nope > 1.0, but training.metrics.nope = absent"),
        ("!(training.metrics.rows_train > 1.0)", "needs !(training.metrics.rows_train > 1.0), but "),
        ("drift.result == 'A' || drift.result == 'B'", "needs drift.result == 'A' || drift.result == 'B', but drift"),
        ("1 / 0 == 1", "needs 1 / 0 == 1, but it cannot be computed"),
        ("false", "needs false"),
    ],
)
def test_what_would_make_it_pass(term: str, needs: str) -> None:
    found = explain(ENVIRONMENT, term, SEEN)
    assert not found.holds
    assert found.needs.startswith(needs)
    assert needs.endswith(("but ", "but drift")) or found.needs == needs


@pytest.mark.parametrize("term", ["training.metrics.average_precision >= 0.4", "1.0 < training.metrics.rows_train"])
def test_what_holds_needs_nothing_and_shows_its_value(term: str) -> None:
    found = explain(ENVIRONMENT, term, SEEN)
    assert found.holds
    assert found.needs == ""
    assert found.found.startswith("training.metrics.")


@pytest.mark.parametrize(
    ("expression", "parts"),
    [
        ("a && b", ["a", "b"]),
        ("a&&b &&c", ["a", "b", "c"]),
        ("(a && b)", ["a", "b"]),
        ("(a) && ((b && c))", ["a", "b", "c"]),
        ("a && b || c", ["a && b || c"]),
        ("(a || b) && c", ["a || b", "c"]),
        ("a ? b && c : d", ["a ? b && c : d"]),
        ("x in ['&&', \"a && b\"] && c", ["x in ['&&', \"a && b\"]", "c"]),
        ("[1, 2].all(x, x > 0 && x < 3) && b", ["[1, 2].all(x, x > 0 && x < 3)", "b"]),
        (r"a == 'it\'s && ' && b", [r"a == 'it\'s && '", "b"]),
        (r"a == r'\' && b", [r"a == r'\'", "b"]),
        ("a == '''x && ' y''' && b", ["a == '''x && ' y'''", "b"]),
        ("a § b && c", ["a § b && c"]),
        ("(" * 200 + "a" + ")" * 200, ["(" * 200 + "a" + ")" * 200]),
        (" && ".join(["a"] * 1000), [" && ".join(["a"] * 1000)]),
    ],
)
def test_parts_are_what_and_joins(expression: str, parts: list[str]) -> None:
    assert terms(expression) == parts


@pytest.mark.parametrize(
    ("expression", "named"),
    [
        (
            "training.metrics.a >= 1.0 && drift.result == training.signer",
            ["training.metrics.a", "drift.result", "training.signer"],
        ),
        ('masking.resources["masking-key"].annotations.id', ['masking.resources["masking-key"].annotations.id']),
        ("masking.passed.all(t, t != 'drift.result')", ["masking.passed"]),
        ("size(masking.passed) + size(masking.passed)", ["masking.passed"]),
        ("other.training.metrics", []),
        ("training_x.y", []),
        ("'training.metrics' // training.signer", []),
        ("has(training)", ["training"]),
    ],
)
def test_fields_that_an_expression_names(expression: str, named: list[str]) -> None:
    assert [path.text for path in paths(expression, FIELDS)] == named


def test_only_one_comparison_is_a_comparison() -> None:
    assert comparison("a < b == c") is None
    assert comparison("f(a < b)") is None
    assert comparison("a in b") is not None


@pytest.mark.parametrize(
    ("text", "is_one"),
    [("5", True), ("-5", True), ("0x1f", True), ("5u", True), ("5.0", False), ("5e1", False), ("x", False)],
)
def test_integers(text: str, is_one: bool) -> None:
    assert is_integer(text) is is_one
