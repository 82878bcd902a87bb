"""Masking a free-text column: what Presidio finds, what the row's own identifiers give away, and what a pattern shows.

The masked text is examined again until nothing of the row is left in it.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import pyarrow as pa

from kfp_custody.components._shared.errors import InputRefused
from kfp_custody.components.pii_masking.known_values import KnownValue, find_known, is_distinctive, squash, words
from kfp_custody.components.pii_masking.patterns import FORMS, find_in_prose
from kfp_custody.components.pii_masking.policy import Rule
from kfp_custody.components.pii_masking.spans import Span, merged

_ROUNDS = 3
_PLACEHOLDER = re.compile(r"<[A-Z0-9_]+>")


class FreeTextMasker:
    """Masks the texts of one column and counts what it found, by entity."""

    def __init__(self, rule: Rule, labels: Iterable[str]) -> None:
        """Prepare Presidio's anonymizer.

        Args:
            rule: a rule with the operator `free_text`.
            labels: names of the columns whose values are looked for.
        """
        from presidio_anonymizer import AnonymizerEngine
        from presidio_anonymizer.entities import OperatorConfig

        self.counts: Counter[str] = Counter()
        self.changed = 0
        self._rule = rule
        self._engine = AnonymizerEngine()
        on_find = rule.options["on_find"]
        self._operators = {} if on_find == "drop" else {"DEFAULT": OperatorConfig(on_find)}
        own = {*rule.options["entities"], *map(label_of, labels), *FORMS}
        self._own = {f"<{label}>" for label in own}

    def mask(
        self, texts: Sequence[str | None], found: Mapping[str, tuple[Span, ...]], known: Sequence[Sequence[KnownValue]]
    ) -> pa.Array:
        """Mask texts.

        Args:
            texts: one a row; null stays null.
            found: the detector's findings, by text.
            known: the identifiers of each row.

        Raises:
            InputRefused: something of a row is still in its text after it was masked repeatedly.
        """
        masked = [
            None if text is None else self._mask(text, found[text], values)
            for text, values in zip(texts, known, strict=True)
        ]
        return pa.array(masked, pa.string())

    def _mask(self, text: str, found: Sequence[Span], known: Sequence[KnownValue]) -> str | None:
        spans = merged([*found, *find_known(text, known), *find_in_prose(text)])
        self.changed += bool(spans)
        for _ in range(_ROUNDS):
            self.counts.update(span.label for span in spans)
            if not spans:
                return text
            if self._rule.options["on_find"] == "drop":
                return None
            text = self._anonymize(text, spans)
            # Removing a span can join what stood around it, so the result is examined like an input.
            bare = _PLACEHOLDER.sub(self._blanked, text)
            spans = merged([*find_known(bare, known), *find_in_prose(bare)])
        raise InputRefused(
            "A free text still holds an identifier of its row after masking, so nothing is published.",
            evidence=f"{self._rule.column!r}: found again after {_ROUNDS} rounds",
            remedy="Use on_find: drop for this column, or drop the column in the policy.",
        )

    def _anonymize(self, text: str, spans: Sequence[Span]) -> str:
        from presidio_anonymizer.entities import RecognizerResult

        results = [RecognizerResult(entity_type=label, start=start, end=end, score=1.0) for start, end, label in spans]
        return str(self._engine.anonymize(text, results, operators=self._operators).text)

    def _blanked(self, match: re.Match[str]) -> str:
        return " " * len(match[0]) if match[0] in self._own else match[0]


def label_of(column: str) -> str:
    """Return the entity name of a column's values: `customer_name` becomes CUSTOMER_NAME."""
    return re.sub(r"[^A-Z0-9]+", "_", column.upper())


def known_of_rows(
    rows: pa.Array, identifiers: Mapping[str, pa.Array], by_words: Mapping[str, pa.Array]
) -> list[list[KnownValue]]:
    """Return the known values of some rows.

    Args:
        rows: numbers of the rows.
        identifiers: column -> values of all rows, as text.
        by_words: the same, for columns of which each word is looked for as well.
    """
    known: list[list[KnownValue]] = [[] for _ in rows]
    for column, values in identifiers.items():
        label = label_of(column)
        for place, text in enumerate(values.take(rows).to_pylist()):
            value = squash(text) if text else ""
            if is_distinctive(value):
                known[place].append(KnownValue(label, value))
    for column, values in by_words.items():
        label = label_of(column)
        for place, text in enumerate(values.take(rows).to_pylist()):
            known[place].extend(words(label, text) if text else ())
    return known
