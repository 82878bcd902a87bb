"""What a text must hold before a regular expression can match in it, read off the expression itself.

The requirement is weaker than the expression, so leaving out the texts that do not meet it leaves out no match: a
number of decimal digits, some characters, a length.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import reduce
from re import _constants as sre  # type: ignore[attr-defined]
from re import _parser as parser  # type: ignore[attr-defined]
from typing import Any

_DIGIT = re.compile(r"\d")


@dataclass(frozen=True)
class Requirement:
    """At least so many decimal digits, so many characters at all, and these characters among them."""

    digits: int = 0
    length: int = 0
    characters: frozenset[str] = frozenset()

    def __add__(self, other: "Requirement") -> "Requirement":
        """Return what two expressions in a row need."""
        return Requirement(self.digits + other.digits, self.length + other.length, self.characters | other.characters)

    def __or__(self, other: "Requirement") -> "Requirement":
        """Return what either of two expressions needs."""
        return Requirement(
            min(self.digits, other.digits), min(self.length, other.length), self.characters & other.characters
        )

    def holds(self, text: str, digits: int) -> bool:
        """Tell whether a text with so many digits meets it."""
        return digits >= self.digits and len(text) >= self.length and all(one in text for one in self.characters)


NOTHING = Requirement()


def count_digits(text: str) -> int:
    r"""Count what `\d` matches."""
    return len(_DIGIT.findall(text))


def requirement(expression: str) -> Requirement:
    """Return what a text must hold for an expression to match; nothing for one that Python's parser does not read."""
    try:
        return _sequence(parser.parse(expression))
    except (re.error, KeyError, ValueError):
        return NOTHING


def _sequence(items: Iterable[Any]) -> Requirement:
    return sum((_item(*item) for item in items), NOTHING)


def _item(kind: Any, value: Any) -> Requirement:
    if kind is sre.LITERAL:
        character = chr(value)
        # A letter may be matched in the other case, whose form is not always one character.
        needed = frozenset() if character.lower() != character.upper() else frozenset({character})
        return Requirement(int(character.isdecimal()), 1, needed if not character.isdecimal() else frozenset())
    if kind is sre.IN:
        return Requirement(int(all(_is_digit(*one) for one in value)), 1)
    if kind in (sre.ANY, sre.NOT_LITERAL):
        return Requirement(0, 1)
    if kind is sre.SUBPATTERN:
        return _sequence(value[-1])
    if kind is sre.ATOMIC_GROUP:
        return _sequence(value)
    if kind is sre.BRANCH:
        return reduce(Requirement.__or__, (_sequence(branch) for branch in value[1]))
    if kind in (sre.MAX_REPEAT, sre.MIN_REPEAT, sre.POSSESSIVE_REPEAT):
        least, _, inner = value
        once = _sequence(inner)
        return Requirement(once.digits * least, once.length * least, once.characters if least else frozenset())
    return NOTHING  # looks around, refers back, or is an anchor


def _is_digit(kind: Any, value: Any) -> bool:
    if kind is sre.RANGE:
        return all(chr(code).isdecimal() for code in value) and value[1] - value[0] < 10
    if kind is sre.LITERAL:
        return chr(value).isdecimal()
    return kind is sre.CATEGORY and value is sre.CATEGORY_DIGIT
