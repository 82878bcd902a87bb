import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kfp_custody.components.pii_masking import known_values
from kfp_custody.components.pii_masking.base32 import decoded, encoded, tokens_of
from kfp_custody.components.pii_masking.known_values import (
    KnownValue,
    count_distinctive,
    count_leaks,
    find_known,
    is_distinctive,
    squash,
    squash_column,
    words,
)
from kfp_custody.components.pii_masking.patterns import count_patterns, find_in_prose, find_patterns
from kfp_custody.components.pii_masking.spans import Span, merged


def found(text: str, value: str) -> list[str]:
    return [text[span.start : span.end] for span in find_known(text, [KnownValue("X", squash(value))])]


@pytest.mark.parametrize(
    ("text", "value", "expected"),
    [
        ("card 4111 1111 1111 1111 lost", "4111111111111111", ["4111 1111 1111 1111"]),
        ("no4111111111111111x", "4111-1111-1111-1111", ["4111111111111111"]),
        ("ADA LOVELACE called", "Ada Lovelace", ["ADA LOVELACE"]),
        ("Jurgen Muller", "Jürgen Müller", ["Jurgen Muller"]),
        ("Ju\u0308rgen Mu\u0308ller!", "Jürgen Müller", ["Ju\u0308rgen Mu\u0308ller"]),
        ("\uff21\uff44\uff41 Hill", "Ada Hill", ["\uff21\uff44\uff41 Hill"]),
        ("the annals", "Anna", []),
        ("Anna's and anna", "Anna", ["Anna", "anna"]),
        ("nothing", "Ada Lovelace", []),
        ("", "Ada Lovelace", []),
    ],
)
def test_known_values_are_found_in_any_writing(text: str, value: str, expected: list[str]) -> None:
    assert found(text, value) == expected


@given(st.text(min_size=1, max_size=20), st.text(max_size=10), st.text(max_size=10))
def test_a_value_that_stands_by_itself_is_always_found(value: str, before: str, after: str) -> None:
    known = [KnownValue("X", squash(value))]
    start = len(before) + 1
    if known[0].squashed:
        spans = find_known(f"{before} {value} {after}", known)
        assert any(span.start < start + len(value) and span.end > start for span in spans)


def test_short_values_tell_nothing() -> None:
    assert [is_distinctive(value) for value in ("abc", "abcd", "12345", "123456")] == [False, True, False, True]


def test_words_of_a_name() -> None:
    assert words("N", "Dr. Ada van Lovelace-King") == [
        KnownValue("N", "ada"), KnownValue("N", "van"), KnownValue("N", "lovelace"), KnownValue("N", "king"),
    ]  # fmt: skip


def test_leaks_are_counted_by_row_and_not_in_the_own_column() -> None:
    names = pa.array(["Ada Lovelace", "Grace Hopper", None, "Ann"])
    outputs = {
        "name": pa.array(["Ada Lovelace", "x", None, "Ann"]),
        "note": pa.array(["of ada lovelace", "Ada Lovelace", None, "Ann"]),
    }
    squashed = {"name": squash_column(names)}
    assert count_leaks({"name": names}, squashed, outputs) == {("name", "note"): 1}
    assert count_leaks({"name": names}, squashed, {}) == {}


@given(st.lists(st.text(st.characters(exclude_categories=["Cn", "Cs"])), max_size=5))
def test_columns_are_squashed_like_single_values(values: list[str]) -> None:
    assert squash_column(pa.array(values, pa.string())).to_pylist() == [squash(value) for value in values]


