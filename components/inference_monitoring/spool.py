"""Rows on their way from the lines to the measures: in files of the stage's own, sorted by client into parts.

What has to be known of all clients before one can be judged, the distances that are usual between them, is known only
when every line was read. So rows are written down as doubles, and read again part by part: a part has all rows of its
clients. Categories become numbers that are equal when the texts are. Memory is that of the buffers and one block.
"""

import zlib
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np

from kfp_custody.components._shared.distances import Floats
from kfp_custody.components._shared.request_logs import LineFault
from kfp_custody.components.inference_monitoring.payloads import Table

PARTS = 64
MAX_TABLES = 8
_BLOCK = 8 * 1024 * 1024  # bytes
_BUFFER = 16 * 1024  # doubles
_OWN = 2  # doubles before the values: client and time


@dataclass
class Columns:
    """Rows of equal columns: their names, how many texts are in which, and how many rows each client has."""

    names: tuple[str, ...]
    texts: dict[int, int] = field(default_factory=dict)
    rows: dict[int, int] = field(default_factory=dict)
    buffers: "list[array[float]]" = field(default_factory=lambda: [array("d") for _ in range(PARTS)])

    @property
    def categories(self) -> frozenset[int]:
        """Columns most of whose values are texts: a stray one, which a client may send, makes no category."""
        rows = sum(self.rows.values())
        return frozenset(place for place, count in self.texts.items() if 2 * count > rows)


@dataclass(frozen=True)
class Block:
    """Some rows of a part, client by client in the order of time: whose, shape (n,), and values (n, columns)."""

    clients: "np.typing.NDArray[np.int64]"
    values: Floats


class Spool:
    """Writes rows, then reads them; the folder must be the stage's own and is emptied by whoever made it."""

    def __init__(self, folder: Path) -> None:
        """Begin with nothing."""
        self._folder = folder
        self.tables: dict[tuple[str, ...], Columns] = {}
        self._orders: dict[tuple[str, ...], tuple[tuple[str, ...], itemgetter[Any] | None]] = {}

    def add(self, table: Table, client: int, time: float) -> bool:
        """Write rows of a client; False when they have columns of their own and there were too many such tables before.

        Raises:
            LineFault: a value is neither number nor text.
        """
        names, order = self._order(table.names)
        columns = self.tables.get(names)
        if columns is None:
            if len(self.tables) >= MAX_TABLES:
                return False
            columns = self.tables[names] = Columns(names)
        texts: list[int] = []
        rows = [_doubles(order(row) if order else row, texts) for row in table.rows]  # all of them, or none
        for place in texts:
            columns.texts[place] = columns.texts.get(place, 0) + 1
        part = client % PARTS
        buffer = columns.buffers[part]
        for row in rows:
            buffer.append(client)
            buffer.append(time)
            buffer.extend(row)
        columns.rows[client] = columns.rows.get(client, 0) + len(rows)
        if len(buffer) >= _BUFFER:
            self._write(columns, part)
        return True

    def _order(self, names: tuple[str, ...]) -> tuple[tuple[str, ...], "itemgetter[Any] | None"]:
        """Return names in the order in which columns are kept, however a client ordered them, and the way there."""
        found = self._orders.get(names)
        if found is None:
            places = sorted(range(len(names)), key=names.__getitem__)
            found = tuple(names[place] for place in places), itemgetter(*places) if len(names) > 1 else None
            if len(self._orders) < 1000:
                self._orders[names] = found
        return found

    def parts(self, columns: Columns) -> Iterator[Iterator[Block]]:
        """Yield the parts of a table, each block by block."""
        for part in range(PARTS):
            self._write(columns, part)
            if self._path(columns, part).exists():
                yield self._blocks(columns, part)

    def _blocks(self, columns: Columns, part: int) -> Iterator[Block]:
        width = _OWN + len(columns.names)
        count = max(_BLOCK // (8 * width), 1) * width
        with open(self._path(columns, part), "rb") as file:
            while (values := np.fromfile(file, dtype=np.float64, count=count)).size:
                rows = values.reshape(-1, width)
                rows = rows[np.lexsort((rows[:, 1], rows[:, 0]))]
                yield Block(rows[:, 0].astype(np.int64), rows[:, _OWN:])

    def _write(self, columns: Columns, part: int) -> None:
        if columns.buffers[part]:
            with open(self._path(columns, part), "ab") as file:
                columns.buffers[part].tofile(file)
            columns.buffers[part] = array("d")

    def _path(self, columns: Columns, part: int) -> Path:
        return self._folder / f"{list(self.tables).index(columns.names)}-{part}"


def code_of(text: str) -> float:
    """Return the number that stands for a text."""
    return float(zlib.crc32(text.encode(errors="surrogatepass")))


def _doubles(row: Sequence[Any], texts: list[int]) -> Sequence[float]:
    try:
        return array("d", row)
    except TypeError:
        return [_double(value, place, texts) for place, value in enumerate(row)]
    except OverflowError as error:
        raise LineFault("a value does not fit") from error


def _double(value: Any, place: int, texts: list[int]) -> float:
    if value is None:
        return np.nan
    if type(value) is str:
        texts.append(place)
        return code_of(value)
    if type(value) not in (int, float, bool):
        raise LineFault("a value is neither number nor text")
    try:
        return float(value)
    except OverflowError as error:
        raise LineFault("a value does not fit") from error
