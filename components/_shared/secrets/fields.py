"""One field of a secret that is a JSON object. Nothing here quotes the document: all of it may be secret."""

from collections.abc import Mapping
from typing import Any

from kfp_custody.components._shared.documents import DocumentFault, parse_json
from kfp_custody.components._shared.errors import Misconfigured


def split_field(rest: str) -> tuple[str, str]:
    """Split `path#field` at the first `#`; the field is empty when there is none."""
    path, _, name = rest.partition("#")
    return path, name


def of_json(document: bytes, field: str, where: str) -> bytes:
    """Return a field of a JSON object, or the document itself when no field is asked for.

    Args:
        document: The value as the store gave it.
        field: The name after `#`, or empty.
        where: The URI, for messages.

    Raises:
        Misconfigured: it is no JSON object, or has no such field with a text.
    """
    if not field:
        return document
    try:
        value = parse_json(document)
    except DocumentFault:
        value = None
    if not isinstance(value, dict):
        # Outside the except block, so that the parser's error, which holds the document, is not chained.
        raise Misconfigured(
            "A field was asked for, and the secret is no JSON object.",
            evidence=where,
            remedy="Store a JSON object with that field, or leave out #field.",
        )
    return of_mapping(value, field, where)


def of_mapping(values: Mapping[str, Any], field: str, where: str) -> bytes:
    """Return a field with a text.

    Raises:
        Misconfigured: there is none. Names of fields are no secret, but here they may be: only a count is shown.
    """
    value = values.get(field)
    if not isinstance(value, str):
        raise Misconfigured(
            "A secret has no such field, or it holds no text.",
            evidence=f"{where}; it has {len(values)} fields",
            remedy="Correct the name after #, or store the field as a string.",
        )
    return value.encode()
