"""CEL as the API server evaluates it, as far as cel-expr-python knows its functions.

Kubernetes' own libraries (url, quantity, ip, authorizer, ...) are not there: such a rule is an `Unsupported`, said as
error 500, so that nobody takes it for one that held.
"""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from cel_expr_python import cel
from cel_expr_python.ext import ext_optional, ext_strings

_RESERVED = frozenset(
    ("namespace", "package", "import", "return", "function", "for", "if", "else", "loop", "const", "in")
)


class Undecided(Exception):
    """The expression fails for these values."""


class Unsupported(Exception):
    """The expression does not compile here."""


@lru_cache(maxsize=4096)
def _compiled(expression: str, names: tuple[str, ...]) -> Any:
    extensions = [ext_strings.ExtStrings(), ext_optional.ExtOptional()]
    environment = cel.NewEnv(variables=dict.fromkeys(names, cel.Type.DYN), extensions=extensions)
    try:
        return environment.compile(expression)
    except RuntimeError as error:  # all that this library raises for an expression it does not accept
        raise Unsupported(f"cannot compile {expression!r} here: {' '.join(str(error).split())}") from error


def evaluate(expression: str, data: Mapping[str, Any]) -> Any:
    """Return what an expression comes to."""
    value = _compiled(expression, tuple(sorted(data))).eval(data={name: _seen(item) for name, item in data.items()})
    if value.type() == cel.Type.ERROR:
        raise Undecided(str(value.value()))
    return value.plain_value()


def _seen(value: Any) -> Any:
    """Return a value with fields that CEL reserves also as rules must write them: `namespace` as `__namespace__`."""
    if isinstance(value, list):
        return [_seen(item) for item in value]
    if not isinstance(value, dict):
        return value
    seen = {key: _seen(item) for key, item in value.items()}
    return seen | {f"__{key}__": seen[key] for key in _RESERVED & seen.keys()}
