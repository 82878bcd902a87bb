"""Cron expressions as Kubeflow Pipelines reads them: six fields, seconds first.

The server takes five fields as well and reads the first as seconds: `0 2 * * *`, meant for two o'clock at night, fires
every hour. So whatever has not six fields is refused here.
"""

import re
from typing import Final

from kfp_custody.components._shared import codes
from kfp_custody.components._shared.errors import Misconfigured

_MONTHS: Final = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
_DAYS: Final = ("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT")
_LONGEST: Final = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
# field -> least, greatest, names of the values from the least on
_FIELDS: Final[dict[str, tuple[int, int, tuple[str, ...]]]] = {
    "second": (0, 59, ()),
    "minute": (0, 59, ()),
    "hour": (0, 23, ()),
    "day of month": (1, 31, ()),
    "month": (1, 12, _MONTHS),
    "day of week": (0, 6, _DAYS),
}
_PART: Final = re.compile(r"(?P<any>\*|\?)|(?P<first>\w+)(?:-(?P<last>\w+))?")


def require_cron(expression: str) -> str:
    """Return a cron expression with single spaces.

    Raises:
        Misconfigured: not six fields, a field with a value out of its range, or a day that no month has.
    """
    fields = expression.split()
    if len(fields) == 5:
        raise _refused(
            "it has five fields, so the seconds are missing", f"Seconds come first. Write '0 {' '.join(fields)}'."
        )
    if len(fields) != len(_FIELDS):
        raise _refused(
            f"it has {len(fields)} fields and not six",
            "Write second, minute, hour, day of month, month, day of week, such as '0 0 2 * * *' for two at night.",
        )
    values = {name: _values(name, field) for name, field in zip(_FIELDS, fields, strict=True)}
    days, months = values["day of month"], values["month"]
    # A day of the week makes it fire even where the day of the month never comes.
    if fields[5] in ("*", "?") and min(days) > max(_LONGEST[month - 1] for month in months):
        raise _refused(f"none of its months has a day {min(days)}, so it would never fire", "Choose another day.")
    return " ".join(fields)


def _values(name: str, field: str) -> set[int]:
    least, greatest, names = _FIELDS[name]
    found: set[int] = set()
    for item in field.split(","):
        part, slash, step = item.partition("/")
        match = _PART.fullmatch(part)
        if not match or (slash and not re.fullmatch(r"[1-9]\d{0,3}", step)) or (part == "?" and "day" not in name):
            raise _refused(f"the field {name} is not understood", f"Write it like {_example(name)}.")
        first, last = least, greatest
        if not match["any"]:
            first = _number(name, match["first"])
            last = _number(name, match["last"]) if match["last"] else (greatest if slash else first)
        if first > last:
            raise _refused(f"the field {name} counts down", "Write a range from the smaller to the greater value.")
        found.update(range(first, last + 1, int(step or 1)))
    return found


def _number(name: str, text: str) -> int:
    least, greatest, names = _FIELDS[name]
    if text.upper() in names:
        return least + names.index(text.upper())
    if not re.fullmatch(r"[0-9]{1,4}", text) or not least <= int(text) <= greatest:
        raise _refused(
            f"the field {name} has a value outside of {least} to {greatest}", f"Write it like {_example(name)}."
        )
    return int(text)


def _example(name: str) -> str:
    least, greatest, names = _FIELDS[name]
    also = f", {names[1]}" if names else ""
    return f"*, {least}, {least}-{greatest}, */2 or 1,3{also}"


def _refused(why: str, remedy: str) -> Misconfigured:
    return Misconfigured(
        "The schedule is no cron expression of six fields.", evidence=why, remedy=remedy, code=codes.CRON
    )
