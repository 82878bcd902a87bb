"""Pickles, followed opcode by opcode without making anything: every name that a loader would look up is seen.

A pickle is a program, and what it does is decided by the names that it looks up and calls. This machine runs the
program on symbols (`values.py`): it keeps the stack and the memo as a loader would, so that a name that is put
together at run time is seen as well; large strings are stepped over and never copied. What cannot be followed exactly
(an unknown opcode, the extension registry, persistent ids, a state for something that is no object) is blocked.

joblib writes an array's bytes into the middle of a pickle. `joblib.load` steps over them, `pickle.load` would run
them: both readings are followed.
"""

import codecs
import struct
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from collections.abc import Callable
from math import prod
from typing import Any, Final

from kfp_custody.components.model_scanning.allowing import Allowed
from kfp_custody.components.model_scanning.arguments import CHECKS, CONTAINERS
from kfp_custody.components.model_scanning.reading import Blocked, Denied, Reading, View, window
from kfp_custody.components.model_scanning.values import (
    ARRAY_WRAPPER,
    BYTES,
    DTYPE,
    LIST,
    NUMBER,
    SET,
    TEXT,
    Made,
    Named,
    Table,
    is_shape,
    item_size,
)

_MARKS, _STACK, _MEMO = 10_000, 4_000_000, 8_000_000  # more of each is blocked: memory for it would be the attack
_LINE = 1 << 20  # bytes of a line
_NAME = 1000  # characters of a text that may become a name
_REASONS = 1000
_SHOWN = 20  # names that a finding lists
_ALIGNMENT = 16  # joblib's, without which raw bytes could be run as opcodes
_WRAPPER_STATE = {"subclass", "shape", "order", "dtype", "allow_mmap", "numpy_array_alignment_bytes"}
_STOP = ord(".")
_EXTENSIONS = "it takes a class from the extension registry"


def read_pickle(data: View, allowed: Allowed, *, storages: bool = False) -> Reading:
    """Follow a pickle to its end, which must be the end of the data.

    Args:
        data: The pickle.
        allowed: The allow-list.
        storages: It is torch's `data.pkl`, whose persistent ids name raw members of its archive.

    Raises:
        Denied: it looks up, calls or changes what is not on the allow-list.
        Blocked: it cannot be followed to its end, or something comes after it.
    """
    machine = Machine(data, allowed, storages=storages)
    try:
        machine.run()
    except Denied as why:
        machine.deny(str(why))
    except Blocked as why:
        if not machine.denied:
            raise
        machine.deny(f"then {why}")
    if machine.denied:
        raise Denied(_listed(machine.denied))
    if machine.at != len(data):
        raise Blocked(f"{len(data) - machine.at} bytes come after its end")
    kind = "joblib" if machine.arrays else "pickle"
    detail = f"protocol {machine.protocol}, {len(machine.names)} names looked up, all on the allow-list"
    return Reading(kind, detail, "a pickle runs as a program when it is loaded")


def runs_as_pickle(data: View, allowed: Allowed) -> bool:
    """Tell whether a loader of pickles that is given these bytes would look anything up."""
    machine = Machine(data, allowed)
    try:
        machine.run()
    except Denied:
        return True
    except Blocked:
        pass
    return bool(machine.names)


def _listed(names: dict[str, None]) -> str:
    shown = list(names)[:_SHOWN]
    return "; ".join(shown) + (f"; and {len(names) - len(shown)} more" if len(names) > len(shown) else "")


