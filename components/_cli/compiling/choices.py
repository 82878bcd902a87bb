"""The values that a parameter may take, for the backends that know them (`literals`).

KFP validates them from 2.16 on and offers them as a list from 2.17 on; older servers refuse the field. The vocabularies
stand in each room's `choices.py`, where the room's own check takes them from too.
"""

import copy
import importlib.util
from collections.abc import Mapping
from typing import Any

from kfp_custody.components import CATALOG
from kfp_custody.components._shared import codes
from kfp_custody.components._shared.errors import Misconfigured

Choices = Mapping[str, tuple[str, ...]]


def choices_of(room: str) -> Choices:
    """Return the closed vocabularies of a room's parameters: name -> values; not each of its functions has them all."""
    name = f"kfp_custody.components.{room}.choices"
    if importlib.util.find_spec(name) is None:
        return {}
    return dict(importlib.import_module(name).CHOICES)


def with_choices(spec: dict[str, Any]) -> dict[str, Any]:
    """Return a pipeline spec whose parameters say what they may be: those of our components, and those that feed them.

    Raises:
        Misconfigured: a parameter's default is none of its choices.
    """
    done = copy.deepcopy(spec)
    components = done.get("components", {})
    executors = done.get("deploymentSpec", {}).get("executors", {})

    def offer(component: dict[str, Any]) -> dict[str, tuple[str, ...]]:
        """Give a component's parameters their choices, and say which."""
        found: dict[str, tuple[str, ...]] = {}
        for task in component.get("dag", {}).get("tasks", {}).values():
            inner = offer(components[task["componentRef"]["name"]])
            for name, source in task.get("inputs", {}).get("parameters", {}).items():
                outer = source.get("componentInputParameter")
                if outer and name in inner:
                    # One parameter may feed several: it must please them all.
                    found[outer] = tuple(each for each in found.get(outer, inner[name]) if each in inner[name])
        found |= _of_executor(executors.get(component.get("executorLabel"), {}))
        parameters = component.get("inputDefinitions", {}).get("parameters", {})
        found = {name: values for name, values in found.items() if name in parameters}
        for name, values in found.items():
            _write(name, parameters[name], values)
        return found

    offer(done["root"])
    return done


def _of_executor(executor: Mapping[str, Any]) -> Choices:
    """Return the choices of a step that runs a function of ours in its room's image."""
    container = executor.get("container", {})
    arguments = container.get("args", [])
    if "--function_to_execute" not in arguments:
        return {}
    room = CATALOG.get(arguments[arguments.index("--function_to_execute") + 1], "")
    own = bool(room) and f"/custody-{room.replace('_', '-')}" in container["image"]
    parameters = choices_of(room) if own else {}
    return dict(parameters)


def _write(name: str, parameter: dict[str, Any], values: tuple[str, ...]) -> None:
    default = parameter.get("defaultValue")
    if default is not None and default not in values:
        raise Misconfigured(
            "The default of a parameter is none of the values that its stage accepts.",
            evidence=f"{name} = {default!r}, accepted: {', '.join(values) or 'nothing that all its stages accept'}",
            remedy="Correct the default in the pipeline, or compile without --literals.",
            code=codes.COMPILE_CHOICE,
        )
    parameter["literals"] = list(values)
