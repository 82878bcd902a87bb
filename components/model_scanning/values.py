"""What a pickle builds, as far as it must be known: symbols that stand for objects which are never made."""

import re
from dataclasses import dataclass, field
from typing import Any, Final, TypeGuard

from kfp_custody.components.model_scanning.reading import Blocked

DTYPE: Final = "numpy.dtype"
ARRAY_WRAPPER: Final = "joblib.numpy_pickle.NumpyArrayWrapper"
_DTYPE_CODE = re.compile(r"([biufcmMSUVO])([1-9]\d{0,9})")
_FIXED = {
    "b": ("1",),
    "i": ("1", "2", "4", "8"),
    "u": ("1", "2", "4", "8"),
    "f": ("2", "4", "8", "16"),
    "c": ("8", "16", "32"),
    "m": ("8",),
    "M": ("8",),
}
_HOLDS_OBJECTS = 0b111  # NPY_ITEM_REFCOUNT, NPY_LIST_PICKLE and NPY_ITEM_IS_POINTER
_DIMENSIONS = 64  # numpy's own limit
_MOST_KEYS = 64  # a dictionary of more is none that the scanner has to know


@dataclass(frozen=True)
class Named:
    """A class or function that the pickle looked up by its full name."""

    name: str


@dataclass(eq=False)
class Made:
    """An object that a call would have made, and the state that it was given."""

    by: str
    args: tuple[Any, ...]
    state: Any = None
    is_built: bool = False


@dataclass(eq=False)
class Table:
    """A dictionary; only its first text keys are kept, and `is_whole` says whether that was all.

    `has_hooks`: a key is the name of a method that Python calls by itself, such as `__setstate__`.
    """

    items: dict[str, Any] = field(default_factory=dict)
    is_whole: bool = True
    has_hooks: bool = False

    def put(self, key: Any, value: Any) -> None:
        """Set an item."""
        # A text that was too long to keep is no name of a method.
        self.has_hooks |= isinstance(key, str) and key.startswith("__")
        if isinstance(key, str) and (key in self.items or len(self.items) < _MOST_KEYS):
            self.items[key] = value
        else:
            self.is_whole = False


class Thing:
    """A value of which nothing but its sort is known; there is one of each."""

    def __init__(self, sort: str) -> None:
        """Keep the sort."""
        self.sort = sort


TEXT, BYTES, NUMBER, LIST, SET = Thing("text"), Thing("bytes"), Thing("number"), Thing("list"), Thing("set")


def item_size(dtype: Any) -> int | None:
    """Return the bytes of one item of a pickled numpy dtype, None when the items are objects.

    Raises:
        Blocked: it is no dtype in the form in which numpy pickles one, so that nobody knows where its data ends.
    """
    if not isinstance(dtype, Made) or dtype.by != DTYPE or not dtype_arguments(dtype.args):
        raise Blocked("an array has no dtype that can be read")
    sort, digits = _DTYPE_CODE.fullmatch(dtype.args[0]).groups()  # type: ignore[union-attr]  # as dtype_arguments found
    state = dtype.state
    if sort == "O":
        return None
    if not isinstance(state, tuple) or not 8 <= len(state) <= 9 or state[2] is not None:
        raise Blocked("an array has a dtype whose state cannot be read")
    size, flags = state[5], state[7]
    if type(size) is not int or type(flags) is not int or flags & _HOLDS_OBJECTS:
        raise Blocked("an array has a dtype that may hold objects")
    if sort in _FIXED:
        if digits not in _FIXED[sort] or size != -1:
            raise Blocked("an array has a dtype of an unusual size")
        return int(digits)
    if size != int(digits) * (4 if sort == "U" else 1):
        raise Blocked("an array has a dtype of two sizes")
    _require_plain_fields(state[4])
    return size


def _require_plain_fields(fields: Any) -> None:
    if fields is None:
        return
    if not isinstance(fields, Table) or not fields.is_whole:
        raise Blocked("an array has fields that cannot be read")
    for value in fields.items.values():
        if not isinstance(value, tuple) or len(value) not in (2, 3) or item_size(value[0]) is None:
            raise Blocked("an array has a field that holds objects")


def dtype_arguments(args: tuple[Any, ...]) -> bool:
    """Tell whether these are the arguments with which numpy pickles a dtype; they copy, so that none is shared."""
    return (
        len(args) == 3
        and isinstance(args[0], str)
        and _DTYPE_CODE.fullmatch(args[0]) is not None
        and args[1] in (False, 0)
        and args[2] in (True, 1)
    )


def is_shape(shape: Any) -> TypeGuard[tuple[int, ...]]:
    """Tell whether this is the shape of an array."""
    return (
        isinstance(shape, tuple)
        and len(shape) <= _DIMENSIONS
        and all(type(size) is int and size >= 0 for size in shape)
    )
