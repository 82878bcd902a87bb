"""The interface of a component as its compiled file says it; read without KFP, so in a task as well."""

from pathlib import Path
from typing import Any

import yaml

from kfp_custody.components import CATALOG


def compiled_file(function: str) -> Path:
    """Return where the compiled file of a component lies. The first function of a room owns its component.yaml."""
    room = CATALOG[function]
    first = next(name for name, home in CATALOG.items() if home == room)
    folder = Path(__file__).resolve().parents[2] / room
    return folder / ("component.yaml" if function == first else f"{function}.yaml")


def read_spec(function: str) -> dict[str, Any]:
    """Return the pipeline spec in the compiled file of a component."""
    with open(compiled_file(function), encoding="utf-8") as file:
        return dict(next(yaml.safe_load_all(file)))


def interface(spec: dict[str, Any]) -> dict[str, Any]:
    """Return the inputs and outputs of a compiled component (which KFP wraps in a pipeline of one step)."""
    (component,) = spec["components"].values()
    return dict(component)


def container(spec: dict[str, Any]) -> dict[str, Any]:
    """Return the image, command and arguments of a compiled component."""
    (executor,) = spec["deploymentSpec"]["executors"].values()
    return dict(executor["container"])


def definitions(interface: dict[str, Any], side: str, sort: str) -> dict[str, dict[str, Any]]:
    """Return the `parameters` or `artifacts` of the `input` or `output` side."""
    return dict(interface.get(f"{side}Definitions", {}).get(sort, {}))
