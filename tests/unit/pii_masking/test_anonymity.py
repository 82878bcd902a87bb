"""Ages and areas after HIPAA, columns without a rule, and rows that could be singled out."""

import datetime as dt
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from kfp_custody.components._shared import codes
from kfp_custody.components._shared.errors import InputRefused, Misconfigured
from kfp_custody.components.pii_masking import anonymity
from kfp_custody.components.pii_masking.anonymity import smallest_class
from kfp_custody.components.pii_masking.generalizing import ages, zip_areas
from kfp_custody.components.pii_masking.policy import Anonymity

POLICY = """\
version: 1
quasi_identifiers: [born, zip]
k: 3
columns:
  id: {operator: keep}
  born: {operator: generalize, to: decade}
  zip: {operator: generalize, to: zip3}
"""


def people(rare: int = 0) -> pa.Table:
    """Return 30 people in five classes, and some who are alone in theirs."""
    born = [dt.date(1950 + 10 * (number % 5), 1 + number % 12, 1) for number in range(30)]
    zips = [f"100{number % 100:02d}" for number in range(30)]
    born += [dt.date(1900 + 10 * number, 1, 1) for number in range(rare)]
    return pa.table({"id": range(30 + rare), "born": born, "zip": zips + ["02139"] * rare})


def test_ages_are_those_of_the_day_and_end_at_ninety() -> None:
    births = [
        dt.date(2000, 2, 29),
        dt.date(1936, 11, 26),
        dt.date(1936, 11, 27),
        dt.date(1901, 1, 1),
        dt.date(2026, 11, 26),
    ]
    assert ages(births, "2026-11-26") == ["26", "90+", "89", "90+", "0"]
    with pytest.raises(ValueError, match="not born"):
        ages([dt.date(2027, 1, 1)], dt.date(2026, 11, 26))


def test_areas_with_few_inhabitants_are_no_areas() -> None:
    assert zip_areas(["10001", "03601", "89301-1234", "021391234"]) == ["100", "000", "000", "021"]
    for code in ("1000", "100012", "ABCDE", "１００００"):
        with pytest.raises(ValueError, match="ZIP"):
            zip_areas([code])


def test_ages_and_areas_in_a_policy(mask: Any) -> None:
    policy = """\
version: 1
columns:
  id: {operator: drop}
  born: {operator: generalize, age_on: 2026-11-26}
  zip: {operator: generalize, to: zip3}
"""
    masked, _ = mask(people(2), policy)
    assert masked["born"].to_pylist()[-2:] == ["90+", "90+"]
    assert set(masked["zip"].to_pylist()) == {"100", "021"}
    with pytest.raises(InputRefused, match="generalised"):
        mask(pa.table({"id": [1], "born": [dt.date(2030, 1, 1)], "zip": ["10001"]}), policy)
    with pytest.raises(InputRefused, match="generalised") as refusal:
        mask(pa.table({"id": [1], "born": [dt.date(2020, 1, 1)], "zip": ["nowhere"]}), policy)
    assert "nowhere" not in str(refusal.value)


# --- columns without a rule ------------------------------------------------------------------------------------------


def test_columns_without_a_rule_are_dropped_where_the_policy_says_so(mask: Any, tmp_path: Path) -> None:
    policy = "version: 1\ndefault: drop\ncolumns: {id: {operator: keep}, zip: {operator: hmac}}"
    masked, _ = mask(people(), policy)
    assert masked.column_names == ["id", "zip"]
    report = json.loads(next(tmp_path.glob("*/evidence/report.json")).read_bytes())
    assert [(one["name"], one["operator"], one["declared"]) for one in report["columns"]] == [
        ("id", "keep", True),
        ("born", "drop", False),
        ("zip", "hmac", True),
    ]
    with pytest.raises(InputRefused, match="not those that the masking policy declares"):
        mask(people(), policy.replace("default: drop\n", ""))
    with pytest.raises(Misconfigured, match="neither error nor drop"):
        mask(people(), policy.replace("default: drop", "default: keep"))


def test_a_rule_without_its_column_is_refused_all_the_same(mask: Any) -> None:
    with pytest.raises(InputRefused, match="1 missing"):
        mask(people(), "version: 1\ndefault: drop\ncolumns: {id: {operator: keep}, card: {operator: hmac}}")


# --- k-anonymity -----------------------------------------------------------------------------------------------------


def test_the_smallest_class_is_reported(mask: Any, tmp_path: Path) -> None:
    mask(people(), POLICY)
    report = json.loads(next(tmp_path.glob("*/evidence/report.json")).read_bytes())
    assert report["k_anonymity"] == {"columns": ["born", "zip"], "k": 3, "smallest": 6}
    assert (
        "At least 6 rows share each combination of born, zip; k is 3."
        in next(tmp_path.glob("*/report.html")).read_text()
    )


def test_rows_that_could_be_singled_out_are_refused(mask: Any, tmp_path: Path) -> None:
    with pytest.raises(InputRefused) as refusal:
        mask(people(2), POLICY)
    assert refusal.value.code == codes.NOT_ANONYMOUS
    assert "2 of 7 combinations of values have fewer rows, together 2" in refusal.value.evidence
    assert not list(tmp_path.glob("*/masked"))
    assert not list(tmp_path.glob("*/evidence"))


def test_nulls_are_a_class_of_their_own(tmp_path: Path) -> None:
    table = pa.table({"a": ["x"] * 5 + [None] * 2, "b": [1, 1, 1, 1, 1, None, None]})
    pq.write_table(table, tmp_path / "t.parquet")
    assert smallest_class(tmp_path / "t.parquet", Anonymity(("a", "b"), 2)) == 2
    with pytest.raises(InputRefused):
        smallest_class(tmp_path / "t.parquet", Anonymity(("a", "b"), 3))


def test_counts_are_added_up_over_row_groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(anonymity, "_ADD_FROM", 4)
    pq.write_table(pa.table({"a": [number % 7 for number in range(700)]}), tmp_path / "t.parquet", row_group_size=10)
    assert smallest_class(tmp_path / "t.parquet", Anonymity(("a",), 100)) == 100


def test_more_classes_than_rows_allow_are_refused_before_all_is_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(anonymity, "_ADD_FROM", 50)
    read = []
    added = anonymity._added
    monkeypatch.setattr(anonymity, "_added", lambda tables, columns: read.append(len(tables)) or added(tables, columns))
    pq.write_table(pa.table({"a": range(10_000)}), tmp_path / "t.parquet", row_group_size=10)
    with pytest.raises(InputRefused) as refusal:
        smallest_class(tmp_path / "t.parquet", Anonymity(("a",), 100))
    assert refusal.value.code == codes.NOT_ANONYMOUS
    assert "combinations of values or more in 10,000 rows" in refusal.value.evidence
    assert len(read) < 5


@pytest.mark.parametrize(
    "change",
    [
        ("k: 3\n", ""), ("k: 3", "k: 1"), ("k: 3", "k: true"), ("[born, zip]", "[]"), ("[born, zip]", "[born, born]"),
        ("[born, zip]", "[born, name]"), ("to: zip3}", "to: zip3, optional: true}"),
        ("id: {operator: keep}", "id: {operator: keep}\n  x: {operator: drop}"),
    ],
)  # fmt: skip
def test_a_demand_that_makes_no_sense_is_refused(mask: Any, change: tuple[str, str]) -> None:
    policy = POLICY.replace(*change)
    if "x:" in policy:
        policy = policy.replace("[born, zip]", "[born, x]")
    with pytest.raises(Misconfigured, match="quasi.identifier"):
        mask(people(), policy)
