"""A window of time, from its start up to but without its end: what a collection of logs is of."""

import re
from dataclasses import dataclass
from datetime import UTC, datetime

from kfp_custody.components._shared import codes
from kfp_custody.components._shared.errors import InputRefused
from kfp_custody.components._shared.evidence import now, stamp

_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", re.ASCII)


@dataclass(frozen=True)
class Window:
    """Start and end, in seconds since 1970."""

    start: float
    end: float

    def holds(self, moment: float) -> bool:
        """Tell whether a moment is in it."""
        return self.start <= moment < self.end


def parse_window(start: str, end: str) -> Window:
    """Read a window; both times are UTC as RFC 3339 to the second.

    Raises:
        InputRefused: they are malformed, the window is empty, or it is not over yet: more could come.
    """
    first, last = _moment(start, "start"), _moment(end, "end")
    if first >= last:
        raise _refused("it ends before it begins")
    if last > now():
        raise _refused("it is not over yet")
    return Window(first.timestamp(), last.timestamp())


def _moment(text: str, name: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text).astimezone(UTC) if _TIME.fullmatch(text) else None
    except ValueError:
        moment = None
    if moment is None or stamp(moment) != text:
        raise _refused(f"its {name} is no time like 2026-11-01T00:00:00Z")
    return moment


def _refused(why: str) -> InputRefused:
    return InputRefused(
        "The window of time cannot be used.",
        evidence=why,
        remedy="Give start and end as RFC 3339 in UTC to the second, the end in the past.",
        code=codes.WINDOW,
    )
