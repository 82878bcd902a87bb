"""Which columns a model sees, and how."""

from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from training_data import CHANNELS, transactions

from kfp_custody.components._shared.errors import InputRefused
from kfp_custody.components._shared.scoring import Feature
from kfp_custody.components.model_training.features import (
    MAX_CATEGORIES,
    MIN_CATEGORY_ROWS,
    describe,
    encode,
    model_frame,
    select_features,
)


def judge(values: Any, name: str = "column") -> Feature | str:
    """Return the feature that a column becomes, or the reason why it does not."""
    table = pa.table(
        {name: values, "other": pa.array(np.arange(len(values)) % 3 * 0.5), "y": np.arange(len(values)) % 2}
    )
    selection = select_features(table, np.arange(len(values)), "y", "")
    return next((feature for feature in selection.features if feature.name == name), None) or selection.dropped[name]


def test_masked_transactions_keep_what_can_be_learned_from() -> None:
    table = transactions(2000)
    selection = select_features(table, np.arange(2000), "is_fraud", "timestamp")
    assert selection.features == (
        Feature("channel", "category", CHANNELS),
        Feature("amount", "number"),
        Feature("hour", "number"),
        Feature("distance", "number"),
        Feature("is_foreign", "number"),
    )
    assert selection.dropped == {
        "is_fraud": "the label",
        "timestamp": "the time column",
        "transaction_id": "an identifier, by its name",
        "customer_id": "an identifier, by its name",
        "email": "constant in the training part",
        "memo": "empty in the training part",
    }


@pytest.mark.parametrize(
    "values",
    [
        pa.array([1, 2, 3] * 20, pa.int8()),
        pa.array([True, False] * 30),
        pa.array([0.5, None, 2.5] * 20),
        pa.array([Decimal("1.50"), Decimal("2.25")] * 30),
        pa.array([1.5, 2.5] * 30, pa.float32()),
        pa.array([0.5] * 59 + [None]),
    ],
    ids=["int8", "bool", "float", "decimal", "float32", "known-or-missing"],
)
def test_numbers_are_features(values: pa.Array) -> None:
    assert judge(values) == Feature("column", "number")


@pytest.mark.parametrize(
    ("values", "why"),
    [
        (pa.array([float(n) for n in range(60)]), None),
        (pa.array([3] * 60), "constant"),
        (pa.array([None] * 60, pa.float64()), "empty"),
        (pa.array([float("nan")] * 60), "empty"),
        (pa.array(range(1000)), "identifier"),
        (pa.array(range(999)), None),
        (pa.array(["x"] * 60), "constant"),
        (pa.array([f"v{n % 51}" for n in range(510)]), "text with 51 distinct values"),
        (pa.array([f"name{n}" for n in range(40)]), "text without a value that 5 rows have"),
        (pa.array([date(2026, 1, 1)] * 60), "date or time"),
        (pa.array([datetime(2026, 1, 1, tzinfo=UTC)] * 60), "date or time"),
        (pa.array([[1, 2]] * 60), "of the type list"),
        (pa.array([{"a": 1}] * 60), "of the type struct"),
        (pa.array([b"x"] * 60), "of the type binary"),
        (pa.nulls(60), "empty"),
    ],
)
def test_other_columns_are_left_out_with_a_reason(values: pa.Array, why: str | None) -> None:
    verdict = judge(values)
    assert verdict == Feature("column", "number") if why is None else why in str(verdict)


@pytest.mark.parametrize("name", ["id", "ID", "transaction_id", "card-id", "customerId", "userID", "uuid", "row uuid"])
def test_identifiers_are_known_by_their_names(name: str) -> None:
    assert judge(pa.array([1, 2, 3] * 20), name) == "an identifier, by its name"


@pytest.mark.parametrize("name", ["paid", "grid", "humid", "identity_score", "idle", "V1"])
def test_names_that_only_look_like_identifiers_are_features(name: str) -> None:
    assert judge(pa.array([1, 2, 3] * 20), name) == Feature(name, "number")


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.dictionary(pa.int32(), pa.string())])
def test_text_of_any_arrow_type_is_a_category(kind: pa.DataType) -> None:
    values = pa.array(["pos", "atm"] * 30).cast(kind)
    assert judge(values) == Feature("column", "category", ("atm", "pos"))


