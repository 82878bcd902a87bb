"""Whatever the data is: a verdict, or a refusal that says why."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fraud_tables import frauds
from kfp_custody.components._shared.errors import InputRefused, Misconfigured
from kfp_custody.components.poisoning_screen import disagreement, label_errors
from kfp_custody.components.poisoning_screen.limits import load_limits
from kfp_custody.components.poisoning_screen.reporting import coverage, html, report_json, suspects
from kfp_custody.components.poisoning_screen.rows import read_rows
from kfp_custody.components.poisoning_screen.screening import Screened, screen

LIMITS = load_limits("default")
RNG = np.random.default_rng(7)
N = 400


def read(root: Path, columns: dict[str, Any], most: int = 100_000) -> Any:
    pq.write_table(pa.table(columns), root / "data.parquet", row_group_size=150)
    return read_rows(root, ["data.parquet"], "is_fraud", most, "screened")


def screened(root: Path, columns: dict[str, Any]) -> Screened:
    found = screen(read(root, columns), LIMITS)
    assert len(html(found, LIMITS)) < 300_000
    assert report_json(found, LIMITS)
    assert sum(coverage(found).values()) == len(found.checks)
    assert pq.read_table(pa.BufferReader(suspects(found, LIMITS))).column_names == ["check", "rank", "row"]
    return found


NUMBERS = {f"n{place}": RNG.normal(size=N) for place in range(4)}
LABELS = (RNG.random(N) < 0.2).astype(np.int64)
ODD: dict[str, dict[str, Any]] = {
    "a column of nulls": {**NUMBERS, "x": pa.array([None] * N, pa.float64()), "y": pa.nulls(N)},
    "some nulls": {**NUMBERS, "x": pa.array([None, 1.5] * (N // 2)), "y": pa.array(["a", None] * (N // 2))},
    "constants": {**NUMBERS, "x": np.ones(N), "y": pa.array(["same"] * N)},
    "only constants": {"x": np.ones(N)},
    "infinite and huge": {**NUMBERS, "x": np.where(RNG.random(N) < 0.5, np.inf, -1e300)},
    "categories": {"a": RNG.choice(["x", "y", "z"], N), "b": pa.array(RNG.choice(["p", "q"], N)).dictionary_encode()},
    "pseudonyms": {**NUMBERS, "card": [f"card{number}" for number in range(N)]},
    "dates and lists": {**NUMBERS, "day": pa.array(range(N), pa.date32()), "l": pa.array([[1]] * N)},
    "booleans and decimals": {"b": RNG.random(N) < 0.5, "d": pa.array(range(N)).cast(pa.decimal128(24, 2))},
    "numbers in a dictionary": {"d": pa.array(np.arange(N) % 7).dictionary_encode(), "h": np.arange(N, dtype="f2")},
    "large numbers": {"u": pa.array([2**64 - 1 - place for place in range(N)], pa.uint64()), "i": np.arange(N) + 2**60},
    "a dot in a name": {**NUMBERS, "n0.x": RNG.normal(size=N)},
    "mostly zero": {f"z{place}": np.where(RNG.random(N) < 0.5, 0.0, RNG.random(N)) for place in range(4)},
}


@pytest.mark.parametrize("columns", ODD.values(), ids=list(ODD))
@pytest.mark.parametrize("labels", [LABELS, LABELS.astype(bool), LABELS.astype(float), np.zeros(N), np.ones(N)])
def test_a_verdict(tmp_path: Path, columns: dict[str, Any], labels: Any) -> None:
    found = screened(tmp_path, {**columns, "is_fraud": labels})
    assert found.verdict in ("PASSED", "WARNED"), [check.reason for check in found.checks]
    if labels.min() == labels.max():
        assert "label_errors" in found.names("UNKNOWN")
        assert found.verdict == "WARNED", "what must be judged and cannot is no pass"


@pytest.mark.parametrize("rows", [1, 2, 5, 30])
def test_few_rows(tmp_path: Path, rows: int) -> None:
    made = {"a": RNG.normal(size=rows), "b": RNG.normal(size=rows), "c": RNG.normal(size=rows)}
    assert screened(tmp_path, {**made, "is_fraud": np.arange(rows) % 2}).verdict in ("PASSED", "WARNED")


def test_a_zero_in_most_rows_is_no_flood(tmp_path: Path) -> None:
    """Rows that are all zero are equal because most rows are, not because somebody wrote them again."""
    zero = RNG.random((2000, 5)) < 0.8
    columns = {f"z{place}": np.where(zero[:, place], 0.0, RNG.random(2000)) for place in range(5)}
    found = screened(tmp_path, {**columns, "is_fraud": (RNG.random(2000) < 0.2).astype(int)})
    assert "near_duplicates" in found.names("UNKNOWN")


def test_cleanlab_where_it_is_not_installed(tmp_path: Path) -> None:
    sample = read(tmp_path, {**NUMBERS, "is_fraud": LABELS})
    with pytest.raises(Misconfigured) as caught:
        screen(sample, replace(LIMITS, label_errors=replace(LIMITS.label_errors, engine="cleanlab")))
    assert "cleanlab is not installed" in str(caught.value)


def test_where_no_column_tells_the_label_no_label_is_wrong(tmp_path: Path) -> None:
    """Each rare positive is then unlikely, and none of them is suspicious."""
    columns = {f"n{place}": RNG.normal(size=6000) for place in range(4)}
    found = screened(tmp_path, {**columns, "is_fraud": (RNG.random(6000) < 0.05).astype(int)})
    assert found.names("UNKNOWN")[0] == "label_errors"
    assert "recognise 0% of the positives" in found.checks[0].reason
    assert "label_errors" not in found.checks[0].metrics


def test_values_that_repeat_as_values_of_the_column_do_are_no_trigger(tmp_path: Path) -> None:
    """An age in days stands for a person, and so may tell the label; it repeats as often as others."""
    person = np.repeat(np.arange(300), 20)
    columns = {"age": person * 1.5, "n": RNG.normal(size=6000), "is_fraud": (person % 10 == 0).astype(int)}
    assert "repeated_values" in screened(tmp_path, columns).names("PASSED")


def test_errors_that_an_earlier_window_has_as_well_are_usual() -> None:
    labels = np.repeat([0, 1], [900, 100])
    hard = np.where(labels == 1, np.where(np.arange(1000) % 2, 0.9, 0.05), 0.01)  # half of the positives look fine
    limits = LIMITS.label_errors
    alone = label_errors.judge(hard, labels, None, limits)
    beside = label_errors.judge(hard, labels, label_errors.Window(labels, hard), limits)
    assert (alone.verdict, beside.verdict) == ("WARNED", "PASSED")
    assert alone.metrics["label_errors"] == beside.metrics["label_errors"] == 50
    assert beside.metrics["label_error_excess"] == 0


def test_a_trusted_model_that_is_never_sure_is_no_pass() -> None:
    labels = np.arange(1000) % 2
    limits = LIMITS.trusted_disagreement
    assert disagreement.disagreement(np.full(1000, 0.5), labels, None, limits).verdict == "UNKNOWN"
    assert disagreement.disagreement(np.full(1000, 0.99), labels, None, limits).verdict == "FAILED"


REFUSED: dict[str, dict[str, Any]] = {
    "no rows": {"a": pa.array([], pa.float64()), "is_fraud": pa.array([], pa.int64())},
    "no label": {"a": [1.0]},
    "gaps in the label": {"a": [1.0, 2.0], "is_fraud": [1, None]},
    "another label": {"a": [1.0, 2.0], "is_fraud": [1, 2]},
    "a text": {"a": [1.0, 2.0], "is_fraud": ["0", "1"]},
    "a date": {"a": [1.0], "is_fraud": pa.array([1], pa.date32())},
}


@pytest.mark.parametrize("columns", REFUSED.values(), ids=list(REFUSED))
def test_a_refusal(tmp_path: Path, columns: dict[str, Any]) -> None:
    with pytest.raises(InputRefused) as caught:
        read(tmp_path, columns)
    assert "screened dataset" in caught.value.evidence


def test_files_that_are_no_dataset(tmp_path: Path) -> None:
    (tmp_path / "data.parquet").write_bytes(b"PAR1 garbage")
    for names in (["data.parquet"], ["readme.txt"], []):
        with pytest.raises(InputRefused):
            read_rows(tmp_path, names, "is_fraud", 1000, "screened")
    for number, column in enumerate(("a", "b")):
        pq.write_table(pa.table({column: [1.0], "is_fraud": [1]}), tmp_path / f"{number}.parquet")
    with pytest.raises(InputRefused) as caught:
        read_rows(tmp_path, ["0.parquet", "1.parquet"], "is_fraud", 1000, "screened")
    assert "differ" in caught.value.evidence


def test_a_sample_keeps_the_numbers_of_the_rows(tmp_path: Path) -> None:
    for number in range(2):
        columns = {"a": np.arange(3000) + 3000.5 * number, "is_fraud": np.arange(3000) % 2}
        pq.write_table(pa.table(columns), tmp_path / f"{number}.parquet", row_group_size=700)
    names = ["0.parquet", "1.parquet"]
    sample, again = (read_rows(tmp_path, names, "is_fraud", 1000, "screened") for _ in range(2))
    assert (sample.of, sample.places.size) == (6000, 1000)
    assert sample.places.tolist() == again.places.tolist()
    expected = np.where(sample.places < 3000, sample.places, sample.places + 0.5)
    assert sample.numbers["a"].tolist() == expected.tolist()
    assert sample.labels.tolist() == (sample.places % 2).tolist()


def test_a_wide_table_has_a_small_report(tmp_path: Path) -> None:
    columns = {f"{'long name ' * 20}{place}": RNG.normal(size=60) for place in range(1500)}
    columns |= {f"left out {place}": np.ones(60) for place in range(500)}
    screened(tmp_path, {**columns, "is_fraud": np.arange(60) % 2})


def test_the_report_says_what_cannot_be_seen(tmp_path: Path) -> None:
    table = frauds(1, rows=1500).table()
    found = screened(tmp_path, {name: table[name] for name in table.column_names})
    told = html(found, LIMITS)
    assert "0.25 % of the rows" in told
    assert "no trusted model was given" in told


def test_columns_that_no_check_looks_at_are_named(tmp_path: Path) -> None:
    odd = {**ODD["dates and lists"], **ODD["pseudonyms"], **ODD["constants"]}
    sample = read(tmp_path, {**odd, "is_fraud": LABELS})
    assert sorted(sample.left_out) == ["card", "day", "l", "x", "y"]


def test_dictionaries_of_several_files_are_one(tmp_path: Path) -> None:
    for number, texts in enumerate((["b", "c"], ["c", "a"])):
        columns = {"t": pa.array(texts * 50).dictionary_encode(), "is_fraud": np.arange(100) % 2}
        pq.write_table(pa.table(columns), tmp_path / f"{number}.parquet")
    sample = read_rows(tmp_path, ["0.parquet", "1.parquet"], "is_fraud", 1000, "screened")
    assert sample.categories["t"].tolist() == [1.0, 2.0] * 50 + [2.0, 0.0] * 50
