"""Calls that are allowed with some arguments only; any other call of them is as good as one that is not on the list."""

from collections.abc import Callable
from typing import Any, Final

from kfp_custody.components.model_scanning.values import BYTES, DTYPE, TEXT, Made, Named, dtype_arguments


def _encode(args: tuple[Any, ...]) -> bool:
    """Bytes, as protocols before 3 write them; another codec would be looked up by its name."""
    return len(args) == 2 and args[1] in ("latin1", "latin-1")


def _reconstructor(args: tuple[Any, ...]) -> bool:
    """An object made empty, as protocols before 2 do."""
    return len(args) == 3 and isinstance(args[0], Named) and args[1] == Named("builtins.object") and args[2] is None


def _empty_array(args: tuple[Any, ...]) -> bool:
    """An array that gets its shape from its state, and does not take memory for one before."""
    return len(args) == 3 and isinstance(args[0], Named) and args[1] in ((0,), 0)


def _of_bytes(args: tuple[Any, ...]) -> bool:
    """Bytes or a text as Latin 1, and never a number of bytes to make room for."""
    is_text = bool(args) and (args[0] is TEXT or isinstance(args[0], str))
    is_bytes = bool(args) and (args[0] is BYTES or (isinstance(args[0], Made) and args[0].by == "_codecs.encode"))
    return not args or (len(args) == 1 and is_bytes) or (is_text and args[1:] in (("latin-1",), ("latin1",)))


def _bit_generator(args: tuple[Any, ...]) -> bool:
    """One of numpy's own, by name or class: numpy calls what it is given."""
    is_class = bool(args) and isinstance(args[0], Named) and args[0].name.startswith("numpy.random._")
    return not args or (len(args) == 1 and (isinstance(args[0], str) or is_class))


def _random_state(args: tuple[Any, ...]) -> bool:
    """A bit generator, and perhaps the function that makes one: numpy calls it."""
    return not args or args[1:] in ((), (Named(_BIT_GENERATOR),))


_BIT_GENERATOR = "numpy.random._pickle.__bit_generator_ctor"
CHECKS: Final[dict[str, Callable[[tuple[Any, ...]], bool]]] = {
    "_codecs.encode": _encode,
    "builtins.bytearray": _of_bytes,
    "builtins.bytes": _of_bytes,
    "copyreg._reconstructor": _reconstructor,
    "numpy._core.multiarray._reconstruct": _empty_array,
    "numpy.core.multiarray._reconstruct": _empty_array,
    DTYPE: dtype_arguments,
    _BIT_GENERATOR: _bit_generator,
    "numpy.random._pickle.__generator_ctor": _random_state,
    "numpy.random._pickle.__randomstate_ctor": _random_state,
}
"""Full name of what is called -> whether its arguments are acceptable."""

CONTAINERS: Final = {
    "append": frozenset({"builtins.list", "collections.deque"}),
    "set item": frozenset(
        {"builtins.dict", "collections.OrderedDict", "collections.defaultdict", "sklearn.utils._bunch.Bunch"}
    ),
    "add": frozenset({"builtins.set"}),
}
"""Whose methods a pickle may call by the opcodes for items: those that only keep what they are given."""