class Machine:
    """One run over a pickle.

    `names` are those looked up, `denied` the reasons to deny in their order, `at` where it stands, `arrays` how many
    arrays joblib's loader would read from the middle.
    """

    def __init__(self, data: View, allowed: Allowed, *, at: int = 0, joblib: bool = True, storages: bool = False):
        """Stand at `at`; `joblib`: read arrays as joblib's loader does."""
        self.data, self.allowed, self.at = data, allowed, at
        self.names: set[str] = set()
        self.denied: dict[str, None] = {}
        self.protocol, self.arrays = 0, 0
        self._joblib, self._storages, self._is_fork = joblib, storages, False
        self._stack: list[Any] = []
        self._marks: list[list[Any]] = []
        self._memo: dict[int, Any] = {}

    def deny(self, why: str) -> None:
        """Keep a reason, once; a thousand are enough to say no."""
        if len(self.denied) < _REASONS:
            self.denied.setdefault(why)

    def run(self) -> None:
        """Follow opcodes up to STOP.

        Raises:
            Denied: it does what nothing may do.
            Blocked: it cannot be followed.
        """
        data, table = self.data, _TABLE
        try:
            while True:
                opcode = data[self.at]
                self.at += 1
                if opcode == _STOP:
                    self._pop()
                    return
                step = table[opcode]
                if step is None:
                    raise Blocked(f"byte {self.at - 1} is no opcode")
                step(self)
        except (IndexError, struct.error) as error:
            raise Blocked("it ends in the middle, or takes more from its stack than there is") from error
        except (KeyError, ValueError, OverflowError) as error:  # of the memo; of a number or text that is none
            raise Blocked("it holds a number, text or reference that is none") from error

    # --- stack, memo, bytes -------------------------------------------------------------------------------------------

    def _push(self, value: Any) -> None:
        self._stack.append(value)
        if len(self._stack) > _STACK:
            raise Blocked("its stack grows without bounds")

    def _pop(self) -> Any:
        return self._stack.pop()

    def _mark(self) -> None:
        if len(self._marks) >= _MARKS:
            raise Blocked("it is nested too deep")
        self._marks.append(self._stack)
        self._stack = []

    def _pop_mark(self) -> list[Any]:
        items, self._stack = self._stack, self._marks.pop()
        return items

    def _remember(self, index: int) -> None:
        if index < 0 or len(self._memo) > _MEMO:
            raise Blocked("its memo has a negative index or grows without bounds")
        self._memo[index] = self._stack[-1]

    def _number(self, form: struct.Struct) -> Any:
        (value,) = form.unpack_from(self.data, self.at)
        self.at += form.size
        return value

    def _skip(self, size: int) -> int:
        """Step over bytes and return where they began."""
        start = self.at
        if size < 0 or size > len(self.data) - start:
            raise Blocked("it ends in the middle of a string")
        self.at += size
        return start

    def _line(self) -> bytes:
        size = 256
        while True:
            piece = bytes(self.data[self.at : self.at + size])
            end = piece.find(b"\n")
            if end >= 0:
                self.at += end + 1
                return piece[:end]
            if len(piece) < size or size >= _LINE:
                raise Blocked("a line does not end")
            size *= 16

    def _text(self, size: int) -> Any:
        start = self._skip(size)
        if size > 4 * _NAME:
            return TEXT
        return window(self.data, start, self.at).decode("utf-8", "surrogatepass")

    # --- opcodes of plain values --------------------------------------------------------------------------------------

    def _do_proto(self) -> None:
        self.protocol = max(self.protocol, self.data[self.at])
        self.at += 1
        if self.protocol > 5:
            raise Blocked("its protocol is unknown")

    def _do_frame(self) -> None:
        size = self._number(_U8)
        if size > len(self.data) - self.at:
            raise Blocked("a frame is longer than the file")

    def _do_integer(self) -> None:
        line = self._line()
        self._push({b"00": False, b"01": True}[line] if line in (b"00", b"01") else int(line, 0))

    def _do_long(self) -> None:
        line = self._line()
        self._push(int(line.removesuffix(b"L"), 0))

    def _do_long_of(self, size: int) -> None:
        start = self._skip(size)
        self._push(int.from_bytes(self.data[start : self.at], "little", signed=True) if size <= 255 else NUMBER)

    def _do_float_line(self) -> None:
        float(self._line())
        self._push(NUMBER)

    def _do_string_line(self) -> None:
        line = self._line()
        if len(line) < 2 or line[:1] not in b"'\"" or line[:1] != line[-1:]:
            raise Blocked("a string is not quoted")
        # With an escape it may still be a text, but no name of a class needs one.
        self._push(TEXT if b"\\" in line else _legacy(line[1:-1]))

    def _do_string_of(self, size: int) -> None:
        start = self._skip(size)
        self._push(_legacy(window(self.data, start, self.at)) if size <= _NAME else TEXT)

    def _do_unicode_line(self) -> None:
        text, _ = codecs.raw_unicode_escape_decode(self._line())  # by name, the codec would be imported
        self._push(text)

    def _do_bytes_of(self, size: int) -> None:
        self._skip(size)
        self._push(BYTES)

    # --- opcodes of containers ----------------------------------------------------------------------------------------

    def _do_pop(self) -> None:
        if self._stack:
            self._pop()
        else:
            self._pop_mark()

    def _do_tuple_of(self, size: int) -> None:
        if size > len(self._stack):
            raise Blocked("it takes more from its stack than there is")
        start = len(self._stack) - size
        self._stack[start:] = [tuple(self._stack[start:])]

    def _do_tuple_marked(self) -> None:
        items = tuple(self._pop_mark())
        self._push(items)

    def _do_list_marked(self) -> None:
        self._pop_mark()
        self._push(LIST)

    def _do_dict_marked(self) -> None:
        items, table = self._pop_mark(), Table()
        self._fill(table, items)
        self._push(table)

    def _do_frozenset_marked(self) -> None:
        self._pop_mark()
        self._push(Made("builtins.frozenset", ()))

    def _do_append(self) -> None:
        self._pop()
        self._require_container("append", LIST)

    def _do_appends(self) -> None:
        self._pop_mark()
        self._require_container("append", LIST)

    def _do_additems(self) -> None:
        self._pop_mark()
        self._require_container("add", SET)

    def _do_setitem(self) -> None:
        value, key = self._pop(), self._pop()
        self._set([key, value])

    def _do_setitems(self) -> None:
        self._set(self._pop_mark())

    def _set(self, items: list[Any]) -> None:
        target = self._stack[-1]
        if isinstance(target, Table):
            self._fill(target, items)
        else:
            self._require_container("set item", None)

    def _fill(self, table: Table, items: list[Any]) -> None:
        if len(items) % 2:
            raise Blocked("a dictionary has a key without a value")
        if not self._is_fork:
            for key, value in zip(items[::2], items[1::2], strict=True):
                table.put(key, value)

    def _require_container(self, action: str, plain: Any) -> None:
        target = self._stack[-1]
        if target is plain and plain is not None:
            return
        if not isinstance(target, Made) or target.by not in CONTAINERS[action]:
            self.deny(f"{action} of {_shown(target)}")

    def _do_put_line(self) -> None:
        self._remember(int(self._line()))

    def _do_get(self, index: int) -> None:
        self._push(self._memo[index])

    # --- opcodes that reach for something -----------------------------------------------------------------------------

    def _find(self, module: Any, name: Any) -> Named:
        if TEXT in (module, name):
            raise Denied("it looks up a name that is no short text")
        if not isinstance(module, str) or not isinstance(name, str):  # where a loader gives up
            raise Blocked("it looks up a name that is no text")
        if self.protocol < 3:  # as a loader does for Python 2's names
            if (module, name) in NAME_MAPPING:
                module, name = NAME_MAPPING[module, name]
            elif module in IMPORT_MAPPING:
                module = IMPORT_MAPPING[module]
        full = f"{module}.{name}"
        self.names.add(full)
        # A dot in the second part walks from object to object: no name of the list needs that.
        if "." in name or (full not in self.allowed.calls and full not in self.allowed.types):
            self.deny(ascii(full)[1:-1])
        return Named(full)

    def _do_global_line(self) -> None:
        module, name = self._line().decode(), self._line().decode()
        self._push(self._find(module, name))

    def _do_stack_global(self) -> None:
        name, module = self._pop(), self._pop()
        self._push(self._find(module, name))

    def _do_instance(self) -> None:
        found = self._find(self._line().decode(), self._line().decode())
        self._push(self._call(found, tuple(self._pop_mark())))

    def _do_object(self) -> None:
        items = self._pop_mark()
        self._push(self._call(items[0], tuple(items[1:])))

    def _do_reduce(self) -> None:
        args, function = self._pop(), self._pop()
        self._push(self._call(function, args))

    def _do_new_object(self) -> None:
        args, cls = self._pop(), self._pop()
        self._push(self._new(cls, args))

    def _do_new_object_ex(self) -> None:
        keywords, args, cls = self._pop(), self._pop(), self._pop()
        if not isinstance(keywords, Table) or keywords.items or not keywords.is_whole:
            self.deny(f"{_shown(cls)} made with keywords")
        self._push(self._new(cls, args))

    def _call(self, function: Any, args: Any) -> Made:
        name = _shown(function)
        if not isinstance(function, Named) or not isinstance(args, tuple):
            self.deny(f"a call of {name}")
            return Made(name, ())
        if function.name not in self.allowed.calls:
            self.deny(f"{name} called")
        elif not CHECKS.get(function.name, _any)(args):
            self.deny(f"{name} called with unusual arguments")
        if function.name == "copyreg._reconstructor" and args and isinstance(args[0], Named):
            return Made(args[0].name, ())
        return Made(function.name, args)

    def _new(self, cls: Any, args: Any) -> Made:
        if not isinstance(cls, Named) or not isinstance(args, tuple):
            self.deny(f"an object of {_shown(cls)}")
            return Made(_shown(cls), ())
        if args and cls.name not in self.allowed.calls:
            self.deny(f"{_shown(cls)} made with arguments")
        elif not CHECKS.get(cls.name, _any)(args):
            self.deny(f"{_shown(cls)} made with unusual arguments")
        return Made(cls.name, args)

    def _do_build(self) -> None:
        state, target = self._pop(), self._stack[-1]
        if not isinstance(target, Made):
            raise Denied(f"it sets the state of {_shown(target)}")
        for part in state if isinstance(state, tuple) else (state,):
            is_hidden = isinstance(part, Made) and part.by in CONTAINERS["set item"]  # its items were not kept
            if is_hidden or (isinstance(part, Table) and part.has_hooks):
                self.deny(f"{_shown(target)} given methods as its state")
        if self._is_fork:
            return
        if target.is_built and target.by in (DTYPE, ARRAY_WRAPPER):
            raise Blocked("it sets the state of an array twice")
        target.state, target.is_built = state, True
        if target.by == ARRAY_WRAPPER and self._joblib:
            self._array(state)

    def _do_extension(self) -> None:
        raise Denied(_EXTENSIONS)

    def _do_persistent_line(self) -> None:
        self._line()
        raise Blocked("it has a persistent id")

    def _do_persistent(self) -> None:
        identity = self._pop()
        if not self._storages:
            raise Blocked("it has a persistent id")
        if not isinstance(identity, tuple) or len(identity) != 5 or identity[0] != "storage":
            raise Denied("it has a persistent id that is no storage")
        self._push(Made("torch storage", ()))

    def _do_buffer(self) -> None:
        raise Blocked("it takes data from outside of the file")

    # --- joblib -------------------------------------------------------------------------------------------------------

    def _array(self, state: Any) -> None:
        """Step over an array as joblib's loader does; what `pickle.load` would do there is followed as well."""
        if not isinstance(state, Table) or not state.is_whole or not set(state.items) <= _WRAPPER_STATE:
            raise Blocked("a joblib array has a state that cannot be read")
        shape = state.items.get("shape")
        if not is_shape(shape):
            raise Blocked("a joblib array has no shape")
        size = item_size(state.items.get("dtype"))
        self.arrays += 1
        if size is None:
            self._objects()
            return
        padding = self.data[self.at]
        # No opcode is that small, so that pickle.load stops here.
        if state.items.get("numpy_array_alignment_bytes") != _ALIGNMENT or padding > _ALIGNMENT:
            raise Blocked("a joblib array is not aligned, so its bytes could be run as a pickle")
        self._skip(1 + padding + prod(shape) * size)

    def _objects(self) -> None:
        """Follow the pickle of an array of objects, twice: on its own, and as the rest of this one."""
        inner = Machine(self.data, self.allowed, at=self.at, joblib=False)
        plain = Machine(self.data, self.allowed, at=self.at, joblib=False)
        plain.protocol, plain._stack, plain._marks = self.protocol, list(self._stack), [list(m) for m in self._marks]
        plain._memo, plain._is_fork = dict(self._memo), True
        for machine, must_end in ((plain, False), (inner, True)):
            try:
                machine.run()
            except Denied as why:
                self.deny(str(why))
            except Blocked:
                if must_end:
                    raise
            finally:
                self.names |= machine.names
                self.denied |= machine.denied
        self.at = inner.at


