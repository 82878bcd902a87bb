"""Clients: who asked how much, was turned away how often, and tried closed paths. Names are only ever shown as digests.

The digest is the first 16 hex digits of the name's SHA-256: who knows a name can find it in a report, and who has the
report cannot read a name that is hard to guess.
"""

import hashlib
import re

from kfp_custody.components.inference_monitoring.reading import DOOR, GRPC_INFER, VIEWS, Call

TURNED_AWAY = (401, 403)
_MODEL = re.compile(r"/v[12]/models/([^/:]+)(?:/versions/[^/:]+)?(/infer|/ready|:predict)?")
_HARMLESS = re.compile(r"/v2|/v2/health/(live|ready)|/v1/models|/inference\.GRPCInferenceService/(Model|Server)\w+")


class Clients:
    """Counts by client; clients have numbers in the order in which they came."""

    def __init__(self) -> None:
        """Begin with nobody."""
        self._numbers: dict[str, int] = {}
        self._asked: list[list[int]] = []  # rows, or requests where rows are not known, by view
        self.unauthorised: dict[int, int] = {}
        self.probing: dict[int, int] = {}

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self._numbers)

    def number(self, name: str) -> int:
        """Return the number of a client; the empty name is for all who have none."""
        number = self._numbers.setdefault(name, len(self._numbers))
        if number == len(self._asked):
            self._asked.append([0] * len(VIEWS))
        return number

    def count(self, number: int, call: Call) -> None:
        """Count a request of the model."""
        self._asked[number][VIEWS.index(call.view)] += max(call.rows, 1)

    def turned_away(self, number: int, call: Call) -> None:
        """Count a request that was turned away, whatever it was for."""
        if call.status in TURNED_AWAY:
            self.unauthorised[number] = self.unauthorised.get(number, 0) + 1
        if call.status in (*TURNED_AWAY, 404) and call.view == DOOR and not is_open(call.path or ""):
            self.probing[number] = self.probing.get(number, 0) + 1

    def above(self, most: int | float) -> dict[int, int]:
        """Return who asked about more rows than this, as the log tells that saw most; nobody's rows are of many."""
        named = self._numbers.items()
        return {number: asked for name, number in named if name and (asked := max(self._asked[number])) > most}

    def digests(self) -> list[str]:
        """Return what stands for each client in reports."""
        return [digest(name) for name in self._numbers]


def digest(name: str) -> str:
    """Return what stands for a client."""
    return hashlib.sha256(name.encode(errors="surrogatepass")).hexdigest()[:16]


def model_of(path: str) -> tuple[str | None, bool]:
    """Return the model that a path is of (None: it names none), and whether it asks for an inference."""
    if path == GRPC_INFER:
        return None, True
    found = _MODEL.fullmatch(path)
    return (found[1], found[2] in ("/infer", ":predict")) if found else (None, False)


def is_open(path: str) -> bool:
    """Tell whether a path is one that clients of a model use; the rest is closed to everybody."""
    return bool(_MODEL.fullmatch(path) or _HARMLESS.fullmatch(path))
