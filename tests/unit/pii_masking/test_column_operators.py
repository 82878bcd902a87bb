import datetime as dt
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest

from kfp_custody.components._shared.errors import InputRefused
from kfp_custody.components.pii_masking.operators import mask_column, output_type
from kfp_custody.components.pii_masking.policy import Policy, Rule
from kfp_custody.components.pii_masking.pseudonyms import MaskingKey

KEY = MaskingKey(bytes(range(32)))


def apply(operator: str, values: pa.Array, others: dict[str, pa.Array] | None = None, **options: Any) -> pa.Array:
    rule = Rule("x", operator, options)
    rules = (rule, *(Rule(name, "hmac", {"domain": name}) for name in others or {}))
    table = pa.table({"x": values, **(others or {})})
    masked = mask_column(rule, table, Policy("p", "0" * 64, rules), KEY)
    assert masked.type == output_type(rule, values.type)
    return masked


def test_keep_changes_nothing() -> None:
    values = pa.array([1.5, None, float("nan")])
    assert apply("keep", values).to_pylist()[:2] == [1.5, None]


def test_redact_and_replace_write_the_same_for_every_value_and_keep_nulls() -> None:
    values = pa.array(["a", None, "b"])
    assert apply("redact", values).to_pylist() == ["", None, ""]
    assert apply("replace", values, value="<X>").to_pylist() == ["<X>", None, "<X>"]
    assert apply("redact", pa.array([1, None])).to_pylist() == ["", None]


def test_mask_shows_at_most_half() -> None:
    values = pa.array(["4111111111111234", "12", "", None, "äöü"])
    assert apply("mask", values, keep_last=4).to_pylist() == ["************1234", "*2", "", None, "**ü"]
    assert apply("mask", values, keep_last=0).to_pylist() == ["*" * 16, "**", "", None, "***"]


def test_hmac_of_equal_text_is_equal_whatever_the_type() -> None:
    text = apply("hmac", pa.array(["17", "18", None, "17"]), domain="d").to_pylist()
    assert text[0] == text[3] != text[1]
    assert text[2] is None
    assert apply("hmac", pa.array([17, 18, None, 17]), domain="d").to_pylist() == text
    assert apply("hmac", pa.array([dt.date(2024, 1, 2)]), domain="d") == apply(
        "hmac", pa.array(["2024-01-02"]), domain="d"
    )
    assert len(apply("hmac", pa.array([Decimal("1.50")]), domain="d")[0].as_py()) == 26


def test_generalize() -> None:
    days = pa.array([dt.date(1987, 5, 17), None, dt.date(2000, 1, 1)])
    assert apply("generalize", days, to="year").to_pylist() == [1987, None, 2000]
    assert apply("generalize", days, to="decade").to_pylist() == [1980, None, 2000]
    assert apply("generalize", pa.array(["90210", "9", "", None]), prefix=3).to_pylist() == ["902", "", "", None]
    assert apply("generalize", pa.array(["902"]), prefix=3).to_pylist() == ["90"]
    assert apply("generalize", pa.array([14.9, None, 25.0]), round=10).to_pylist() == [10.0, None, 20.0]
    assert apply("generalize", pa.array([14, 26]), round=5).to_pylist() == [15, 25]
    buckets = apply("generalize", pa.array([-1.0, 0.0, 9.99, 10.0, None, float("nan")]), bucket=[0, 10])
    assert buckets.to_pylist() == ["<0", "[0, 10)", "[0, 10)", ">=10", None, "NaN"]


@pytest.mark.parametrize(
    "kind",
    [pa.date32(), pa.date64(), pa.timestamp("s"), pa.timestamp("ms"), pa.timestamp("us", "UTC"), pa.timestamp("ns")],
)
def test_date_shift_keeps_intervals_of_one_entity(kind: pa.DataType) -> None:
    days = pa.array([dt.datetime(2024, 2, 1), dt.datetime(2024, 2, 11), None, dt.datetime(2024, 2, 1)])
    who = {"who": pa.array(["a", "a", None, "b"])}
    before = days.cast(pa.timestamp("ms")).cast(kind) if not pa.types.is_timestamp(kind) else days.cast(kind)
    after = apply("date_shift", before, who, by="who", max_days=400)
    assert after.type == kind
    dates = [value and dt.date(value.year, value.month, value.day) for value in after.to_pylist()]
    assert dates[1] - dates[0] == dt.timedelta(days=10)
    assert dates[2] is None
    assert dates[0] != dt.date(2024, 2, 1)
    assert dates[0] != dates[3]
    assert apply("date_shift", before, who, by="who", max_days=400) == after


def test_date_shift_needs_to_know_whose_date_it_is() -> None:
    with pytest.raises(InputRefused):
        apply(
            "date_shift", pa.array([dt.date(2024, 2, 1)]), {"who": pa.array([None], pa.string())}, by="who", max_days=4
        )


def test_a_date_that_leaves_its_type_is_refused_and_not_quoted() -> None:
    values = pa.array([2**31 - 1], pa.int32()).view(pa.date32())
    for entity in ("a", "b", "c", "d", "e", "f"):
        if KEY.offsets("who", [entity], 9)[0] > 0:
            with pytest.raises(InputRefused) as refusal:
                apply("date_shift", values, {"who": pa.array([entity])}, by="who", max_days=9)
            assert str(2**31 - 1) not in str(refusal.value)
            return
    pytest.fail("no entity is shifted forward")


@pytest.mark.parametrize(
    ("operator", "options", "given"),
    [
        ("hmac", {"domain": "d"}, pa.float64()),
        ("hmac", {"domain": "d"}, pa.bool_()),
        ("mask", {"keep_last": 4}, pa.int64()),
        ("free_text", {}, pa.int64()),
        ("date_shift", {"by": "x"}, pa.string()),
        ("generalize", {"to": "year"}, pa.string()),
        ("generalize", {"prefix": 2}, pa.int64()),
        ("generalize", {"round": 10}, pa.string()),
        ("generalize", {"round": 0.5}, pa.int64()),
        ("generalize", {"bucket": [1]}, pa.date32()),
    ],
)
def test_a_type_that_does_not_fit_is_refused(operator: str, options: dict[str, Any], given: pa.DataType) -> None:
    with pytest.raises(InputRefused):
        output_type(Rule("x", operator, options), given)


def test_a_declared_type_must_hold() -> None:
    assert output_type(Rule("x", "keep", type="float"), pa.float64()) == pa.float64()
    with pytest.raises(InputRefused):
        output_type(Rule("x", "keep", type="float"), pa.string())


def test_drop_has_no_output() -> None:
    assert output_type(Rule("x", "drop"), pa.string()) is None
