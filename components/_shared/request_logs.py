"""Lines of request logs: bounded, plain or compressed, and the time that each one tells.

A log is written by what strangers sent, so nothing of it is taken for granted: a line may be of any length, no JSON, or
nested without end; a compressed file may be cut off or expand to any size.
"""

import gzip
import zlib
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import IO, Any

import orjson

MAX_LINE = 4 * 1024 * 1024
"""Longer lines are not read."""
LOG_NAME = "requests.jsonl"
"""The one file of collected logs."""
_GZIP = b"\x1f\x8b"
_TIMES = ("time", "start_time", "timestamp")


class LineFault(ValueError):
    """Why a line cannot be read; never with anything of the line."""


def open_lines(file: IO[bytes]) -> IO[bytes]:
    """Return a log file that may be compressed with gzip, as what it holds; told by its first bytes, not its name."""
    start = file.read(len(_GZIP))
    file.seek(0)
    return gzip.GzipFile(fileobj=file) if start == _GZIP else file  # type: ignore[return-value]


def read_lines(file: IO[bytes]) -> Iterator[bytes | None]:
    """Yield the lines that are not blank, with their ends; None for one that is too long, or when the file breaks off.

    Only a compressed file can break off: after that None nothing follows.
    """
    try:
        while line := file.readline(MAX_LINE + 1):
            if len(line) > MAX_LINE and not line.endswith(b"\n"):
                while line and not line.endswith(b"\n"):
                    line = file.readline(MAX_LINE)
                yield None
            elif line.strip():
                yield line
    except (EOFError, gzip.BadGzipFile, zlib.error):
        yield None


def parse_line(line: bytes) -> dict[str, Any]:
    """Parse a line.

    Raises:
        LineFault: it is no JSON object.
    """
    try:
        found = orjson.loads(line)
    except orjson.JSONDecodeError as error:  # also of what is not UTF-8, or nested too deep
        raise LineFault("it is no JSON") from error
    if not isinstance(found, dict):
        raise LineFault("it is no object")
    return found


def line_time(document: Mapping[str, Any]) -> float:
    """Return when a request was, in seconds since 1970: the line's own time, or that of its CloudEvent.

    Raises:
        LineFault: there is none, or it is no RFC 3339 time with a zone.
    """
    text = next((document[name] for name in _TIMES if name in document), None)
    if text is None and isinstance(document.get("headers"), dict):
        text = header(document["headers"], "time")
    if not isinstance(text, str):
        raise LineFault("it has no time")
    try:
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is None:
            raise LineFault("its time has no zone")
        return moment.timestamp()
    except (ValueError, OverflowError) as error:
        raise LineFault("its time cannot be read") from error


def header(headers: Mapping[str, Any], name: str) -> str | None:
    """Return an attribute of a CloudEvent in the headers of HTTP (`Ce-Name`), of Kafka (`ce_name`) or without a prefix.

    Raises:
        LineFault: it is no text.
    """
    wanted = (f"ce-{name}", f"ce_{name}", name)
    for key, value in headers.items():
        if key.lower() in wanted:
            first = value[0] if isinstance(value, list) and value else value
            if not isinstance(first, str):
                raise LineFault("an attribute is no text")
            return first
    return None
