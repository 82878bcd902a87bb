"""Joining requests with their responses by id, whichever comes first, in bounded memory.

Halves may come twice or never. A half that waits for too long, by how many and how large the others are that came after
it, is handed on alone; ids that are done are remembered for as long, so that a copy is not taken for another request.
"""

from collections import OrderedDict
from collections.abc import Iterator

from kfp_custody.components.inference_monitoring.reading import Call, Half, join

WAITING_BYTES = 64 * 1024 * 1024
REMEMBERED = 200_000


class Joiner:
    """Holds halves until the other one comes.

    Attributes:
        duplicates: Halves that came once more.
        missing: Halves whose other one never came.
    """

    def __init__(self, waiting_bytes: int = WAITING_BYTES, remembered: int = REMEMBERED) -> None:
        """Begin with nothing.

        Args:
            waiting_bytes: How large the lines of all halves that wait may be together.
            remembered: How many finished ids are known.
        """
        self.duplicates = self.missing = 0
        self._waiting: OrderedDict[str, tuple[Half, int]] = OrderedDict()
        self._done: OrderedDict[str, None] = OrderedDict()
        self._bytes, self._most, self._remembered = 0, waiting_bytes, remembered

    def add(self, half: Half, size: int) -> Iterator[Call]:
        """Take a half of `size` bytes, and yield the calls that are complete, or have waited for too long."""
        if half.id in self._done:
            self.duplicates += 1
            return
        waiting = self._waiting.get(half.id)
        if waiting is None:
            self._waiting[half.id] = half, size
            self._bytes += size
            while self._bytes > self._most:
                yield self._alone()
            return
        other = waiting[0]
        if other.is_request == half.is_request:
            self.duplicates += 1
            return
        del self._waiting[half.id]
        self._bytes -= waiting[1]
        self._finish(half.id)
        yield join(half.call, other.call) if half.is_request else join(other.call, half.call)

    def rest(self) -> Iterator[Call]:
        """Yield the halves that are left."""
        while self._waiting:
            yield self._alone()

    def _alone(self) -> Call:
        key, (half, size) = self._waiting.popitem(last=False)
        self._bytes -= size
        self.missing += 1
        self._finish(key)
        return half.call

    def _finish(self, key: str) -> None:
        self._done[key] = None
        if len(self._done) > self._remembered:
            self._done.popitem(last=False)