def _any(args: tuple[Any, ...]) -> bool:
    return True


def _legacy(value: bytes) -> Any:
    """Return what Python 3 makes of a string of Python 2."""
    return value.decode() if value.isascii() and len(value) <= _NAME else BYTES


def _shown(value: Any) -> str:
    if isinstance(value, Named | Made):
        return ascii(value.name if isinstance(value, Named) else value.by)[1:-1]
    return "a plain value"


_U1, _U2, _U4, _U8 = (struct.Struct(f"<{code}") for code in "BHIQ")
_I4, _F8 = struct.Struct("<i"), struct.Struct(">d")
_Step = Callable[[Machine], None]


def _constant(value: Any) -> _Step:
    return lambda machine: machine._push(value)


def _table() -> _Step:
    return lambda machine: machine._push(Table())


def _plain(form: struct.Struct) -> _Step:
    return lambda machine: machine._push(machine._number(form))


def _sized(step: Callable[[Machine, int], None], form: struct.Struct) -> _Step:
    return lambda machine: step(machine, machine._number(form))


def _text(form: struct.Struct) -> _Step:
    return lambda machine: machine._push(machine._text(machine._number(form)))


def _double(machine: Machine) -> None:
    machine._skip(_F8.size)
    machine._push(NUMBER)


def _copy(machine: Machine) -> None:
    machine._push(machine._stack[-1])


