"""Checks a request body against the models that kfp_server_api generates from KFP's OpenAPI document."""

import re
from datetime import datetime
from typing import Any

import kfp_server_api

# int64 in the API's proto: OpenAPI has it as text, and the JSON gateway takes numbers as well.
_INT64 = ("max_concurrency", "interval_second")


class Unfit(Exception):
    """The body is none that the API takes."""


def check(body: Any, kind: str, where: str = "body") -> None:
    """Refuse fields that the model does not have, and values of another type than it says."""
    if outer := re.fullmatch(r"(list\[|dict\(str, )(.+)[\])]", kind):
        listed = outer[1] == "list["
        if not isinstance(body, list if listed else dict):
            raise Unfit(f"{where} is no {'list' if listed else 'object'}")
        for key, item in enumerate(body) if listed else body.items():
            check(item, outer[2], f"{where}.{key}")
    elif kind == "datetime":
        try:
            moment = datetime.fromisoformat(body)
        except (TypeError, ValueError) as error:
            raise Unfit(f"{where} is no time") from error
        if moment.tzinfo is None:
            raise Unfit(f"{where} has no time zone")
    elif kind in ("str", "bool", "int", "float"):
        types = {"str": str, "bool": bool, "int": int, "float": (int, float)}
        number = where.rpartition(".")[2] in _INT64 and isinstance(body, int) and not isinstance(body, bool)
        if not number and not isinstance(body, types[kind]):
            raise Unfit(f"{where} is no {kind}")
    elif kind != "object":
        _check_model(body, getattr(kfp_server_api, kind), where)


def _check_model(body: Any, model: Any, where: str) -> None:
    if hasattr(model, "allowable_values"):
        if body not in model.allowable_values:
            raise Unfit(f"{where} is none of {model.allowable_values}")
        return
    if not isinstance(body, dict):
        raise Unfit(f"{where} is no object")
    kinds = {model.attribute_map[name]: kind for name, kind in model.openapi_types.items()}
    for key, value in body.items():
        if key not in kinds:
            raise Unfit(f"{where} has the unknown field {key}")
        check(value, kinds[key], f"{where}.{key}")
