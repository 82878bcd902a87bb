"""What goes wrong on purpose."""

import threading
from dataclasses import dataclass


@dataclass
class Fault:
    """One kind of trouble for the next `times` requests of a verb and a plural (`*`: any).

    Attributes:
        status: answer this code instead of doing anything.
        retry_after: seconds, said in the answer.
        drop: close the connection unanswered, `before` or `after` the request took effect.
        delay: seconds to wait first.
        after_events: let a watch break off, without its end, after so many events.
    """

    verb: str = "*"
    plural: str = "*"
    times: int = 1
    status: int = 0
    retry_after: int | None = None
    drop: str = ""
    delay: float = 0.0
    after_events: int | None = None


class Faults:
    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: list[Fault] = []

    def add(self, fault: Fault) -> None:
        with self._lock:
            self._waiting.append(fault)

    def take(self, verb: str, plural: str) -> Fault:
        """Return the first fault that concerns a request, or one that does nothing."""
        with self._lock:
            for fault in self._waiting:
                if fault.times > 0 and fault.verb in ("*", verb) and fault.plural in ("*", plural):
                    fault.times -= 1
                    return fault
        return Fault()
