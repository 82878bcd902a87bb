"""Limits, constraints, allow-lists: a YAML file that ships with a room, by its name, or the platform's, by its path."""

from importlib.resources import files
from pathlib import Path
from typing import Any

from kfp_custody.components._shared.documents import DocumentFault


def read_named(package: str, name_or_path: str) -> bytes:
    """Return the bytes of the file.

    A path may lead through links: Kubernetes mounts the files of a ConfigMap so.

    Args:
        package: Where the shipped ones are, as `<name>.yaml`.
        name_or_path: Name of a shipped one, or a path (anything with a slash or a dot).

    Raises:
        DocumentFault: it cannot be read; the message names those that ship.
    """
    shipped = files(package)
    is_path = "/" in name_or_path or "." in name_or_path
    place = Path(name_or_path) if is_path else shipped / f"{name_or_path}.yaml"
    try:
        return place.read_bytes()
    except (OSError, ValueError) as error:  # a name with a null byte is a ValueError
        why = error.strerror if isinstance(error, OSError) else "no name of a file"
        names = sorted(entry.name.removesuffix(".yaml") for entry in shipped.iterdir() if entry.name.endswith(".yaml"))
        raise DocumentFault(f"it cannot be read ({why}); shipped are: {', '.join(names)}") from error


def above_zero(value: Any, where: str, most: float) -> float:
    """Return a number of such a file in (0, most]; NaN fails both comparisons.

    Raises:
        DocumentFault: it is no such number.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= most:
        raise DocumentFault(f"{where} is no number above 0 and up to {most:g}")
    return float(value)


def whole(value: Any, where: str, least: int, most: int = 1_000_000_000) -> int:
    """Return a whole number of such a file in [least, most].

    Raises:
        DocumentFault: it is no such number.
    """
    if type(value) is not int or not least <= value <= most:
        raise DocumentFault(f"{where} is no whole number from {least} to {most}")
    return value
