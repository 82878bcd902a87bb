"""A scan of a model directory: what it declares to be, and what every file of it is."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import Final

from kfp_custody.components._shared.digests import Listing
from kfp_custody.components._shared.errors import InputRefused
from kfp_custody.components._shared.scoring import SIGNATURE, read_signature
from kfp_custody.components.model_scanning.allowing import Allowed
from kfp_custody.components.model_scanning.formats import FAILED, PASSED, WARNED, Item, Scanner
from kfp_custody.components.model_scanning.opinions import CLEAR, FLAGGED, opinions
from kfp_custody.components.model_scanning.reading import View

# What signature.json may declare -> the format that the bytes must then be of.
DECLARED: Final = {"xgboost-ubj": "xgboost-ubj", "sklearn-skops": "skops"}
_MOST_ITEMS = 100_000


@dataclass(frozen=True)
class Scan:
    """What was found: the declared format (or why it is none), and every file with what is in it, in its order.

    `opinions`: what other scanners say, which warns at most.
    """

    declared: str
    fault: str
    items: tuple[Item, ...]
    bytes: int
    opinions: Mapping[str, str] = field(default_factory=dict)

    @property
    def verdict(self) -> str:
        """The worst of all."""
        found = {item.verdict for item in self.items} | ({FAILED} if self.fault else set())
        found |= {WARNED} if FLAGGED in self.opinions.values() else set()
        return FAILED if FAILED in found else WARNED if WARNED in found else PASSED

    def named(self, verdict: str) -> list[str]:
        """Return the names of the checks that came to a verdict: the declaration, and each file of the model."""
        own = FAILED if self.fault else PASSED
        files = [f"file:{item.name}" for item in self.items if item.verdict == verdict and "!" not in item.name]
        words = {CLEAR: PASSED, FLAGGED: WARNED}
        others = [f"opinion:{name}" for name, word in self.opinions.items() if words.get(word) == verdict]
        return (["declared-format"] if own == verdict else []) + files + others


def scan_model_tree(root: Path, listing: Listing, allowed: Allowed, scratch: Path) -> Scan:
    """Scan the verified copy of a model.

    Args:
        root: The directory (or the one file) that the listing describes.
        listing: Its listing.
        allowed: The allow-list.
        scratch: Where archives are unpacked, into files without a name.

    Raises:
        OSError: a file cannot be read, or there is no room.
    """
    scanner = Scanner(allowed, scratch)
    names = [entry.name for entry in listing.entries]
    declared, file, fault = _declaration(root)
    items: list[Item] = []
    for name in names:
        if name == SIGNATURE and not fault:
            items.append(Item(name, "signature", PASSED, f"declares {declared} in {ascii(file)[1:-1]}"))
        else:
            items += scanner.scan(mapped(root / name if root.is_dir() else root), name)
    if not fault and set(names) != {SIGNATURE, file}:
        fault = f"the directory holds other files than {SIGNATURE} and {ascii(file)[1:-1]}"
    formats = {item.name: item.format for item in items}
    if not fault and formats[file] != DECLARED[declared]:
        fault = f"{ascii(file)[1:-1]} is of the format {formats[file]}, and declared is {declared}"
    return Scan(declared, fault, tuple(items[:_MOST_ITEMS]), listing.size, opinions(root, names))


def _declaration(root: Path) -> tuple[str, str, str]:
    """Return the declared format, its file, and why there is none."""
    if not root.is_dir():
        return "", "", f"there is no {SIGNATURE}, so no format is declared"
    try:
        signature = read_signature(root)
    except InputRefused as refusal:
        return "", "", f"{SIGNATURE} declares no format: {refusal.evidence}"
    return signature.format, signature.file, ""


def mapped(path: Path) -> View:
    """Return a file's bytes, mapped: read by the page as they are looked at.

    Raises:
        OSError: it cannot be read.
    """
    with open(path, "rb") as file:
        return memoryview(mmap(file.fileno(), 0, access=ACCESS_READ)) if path.stat().st_size else memoryview(b"")


def worst_first(items: tuple[Item, ...]) -> Iterator[Item]:
    """Yield items, those that failed before those that warned before the rest."""
    for verdict in (FAILED, WARNED, PASSED):
        yield from (item for item in items if item.verdict == verdict)
