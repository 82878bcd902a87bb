"""Masking one chunk of rows, and the residual check of what came out.

A direct identifier of a row may occur nowhere in the masked row. In free text what is left is masked as well; in any
other column it is a refusal, because the policy keeps a column that repeats what it hides.
"""

from collections import Counter
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.compute as pc

from kfp_custody.components._shared.errors import InputRefused
from kfp_custody.components.pii_masking.detection import Detector
from kfp_custody.components.pii_masking.free_text import FreeTextMasker, known_of_rows
from kfp_custody.components.pii_masking.known_values import count_distinctive, count_leaks, squash_column
from kfp_custody.components.pii_masking.operators import has_stable_text, mask_column
from kfp_custody.components.pii_masking.patterns import count_patterns
from kfp_custody.components.pii_masking.policy import DIRECT, Policy, Rule
from kfp_custody.components.pii_masking.pseudonyms import Pseudonyms
from kfp_custody.components.pii_masking.spans import Span

_WRITTEN = frozenset({"redact", "replace", "hmac", "encrypt"})


@dataclass
class Tally:
    """Counts over all chunks; never a value of the data."""

    rows: int = 0
    nulls: Counter[str] = field(default_factory=Counter)
    texts: Counter[str] = field(default_factory=Counter)
    compared: int = 0
    too_short: int = 0


class ChunkMasker:
    """Masks chunks of rows with the rules of a policy."""

    def __init__(self, policy: Policy, key: Pseudonyms | None, detector: Detector) -> None:
        """Keep what every chunk needs.

        Args:
            policy: a rule for each column, in the order of the columns.
            key: present when the policy is keyed.
            detector: finds entities in free text.
        """
        self.tally = Tally()
        self._policy = policy
        self._key = key
        self._detector = detector
        self._direct = [rule.column for rule in policy.rules if rule.operator in DIRECT and rule.declared]
        labels = [rule.column for rule in policy.rules]
        self.free_text = {
            rule.column: FreeTextMasker(rule, labels) for rule in policy.rules if rule.operator == "free_text"
        }

    def mask(self, chunk: pa.Table) -> pa.Table:
        """Return the masked rows, without dropped columns.

        Raises:
            InputRefused: an identifier of a row is in another column of the result, or a text cannot be examined.
        """
        free = [rule for rule in self._policy.rules if rule.operator == "free_text"]
        # Free text is analysed by other processes while this one masks the columns.
        texts = {rule.column: chunk[rule.column].drop_null().unique().to_pylist() for rule in free}
        found = {rule.column: self._detector.find(rule, texts[rule.column]) for rule in free}
        columns = {
            rule.column: mask_column(rule, chunk, self._policy, self._key)
            for rule in self._policy.rules
            if rule.operator not in ("drop", "free_text")
        }
        identifiers = {
            name: chunk[name].combine_chunks().cast(pa.string())
            for name in self._direct
            if has_stable_text(chunk[name].type)
        }
        squashed = {name: squash_column(values) for name, values in identifiers.items()}
        self._check(columns, identifiers, squashed)
        for rule in free:
            spans = dict(zip(texts[rule.column], found[rule.column], strict=True))
            columns[rule.column] = self._mask_texts(rule, chunk, spans, identifiers)
        self._count(chunk, squashed)
        kept = [rule.column for rule in self._policy.rules if rule.operator != "drop"]
        return pa.table({name: columns[name] for name in kept})

    def _mask_texts(
        self, rule: Rule, chunk: pa.Table, spans: dict[str, tuple[Span, ...]], identifiers: dict[str, pa.Array]
    ) -> pa.Array:
        column = chunk[rule.column].combine_chunks()
        rows = pc.indices_nonzero(column.is_valid())
        extra = {name: chunk[name].combine_chunks().cast(pa.string()) for name in rule.options.get("known", ())}
        by_words = {
            name: chunk[name].combine_chunks().cast(pa.string()) for name in rule.options.get("known_words", ())
        }
        known = known_of_rows(rows, identifiers | extra, by_words)
        masked = self.free_text[rule.column].mask(column.take(rows).to_pylist(), spans, known)
        self.tally.texts[rule.column] += len(rows)
        return pc.replace_with_mask(column, column.is_valid(), masked)

    def _check(
        self, columns: dict[str, pa.Array], identifiers: dict[str, pa.Array], squashed: dict[str, pa.DictionaryArray]
    ) -> None:
        """Refuse a chunk whose result still shows an identifier outside free text."""
        texts = {name: column for name, column in columns.items() if pa.types.is_string(column.type)}
        # What the policy itself wrote into a column, the same for every row, says nothing about any row; and no more do
        # tokens, which nobody can tell from random letters without the key.
        written = {rule.column for rule in self._policy.rules if rule.operator in _WRITTEN}
        open_texts = {name: text for name, text in texts.items() if name not in written}
        leaks = count_leaks(identifiers, squashed, open_texts)
        if leaks:
            raise InputRefused(
                "Masked columns still hold identifiers of their row, so nothing is published.",
                evidence="; ".join(f"{a!r} is repeated in {b!r} in {n} rows" for (a, b), n in sorted(leaks.items())),
                remedy="Mask the column that repeats the identifier, or declare it as free_text in the policy.",
            )
        # What fpe writes is meant to look like the real thing.
        exempt = {
            rule.column for rule in self._policy.rules if rule.operator == "fpe" or not rule.options.get("scan", True)
        }
        found = {name: count_patterns(text) for name, text in texts.items() if name not in exempt}
        if any(found.values()):
            raise InputRefused(
                "Masked columns hold what looks like e-mail addresses, card numbers or IBANs, so nothing is published.",
                evidence="; ".join(
                    f"{name!r}: {count} {kind}" for name, counts in found.items() for kind, count in counts.items()
                ),
                remedy="Mask the column; where a kept identifier only looks like one by chance, set scan: false.",
            )

    def _count(self, chunk: pa.Table, squashed: dict[str, pa.DictionaryArray]) -> None:
        self.tally.rows += chunk.num_rows
        self.tally.nulls.update({name: chunk[name].null_count for name in chunk.column_names})
        for column in squashed.values():
            distinctive = count_distinctive(column)
            self.tally.compared += distinctive
            self.tally.too_short += len(column) - column.null_count - distinctive
