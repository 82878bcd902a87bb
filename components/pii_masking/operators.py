"""The column operators, vectorised: each works on the distinct values of a chunk, and nulls stay null.

`mask` and `generalize: prefix` never show a whole value, however short it is.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from kfp_custody.components._shared.errors import InputRefused
from kfp_custody.components.pii_masking.format_preserving import FormCipher
from kfp_custody.components.pii_masking.generalizing import ages, zip_areas
from kfp_custody.components.pii_masking.policy import Policy, Rule
from kfp_custody.components.pii_masking.pseudonyms import Pseudonyms

_KINDS: dict[str, tuple[str, Callable[[pa.DataType], bool]]] = {
    "string": ("text", pa.types.is_string),
    "integer": ("whole numbers", pa.types.is_integer),
    "float": ("floating point numbers", pa.types.is_floating),
    "boolean": ("true or false", pa.types.is_boolean),
    "date": ("dates", pa.types.is_date),
    "timestamp": ("timestamps", pa.types.is_timestamp),
}


def output_type(rule: Rule, given: pa.DataType) -> pa.DataType | None:
    """Return the type of a masked column, None for a dropped one.

    Raises:
        InputRefused: the column has another type than the policy declares or than the operator takes.
    """
    if rule.type is not None and not _KINDS[rule.type][1](given):
        raise _wrong_type(rule, given, _KINDS[rule.type][0])
    if rule.operator == "drop":
        return None
    if rule.operator in ("keep", "date_shift"):
        if rule.operator == "date_shift" and not _is_time(given):
            raise _wrong_type(rule, given, "dates or timestamps")
        return given
    if rule.operator in ("mask", "free_text") and not pa.types.is_string(given):
        raise _wrong_type(rule, given, "text")
    if rule.operator in ("hmac", "encrypt") and not has_stable_text(given):
        raise _wrong_type(rule, given, "text, whole numbers, decimals or dates (the text of a float is not stable)")
    if rule.operator == "fpe" and not pa.types.is_string(given):
        raise _wrong_type(rule, given, "text (a number would lose leading zeros)")
    if rule.operator == "generalize":
        return _generalized_type(rule, given)
    return pa.string()


def has_stable_text(given: pa.DataType) -> bool:
    """Tell whether equal values of a type always have the same text."""
    return bool(
        pa.types.is_string(given) or pa.types.is_integer(given) or pa.types.is_decimal(given) or pa.types.is_date(given)
    )


def mask_column(rule: Rule, chunk: pa.Table, policy: Policy, key: Pseudonyms | None) -> pa.Array:
    """Mask one column of a chunk with any operator but `drop` and `free_text`.

    Args:
        rule: what to do.
        chunk: the raw rows; `date_shift` reads its `by` column from them.
        policy: the whole policy, for the domain of that column.
        key: the masking key; present when the policy is keyed.
    """
    column = chunk[rule.column].combine_chunks()
    if rule.operator == "keep":
        return column
    if rule.operator in ("redact", "replace"):
        text = pa.scalar(rule.options.get("value", ""), pa.string())
        return pc.if_else(column.is_null(), pa.scalar(None, pa.string()), text)
    if rule.operator == "date_shift":
        return _shift(rule, column, chunk[rule.options["by"]].combine_chunks(), policy, key)
    encoded = column.dictionary_encode()
    return _distinct(rule, encoded.dictionary, key).take(encoded.indices)


def _distinct(rule: Rule, values: pa.Array, key: Pseudonyms | None) -> pa.Array:
    options = rule.options
    if rule.operator == "hmac":
        assert key is not None  # noqa: S101  (masking.py reads the key whenever the policy is keyed)
        return pa.array(key.tokens(options["domain"], values.cast(pa.string()).to_pylist()), pa.string())
    if rule.operator == "encrypt":
        assert key is not None  # noqa: S101  (see above)
        return pa.array(key.encrypt(options["domain"], values.cast(pa.string()).to_pylist()), pa.string())
    if rule.operator == "fpe":
        assert key is not None  # noqa: S101  (see above)
        return _enciphered(rule, values, key)
    if rule.operator == "mask":
        return pa.array([_starred(value, options["keep_last"]) for value in values.to_pylist()], pa.string())
    if "age_on" in options:
        return _generalized(rule, ages, values, options["age_on"])
    if options.get("to") == "zip3":
        return _generalized(rule, zip_areas, values)
    if "to" in options:
        years = pc.year(values)
        return years if options["to"] == "year" else pc.multiply(pc.divide(years, 10), 10)
    if "prefix" in options:
        length = options["prefix"]
        return pa.array([value[: min(length, max(len(value) - 1, 0))] for value in values.to_pylist()], pa.string())
    if "round" in options:
        return pc.round_to_multiple(values, pa.scalar(options["round"], values.type), round_mode="half_to_even")
    return pa.array(_bucketed(values, options["bucket"]), pa.string())


def _enciphered(rule: Rule, values: pa.Array, key: Pseudonyms) -> pa.Array:
    options = rule.options
    cipher = FormCipher(key.subkey("fpe", options["domain"]), options["alphabet"], options["luhn"])
    try:
        return pa.array([cipher.encrypt(value) for value in values.to_pylist()], pa.string())
    except ValueError:
        raise InputRefused(
            "A value cannot be enciphered in its own form.",
            evidence=f"{rule.column!r} holds one with a letter or digit outside of {options['alphabet']}, or so "
            "short that there are less than a million of its length",
            remedy="Use encrypt or hmac for this column, or another alphabet.",
        ) from None  # the cause might quote the value


def _generalized(rule: Rule, how: Callable[..., list[str]], values: pa.Array, *more: Any) -> pa.Array:
    try:
        return pa.array(how(values.to_pylist(), *more), pa.string())
    except ValueError:
        raise InputRefused(
            "A value cannot be generalised as the policy says.",
            evidence=f"{rule.column!r}: a ZIP code is five digits, or nine with a dash; a date of birth is not after "
            "the day that ages are told for",
            remedy="Correct the data, or choose another way to generalise the column.",
        ) from None  # the cause might quote the value


def _starred(value: str, keep_last: int) -> str:
    shown = min(keep_last, len(value) // 2)
    return "*" * (len(value) - shown) + value[len(value) - shown :]


def _bucketed(values: pa.Array, edges: list[float]) -> list[str]:
    labels = [f"<{edges[0]}", *(f"[{a}, {b})" for a, b in zip(edges, edges[1:], strict=False)), f">={edges[-1]}"]
    numbers = values.cast(pa.float64()).to_numpy(zero_copy_only=False)
    places = np.searchsorted(np.asarray(edges, dtype=float), numbers, side="right")
    return ["NaN" if number != number else labels[place] for number, place in zip(numbers, places, strict=True)]


def _shift(rule: Rule, column: pa.Array, entity: pa.Array, policy: Policy, key: Pseudonyms | None) -> pa.Array:
    assert key is not None  # noqa: S101  (see above)
    if pc.any(pc.and_(entity.is_null(), column.is_valid())).as_py():
        raise InputRefused(
            "A date cannot be shifted, because the column that says whose date it is holds nulls.",
            evidence=f"{rule.column!r} is shifted by {rule.options['by']!r}",
            remedy="Remove the rows without one, or choose another operator.",
        )
    by = policy.rule(rule.options["by"])
    encoded = entity.dictionary_encode()
    texts = encoded.dictionary.cast(pa.string()).to_pylist()
    days = pa.array(key.offsets(by.options.get("domain", by.column), texts, rule.options["max_days"]), pa.int64())
    offsets = pc.multiply(days.take(encoded.indices), _ticks_per_day(column.type))
    integer = pa.int32() if pa.types.is_date32(column.type) else pa.int64()
    try:
        return pc.add_checked(column.view(integer).cast(pa.int64()), offsets).cast(integer).view(column.type)
    except pa.ArrowInvalid:
        raise InputRefused(
            "A date leaves the range of its type when it is shifted.",
            evidence=f"{rule.column!r} ({column.type}), up to {rule.options['max_days']} days",
            remedy="Correct the dates; they lie at the end of what the type can hold.",
        ) from None  # the cause would quote a value


def _ticks_per_day(given: pa.DataType) -> int:
    if pa.types.is_date32(given):
        return 1
    unit = "ms" if pa.types.is_date64(given) else given.unit
    return int(86_400 * {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}[unit])


def _generalized_type(rule: Rule, given: pa.DataType) -> pa.DataType:
    if "to" in rule.options and rule.options["to"] != "zip3":
        if not _is_time(given):
            raise _wrong_type(rule, given, "dates or timestamps")
        return pa.int64()
    if "age_on" in rule.options:
        if not pa.types.is_date(given):
            raise _wrong_type(rule, given, "dates")
        return pa.string()
    if "prefix" in rule.options or "to" in rule.options:
        if not pa.types.is_string(given):
            raise _wrong_type(rule, given, "text")
        return pa.string()
    if not (pa.types.is_integer(given) or pa.types.is_floating(given)):
        raise _wrong_type(rule, given, "numbers")
    if "bucket" in rule.options:
        return pa.string()
    if pa.types.is_integer(given) and type(rule.options["round"]) is not int:
        raise _wrong_type(rule, given, "floating point numbers (it rounds to a fraction)")
    return given


def _is_time(given: pa.DataType) -> bool:
    return bool(pa.types.is_date(given) or pa.types.is_timestamp(given))


def _wrong_type(rule: Rule, given: Any, needed: str) -> InputRefused:
    return InputRefused(
        "A column has a type that its masking rule does not take.",
        evidence=f"{rule.column!r} holds {given}; {rule.operator} here needs {needed}",
        remedy="Convert the column, or choose another operator or type in the policy.",
    )
