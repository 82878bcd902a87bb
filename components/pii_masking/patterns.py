"""E-mail addresses, IBANs and card numbers in text, by form and check digits; in prose also US SSNs and IP addresses.

Used on the output: looser than a recognizer where it matters (an e-mail address needs no public suffix, a card number
no known issuer) and exact where chance would refuse good data (check digits, lengths by country).
"""

import ipaddress
import re
from collections.abc import Iterator

import pyarrow as pa
import pyarrow.compute as pc

from kfp_custody.components.pii_masking.spans import Span

FORMS = ("EMAIL_ADDRESS", "CREDIT_CARD", "IBAN_CODE", "US_SSN", "IP_ADDRESS")
"""The names of what is found here."""

_EMAIL = re.compile(r"[\w.+%'-]+@[\w-]+(?:\.[\w-]+)*")
_CARD = re.compile(r"(?<!\w)\d(?:[ -]?\d){11,18}(?!\w)", re.ASCII)
_IBAN = re.compile(r"(?<!\w)[A-Z]{2}\d{2}(?: ?[A-Z0-9]){11,30}")
# Areas 000, 666 and 9xx, group 00 and serial 0000 are never given out (SSA POMS RM 10201).
_SSN = re.compile(r"(?<![\w-])(?!000|666|9)\d{3}-(?!00)\d{2}-(?!0000)\d{4}(?![\w-])", re.ASCII)
_IPV4 = re.compile(r"(?<![\w.])\d{1,3}(?:\.\d{1,3}){3}(?![\w]|\.\d)", re.ASCII)
_IPV6 = re.compile(r"(?<![\w:.])[0-9A-Fa-f:]{2,39}(?:(?<=:)\d{1,3}(?:\.\d{1,3}){3})?(?![\w:]|\.\d)", re.ASCII)
# RE2 finds the few values that are worth a closer look.
_CANDIDATE = r"@|[0-9](?:[ -]?[0-9]){11}|[A-Z]{2}[0-9]{2}(?: ?[A-Z0-9]){11}"
# Lengths by country: SWIFT IBAN registry.
_IBAN_LENGTHS = {
    country: length
    for length, countries in {
        15: "NO",
        16: "BE",
        18: "DK FI FO GL NL SD",
        19: "MK SI",
        20: "AT BA EE KZ LT LU MN XK",
        21: "CH HR LI LV",
        22: "BG BH CR DE GB GE IE ME RS VA",
        23: "AE GI IL IQ OM SO TL",
        24: "AD CZ ES MD PK RO SA SE SK TN VG",
        25: "LY PT ST",
        26: "IS TR",
        27: "BI DJ FR GR IT MC MR SM",
        28: "AL AZ BY CY DO GT HN HU LB NI PL SV",
        29: "BR EG PS QA UA",
        30: "JO KW MU YE",
        31: "MT SC",
        32: "LC",
        33: "RU",
    }.items()
    for country in countries.split()
}


def find_patterns(text: str) -> Iterator[Span]:
    """Yield the spans of e-mail addresses, card numbers and IBANs in a text."""
    if "@" in text:
        yield from (Span(*match.span(), "EMAIL_ADDRESS") for match in _EMAIL.finditer(text))
    yield from (Span(*match.span(), "CREDIT_CARD") for match in _CARD.finditer(text) if _luhn(match[0]))
    for match in _IBAN.finditer(text):
        length = _iban_length(match[0])
        if length:
            yield Span(match.start(), match.start() + length, "IBAN_CODE")


def find_in_prose(text: str) -> Iterator[Span]:
    """Yield what `find_patterns` does, and US social security numbers and IP addresses.

    For free text only: in a column of codes or versions, four numbers with dots are rarely an address.
    """
    yield from find_patterns(text)
    if "-" in text:
        yield from (Span(*match.span(), "US_SSN") for match in _SSN.finditer(text))
    for pattern, separator in ((_IPV4, "."), (_IPV6, ":")):
        if separator in text:
            yield from (Span(*match.span(), "IP_ADDRESS") for match in pattern.finditer(text) if _address(match[0]))


def count_patterns(column: pa.Array) -> dict[str, int]:
    """Count the findings in the distinct values of a string column, by kind."""
    values = column.dictionary_encode().dictionary
    counts: dict[str, int] = {}
    for text in values.filter(pc.match_substring_regex(values, _CANDIDATE)).to_pylist():
        for span in find_patterns(text):
            counts[span.label] = counts.get(span.label, 0) + 1
    return counts


def _address(text: str) -> bool:
    """Whether a text is an IP address of a host: `::` alone stands between words of many a language."""
    try:
        return not ipaddress.ip_address(text).is_unspecified
    except ValueError:
        return False


def _luhn(text: str) -> bool:
    digits = [int(character) for character in text if character.isdigit()]
    doubled = (sum(divmod(2 * digit, 10)) for digit in digits[-2::-2])
    return len(set(digits)) > 1 and (sum(digits[-1::-2]) + sum(doubled)) % 10 == 0


def _iban_length(text: str) -> int:
    """Return how many characters of `text` are an IBAN with right check digits, 0 for none."""
    wanted = _IBAN_LENGTHS.get(text[:2], 0)
    places = [place for place, character in enumerate(text) if character != " "][:wanted]
    if not wanted or len(places) < wanted or text[places[-1] + 1 : places[-1] + 2].isalnum():
        return 0
    compact = "".join(text[place] for place in places)
    number = int("".join(str(int(character, 36)) for character in compact[4:] + compact[:4]))
    return places[-1] + 1 if number % 97 == 1 else 0
