"""Components of version 1, for Elyra: it draws pipelines of them, and knows no other.

Such a component is a command with paths and values, so the stage is started by `_cli/by_path.py`. The order of the
stages is not guarded by types there: version 1 knows only KFP's own types of artifacts.
"""

from typing import Any

import yaml

from kfp_custody.components._cli.compiling.interface import container, definitions, interface

MARK = "# COMPONENT FOR ELYRA"
RUN_ID = "{{$.pipeline_job_uuid}}"
"""What KFP replaces by the run's id when Elyra passes it as the value of a task."""

_TYPES = {"STRING": "String", "NUMBER_INTEGER": "Integer", "NUMBER_DOUBLE": "Float"}


def v1_text(function: str, description: str, spec: dict[str, Any]) -> str:
    """Return the v1 component.yaml of a component of ours.

    Args:
        function: The component's function.
        description: What it does.
        spec: Its compiled pipeline spec.
    """
    inputs: list[dict[str, Any]] = []
    outputs: list[dict[str, Any]] = []
    arguments: list[str | dict[str, Any]] = []
    own = interface(spec)
    for side, listed, key in (("input", inputs, "inputPath"), ("output", outputs, "outputPath")):
        for name, definition in definitions(own, side, "artifacts").items():
            described = {"name": name, "type": _artifact(definition), "description": definition["description"]}
            given: list[str | dict[str, Any]] = [f"--{name}", {key: name}]
            if definition.get("isOptional"):
                described["optional"] = True
                given = [{"if": {"cond": {"isPresent": name}, "then": given}}]
            listed.append(described)
            arguments += given
    for name, definition in definitions(own, "input", "parameters").items():
        inputs.append(_parameter(name, definition))
        arguments += [f"--{name}", {"inputValue": name}]
    for name, definition in definitions(own, "output", "parameters").items():
        kind = _TYPES[definition["parameterType"]]
        outputs.append({"name": name, "type": kind, "description": definition["description"]})
        arguments += [f"--{name}", {"outputPath": name}]
    document = {
        "name": function,
        "description": " ".join(description.split()),
        "inputs": inputs,
        "outputs": outputs,
        "implementation": {
            "container": {
                "image": container(spec)["image"],
                "command": ["python3", "-m", "kfp_custody.components._cli.by_path", function],
                "args": arguments,
            }
        },
    }
    written = {key: value for key, value in document.items() if value}
    return f"{MARK}\n# Name: {function}\n" + yaml.safe_dump(written, sort_keys=False, width=120)


def _artifact(definition: dict[str, Any]) -> str:
    return str(definition["artifactType"]["schemaTitle"]).rpartition(".")[2]


def _parameter(name: str, definition: dict[str, Any]) -> dict[str, Any]:
    kind = _TYPES[definition["parameterType"]]
    parameter = {"name": name, "type": kind, "description": definition["description"]}
    if name == "run_id":
        return parameter | {"default": RUN_ID}
    if definition.get("isOptional"):
        default = definition.get("defaultValue", "")
        # Elyra reads a default as text, whatever its type.
        text = str(int(default)) if kind == "Integer" else str(default)
        return parameter | {"optional": True, "default": text}
    return parameter
