"""Models that are described by JSON which names Python classes: Keras configurations and skops schemas."""

import re
from collections.abc import Iterator
from typing import Any, Final

from kfp_custody.components.model_scanning.allowing import Allowed
from kfp_custody.components.model_scanning.boosters import json_of
from kfp_custody.components.model_scanning.reading import Blocked, Denied, Reading, View

_SKOPS_PROTOCOLS = (2,)
# Whose class is called with what the file says; the others only name a class, or make it empty.
_SKOPS_CALLS: Final = {
    "ConstructorFromReduceNode",
    "DictNode",
    "ListNode",
    "SetNode",
    "TupleNode",
    "TreeNode",
    "LossNode",
}
_SKOPS_NAMES: Final = {
    *("TypeNode", "FunctionNode", "SliceNode", "JsonNode", "ObjectNode", "BytesNode", "BytearrayNode", "NdArrayNode"),
    *("MaskedArrayNode", "RandomStateNode", "RandomGeneratorNode", "DTypeNode", "SparseMatrixNode", "DefaultDictNode"),
}
_SKOPS_FILES: Final = {"NdArrayNode": "npy", "SparseMatrixNode": "zip", "BytesNode": "bytes", "BytearrayNode": "bytes"}
_KERAS_MODULES = {
    *("keras", "keras.layers", "keras.initializers", "keras.regularizers", "keras.constraints", "keras.optimizers"),
    *("keras.losses", "keras.metrics", "keras.models", "keras.src.models.functional", "keras.src.models.sequential"),
}
_KERAS_CODE = {"Lambda", "TFSMLayer", "TorchModuleWrapper", "JaxLayer", "FlaxLayer"}
_KERAS_TENSOR = "__keras_tensor__"  # the one node that is of no class
_CLASS = re.compile(r"[A-Z]\w{0,99}", re.ASCII)  # functions, which Keras would call as well, are written small
_SHOWN = 20


def keras_reading(document: Any) -> Reading:
    """Judge a Keras configuration.

    Raises:
        Denied: it names a class from elsewhere than Keras, or one that holds code.
        Blocked: it is no configuration of a model.
    """
    if not isinstance(document, dict) or "class_name" not in document or "config" not in document:
        raise Blocked("it is JSON of no known model")
    faults = []
    for node in _objects(document):
        if "class_name" in node and node["class_name"] != _KERAS_TENSOR:
            for name in (node["class_name"], node.get("registered_name")):
                if name is not None and not (isinstance(name, str) and _CLASS.fullmatch(name)):
                    faults.append(f"a class registered as {_shown(name)}")
                elif name in _KERAS_CODE:
                    faults.append(f"a layer of the class {_shown(name)}, which holds code")
        if ("module" in node or node.get("class_name", _KERAS_TENSOR) != _KERAS_TENSOR) and not _is_keras(node):
            faults.append(f"a class of the module {_shown(node.get('module'))}")
    if faults:
        raise Denied(_listed(faults))
    return Reading("keras-config", "every class is one of Keras")


def _is_keras(node: dict[str, Any]) -> bool:
    return isinstance(node.get("module"), str) and node["module"] in _KERAS_MODULES


def skops_files(schema: View, allowed: Allowed) -> dict[str, str]:
    """Judge a skops schema and return the files that it refers to: name -> format.

    Raises:
        Denied: a type or function is not on the allow-list.
        Blocked: it is no schema, or has a node of an unknown kind.
    """
    document = json_of(schema)
    if not isinstance(document, dict) or document.get("protocol") not in _SKOPS_PROTOCOLS:
        raise Blocked("its skops protocol is unknown")
    if "__loader__" not in document:
        raise Blocked("its schema describes no object")
    faults: list[str] = []
    found: dict[str, str] = {}
    for node in _objects(document):
        if not {"__loader__", "__class__", "__module__"} & set(node):
            continue
        loader, name, module = (node.get(key) for key in ("__loader__", "__class__", "__module__"))
        if not all(isinstance(value, str) for value in (loader, name, module)):
            raise Blocked("a node of its schema is malformed")
        full = f"{module}.{name}"
        if loader not in _SKOPS_CALLS | _SKOPS_NAMES:
            faults.append(f"a node {_shown(loader)}")
        if "." in str(name) or full not in allowed.calls | (
            allowed.types if loader not in _SKOPS_CALLS else frozenset()
        ):
            faults.append(_shown(full))
        if "file" in node:
            if not isinstance(node["file"], str) or loader not in _SKOPS_FILES:
                raise Blocked("a node of its schema has a file that is none")
            if found.setdefault(node["file"], _SKOPS_FILES[str(loader)]) != _SKOPS_FILES[str(loader)]:
                raise Blocked("a file of its schema is of two formats")
    if faults:
        raise Denied(_listed(faults))
    return found


def _objects(document: Any) -> Iterator[dict[str, Any]]:
    """Yield every object of a JSON document, the outer ones first."""
    pending = [document]
    while pending:
        value = pending.pop()
        if isinstance(value, dict):
            yield value
            pending.extend(value.values())
        elif isinstance(value, list):
            pending.extend(value)


def _listed(faults: list[str]) -> str:
    unique = list(dict.fromkeys(faults))
    return "; ".join(unique[:_SHOWN]) + (f"; and {len(unique) - _SHOWN} more" if len(unique) > _SHOWN else "")


def _shown(value: Any) -> str:
    return ascii(str(value)[:100])[1:-1]
