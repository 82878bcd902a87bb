"""The type of a secret: it may be passed around, and only `reveal` gives the value.

What this prevents is accidents: a secret in a log line, a message, a report, a pickle or a JSON document. It is no wall
against code that runs in the same process and wants the value.
"""

import hmac
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NoReturn, SupportsIndex

from kfp_custody.components._shared.errors import Misconfigured


@dataclass(frozen=True, slots=True)
class Reading:
    """A value as it was read, and for how many seconds it may be used; 0 means until the next use."""

    value: bytes = field(repr=False)
    lifetime: float


Source = Callable[[], Reading]


class Secret:
    """A secret that is read when it is needed, and read again when its lifetime is over.

    A source that does not answer then is an error, and never the old value: a secret that was taken back is not used.
    """

    __slots__ = ("_deadline", "_lock", "_name", "_reading", "_source")

    def __init__(self, name: str, source: Source) -> None:
        """Keep where the value comes from; nothing is read yet.

        Args:
            name: What messages and `repr` call it: where it is kept, never a part of it.
            source: Reads it; raises one of the five refusals when it cannot.
        """
        self._name = name
        self._source = source
        self._reading: Reading | None = None
        self._deadline = 0.0
        self._lock = threading.Lock()

    @property
    def name(self) -> str:
        """Where the secret is kept; this may be shown."""
        return self._name

    def reveal(self) -> bytes:
        """Return the value: the only way to it.

        Raises:
            Misconfigured: there is no such secret, it may not be read, or it is empty.
            ServiceUnreachable: the server that keeps it did not answer, or answered with an error.
        """
        with self._lock:
            if self._reading is None or time.monotonic() >= self._deadline:
                self._reading = None  # a failure below must not leave the old value behind
                asked = time.monotonic()
                reading = self._source()
                if not reading.value:
                    raise Misconfigured(
                        "A secret is empty.", evidence=self._name, remedy="Store its value there, then run again."
                    )
                self._reading, self._deadline = reading, asked + reading.lifetime
            return self._reading.value

    def __repr__(self) -> str:
        """Return where the secret is kept."""
        return f"<Secret {self._name}>"

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        """Return where the secret is kept, whatever the format asks for."""
        return repr(self)

    def __eq__(self, other: object) -> bool:
        """Compare the values in a time that does not depend on where they differ."""
        if isinstance(other, Secret):
            return hmac.compare_digest(self.reveal(), other.reveal())
        return hmac.compare_digest(self.reveal(), other) if isinstance(other, bytes) else NotImplemented

    __hash__ = None  # type: ignore[assignment]  # the value may change, and a hash of it would say something about it

    def __copy__(self) -> "Secret":
        """Return the same object: there is one place that holds the value."""
        return self

    def __deepcopy__(self, memo: object) -> "Secret":
        """Return the same object, also when something that holds it is copied."""
        return self

    def __reduce_ex__(self, protocol: SupportsIndex) -> NoReturn:
        """Refuse to be pickled: another process reads the secret itself."""
        raise TypeError("A secret is never pickled; pass its URI and load it there.")
