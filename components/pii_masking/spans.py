"""Spans of a text: what was found where, and how spans are merged."""

from collections.abc import Iterable
from typing import NamedTuple


class Span(NamedTuple):
    """A finding: characters `start` to `end` (exclusive) are `label`."""

    start: int
    end: int
    label: str


# What a language model guessed; a finding with a fixed form is the better name for the same characters.
_GUESSED = frozenset({"PERSON", "LOCATION", "DATE_TIME", "NRP", "ORGANIZATION"})


def merged(spans: Iterable[Span]) -> list[Span]:
    """Merge spans that overlap into their union, named after the best of them: no guess, then the longest."""
    result: list[Span] = []
    best = (False, 0)
    for span in sorted(spans):
        quality = (span.label not in _GUESSED, span.end - span.start)
        if result and span.start < result[-1].end:
            last = result[-1]
            label = span.label if quality > best else last.label
            result[-1] = Span(last.start, max(last.end, span.end), label)
            best = max(best, quality)
        else:
            result.append(span)
            best = quality
    return result
