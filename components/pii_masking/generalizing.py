"""Ages and ZIP areas by the Safe Harbor method of the HIPAA privacy rule, 45 CFR 164.514(b)(2)(i)(B) and (C)."""

import datetime as dt
import re
from collections.abc import Sequence

OLDEST = 90
_ZIP = re.compile(r"(\d{3})\d{2}(?:-?\d{4})?", re.ASCII)
# Areas of three digits with 20,000 inhabitants or fewer: the list of the Department of Health and Human Services'
# guidance on de-identification (2012), from the census of 2000, and four that later counts are said to add: one area
# too many costs little. Whoever relies on Safe Harbor has to compare with the newest census.
_SMALL_AREAS = frozenset(
    "036 059 063 102 203 205 369 556 692 753 772 790 821 823 830 831 878 879 884 890 893".split(" ")  # noqa: SIM905
)


def ages(births: Sequence[dt.date], day: dt.date | str) -> list[str]:
    """Return the age in years on a day, `90+` from 90 on.

    Raises:
        ValueError: a birth is after the day.
    """
    on = day if isinstance(day, dt.date) else dt.date.fromisoformat(day)
    years = [on.year - birth.year - ((on.month, on.day) < (birth.month, birth.day)) for birth in births]
    if any(age < 0 for age in years):
        raise ValueError("not born yet")
    return [str(age) if age < OLDEST else f"{OLDEST}+" for age in years]


def zip_areas(codes: Sequence[str]) -> list[str]:
    """Return the first three digits of US ZIP codes, `000` for areas with few inhabitants.

    Raises:
        ValueError: one is no ZIP code.
    """
    matches = [_ZIP.fullmatch(code) for code in codes]
    areas = [match[1] for match in matches if match]
    if len(areas) != len(codes):
        raise ValueError("no ZIP code")
    return ["000" if area in _SMALL_AREAS else area for area in areas]
