"""Kubernetes objects from YAML files, or as they are."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import yaml

Source = Path | dict[str, Any]


def documents(sources: Iterable[Source], *kinds: str) -> Iterator[dict[str, Any]]:
    """Yield the objects of some kinds."""
    for source in sources:
        found = [source] if isinstance(source, dict) else yaml.safe_load_all(source.read_text())
        yield from (each for each in found if each and each["kind"] in kinds)
