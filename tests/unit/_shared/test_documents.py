"""Strict JSON and YAML: every way a careless parser is led astray, with its reason."""

import json
import os
import time
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kfp_custody.components._shared.documents import (
    MAX_JSON,
    MAX_YAML,
    DocumentFault,
    canonical_json,
    parse_json,
    parse_yaml,
    read_document,
    require_keys,
)

JSON_FAULTS = [
    (b'{"a": 1, "a": 1}', "the name 'a' stands in it twice"),
    (b'{"x": [{"a": 1, "\\u0061": 2}]}', "the name 'a' stands in it twice"),
    (b'{"a": NaN}', "it holds NaN"),
    (b"[Infinity]", "it holds Infinity"),
    (b"[-Infinity]", "it holds -Infinity"),
    (b"[1e999]", "a number that does not fit"),
    (b"[-1e999]", "a number that does not fit"),
    (b"[" + b"9" * 5000 + b"]", "it is no JSON"),
    (b"[" * 65 + b"]" * 65, "nested deeper than 64"),
    (b'{"a":' * 65 + b"1" + b"}" * 65, "nested deeper than 64"),
    (b"", "it is empty"),
    (b" \n\t ", "it is empty"),
    (b'"caf\xe9"', "it is not UTF-8"),
    (b"\xef\xbb\xbf{}", "it is no JSON"),
    ('{"a": 1}'.encode("utf-16"), "it is not UTF-8"),
    (b'{"a": 1', "it is no JSON"),
    (b'{"a": 1} {"b": 2}', "it is no JSON"),
    (b"{'a': 1}", "it is no JSON"),
    (b'{"a": 1,}', "it is no JSON"),
    (b'{"a": 01}', "it is no JSON"),
    (b'{"a": "\n"}', "it is no JSON"),
    (b'["\\ud800"]', "it is no JSON"),
    (b'{"\\uDEAD": 1}', "it is no JSON"),
    (b" " * (MAX_JSON + 1), f"it has {MAX_JSON + 1} bytes, more than {MAX_JSON}"),
]


@pytest.mark.parametrize(("data", "said"), JSON_FAULTS, ids=[f"{said}-{n}" for n, (_, said) in enumerate(JSON_FAULTS)])
def test_json_that_is_not_clean_is_refused(data: bytes, said: str) -> None:
    with pytest.raises(DocumentFault, match=said):
        parse_json(data)


@pytest.mark.parametrize("opening", [b"[", b'{"a":', b'[{"a":'])
def test_a_nesting_bomb_is_refused_quickly(opening: bytes) -> None:
    bomb = opening * 200_000
    before = time.process_time()
    with pytest.raises(DocumentFault, match="nested deeper"):
        parse_json(bomb)
    assert time.process_time() - before < 2


def test_clean_json_is_read() -> None:
    text = '{"a": [1, -2.5, true, null, "[[[{{\\"\\\\"], "\\ud83d\\ude00": {"b": {}}}'
    assert parse_json(text.encode()) == json.loads(text)
    assert parse_json(b"[" * 64 + b"]" * 64)


SCALARS = st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.floats(allow_nan=False, allow_infinity=False)
VALUES = st.recursive(
    SCALARS | st.text(st.characters(exclude_categories=("Cs",))),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(st.characters(codec="utf-8")), inner, max_size=3)
    ),
    max_leaves=12,
)


@settings(deadline=None)
@given(VALUES)
def test_what_is_written_is_read_back_and_written_the_same(value: object) -> None:
    data = canonical_json(value)
    assert parse_json(data) == value
    assert canonical_json(parse_json(data)) == data


@settings(deadline=None)
@given(st.binary(max_size=40) | st.text('[]{}":,\\ud8001eNaInfity-. ', max_size=40).map(str.encode))
def test_any_bytes_are_read_or_refused_and_nothing_else(data: bytes) -> None:
    for parse in (parse_json, parse_yaml):
        with suppress(DocumentFault):
            parse(data)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_not_finite_is_not_written(value: float) -> None:
    with pytest.raises(ValueError, match="Out of range float"):
        canonical_json({"a": value})


