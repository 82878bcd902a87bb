"""What every reader of a format shares: views of bytes, what was read, and why something is blocked."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TypeAlias

View: TypeAlias = memoryview
"""The bytes of a file, mapped and not loaded: a slice of it is no copy."""


class Blocked(Exception):
    """Why a file is not accepted, in words for the report (no value of the data)."""


class Denied(Blocked):
    """The file can be read, and would make its loader do what is not on the allow-list."""


@dataclass(frozen=True)
class Member:
    """A file in an archive: its name, how to take its bytes, and its format where the archive leaves no choice.

    Taking the bytes unpacks them, which may raise `Blocked`.
    """

    name: str
    take: Callable[[], View]
    format: str = ""


@dataclass(frozen=True)
class Reading:
    """A file that was read to its end: what it is, what is worth knowing, and what is in it.

    `warning` is why its format is not safe by itself, though nothing in it is denied. `members` may raise `Blocked`
    while they are taken.
    """

    format: str
    detail: str = ""
    warning: str = ""
    members: Iterable[Member] = ()


def window(data: View, start: int, end: int) -> bytes:
    """Return bytes of a view.

    Raises:
        Blocked: the view ends before.
    """
    if not 0 <= start <= end <= len(data):
        raise Blocked("it ends in the middle of something")
    return bytes(data[start:end])


def plain_name(name: str) -> bool:
    """Tell whether a member's name is relative, stays inside and can be shown."""
    parts = name.removesuffix("/").split("/")
    shown = name.isascii() and name.isprintable() and "\\" not in name and ":" not in name
    return shown and len(name) <= _LONGEST and not any(part in ("", ".", "..") for part in parts)


_LONGEST = 250
