"""XGBoost models: JSON, or the binary JSON (UBJSON) that it saves by default. Data, read strictly and to the last byte.

UBJSON is read without building it: arrays of one type are stepped over, so that a large model takes little memory.
"""

import struct
from typing import Any, Final

from kfp_custody.components._shared.documents import DocumentFault, parse_json
from kfp_custody.components.model_scanning.reading import Blocked, Reading, View, window

_DEPTH = 64
_LARGEST_JSON = 256 * 1024 * 1024
_KEY = 1000
_SIZES: Final = {b"i": 1, b"U": 1, b"I": 2, b"l": 4, b"L": 8, b"d": 4, b"D": 8, b"C": 1}
_LENGTHS: Final = {b"i": ">b", b"U": ">B", b"I": ">h", b"l": ">i", b"L": ">q"}
_EMPTY: Final = (b"Z", b"T", b"F")
_TOP = {"learner", "version"}
_LEARNER = {"attributes", "feature_names", "feature_types", "gradient_booster", "learner_model_param", "objective"}
_LEARNER_MAY = _LEARNER | {"cats"}


def read_ubj(data: View) -> Reading:
    """Read a model in XGBoost's binary JSON.

    Raises:
        Blocked: it is malformed, no model, or something comes after it.
    """
    reader = _Binary(data)
    shape = reader.value(reader.marker(), 0)
    if reader.at != len(data):
        raise Blocked("something comes after the model")
    _require_model(shape)
    return Reading("xgboost-ubj", "XGBoost's binary JSON")


def read_json(data: View) -> Reading:
    """Read JSON that must be an XGBoost model or the configuration of a Keras model.

    Raises:
        Blocked: it is malformed or of no known model.
    """
    _require_model(json_of(data))
    return Reading("xgboost-json", "XGBoost's JSON")


def json_of(data: View) -> Any:
    """Parse JSON strictly.

    Raises:
        Blocked: with the reason.
    """
    if len(data) > _LARGEST_JSON:
        raise Blocked("it is larger than JSON that is read")
    try:
        return parse_json(bytes(data), _LARGEST_JSON)
    except DocumentFault as why:
        raise Blocked(str(why)) from why


def _require_model(document: Any) -> None:
    if not isinstance(document, dict) or set(document) != _TOP or not isinstance(document["learner"], dict):
        raise Blocked("it is no XGBoost model: it has other fields than learner and version")
    if not _LEARNER <= set(document["learner"]) <= _LEARNER_MAY:
        raise Blocked("it is no XGBoost model: its learner has other fields than one has")


class _Binary:
    """UBJSON, read from the front. Objects are returned with their keys, everything else as None."""

    def __init__(self, data: View) -> None:
        self.data, self.at = data, 0

    def marker(self) -> bytes:
        self.at += 1
        return window(self.data, self.at - 1, self.at)

    def value(self, marker: bytes, depth: int) -> Any:
        """Read a value whose marker was read, and return what is known of it."""
        if depth > _DEPTH:
            raise Blocked("it is nested too deep")
        if marker == b"{":
            return self._object(depth)
        if marker == b"[":
            self._array(depth)
        elif marker == b"S":
            self._skip(self._length(self.marker()))
        elif marker in _SIZES:
            self._skip(_SIZES[marker])
        elif marker not in _EMPTY:
            raise Blocked("it holds a value of an unknown type")
        return None

    def _object(self, depth: int) -> dict[str, Any]:
        found: dict[str, Any] = {}
        marker = self.marker()
        while marker != b"}":
            size = self._length(marker)
            if size > _KEY:
                raise Blocked("a name in it is too long")
            self._skip(size)
            try:
                key = window(self.data, self.at - size, self.at).decode()
            except UnicodeDecodeError as error:
                raise Blocked("a name in it is no UTF-8") from error
            if key in found:
                raise Blocked("a name stands in it twice")
            found[key] = self.value(self.marker(), depth + 1)
            marker = self.marker()
        return found

    def _array(self, depth: int) -> None:
        marker = self.marker()
        if marker == b"$":
            sort = self.marker()
            if sort not in _SIZES or self.marker() != b"#":
                raise Blocked("an array in it is of an unknown type")
            self._skip(self._length(self.marker()) * _SIZES[sort])
        elif marker == b"#":
            for _ in range(self._length(self.marker())):
                self.value(self.marker(), depth + 1)
        else:
            while marker != b"]":
                self.value(marker, depth + 1)
                marker = self.marker()

    def _length(self, marker: bytes) -> int:
        if marker not in _LENGTHS:
            raise Blocked("a length in it is of an unknown type")
        form = struct.Struct(_LENGTHS[marker])
        (length,) = form.unpack(window(self.data, self.at, self.at + form.size))
        self.at += form.size
        if length < 0:
            raise Blocked("a length in it is negative")
        return int(length)

    def _skip(self, size: int) -> None:
        if size > len(self.data) - self.at:
            raise Blocked("it ends in the middle of something")
        self.at += size