YAML_FAULTS = [
    (b"a: 1\na: 2\n", "the name 'a' stands in it twice"),
    (b"x: {a: 1, 'a': 2}\n", "the name 'a' stands in it twice"),
    (b"1: a\ntrue: b\n", "the name 'True' stands in it twice"),
    (b"a: &x [1]\nb: *x\n", "it uses a YAML alias"),
    (b"a: &a [*a]\n", "it uses a YAML alias"),
    (b"<<: {a: 1}\na: 2\n", "tag:yaml.org,2002:merge"),
    (b"a: !!python/object/apply:os.system [id]\n", "python/object/apply"),
    (b"a: !secret x\n", "!secret"),
    (b"a: !!bool foo\n", "it is no YAML"),
    (b"a: !!timestamp foo\n", "it is no YAML"),
    (b"a: !!int ''\n", "it is no YAML"),
    (b"a: " + b":".join([b"1"] * 400) + b".5\n", "it is no YAML"),
    (b"? [a]\n: b\n", "it is no YAML"),
    (b"? {a: 1}\n: b\n", "it is no YAML"),
    (b"a: 2026-13-01T00:00:00Z\n", "it is no YAML"),
    (b"a: b\n---\nc: d\n", "it is no YAML"),
    (b"a: [1\n", "it is no YAML"),
    (b"a: \x01\n", "it is no YAML"),
    (b"a:\n\t- b\n", "it is no YAML"),
    (b"[" * 100_000, "it is no YAML"),
    (b"- " * 5_000 + b"a", "it is no YAML"),
    (b"", "it is empty"),
    (b"\n", "it is empty"),
    (b"a: \xe9\n", "it is not UTF-8"),
    (b"#" * (MAX_YAML + 1), f"more than {MAX_YAML}"),
]


@pytest.mark.parametrize(("data", "said"), YAML_FAULTS, ids=[f"{said}-{n}" for n, (_, said) in enumerate(YAML_FAULTS)])
def test_yaml_that_is_not_clean_is_refused(data: bytes, said: str) -> None:
    with pytest.raises(DocumentFault, match=said):
        parse_yaml(data)


def test_a_fault_quotes_nothing_of_the_file() -> None:
    with pytest.raises(DocumentFault, match="line 2") as fault:
        parse_yaml(b'user: me\npassword: "hunter2')
    assert "hunter2" not in str(fault.value)


def test_clean_yaml_is_read() -> None:
    assert parse_yaml(b"a: [1, 2.5, true, x]\nb: {c: null}\n") == {"a": [1, 2.5, True, "x"], "b": {"c": None}}


def test_keys_are_those_declared() -> None:
    assert require_keys({"a": 1, "b": 2}, "it", ("a",), ("b",)) == {"a": 1, "b": 2}
    for value, said in (
        ([], "it is no object"),
        (None, "it is no object"),
        ({}, "it lacks a"),
        ({"a": 1, "c": 2}, "it has unknown 'c'"),
        ({"a": 1, 7: 2}, "it has unknown '7'"),
        ({"a": 1, "\x1b[2J": 2}, r"it has unknown '\\x1b\[2J'"),
    ):
        with pytest.raises(DocumentFault, match=said):
            require_keys(value, "it", ("a",), ("b",))


def test_a_message_stays_short_whatever_was_sent() -> None:
    with pytest.raises(DocumentFault) as fault:
        require_keys({"x" * 10_000 + str(n): 1 for n in range(1000)}, "it", ())
    assert len(str(fault.value)) < 600


def test_only_regular_files_of_limited_size_are_read(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"12345")
    (tmp_path / "link").symlink_to("file")
    os.mkfifo(tmp_path / "pipe")
    assert read_document(tmp_path / "file", 5) == b"12345"
    with pytest.raises(DocumentFault, match="more than 4 bytes"):
        read_document(tmp_path / "file", 4)
    for name in ("link", "pipe", ".", "nothing"):
        with pytest.raises(DocumentFault, match="no regular file"):
            read_document(tmp_path / name)
