"""Reading CEL expressions as text: which fields they name, and the parts that `&&` joins.

This only explains. Whether a rule holds is decided by CEL on the whole expression; where the text is not understood
here, an explanation is less exact and nothing else.
"""

import re
from collections.abc import Collection
from dataclasses import dataclass

_TOKEN = re.compile(
    r"""
    (?P<space>\s+|//[^\n]*)
    |(?P<string>[rRbB]{0,2}(?:\"{3}.*?\"{3}|'{3}.*?'{3})
        |[bB]?[rR][bB]?(?:"[^"\n]*"|'[^'\n]*')
        |[bB]?(?:"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'))
    |(?P<number>0[xX][0-9a-fA-F]+[uU]?|(?:\d+\.\d+|\.\d+|\d+)(?:[eE][+-]?\d+)?[uU]?)
    |(?P<name>[A-Za-z_][A-Za-z0-9_]*)
    |(?P<sign>&&|\|\||[=!<>]=|[-+*/%<>!?:.,()\[\]{}])
    """,
    re.VERBOSE | re.DOTALL,
)
_OPEN, _CLOSE = "([{", ")]}"
_RELATIONS = ("==", "!=", "<", "<=", ">", ">=", "in")
_DEEPEST, _MOST = 32, 64  # brackets and parts beyond which an expression is shown as a whole
_FLIPPED = {"<": ">", "<=": ">=", ">": "<", ">=": "<=", "==": "==", "!=": "!="}


@dataclass(frozen=True)
class Path:
    """A field that an expression names: its parts, and how it is written there."""

    parts: tuple[str, ...]
    text: str


@dataclass(frozen=True)
class Comparison:
    """`left sign right`, turned so that a literal stands on the right where the sign allows."""

    left: str
    sign: str
    right: str


@dataclass(frozen=True)
class _Token:
    kind: str
    text: str
    start: int
    end: int
    depth: int  # of the brackets around it


def paths(expression: str, roots: Collection[str]) -> list[Path]:
    """Return every field below the given variables that an expression names, in order, each once."""
    tokens = _tokens(expression) or []
    found: dict[tuple[str, ...], Path] = {}
    for number, token in enumerate(tokens):
        if token.kind != "name" or token.text not in roots or (number and tokens[number - 1].text == "."):
            continue
        parts, end = _follow(tokens, number)
        found.setdefault(parts, Path(parts, expression[token.start : tokens[end].end]))
    return list(found.values())


def terms(expression: str) -> list[str]:
    """Return the parts that `&&` joins; the whole where something binds weaker than `&&`."""
    tokens = _tokens(expression)
    if tokens is None:
        return [expression.strip()]
    if len(tokens) > 2 and tokens[0].text == "(" and _closes(tokens) == len(tokens) - 1:
        return terms(expression[tokens[0].end : tokens[-1].start])
    outer = [token for token in tokens if token.depth == 0]
    if any(token.text in ("||", "?") for token in outer):
        return [expression.strip()]
    starts = [0, *(token.end for token in outer if token.text == "&&")]
    ends = [*(token.start for token in outer if token.text == "&&"), len(expression)]
    parts = [expression[start:end].strip() for start, end in zip(starts, ends, strict=True)]
    if len(parts) > _MOST:
        return [expression.strip()]
    return parts if len(parts) == 1 else [term for part in parts for term in terms(part)]


def comparison(term: str) -> Comparison | None:
    """Return the one comparison that a term consists of, None when it is something else."""
    outer = [token for token in _tokens(term) or [] if token.depth == 0]
    signs = [token for token in outer if token.text in _RELATIONS and token.kind in ("sign", "name")]
    if len(signs) != 1 or any(token.text in ("||", "&&", "?") for token in outer):
        return None
    (sign,) = signs
    left, right = term[: sign.start].strip(), term[sign.end :].strip()
    if sign.text != "in" and is_literal(left) and not is_literal(right):
        return Comparison(right, _FLIPPED[sign.text], left)
    return Comparison(left, sign.text, right)


def is_literal(text: str) -> bool:
    """Tell whether a text is one number, string, true, false or null."""
    tokens = _tokens(text) or []
    if tokens and tokens[0].text == "-":
        tokens = tokens[1:]
    return len(tokens) == 1 and (tokens[0].kind in ("number", "string") or tokens[0].text in ("true", "false", "null"))


def is_integer(text: str) -> bool:
    """Tell whether a text is an integer literal, which is not what evidence holds."""
    return re.fullmatch(r"-?\s*(0[xX][0-9a-fA-F]+|\d+)[uU]?", text.strip()) is not None


def _tokens(expression: str) -> list[_Token] | None:
    """Return the tokens without spaces and comments; None when the text is not understood here, or nested deep."""
    found, position, depth = [], 0, 0
    while position < len(expression):
        match = _TOKEN.match(expression, position)
        if match is None:
            return None
        kind, text = str(match.lastgroup), match.group()
        position = match.end()
        if kind == "space":
            continue
        depth -= text in _CLOSE
        found.append(_Token(kind, text, match.start(), match.end(), depth))
        depth += text in _OPEN
        if depth > _DEEPEST:
            return None
    return found


def _follow(tokens: list[_Token], number: int) -> tuple[tuple[str, ...], int]:
    """Follow `.name` and `["name"]` from a variable; a method that is called at the end is no field."""
    parts, end = [tokens[number].text], number
    while True:
        after = tokens[end + 1 : end + 5]
        texts = [token.text for token in after]
        if len(after) > 1 and texts[0] == "." and after[1].kind == "name" and texts[2:3] != ["("]:
            parts.append(texts[1])
            end += 2
        elif len(after) > 2 and texts[0] == "[" and after[1].kind == "string" and texts[2] == "]":
            parts.append(texts[1].strip("rRbB").strip("\"'"))
            end += 3
        else:
            return tuple(parts), end


def _closes(tokens: list[_Token]) -> int:
    """Return where the bracket that the tokens start with is closed."""
    return next((n for n, token in enumerate(tokens) if n and token.depth == 0 and token.text == ")"), -1)
