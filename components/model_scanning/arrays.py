"""numpy's .npy and safetensors: headers that say what follows, and exactly that must follow."""

import ast
import re
import struct
from math import prod
from typing import Any

from kfp_custody.components._shared.documents import DocumentFault, parse_json
from kfp_custody.components.model_scanning.allowing import Allowed
from kfp_custody.components.model_scanning.pickles import read_pickle
from kfp_custody.components.model_scanning.reading import Blocked, Reading, View, window
from kfp_custody.components.model_scanning.values import is_shape

NPY = b"\x93NUMPY"
_NPY_HEADER = 10_000  # numpy reads no longer one
_NPY_TEXT = re.compile(rb"[\w \n'\"<>|=,:(){}\[\].]*", re.ASCII)
_DTYPE = re.compile(r"[<>|=]?([?biufcmMSUVO])(\d{0,9})(\[[a-zA-Z0-9]{1,8}\])?")
_SAFE_HEADER = 100_000_000  # as the library has it
_SAFE_BITS = {
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E4M3", "F8_E5M2"), 8),
    **dict.fromkeys(("I16", "U16", "F16", "BF16"), 16),
    **dict.fromkeys(("I32", "U32", "F32"), 32),
    **dict.fromkeys(("I64", "U64", "F64", "C64"), 64),
}


def read_npy(data: View, allowed: Allowed) -> Reading:
    """Read a .npy file; one of objects is a pickle.

    Raises:
        Blocked: the header is none that numpy writes, or its data is shorter or longer than it says.
    """
    version = bytes(data[6:8])
    if version not in (b"\1\0", b"\2\0", b"\3\0"):
        raise Blocked("its version is unknown")
    width = 2 if version == b"\1\0" else 4
    length = int.from_bytes(window(data, 8, 8 + width), "little")
    start = 8 + width + length
    if length > _NPY_HEADER:
        raise Blocked("its header is too long")
    size, count = _npy_header(window(data, 8 + width, start))
    if size is None:
        inner = read_pickle(data[start:], allowed)
        return Reading("npy", f"objects: {inner.detail}", inner.warning)
    if start + size * count != len(data):
        raise Blocked("its data is shorter or longer than its header says")
    return Reading("npy", f"{count} items of {size} bytes")


def _npy_header(text: bytes) -> tuple[int | None, int]:
    """Return the bytes of an item (None for objects) and how many items there are."""
    if not _NPY_TEXT.fullmatch(text):
        raise Blocked("its header is no header of an array")
    try:
        header = ast.literal_eval(text.decode())  # of letters, digits, quotes and brackets: nothing to compute
    except (ValueError, SyntaxError, RecursionError, MemoryError, TypeError) as error:
        raise Blocked("its header is no header of an array") from error
    if not isinstance(header, dict) or set(header) != {"descr", "fortran_order", "shape"}:
        raise Blocked("its header is no header of an array")
    shape = header["shape"]
    if not is_shape(shape):
        raise Blocked("its shape is none")
    return _descr_size(header["descr"]), prod(shape)


def _descr_size(descr: Any) -> int | None:
    if isinstance(descr, list):
        sizes = [_field_size(field) for field in descr]
        return None if None in sizes else sum(size for size in sizes if size is not None)
    match = _DTYPE.fullmatch(descr) if isinstance(descr, str) else None
    if match is None:
        raise Blocked("its type is none")
    if match[1] == "O":
        return None
    if match[1] == "?":
        return 1
    if not match[2]:
        raise Blocked("its type has no size")
    return int(match[2]) * (4 if match[1] == "U" else 1)


def _field_size(field: Any) -> int | None:
    if not isinstance(field, tuple) or len(field) not in (2, 3) or not isinstance(field[0], str):
        raise Blocked("its type has a field that is none")
    shape = field[2] if len(field) == 3 else ()
    if not is_shape(shape):
        raise Blocked("its type has a field without a shape")
    size = _descr_size(field[1])
    return None if size is None else size * prod(shape)


def is_safetensors(data: View) -> bool:
    """Tell whether the first bytes are the length of a JSON header that is there."""
    return len(data) > 8 and data[8] == ord("{") and 2 <= struct.unpack_from("<Q", data)[0] <= len(data) - 8


def read_safetensors(data: View) -> Reading:
    """Read the header of a safetensors file.

    Raises:
        Blocked: the header is malformed, or its tensors overlap, leave room or do not fit the data exactly.
    """
    (length,) = struct.unpack_from("<Q", data)
    if length > _SAFE_HEADER:
        raise Blocked("its header is too long")
    try:
        header = parse_json(window(data, 8, 8 + length), _SAFE_HEADER)
    except DocumentFault as why:
        raise Blocked(f"its header: {why}") from why
    notes = header.pop("__metadata__", {})
    if not isinstance(notes, dict) or not all(isinstance(value, str) for value in notes.values()):
        raise Blocked("its metadata is no table of texts")
    spans = sorted(_span(tensor) for tensor in header.values())
    at = 0
    for start, end in spans:
        if start != at:
            raise Blocked("its tensors overlap or leave room between them")
        at = end
    if at != len(data) - 8 - length:
        raise Blocked("its data is shorter or longer than its header says")
    return Reading("safetensors", f"{len(spans)} tensors")


def _span(tensor: Any) -> tuple[int, int]:
    if not isinstance(tensor, dict) or set(tensor) != {"dtype", "shape", "data_offsets"}:
        raise Blocked("a tensor is malformed")
    shape, offsets, dtype = tensor["shape"], tensor["data_offsets"], tensor["dtype"]
    if not all(isinstance(value, list) and is_shape(tuple(value)) for value in (shape, offsets)) or len(offsets) != 2:
        raise Blocked("a tensor has no shape or place")
    if not isinstance(dtype, str) or dtype not in _SAFE_BITS:
        raise Blocked("a tensor is of an unknown type")
    if offsets[1] - offsets[0] != prod(shape) * _SAFE_BITS[dtype] // 8:
        raise Blocked("a tensor has another size than its shape")
    return offsets[0], offsets[1]
