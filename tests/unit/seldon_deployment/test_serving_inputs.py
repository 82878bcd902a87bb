"""What a request may be, without a server."""

import math

import pytest

from kfp_custody.components._shared.scoring import Feature
from kfp_custody.components.seldon_deployment.serving.inputs import MAX_ROWS, InputFault, Tensor, read_columns

FEATURES = (Feature("amount", "number"), Feature("channel", "category", ("atm", "pos")))


def read(*tensors: Tensor) -> dict[str, list[float] | list[str | None]]:
    return read_columns(tensors, FEATURES)


def named(amount: object = (1.5, 2), channel: object = ("pos", "atm"), rows: int = 2) -> list[Tensor]:
    return [
        Tensor("channel", "BYTES", (rows, 1), list(channel)),  # type: ignore[call-overload]
        Tensor("amount", "FP32", (rows,), list(amount)),  # type: ignore[call-overload]
    ]


def test_columns_come_in_the_models_order() -> None:
    assert list(read(*named()).items()) == [("amount", [1.5, 2.0]), ("channel", ["pos", "atm"])]


def test_null_and_the_unknown_are_missing() -> None:
    columns = read(*named(amount=(None, True), channel=(None, "pigeon")))
    assert math.isnan(columns["amount"][0])  # type: ignore[arg-type]
    assert columns["amount"][1] == 1.0
    assert columns["channel"] == [None, None]


def test_bytes_of_grpc_are_text() -> None:
    assert read(*named(channel=(b"pos", "atm")))["channel"] == ["pos", "atm"]


def test_a_matrix_holds_categories_by_index() -> None:
    columns = read(Tensor("matrix", "FP64", (2, 2), [[1.5, 1], [2, None]]))
    assert columns == {"amount": [1.5, 2.0], "channel": ["pos", None]}


@pytest.mark.parametrize(
    ("tensors", "words"),
    [
        (named()[:1], "missing: ..amount"),
        ([*named(), Tensor("x", "FP64", (2,), [1, 2])], "not taken by the model: 1"),
        ([*named(), named()[0]], "twice"),
        (named(rows=1), "as many values"),
        (named(rows=0), "1 to"),
        (named(rows=-2), "1 to"),
        (named(rows=MAX_ROWS + 1), "1 to"),
        (named(amount=("1", "2")), "no number"),
        (named(amount=([1], 2)), "ragged"),
        (named(amount=([1, [2]],)), "no number"),
        (named(amount=(math.inf, 1)), "infinite"),
        (named(amount=(10**400, 1)), "does not fit"),
        (named(channel=(1, 2)), "no text"),
        (named(channel=(b"\xff", "pos")), "UTF-8"),
        ([Tensor("channel", "INT64", (1,), [1]), named()[1]], "BYTES"),
        ([named()[0], Tensor("amount", "BYTES", (2,), ["1", "2"])], "number type"),
        ([named()[0], Tensor("amount", "FP64", (1, 2), [1, 2])], "shape"),
        ([named()[0], Tensor("amount", "FP64", (1, 1, 1), [1])], "shape"),
        ([named()[0], Tensor("amount", "FP64", (), 1)], "shape"),
        ([named()[0], Tensor("amount", "FP64", (1,), [1])], "numbers of rows"),
        ([Tensor("matrix", "FP64", (1, 3), [1, 2, 3])], r"\[rows, 2\]"),
        ([Tensor("matrix", "FP32", (1, 2), [1, 2])], "FP64"),
        ([Tensor("matrix", "FP64", (1, 2), [1, 2])], "index"),
        ([Tensor("matrix", "FP64", (1, 2), [1, 0.5])], "index"),
        ([Tensor("matrix", "FP64", (1, 2), [1, -1])], "index"),
        ([Tensor("matrix", "FP64", (1, 2), "ab")], "no list"),
        ([], "missing"),
    ],
)
def test_what_does_not_fit_is_refused(tensors: list[Tensor], words: str) -> None:
    with pytest.raises(InputFault, match=words):
        read(*tensors)
