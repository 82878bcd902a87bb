"""Parameters of a run, before anything is sent."""

import json
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from kfp_custody.components._shared import codes
from kfp_custody.components._shared.errors import InputRefused
from kfp_custody.components._shared.kfp_api.parameters import MAX_BYTES, check_parameters, read_parameters


def spec(**parameters: dict[str, Any]) -> dict[str, Any]:
    return {"root": {"inputDefinitions": {"parameters": parameters}}}


def of_kind(kind: str, **more: Any) -> dict[str, Any]:
    return spec(p={"parameterType": kind, **more})


def typed(*pairs: str) -> dict[str, Any]:
    return read_parameters(pairs, None)


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        ("STRING", "a=b=c", "a=b=c"),
        ("STRING", "", ""),
        ("STRING", "7", "7"),
        ("NUMBER_INTEGER", "-7", -7),
        ("NUMBER_DOUBLE", "7", 7.0),
        ("NUMBER_DOUBLE", "1e-3", 0.001),
        ("BOOLEAN", "True", True),
        ("BOOLEAN", "false", False),
        ("LIST", '[1, "a"]', [1, "a"]),
        ("STRUCT", '{"a": null}', {"a": None}),
    ],
)
def test_a_text_becomes_what_the_type_asks_for(kind: str, text: str, value: Any) -> None:
    (found,) = check_parameters(typed(f"p={text}"), of_kind(kind)).values()
    assert (found, type(found) is bool) == (value, type(value) is bool)


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("NUMBER_INTEGER", "7.0"),
        ("NUMBER_INTEGER", ""),
        ("NUMBER_INTEGER", "0x10"),
        ("NUMBER_INTEGER", "٣"),
        ("NUMBER_INTEGER", str(2**53 + 1)),
        ("NUMBER_DOUBLE", "nan"),
        ("NUMBER_DOUBLE", "1e999"),
        ("NUMBER_DOUBLE", "many"),
        ("BOOLEAN", "1"),
        ("BOOLEAN", "yes"),
        ("LIST", "{}"),
        ("LIST", "a, b"),
        ("STRUCT", "[]"),
        ("STRUCT", "null"),
        ("STRUCT", "[" * 100_000),
        ("TASK_FINAL_STATUS", "x"),
    ],
)
def test_another_type_is_refused_without_its_value(kind: str, text: str) -> None:
    with pytest.raises(InputRefused) as caught:
        check_parameters(typed(f"p={text}"), of_kind(kind))
    assert caught.value.code == codes.PARAMETER_TYPE
    assert not text or text not in str(caught.value.evidence)


@pytest.mark.parametrize(
    ("kind", "value", "fits"),
    [
        ("STRING", "x", True),
        ("STRING", 1, False),
        ("NUMBER_INTEGER", 1, True),
        ("NUMBER_INTEGER", "1", False),
        ("NUMBER_INTEGER", True, False),
        ("NUMBER_INTEGER", 1.0, False),
        ("NUMBER_DOUBLE", 1, True),
        ("NUMBER_DOUBLE", True, False),
        ("BOOLEAN", True, True),
        ("BOOLEAN", 1, False),
        ("LIST", [], True),
        ("STRUCT", {}, True),
        ("STRUCT", None, False),
        ("LIST", [date(2026, 1, 31)], False),
        ("STRUCT", {"a": float("nan")}, False),
    ],
)
def test_values_of_a_file_have_their_type_already(kind: str, value: Any, fits: bool) -> None:
    if fits:
        assert check_parameters({"p": value}, of_kind(kind)) == {"p": value}
    else:
        with pytest.raises(InputRefused, match="another type"):
            check_parameters({"p": value}, of_kind(kind))


def test_a_pair_wins_over_the_file(tmp_path: Path) -> None:
    (tmp_path / "p.yaml").write_text("p: 1\nq: 2\n")
    given = read_parameters(["p=3"], tmp_path / "p.yaml")
    kinds = spec(p={"parameterType": "NUMBER_INTEGER"}, q={"parameterType": "NUMBER_INTEGER"})
    assert check_parameters(given, kinds) == {"p": 3, "q": 2}


def test_the_nearest_name_is_offered() -> None:
    with pytest.raises(InputRefused) as caught:
        check_parameters(typed("train_algoritm=x"), spec(train_algorithm={"parameterType": "STRING"}, other={}))
    assert caught.value.code == codes.PARAMETER_UNKNOWN
    assert caught.value.remedy == "Did you mean train_algorithm? It has: other, train_algorithm."


def test_a_pipeline_without_parameters_takes_none() -> None:
    assert check_parameters({}, {"root": {}}) == {}
    with pytest.raises(InputRefused, match="no such parameter"):
        check_parameters(typed("a=1"), {"root": {}})


def test_what_has_a_default_or_is_optional_may_be_left_out() -> None:
    kinds = spec(
        a={"parameterType": "STRING", "defaultValue": ""}, b={"parameterType": "STRING", "isOptional": True}, c={}, d={}
    )
    with pytest.raises(InputRefused) as caught:
        check_parameters({}, kinds)
    assert (caught.value.evidence, caught.value.code) == ("c, d", codes.PARAMETER_MISSING)


@pytest.mark.parametrize("kind", ["STRING", "NUMBER_DOUBLE"])
def test_a_closed_vocabulary_is_closed(kind: str) -> None:
    allowed: list[Any] = ["baseline", "strict"] if kind == "STRING" else [1.0, 2.5]
    closed = of_kind(kind, literals=allowed)
    assert check_parameters(typed(f"p={allowed[0]}"), closed) == {"p": allowed[0]}
    with pytest.raises(InputRefused) as caught:
        check_parameters(typed("p=3"), closed)
    assert caught.value.code == codes.PARAMETER_VALUE
    assert caught.value.evidence == f"p takes one of: {allowed[0]}, {allowed[1]}"


def test_all_together_have_a_limit() -> None:
    frame = len(json.dumps({"p": ""}, separators=(",", ":")))
    fits = "x" * (MAX_BYTES - frame)
    assert check_parameters(typed(f"p={fits}"), of_kind("STRING")) == {"p": fits}
    for longer in (f"{fits}x", f"{fits[:-1]}ü"):
        with pytest.raises(InputRefused) as caught:
            check_parameters(typed(f"p={longer}"), of_kind("STRING"))
        assert caught.value.code == codes.PARAMETERS_SIZE


def test_macros_are_checked_where_they_are_replaced() -> None:
    for good in ("[[ScheduledTime]]", "s3://b/[[CurrentTime.2006-01-02]]/[[RunUUID]]", "[not one]"):
        assert check_parameters(typed(f"p={good}"), of_kind("STRING"), macros=True) == {"p": good}
    with pytest.raises(InputRefused) as caught:
        check_parameters(typed("p=[[Index]]"), of_kind("STRING"), macros=True)
    assert caught.value.code == codes.PARAMETER_MACRO
    assert check_parameters(typed("p=[[Index]]"), of_kind("STRING")) == {"p": "[[Index]]"}
