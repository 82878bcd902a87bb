from pathlib import Path

import pytest

from kfp_custody.components._shared.errors import InputRefused, Misconfigured
from kfp_custody.components.pii_masking.policy import SHIPPED, load_policy


def written(path: Path, text: str) -> str:
    path.write_text(text)
    return str(path)


@pytest.mark.parametrize("name", ["card-transactions", "ulb-card-transactions"])
def test_shipped_policies_are_read_by_name(name: str) -> None:
    policy = load_policy(name)
    assert policy.name == name
    assert policy.keyed
    assert policy.rule("memo").options["on_find"] == "replace"


def test_every_shipped_policy_is_well_formed() -> None:
    assert {load_policy(path.stem).name for path in SHIPPED.glob("*.yaml")} == {
        path.stem for path in SHIPPED.glob("*.yaml")
    }


def test_the_ulb_policy_names_all_components() -> None:
    columns = {rule.column for rule in load_policy("ulb-card-transactions").rules}
    assert {"Time", "Amount", "Class", *(f"V{i}" for i in range(1, 29))} <= columns


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("version: 2\ncolumns: {a: {operator: keep}}", "version"),
        ("version: true\ncolumns: {a: {operator: keep}}", "version"),
        ("version: 1\ncolumns: {}", "columns"),
        ("version: 1\ncolumns: {1: {operator: keep}}", "columns"),
        ("version: 1\ncolumns: {a: {operator: keep}}\nextra: 1", "extra"),
        ("version: 1\ncolumns: {a: {operator: rot13}}", "no known operator"),
        ("version: 1\ncolumns: {a: {operator: [keep]}}", "no known operator"),
        ("version: 1\ncolumns: {a: keep}", "no known operator"),
        ("version: 1\ncolumns: {a: {operator: keep, operator: drop}}", "twice"),
        ("version: 1\ncolumns: {a: {operator: keep}, a: {operator: drop}}", "twice"),
        ("version: 1\ncolumns: {a: {operator: keep, value: x}}", "value"),
        ("version: 1\ncolumns: {a: {operator: replace}}", "lacks value"),
        ("version: 1\ncolumns: {a: {operator: replace, value: 3}}", "bad value"),
        ("version: 1\ncolumns: {a: {operator: mask, keep_last: -1}}", "keep_last"),
        ("version: 1\ncolumns: {a: {operator: mask, keep_last: true}}", "keep_last"),
        ("version: 1\ncolumns: {a: {operator: hmac, domain: ''}}", "domain"),
        ("version: 1\ncolumns: {a: {operator: date_shift, by: b, max_days: 3}}", "no rule"),
        ("version: 1\ncolumns: {a: {operator: date_shift, by: a, max_days: 0}}", "max_days"),
        ("version: 1\ncolumns: {a: {operator: generalize}}", "exactly one"),
        ("version: 1\ncolumns: {a: {operator: generalize, to: year, prefix: 2}}", "exactly one"),
        ("version: 1\ncolumns: {a: {operator: generalize, to: month}}", "bad value for to"),
        ("version: 1\ncolumns: {a: {operator: generalize, bucket: [3, 2]}}", "bucket"),
        ("version: 1\ncolumns: {a: {operator: generalize, round: .nan}}", "round"),
        ("version: 1\ncolumns: {a: {operator: free_text, entities: [], threshold: 0.5}}", "entities"),
        ("version: 1\ncolumns: {a: {operator: free_text, entities: [PERSON, PERSON], threshold: 0.5}}", "twice"),
        ("version: 1\ncolumns: {a: {operator: free_text, entities: [PERSON], threshold: 0}}", "threshold"),
        (
            "version: 1\ncolumns: {a: {operator: free_text, entities: [PERSON], threshold: 0.5, on_find: keep}}",
            "on_find",
        ),
        ("version: 1\ncolumns: {a: {operator: free_text, entities: [PERSON], threshold: 0.5, known: [b]}}", "no rule"),
        ("version: 1\ncolumns: {a: {operator: keep, type: text}}", "type"),
        ("version: 1\ncolumns: {a: {operator: keep, optional: maybe}}", "optional"),
        ("version: 1\ncolumns: &a {a: {operator: keep}}\ndescription: *a", "alias"),
        ("", "empty"),
        ("- 1", "no object"),
    ],
)
def test_a_policy_that_is_not_well_formed_is_refused(tmp_path: Path, text: str, reason: str) -> None:
    with pytest.raises(Misconfigured) as refusal:
        load_policy(written(tmp_path / "p.yaml", text))
    assert reason in refusal.value.evidence


def test_an_unknown_policy_is_refused_with_the_names_that_exist() -> None:
    with pytest.raises(Misconfigured) as refusal:
        load_policy("no-such-policy")
    assert "card-transactions" in refusal.value.remedy


def test_columns_must_be_those_of_the_policy(tmp_path: Path) -> None:
    text = "version: 1\ncolumns: {a: {operator: keep}, b: {operator: keep, optional: true}}"
    policy = load_policy(written(tmp_path / "p.yaml", text))
    assert [rule.column for rule in policy.for_columns(["a"], "f").rules] == ["a"]
    assert [rule.column for rule in policy.for_columns(["b", "a"], "f").rules] == ["b", "a"]
    for columns in (["b"], ["a", "c"], ["a", "a"], []):
        with pytest.raises(InputRefused):
            policy.for_columns(columns, "f")


def test_a_missing_header_is_not_repeated_in_the_message(tmp_path: Path) -> None:
    policy = load_policy(written(tmp_path / "p.yaml", "version: 1\ncolumns: {a: {operator: keep}}"))
    with pytest.raises(InputRefused) as refusal:
        policy.for_columns(["Ada Lovelace", "ada@example.org"], "f.csv")
    assert "Ada" not in str(refusal.value)
    assert "2 undeclared" in refusal.value.evidence
