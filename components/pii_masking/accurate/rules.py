"""Rules of the profile `accurate`: what a title, a postal form or the word before a number says about what follows."""

import re
from collections.abc import Iterator

from kfp_custody.components.pii_masking.spans import Span

_NAME = r"[A-Z][\w'’-]*\.?(?:[ -](?:(?:de|da|del|van|von|der|den|bin|al|la|le)[ -]){0,2}[A-Z][\w'’-]*\.?){0,3}"
_STREETS = (
    r"Alley|Avenue|Ave|Boulevard|Blvd|Circle|Cir|Close|Court|Ct|Crescent|Cres|Drive|Dr|Gardens?|Grove|Heights|"
    r"Highway|Hwy|Hill|Lane|Ln|Loop|Mews|Parade|Park|Parkway|Pkwy|Place|Pl|Plaza|Quay|Rise|Road|Rd|Row|Square|Sq|"
    r"Street|St|Terrace|Trail|Walk|Way|Wharf|Yard"
)
_WORD = r"(?:[A-Z0-9][\w'’.-]*)"
_RULES: dict[str, tuple[str, ...]] = {
    "PERSON": (
        rf"\b(?:Mr|Mrs|Ms|Miss|Mx|Dr|Prof|Professor|Sir|Dame|Rev|Fr|Herr|Frau|Madame|Monsieur|Señora?|Sra?)\b\.? "
        rf"(?P<found>{_NAME})",
    ),
    "STREET_ADDRESS": (
        rf"\b\d{{1,6}}(?:[-/]\d{{1,4}})?[A-Za-z]?,? (?:{_WORD} ){{1,4}}(?:{_STREETS})\b\.?",
        # Streets that begin with their kind, or end with it as part of a word, before or after the number.
        r"\b\d{1,4},? (?:rue|avenue|boulevard|place|quai|impasse) (?:(?:de|du|des|la|le|les|d'|l') ?){0,2}[A-Z]\w+"
        r"(?:[ -][A-Z]\w+)?",
        r"\b(?:Calle|Avenida|Plaza|Paseo|Via|Viale|Piazza|Corso|Rua|Travessa) (?:(?:de|del|della|dos|da|la|los) ){0,2}"
        r"[A-Z]\w+(?: [A-Z]\w+){0,2},? \d{1,4}",
        r"\b[A-ZÄÖÜ]\w+(?:straße|strasse|str\.|weg|gasse|allee|platz|straat|laan|gatan|vägen|veien)\s\d{1,4}\s?[a-z]?\b",
        r"\b(?:P\.? ?O\.? ?Box|Post Office Box|Postfach) \d{1,6}\b",
        r"\b(?:Apt|Apartment|Suite|Ste|Unit|Flat|Floor|Room)\b\.? ?#?(?:\d{1,5}[A-Za-z]?|[A-Z]\d{0,4})\b",
    ),
    "LOCATION": (
        # Codes of the United Kingdom, Canada and the Netherlands have a form of their own.
        r"\b[A-Z]{1,2}\d[A-Z\d]? \d[A-Z]{2}\b",
        r"\b[A-Z]\d[A-Z] ?\d[A-Z]\d\b",
        r"\b\d{4} [A-Z]{2}\b(?=,? [A-Z]|[,.;]|$)",
        # A United States code follows the state; any other, the word for it, or stands before a town after a comma.
        r"\b[A-Z]{2},? \d{5}(?:-\d{4})?\b",
        r"(?i:\b(?:zip|postcode|postal code|PLZ)(?: code)?(?: is)?:? ?)(?P<found>[A-Z\d][A-Z\d -]{2,8}[A-Z\d])\b",
        r"(?<=, )\d{4,5} [A-ZÄÖÜÉ]\w+(?:[ -][A-ZÄÖÜ]\w+)?",
    ),
    "PHONE_NUMBER": (
        r"(?<![\w.-])(?:\+|00)\d{1,3}[ .-]?(?:\(0?\d{1,4}\)[ .-]?)?\d{1,5}(?:[ .-]?\d{2,5}){1,5}(?![\w-])",
        r"(?<![\w.-])\(\d{2,5}\)[ .-]?\d{3,5}[ .-]?\d{3,5}(?![\w-])",
        r"(?<![\w.-])(?:1[ .-])?\d{3}[ .-]\d{3}[ .-]\d{4}(?:,? ?(?:x|ext\.?) ?\d{1,5})?(?![\w-])",
        r"(?<![\w.-])0\d{1,4}[ ./-]\d{2,4}(?:[ .-]?\d{2,4}){1,4}(?![\w-])",
        r"(?i:\b(?:phone|tel|telephone|mobile|cell|fax|call|text|ring)\b(?: number)?(?: is| on| at| me on| me at)?"
        r"[.:]* ?)(?P<found>\+?[\d(][\d ()./-]{5,18}\d)(?!\w)",
    ),
    "ID_NUMBER": (
        r"(?i:\b(?:passport|licen[cs]e|licence|national id|id card|id|tax id|tin|nhs|mrn|medical record|patient|member|"
        r"employee|staff|policy|account|acct|routing|sort code|social security|ssn|insurance)\b"
        r"(?: (?:number|no|nr|id|code))?\b\.?(?: is| was)?[:#]* ?#?)"
        r"(?P<found>(?=[A-Z-]{0,8}\d)[A-Z\d](?:[A-Z\d]|[ -](?=[A-Z]{0,2}\d)){3,20})\b(?!\.\d)",
    ),
}
_COMPILED = [(label, re.compile(pattern)) for label, patterns in _RULES.items() for pattern in patterns]


def find_by_rules(text: str) -> Iterator[Span]:
    """Yield what the rules find; the spans may overlap."""
    for label, pattern in _COMPILED:
        for match in pattern.finditer(text):
            group = "found" if "found" in pattern.groupindex else 0
            yield Span(*match.span(group), label)