def _drop(machine: Machine) -> None:
    machine._pop_mark()


_STEPS: Final[dict[bytes, _Step]] = {
    b"(": Machine._mark,
    b"0": Machine._do_pop,
    b"1": _drop,
    b"2": _copy,
    b"F": Machine._do_float_line,
    b"I": Machine._do_integer,
    b"J": _plain(_I4),
    b"K": _plain(_U1),
    b"L": Machine._do_long,
    b"M": _plain(_U2),
    b"N": _constant(None),
    b"P": Machine._do_persistent_line,
    b"Q": Machine._do_persistent,
    b"R": Machine._do_reduce,
    b"S": Machine._do_string_line,
    b"T": _sized(Machine._do_string_of, _I4),
    b"U": _sized(Machine._do_string_of, _U1),
    b"V": Machine._do_unicode_line,
    b"X": _text(_U4),
    b"a": Machine._do_append,
    b"b": Machine._do_build,
    b"c": Machine._do_global_line,
    b"d": Machine._do_dict_marked,
    b"}": _table(),
    b"e": Machine._do_appends,
    b"g": lambda machine: machine._do_get(int(machine._line())),
    b"h": _sized(Machine._do_get, _U1),
    b"i": Machine._do_instance,
    b"j": _sized(Machine._do_get, _U4),
    b"l": Machine._do_list_marked,
    b"]": _constant(LIST),
    b"o": Machine._do_object,
    b"p": Machine._do_put_line,
    b"q": _sized(Machine._remember, _U1),
    b"r": _sized(Machine._remember, _U4),
    b"s": Machine._do_setitem,
    b"t": Machine._do_tuple_marked,
    b")": _constant(()),
    b"u": Machine._do_setitems,
    b"G": _double,
    b"\x80": Machine._do_proto,
    b"\x81": Machine._do_new_object,
    b"\x82": Machine._do_extension,
    b"\x83": Machine._do_extension,
    b"\x84": Machine._do_extension,
    b"\x85": lambda machine: machine._do_tuple_of(1),
    b"\x86": lambda machine: machine._do_tuple_of(2),
    b"\x87": lambda machine: machine._do_tuple_of(3),
    b"\x88": _constant(True),
    b"\x89": _constant(False),
    b"\x8a": _sized(Machine._do_long_of, _U1),
    b"\x8b": _sized(Machine._do_long_of, _I4),
    b"B": _sized(Machine._do_bytes_of, _U4),
    b"C": _sized(Machine._do_bytes_of, _U1),
    b"\x8c": _text(_U1),
    b"\x8d": _text(_U8),
    b"\x8e": _sized(Machine._do_bytes_of, _U8),
    b"\x8f": _constant(SET),
    b"\x90": Machine._do_additems,
    b"\x91": Machine._do_frozenset_marked,
    b"\x92": Machine._do_new_object_ex,
    b"\x93": Machine._do_stack_global,
    b"\x94": lambda machine: machine._remember(len(machine._memo)),
    b"\x95": Machine._do_frame,
    b"\x96": _sized(Machine._do_bytes_of, _U8),
    b"\x97": Machine._do_buffer,
    b"\x98": Machine._do_buffer,
}
_TABLE: Final[list[_Step | None]] = [_STEPS.get(bytes([code])) for code in range(256)]
OPCODES: Final = frozenset(b"." + b"".join(_STEPS))
"""First bytes that a pickle may have."""
