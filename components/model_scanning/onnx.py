"""ONNX models, read from the wire: every field must be one of the format, every operator of an allowed domain.

A model of ONNX is data, but it may ask the runtime for operators from a library that is not part of it, and for
weights from any file that its process can read. Fields are those of onnx.proto of ONNX 1.18.
"""

from typing import Final

from kfp_custody.components.model_scanning.allowing import Allowed
from kfp_custody.components.model_scanning.reading import Blocked, Denied, Reading, View, window

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_DEPTH = 32
# Message -> field -> wire types that it may have, or the message that it holds.
_NUMBER, _FLOAT, _TEXT = "number", "float", "text"
_Message = dict[int, str]
_MESSAGES: Final[dict[str, _Message]] = {
    "Model": {
        **{1: _NUMBER, 2: _TEXT, 3: _TEXT, 4: _TEXT, 5: _NUMBER, 6: _TEXT, 7: "Graph", 8: "OperatorSet", 14: "Entry"},
        **{25: "Function"},
    },
    "OperatorSet": {1: "domain", 2: _NUMBER},
    "Entry": {1: _TEXT, 2: _TEXT},
    "Graph": {
        **{1: "Node", 2: _TEXT, 5: "Tensor", 10: _TEXT, 11: "ValueInfo", 12: "ValueInfo", 13: "ValueInfo"},
        **{14: "Annotation", 15: "SparseTensor", 16: "Entry"},
    },
    "Node": {1: _TEXT, 2: _TEXT, 3: _TEXT, 4: _TEXT, 5: "Attribute", 6: _TEXT, 7: "domain", 8: _TEXT, 9: "Entry"},
    "Attribute": {
        **{1: _TEXT, 2: _FLOAT, 3: _NUMBER, 4: _TEXT, 5: "Tensor", 6: "Graph", 7: "floats", 8: "numbers", 9: _TEXT},
        **{10: "Tensor", 11: "Graph", 13: _TEXT, 14: "Type", 15: "Type", 20: _NUMBER, 21: _TEXT},
        **{22: "SparseTensor", 23: "SparseTensor"},
    },
    "Tensor": {
        **{1: "numbers", 2: _NUMBER, 3: "Segment", 4: "floats", 5: "numbers", 6: _TEXT, 7: "numbers", 8: _TEXT},
        **{9: _TEXT, 10: "floats", 11: "numbers", 12: _TEXT, 13: "external", 14: "location", 16: "Entry"},
    },
    "Segment": {1: _NUMBER, 2: _NUMBER},
    "SparseTensor": {1: "Tensor", 2: "Tensor", 3: "numbers"},
    "Annotation": {1: _TEXT, 2: "Entry"},
    "ValueInfo": {1: _TEXT, 2: "Type", 3: _TEXT, 4: "Entry"},
    "Type": {1: "TensorType", 4: "Sequence", 5: "Map", 6: _TEXT, 8: "TensorType", 9: "Sequence"},
    "TensorType": {1: _NUMBER, 2: "Shape"},
    "Sequence": {1: "Type"},
    "Map": {1: _NUMBER, 2: "Type"},
    "Shape": {1: "Dimension"},
    "Dimension": {1: _NUMBER, 2: _TEXT, 3: _TEXT},
    "Function": {
        **{1: _TEXT, 4: _TEXT, 5: _TEXT, 6: _TEXT, 7: "Node", 8: _TEXT, 9: "OperatorSet", 10: "domain"},
        **{11: "Attribute", 12: "ValueInfo", 13: _TEXT, 14: "Entry"},
    },
}
_WIRES: Final = {
    _NUMBER: (_VARINT,),
    _FLOAT: (_FIXED32,),
    "numbers": (_VARINT, _BYTES),
    "floats": (_FIXED32, _FIXED64, _BYTES),
}
_WIDTHS: Final = {_FIXED32: 4, _FIXED64: 8}


def read_onnx(data: View, allowed: Allowed) -> Reading:
    """Read an ONNX model.

    Raises:
        Denied: it uses operators of a domain that is not allowed, or weights from another file.
        Blocked: it is none, or has fields that the format does not.
    """
    fields: set[int] = set()
    nodes = _message(data, "Model", allowed, 0, fields)
    if not {1, 7, 8} <= fields:
        raise Blocked("it is of no known format")
    return Reading("onnx", f"{nodes} messages, no weights outside")


def _message(data: View, name: str, allowed: Allowed, depth: int, seen: set[int]) -> int:
    """Read a message and return how many there are in it."""
    if depth > _DEPTH:
        raise Blocked("it is nested too deep")
    fields, at, count = _MESSAGES[name], 0, 1
    while at < len(data):
        tag, at = _varint(data, at)
        number, wire = tag >> 3, tag & 7
        sort = fields.get(number)
        if sort is None or wire not in _WIRES.get(sort, (_VARINT if sort == "location" else _BYTES,)):
            raise Blocked("it has a field that ONNX does not")
        seen.add(number)
        if wire == _VARINT:
            value, at = _varint(data, at)
            if sort == "location" and value:
                raise Denied("it takes weights from another file")
            continue
        length, at = _varint(data, at) if wire == _BYTES else (_WIDTHS[wire], at)
        if length > len(data) - at:
            raise Blocked("it ends in the middle of something")
        content, at = data[at : at + length], at + length
        if sort == "external":
            raise Denied("it takes weights from another file")
        if sort == "domain":
            _require_domain(content, allowed)
        elif sort in _MESSAGES:
            count += _message(content, sort, allowed, depth + 1, set())
    return count


def _require_domain(content: View, allowed: Allowed) -> None:
    domain = window(content, 0, min(len(content), 200)).decode("utf-8", "replace")
    if domain not in allowed.onnx_domains:
        raise Denied(f"it uses operators of the domain {ascii(domain)[:100]}")


def _varint(data: View, at: int) -> tuple[int, int]:
    value, shift = 0, 0
    while at < len(data) and shift < 70:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
    raise Blocked("it ends in the middle of a number")
