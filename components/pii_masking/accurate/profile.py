"""The profile `accurate`: standard findings, those of a second model and of rules, joined and looked for again."""

import re
from collections.abc import Collection, Iterable, Sequence

from kfp_custody.components.pii_masking.accurate.model import TokenModel
from kfp_custody.components.pii_masking.accurate.rules import find_by_rules
from kfp_custody.components.pii_masking.spans import Span, merged

OWN_ENTITIES = frozenset({"ID_NUMBER"})
"""Entities that only this profile finds: numbers of passports, licences, accounts, members and patients."""
ENTITY_OF = {
    "GIVEN_NAME": "PERSON",
    "SURNAME": "PERSON",
    "EMAIL": "EMAIL_ADDRESS",
    "PHONE": "PHONE_NUMBER",
    "URL": "URL",
    "TAX_ID": "ID_NUMBER",
    "BANK_ACCOUNT": "ID_NUMBER",
    "ROUTING_NUMBER": "ID_NUMBER",
    "GOVERNMENT_ID": "ID_NUMBER",
    "PASSPORT": "ID_NUMBER",
    "DRIVERS_LICENSE": "ID_NUMBER",
    "BUILDING_NUMBER": "STREET_ADDRESS",
    "STREET_NAME": "STREET_ADDRESS",
    "SECONDARY_ADDRESS": "STREET_ADDRESS",
    "CITY": "LOCATION",
    "STATE": "LOCATION",
    "ZIP_CODE": "LOCATION",
}
"""The model's kinds -> the entities that a policy names."""
_PLACES = frozenset({"LOCATION", "STREET_ADDRESS"})
_BETWEEN_PLACES = re.compile(r"(?:[\s,.;/-]|\bin\b){1,4}")
_NAME_WORD = re.compile(r"[^\W\d_][\w'’-]{2,}")
_COMMON = """
the and for with from mrs miss sir dame prof professor madame monsieur herr frau bank will may june april august
grace hope joy mark bill rose summer team account dear"""


class Accurate:
    """Adds to the standard findings of a text."""

    def __init__(self) -> None:
        """Load the model.

        Raises:
            Misconfigured: It is not installed.
            EvidenceInvalid: It is not the pinned one.
        """
        self._model = TokenModel()
        self.facts = {"profile": "accurate", **self._model.facts()}

    def extend(self, text: str, found: Iterable[Span], entities: Collection[str]) -> tuple[Span, ...]:
        """Return the findings of a text, those of the profile among them.

        Args:
            text: What was examined.
            found: The standard findings.
            entities: What the rule looks for; nothing else is added.
        """
        by_model = [Span(each.start, each.end, ENTITY_OF[each.kind]) for each in self._model.find(text)]
        spans = [span for span in (*found, *by_model, *find_by_rules(text)) if span.label in entities]
        spans = joined(text, spans)
        return tuple(sorted({*spans, *again(text, spans)}))


def joined(text: str, spans: Sequence[Span]) -> list[Span]:
    """Merge parts of one address, or of one name, that only commas and spaces stand between."""
    result: list[Span] = []
    for span in merged(spans):
        last = result[-1] if result else None
        gap = text[last.end : span.start] if last else ""
        if last and last.label in _PLACES and span.label in _PLACES and _BETWEEN_PLACES.fullmatch(gap):
            label = "STREET_ADDRESS" if "STREET_ADDRESS" in (last.label, span.label) else "LOCATION"
            result[-1] = Span(last.start, span.end, label)
        elif last and last.label == span.label == "PERSON" and gap in ("", " ", "-", "'", ". "):
            result[-1] = Span(last.start, span.end, "PERSON")
        else:
            result.append(span)
    return result


def again(text: str, spans: Sequence[Span]) -> list[Span]:
    """Find the words of names that were found, wherever else they stand with a capital letter."""
    words = {
        word.casefold()
        for span in spans
        if span.label == "PERSON"
        for word in _NAME_WORD.findall(text[span.start : span.end])
        if word[0].isupper() and word.casefold() not in _COMMON.split()
    }
    if not words:
        return []
    return [
        Span(*match.span(), "PERSON")
        for match in _NAME_WORD.finditer(text)
        if match[0].removesuffix("'s").removesuffix("’s").casefold() in words and match[0][0].isupper()
    ]
