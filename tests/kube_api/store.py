"""The objects, the versions they got, and the changes that watches are told of."""

import copy
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from kube_api.answers import Refused, not_found
from kube_api.kinds import Kind

Object = dict[str, Any]


@dataclass(frozen=True)
class Change:
    """ADDED, MODIFIED or DELETED: the object as it is, or was last, and what it was before."""

    type: str
    kind: Kind
    object: Object
    before: Object | None
    version: int


class Store:
    """Every version of every object since the last `compact`."""

    def __init__(self) -> None:
        self._news = threading.Condition(threading.RLock())
        self._objects: dict[tuple[Kind, str, str], Object] = {}
        self._changes: list[Change] = []
        self._untold: deque[Change] = deque()
        self._listeners: list[Callable[[Change], None]] = []
        self._oldest = 0
        self.version = 0
        self.closed = False

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Nothing else is written meanwhile; listeners hear of it afterwards, so that they may write themselves."""
        with self._news:
            yield
        while self._untold:
            change = self._untold.popleft()
            for listener in self._listeners:
                listener(change)

    def on_change(self, listener: Callable[[Change], None]) -> None:
        """Call a listener, such as a fake controller, after each change and before the answer to who made it."""
        self._listeners.append(listener)

    def get(self, kind: Kind, namespace: str, name: str) -> Object | None:
        with self._news:
            return copy.deepcopy(self._objects.get((kind, namespace, name)))

    def list(self, kind: Kind, namespace: str = "") -> list[Object]:
        """Return the objects of a namespace, or of all."""
        with self._news:
            found = [key for key in sorted(self._objects, key=str) if key[0] == kind and namespace in ("", key[1])]
            return [copy.deepcopy(self._objects[key]) for key in found]

    def put(self, kind: Kind, namespace: str, name: str, new: Object | None) -> Object:
        """Write an object (None removes it) under the next version."""
        with self.transaction():
            key = (kind, namespace, name)
            before = self._objects.pop(key, None)
            written = copy.deepcopy(before if new is None else new)
            assert written is not None, f"there is no {name} to delete"
            self.version += 1
            written["metadata"]["resourceVersion"] = str(self.version)
            if new is not None:
                self._objects[key] = written
            event = "DELETED" if new is None else "MODIFIED" if before else "ADDED"
            change = Change(event, kind, copy.deepcopy(written), before, self.version)
            self._changes.append(change)
            self._untold.append(change)
            self._news.notify_all()
            return copy.deepcopy(written)

    def set_status(self, kind: Kind, namespace: str, name: str, status: Object) -> Object:
        """Write what a controller reports of an object."""
        with self.transaction():
            found = self.get(kind, namespace, name)
            if found is None:
                raise not_found(kind, name)
            return self.put(kind, namespace, name, found | {"status": status})

    def after(self, version: int, seconds: float) -> Sequence[Change]:
        """Wait for changes after a version and return them."""
        with self._news:
            if version < self._oldest:
                raise Refused(410, "Expired", f"too old resource version: {version} ({self._oldest})")
            self._news.wait_for(lambda: self.closed or self.version > version, max(seconds, 0))
            return [change for change in self._changes if change.version > version]

    def compact(self) -> None:
        """Forget the changes so far: who wants to watch from before is told 410 Gone."""
        with self._news:
            self._changes.clear()
            self._oldest = self.version

    def close(self) -> None:
        with self._news:
            self.closed = True
            self._news.notify_all()
