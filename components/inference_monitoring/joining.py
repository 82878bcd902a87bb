"""Joining requests with their responses by id, whichever comes first, in bounded memory.

Halves may come twice or never, and an id is what a client may choose: a copy is the very same line, and another line
under an id that was used is another request. A half that waits for too long, by how large the others are that came
after it, is handed on alone.
"""

from collections import OrderedDict
from collections.abc import Iterator

from kfp_custody.components.inference_monitoring.reading import Call, Half, join

WAITING_BYTES = 64 * 1024 * 1024
REMEMBERED = 400_000


class Joiner:
    """Holds halves until the other one comes.

    Attributes:
        duplicates: Copies of a half.
        missing: Halves whose other one never came.
    """

    def __init__(self, waiting_bytes: int = WAITING_BYTES, remembered: int = REMEMBERED) -> None:
        """Begin with nothing.

        Args:
            waiting_bytes: How large the lines of all halves that wait may be together.
            remembered: How many lines are known again.
        """
        self.duplicates = self.missing = 0
        self._waiting: OrderedDict[str, tuple[Half, int]] = OrderedDict()
        self._seen: OrderedDict[int, None] = OrderedDict()
        self._bytes, self._most, self._remembered = 0, waiting_bytes, remembered

    def add(self, half: Half, line: bytes) -> Iterator[Call]:
        """Take a half and its line, and yield the calls that are complete, or have waited for too long."""
        if not self._is_new(hash(line)):
            self.duplicates += 1
            return
        waiting = self._waiting.get(half.id)
        if waiting is not None and waiting[0].is_request != half.is_request:
            del self._waiting[half.id]
            self._bytes -= waiting[1]
            other = waiting[0].call
            yield join(half.call, other) if half.is_request else join(other, half.call)
            return
        if waiting is not None:  # its id is used once more
            yield self._alone(half.id)
        self._waiting[half.id] = half, len(line)
        self._bytes += len(line)
        while self._bytes > self._most:
            yield self._alone(next(iter(self._waiting)))

    def rest(self) -> Iterator[Call]:
        """Yield the halves that are left."""
        while self._waiting:
            yield self._alone(next(iter(self._waiting)))

    def _alone(self, key: str) -> Call:
        half, size = self._waiting.pop(key)
        self._bytes -= size
        self.missing += 1
        return half.call

    def _is_new(self, line: int) -> bool:
        if line in self._seen:
            return False
        self._seen[line] = None
        if len(self._seen) > self._remembered:
            self._seen.popitem(last=False)
        return True
