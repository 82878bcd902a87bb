"""Label and field selectors, as query text and as they stand in objects."""

import re
from collections.abc import Mapping
from typing import Any

from kube_api.answers import bad_request

_TERM = re.compile(r"(?P<no>!?)\s*(?P<key>[\w./-]+)(?:\s*(?P<is>==|=|!=)|\s+(?P<among>in|notin)\b)?\s*(?P<values>.*)")


def labels_match(query: str, labels: Mapping[str, str]) -> bool:
    """Hold labels against a labelSelector such as `app=a,tier in (b,c),!old`."""
    return not query or all(_term(term.strip(), labels) for term in re.split(r",(?![^(]*\))", query))


def _term(term: str, labels: Mapping[str, str]) -> bool:
    match = _TERM.fullmatch(term)
    operator = match and (match["is"] or match["among"])
    listed = match and re.fullmatch(r"\(.*\)", match["values"])
    if not match or bool(match["among"]) != bool(listed) or (match["values"] and not operator):
        raise bad_request(f"unable to parse requirement: {term!r}")
    if not operator:
        return (match["key"] in labels) != bool(match["no"])
    values = {value.strip() for value in match["values"].strip("()").split(",")}
    return (labels.get(match["key"]) in values) == (operator in ("=", "==", "in"))


def fields_match(query: str, metadata: Mapping[str, Any]) -> bool:
    """Hold an object's metadata against a fieldSelector; custom resources have these two fields."""
    for term in filter(None, query.split(",")):
        field, _, value = term.replace("==", "=").partition("=")
        if field not in ("metadata.name", "metadata.namespace"):
            raise bad_request(f"field label not supported: {field}")
        if metadata.get(field.removeprefix("metadata.")) != value:
            return False
    return True


def selector_matches(selector: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    """Hold labels against a LabelSelector as it stands in an object; an empty one matches everything."""
    for each in selector.get("matchExpressions") or ():
        value, values = labels.get(each["key"]), each.get("values", ())
        holds = {
            "In": value in values,
            "NotIn": value not in values,
            "Exists": value is not None,
            "DoesNotExist": value is None,
        }
        if not holds[each["operator"]]:
            return False
    return (selector.get("matchLabels") or {}).items() <= labels.items()
