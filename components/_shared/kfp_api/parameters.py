"""The parameters of a run, checked before anything is sent: what KFP finds out late or not at all is refused here.

No message shows a value: parameters are public, but what was typed by mistake may not be.
"""

import difflib
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from kfp_custody.components._shared import codes
from kfp_custody.components._shared.errors import InputRefused

MAX_BYTES: Final = 10_000  # MAX_PARAMETER_BYTES of the API server: all parameters of a run, as JSON
MACROS: Final = ("ScheduledTime", "CurrentTime", "RunUUID")
_MACRO: Final = re.compile(r"\[\[([^\[\]]*)\]\]")
# parameterType -> what it is called, and the Python types of a value in a parameters file
_TYPES: Final[dict[str, tuple[str, tuple[type, ...]]]] = {
    "STRING": ("text (in a file, quote it)", (str,)),
    "BOOLEAN": ("true or false", (bool,)),
    "NUMBER_INTEGER": ("a whole number of at most 2**53", (int,)),
    "NUMBER_DOUBLE": ("a number", (int, float)),
    "LIST": ("a JSON list", (list,)),
    "STRUCT": ("a JSON object", (dict,)),
}


def read_parameters(pairs: Sequence[str], file: Path | None) -> dict[str, Any]:
    """Return the parameters as given: texts from NAME=VALUE pairs, over the values of a file.

    Raises:
        InputRefused: a pair without `=`, a name given twice, or a file that is no mapping.
        OSError: the file cannot be read.
    """
    given: dict[str, Any] = _from_file(file) if file else {}
    typed: dict[str, str] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise _wrong(
                "A parameter is not of the form NAME=VALUE.", f"--param number {len(typed) + 1} has no name or ="
            )
        if name in typed:
            raise _wrong("A parameter is given twice.", f"--param {name}")
        typed[name] = value
    return {**given, **{name: _Typed(value) for name, value in typed.items()}}


def check_parameters(given: Mapping[str, Any], spec: Mapping[str, Any], *, macros: bool = False) -> dict[str, Any]:
    """Return the parameters as KFP wants them.

    Args:
        given: What `read_parameters` returned.
        spec: The pipeline spec.
        macros: KFP replaces `[[ScheduledTime]]` and the like in them, as it does for a schedule.

    Raises:
        InputRefused: an unknown or missing name, a value of another type or none of the allowed ones, a macro that is
            not replaced, or too many bytes.
    """
    known = inputs(spec)
    for name in given:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.4)
            meant = f"Did you mean {near[0]}? " if near else ""
            raise InputRefused(
                "The pipeline has no such parameter.",
                evidence=name,
                remedy=f"{meant}It has: {', '.join(sorted(known)) or 'none'}.",
                code=codes.PARAMETER_UNKNOWN,
            )
    missing = sorted(name for name in known if required(known[name]) and name not in given)
    if missing:
        raise InputRefused(
            "Parameters that the pipeline requires are not given.",
            evidence=", ".join(missing),
            remedy="Give each with --param NAME=VALUE or in --params-file.",
            code=codes.PARAMETER_MISSING,
        )
    checked = {name: _value(name, value, known[name], macros) for name, value in given.items()}
    size = len(json.dumps(checked, ensure_ascii=False, separators=(",", ":")).encode(errors="replace"))
    if size > MAX_BYTES:
        raise InputRefused(
            "The parameters are too large for Kubeflow Pipelines.",
            evidence=f"{size} bytes against {MAX_BYTES}, as JSON",
            remedy="Pass large things as files or artifacts, and their address as the parameter.",
            code=codes.PARAMETERS_SIZE,
        )
    return checked


def inputs(spec: Mapping[str, Any]) -> Mapping[str, Mapping[str, Any]]:
    """Return the parameters of a pipeline spec by name."""
    found = spec.get("root", {}).get("inputDefinitions", {}).get("parameters", {})
    return found if isinstance(found, dict) else {}


def required(definition: Mapping[str, Any]) -> bool:
    """Tell whether a parameter must be given."""
    return "defaultValue" not in definition and not definition.get("isOptional")


class _Typed(str):
    """A value from the command line: text that still has to become what the parameter's type asks for."""


def _value(name: str, value: Any, definition: Mapping[str, Any], macros: bool) -> Any:
    kind = definition.get("parameterType", "STRING")
    wanted, types = _TYPES.get(kind, (str(kind), ()))
    found = _convert(value, kind) if isinstance(value, _Typed) else value
    # bool is an int in Python, and is none here.
    if not isinstance(found, types) or (kind != "BOOLEAN" and isinstance(found, bool)) or not _survives_json(found):
        raise InputRefused(
            "The value of a parameter is of another type.",
            evidence=f"{name} takes {wanted}",
            remedy="Correct the value. For a schedule, a macro such as [[ScheduledTime]] fits a text parameter only.",
            code=codes.PARAMETER_TYPE,
        )
    allowed = definition.get("literals")
    if allowed and found not in allowed:
        raise InputRefused(
            "The value of a parameter is none of those that the pipeline allows.",
            evidence=f"{name} takes one of: {', '.join(str(choice) for choice in allowed)}",
            remedy="Choose one of them.",
            code=codes.PARAMETER_VALUE,
        )
    if macros and isinstance(found, str):
        _check_macros(name, found)
    return found


def _convert(value: str, kind: str) -> Any:
    """Return what a text from the command line stands for, or None."""
    text = str(value)
    if kind == "STRING":
        return text
    if kind == "BOOLEAN":
        return {"true": True, "false": False}.get(text.lower())
    if kind == "NUMBER_INTEGER":
        return int(text) if re.fullmatch(r"[+-]?[0-9]{1,18}", text) else None
    try:
        return float(text) if kind == "NUMBER_DOUBLE" else json.loads(text)
    except (ValueError, RecursionError):
        return None


def _survives_json(value: Any) -> bool:
    """Tell whether a value arrives as it was given: JSON has no dates and no infinities, and KFP counts in doubles."""
    if isinstance(value, int):
        return abs(value) <= 2**53
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        return False
    return True


def _check_macros(name: str, text: str) -> None:
    for macro in _MACRO.findall(text):
        if macro.partition(".")[0] not in MACROS:
            raise InputRefused(
                "A macro in a parameter is none that Kubeflow Pipelines replaces in a schedule.",
                evidence=f"{name} holds [[{macro[:40]}]]",
                remedy=f"Use {', '.join(f'[[{known}]]' for known in MACROS)}, or [[ScheduledTime.2006-01-02]].",
                code=codes.PARAMETER_MACRO,
            )


def _from_file(path: Path) -> dict[str, Any]:
    from kfp_custody.components._shared.documents import DocumentFault, parse_yaml

    try:
        values = parse_yaml(path.read_bytes())
    except DocumentFault as fault:
        raise InputRefused(
            "The file of parameters was not accepted.",
            evidence=f"{path}: {fault}",
            remedy="Write one line NAME: VALUE for each parameter.",
            code=fault.code,
        ) from fault
    if not isinstance(values, dict) or not all(isinstance(name, str) for name in values):
        raise _wrong("The file of parameters is no mapping of names to values.", str(path))
    return values


def _wrong(what: str, evidence: str) -> InputRefused:
    return InputRefused(
        what, evidence=evidence, remedy="Give each parameter once, as NAME=VALUE.", code=codes.PARAMETER_TYPE
    )
