"""Known values: the direct identifiers of a row, looked for in the other cells of that row.

Values and texts are compared as letters and digits alone, without case and accents, so that a card number written
with spaces or a name in capitals is found. A value of fewer than 9 letters and digits counts only where it stands by
itself; one with fewer than 4 (6, when it is a number) tells nothing about anybody and is not looked for.
"""

import re
import unicodedata
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from kfp_custody.components.pii_masking.spans import Span

_GLUED_FROM = 9
_LEAST, _LEAST_DIGITS = 4, 6
_PARTS_A_ROW = 4  # of the texts of a chunk; beyond that it is faster to search row by row
_WORD = re.compile(r"[^\W\d_]{3,}")
_LINE = "\x1f"


class KnownValue(NamedTuple):
    """A direct identifier: the name that replaces it, and its letters and digits."""

    label: str
    squashed: str


def is_distinctive(squashed: str) -> bool:
    """Tell whether a value is long enough to be looked for."""
    return len(squashed) >= (_LEAST_DIGITS if squashed.isdigit() else _LEAST)


def squash(value: str) -> str:
    """Return the letters and digits of a value, in lower case and without accents."""
    return _squash(value)[0]


def squash_column(column: pa.Array) -> pa.DictionaryArray:
    """Return the same for each text of a column, fast: once for each distinct value.

    Arrow may know a newer Unicode than Python, so values are compared with `squash` where it matters.
    """
    encoded = column.dictionary_encode()
    values = encoded.dictionary
    if pc.all(pc.string_is_ascii(values)).as_py() is not False:
        plain = pc.ascii_lower(values)
    else:
        plain = pc.utf8_lower(pc.utf8_normalize(values, "NFKD"))
    return pa.DictionaryArray.from_arrays(encoded.indices, pc.replace_substring_regex(plain, r"[^\pL\pN]+", ""))


def count_distinctive(squashed: pa.DictionaryArray) -> int:
    """Count the rows whose value is long enough to be looked for."""
    values = squashed.dictionary
    least = pc.if_else(pc.utf8_is_digit(values), _LEAST_DIGITS, _LEAST)  # as `is_distinctive` has it
    long = pc.greater_equal(pc.utf8_length(values), least)
    return int(pc.sum(long.take(squashed.indices)).as_py() or 0)


def words(label: str, value: str) -> list[KnownValue]:
    """Return the words of a value with at least three letters, each to be looked for by itself."""
    return [KnownValue(label, squash(word)) for word in _WORD.findall(value)]


def find_known(text: str, values: Iterable[KnownValue]) -> Iterator[Span]:
    """Yield the spans of a text that hold a known value."""
    squashed, places = _squash(text)
    for label, value in values:
        at = squashed.find(value) if value else -1
        while at >= 0:
            start, end = places[at], places[at + len(value) - 1] + 1
            alone = not (text[start - 1 : start].isalnum() or text[end : end + 1].isalnum())
            if alone or len(value) >= _GLUED_FROM:
                yield Span(start, end, label)
            at = squashed.find(value, at + 1)


def count_leaks(
    identifiers: dict[str, pa.Array], squashed: dict[str, pa.DictionaryArray], outputs: dict[str, pa.Array]
) -> dict[tuple[str, str], int]:
    """Count the rows in which an identifier of the row occurs in another output column.

    Args:
        identifiers: column -> values as text, one a row.
        squashed: the same, squashed.
        outputs: column -> masked texts, one a row.

    Returns:
        (identifier's column, output column) -> rows.
    """
    leaks: dict[tuple[str, str], int] = {}
    if not outputs:
        return leaks
    texts = [squash_column(column) for column in outputs.values()]
    parts = _parts([text for column in texts for text in column.dictionary.to_pylist()], _PARTS_A_ROW * len(texts[0]))
    suspects = {
        name: column
        for name, column in squashed.items()
        if parts is None or not parts.isdisjoint(column.dictionary.to_pylist())
    }
    if not suspects:
        return leaks
    # One string a row: a single search tells whether a closer look is needed, which is rare.
    plain = [column.dictionary_decode() for column in texts]
    rows = pc.binary_join_element_wise(*plain, _LINE, null_handling="replace", null_replacement="").to_pylist()
    for name, column in suspects.items():
        for row, (value, joined) in enumerate(zip(column.to_pylist(), rows, strict=True)):
            if value and value in joined and is_distinctive(value):
                known = [KnownValue(name, squash(identifiers[name][row].as_py()))]
                for other, output in outputs.items():
                    text = output[row].as_py()
                    if other != name and text and any(find_known(text, known)):
                        leaks[name, other] = leaks.get((name, other), 0) + 1
    return leaks


def _parts(texts: list[str], most: int) -> set[str] | None:
    """Return every part of some texts that is long enough to be looked for; None when they are too many to tell."""
    if sum(len(text) ** 2 for text in texts) > 2 * most:
        return None
    return {
        text[start:end] for text in texts for start in range(len(text)) for end in range(start + _LEAST, len(text) + 1)
    }


def _squash(text: str) -> tuple[str, list[int]]:
    """Return the letters and digits of a text, and where in the text each of them stands."""
    if text.isascii():
        places = [place for place, character in enumerate(text) if character.isalnum()]
        return "".join(text[place] for place in places).lower(), places
    pairs = [
        (part, place)
        for place, character in enumerate(text)
        for part in unicodedata.normalize("NFKD", character).lower()
        if part.isalnum()
    ]
    return "".join(part for part, _ in pairs), [place for _, place in pairs]