def labels(text: str) -> list[tuple[str, str]]:
    return [(span.label, text[span.start : span.end]) for span in find_patterns(text)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("mail bob@srv01.local now", [("EMAIL_ADDRESS", "bob@srv01.local")]),
        ("a.b+c@x.example.com.", [("EMAIL_ADDRESS", "a.b+c@x.example.com")]),
        ("meet @ 5", []),
        ("4111 1111 1111 1111", [("CREDIT_CARD", "4111 1111 1111 1111")]),
        ("5018-0000-0009", [("CREDIT_CARD", "5018-0000-0009")]),
        ("4111111111111112", []),
        ("0000000000000000", []),
        ("T4111111111111111", []),
        ("to GB82 WEST 1234 5698 7654 32 and more", [("IBAN_CODE", "GB82 WEST 1234 5698 7654 32")]),
        ("DE89370400440532013000,", [("IBAN_CODE", "DE89370400440532013000")]),
        ("DE88370400440532013000", []),
        ("TX12345678901234567890", []),
        ("GB82WEST", []),
    ],
)
def test_patterns(text: str, expected: list[tuple[str, str]]) -> None:
    assert labels(text) == expected
    assert sum(count_patterns(pa.array([text, None, text])).values()) == len(expected)


def test_spans_are_merged_and_named_after_the_best() -> None:
    spans = [Span(0, 10, "PERSON"), Span(2, 6, "IBAN"), Span(10, 12, "A"), Span(20, 25, "X"), Span(20, 24, "Y")]
    assert merged(spans) == [Span(0, 10, "IBAN"), Span(10, 12, "A"), Span(20, 25, "X")]
    assert merged([]) == []


def test_leaks_are_counted_alike_by_parts_and_row_by_row(monkeypatch: pytest.MonkeyPatch) -> None:
    names = pa.array(["Ada Lovelace", "Grace", None, "Grace", "Al"] * 20)
    outputs = {
        "note": pa.array(["of ADA-lovelace!", "no", "Grace", "GRACE", "Al"] * 20),
        "other": pa.array(["x"] * 100),
    }
    counted = []
    for parts in (0, 1000):
        monkeypatch.setattr(known_values, "_PARTS_A_ROW", parts)
        counted.append(count_leaks({"name": names}, {"name": squash_column(names)}, outputs))
    assert counted == [{("name", "note"): 40}] * 2


def test_distinctive_values_are_counted_alike() -> None:
    values = ["abc", "abcd", "12345", "123456", "", "12345a", None, "١٢٣٤٥", "١٢٣٤٥٦", "abcd", "ÄÖÜ", "ÄÖÜß"]
    column = squash_column(pa.array(values))
    assert count_distinctive(column) == sum(is_distinctive(squash(value)) for value in values if value is not None)


def test_tokens_at_once_are_those_one_by_one() -> None:
    for size in (1, 4, 5, 16, 17):
        digests = [bytes(range(number, number + size)) for number in range(50)]
        assert tokens_of(digests) == [encoded(digest) for digest in digests]
        assert [decoded(text) for text in tokens_of(digests)] == digests
    assert tokens_of([]) == []
    with pytest.raises(ValueError, match="Non-base32"):
        decoded("01")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ssn 078-05-1120.", [("US_SSN", "078-05-1120")]),
        ("000-12-3456, 666-12-3456, 912-12-3456, 123-00-4567, 123-45-0000", []),
        ("part 1-123-45-6789 and A123-45-6789", []),
        ("from 10.1.2.3, then 192.168.0.255.", [("IP_ADDRESS", "10.1.2.3"), ("IP_ADDRESS", "192.168.0.255")]),
        ("999.1.1.1, 1.2.3, 1.2.3.4.5, v1.2.3.4", []),
        ("host 2001:db8::8a2e:370:7334 up", [("IP_ADDRESS", "2001:db8::8a2e:370:7334")]),
        ("::ffff:10.0.0.1", [("IP_ADDRESS", "::ffff:10.0.0.1")]),
        ("std::vector at 12:30:45, a :: b, AB:CD", []),
    ],
)
def test_numbers_and_addresses_in_prose(text: str, expected: list[tuple[str, str]]) -> None:
    found = {(span.label, text[span.start : span.end]) for span in find_in_prose(text)}
    assert found >= set(expected)
    assert bool(found) == bool(expected)


def test_four_numbers_with_dots_in_a_kept_column_are_left_alone() -> None:
    assert count_patterns(pa.array(["1.2.3.4", "078-05-1120", "::1"])) == {}