def test_rare_values_never_enter_the_list_that_leaves_with_the_model() -> None:
    values = ["pos"] * 30 + ["atm"] * MIN_CATEGORY_ROWS + ["Jane Doe"] * (MIN_CATEGORY_ROWS - 1)
    assert judge(pa.array(values)) == Feature("column", "category", ("atm", "pos"))


def test_at_most_fifty_categories() -> None:
    values = pa.array([f"v{n % MAX_CATEGORIES:02d}" for n in range(MAX_CATEGORIES * MIN_CATEGORY_ROWS)])
    assert len(judge(values).categories) == MAX_CATEGORIES  # type: ignore[union-attr]


def test_selection_looks_at_training_rows_only() -> None:
    table = pa.table({"kind": ["a"] * 5 + ["b"] * 5 + ["late"] * 10, "n": [1.0] * 10 + [2.0] * 10, "y": [0, 1] * 10})
    selection = select_features(table, np.arange(10), "y", "")
    assert selection.features == (Feature("kind", "category", ("a", "b")),)
    assert selection.dropped["n"] == "constant in the training part"


def test_no_usable_column_is_refused_with_every_reason() -> None:
    table = pa.table({"customer_id": ["x"] * 10, "email": ["<X>"] * 10, "y": [0, 1] * 5})
    with pytest.raises(InputRefused, match="No column") as refusal:
        select_features(table, np.arange(10), "y", "")
    assert "customer_id: an identifier, by its name; email: constant" in refusal.value.evidence


@pytest.mark.parametrize("value", [float("inf"), float("-inf"), 1e39, -1e300])
def test_infinite_and_too_large_numbers_are_refused_by_column_and_count(value: float) -> None:
    table = pa.table({"amount": [1.0, value, 2.0], "hour": [1, 2, 3]})
    with pytest.raises(InputRefused, match="infinite, or too large") as refusal:
        model_frame(table, (Feature("amount", "number"), Feature("hour", "number")))
    assert refusal.value.evidence == "column 'amount': 1 rows"


def test_frame_holds_floats_and_text_with_gaps() -> None:
    table = pa.table({"kind": ["a", None, "rare", "b"], "n": [1, None, 3, 4], "flag": [True, False, None, True]})
    features = (Feature("flag", "number"), Feature("kind", "category", ("a", "b")), Feature("n", "number"))
    frame = model_frame(table, features)
    assert list(frame.columns) == ["flag", "kind", "n"]
    assert [str(dtype) for dtype in frame.dtypes] == ["float64", "object", "float64"]
    assert frame["kind"].tolist() == ["a", None, None, "b"]
    np.testing.assert_array_equal(frame["flag"], [1.0, 0.0, np.nan, 1.0])
    np.testing.assert_array_equal(frame["n"], [1.0, np.nan, 3.0, 4.0])


def test_whole_numbers_beyond_double_precision_are_rounded_not_refused() -> None:
    assert model_frame(pa.table({"n": [2**63 - 1]}), (Feature("n", "number"),))["n"][0] == float(2**63)


def test_encoding_is_the_index_in_the_list() -> None:
    features = (Feature("kind", "category", ("a", "b")), Feature("n", "number"))
    frame = model_frame(pa.table({"kind": ["b", "a", "c", None], "n": [1.5, None, 3.0, 4.0]}), features)
    matrix = encode(frame, features)
    assert matrix.dtype == np.float32
    np.testing.assert_array_equal(matrix, [[1.0, 1.5], [0.0, np.nan], [np.nan, 3.0], [np.nan, 4.0]])


def test_frame_describes_itself() -> None:
    table = transactions(500)
    features = select_features(table, np.arange(500), "is_fraud", "timestamp").features
    assert describe(model_frame(table, features)) == features
