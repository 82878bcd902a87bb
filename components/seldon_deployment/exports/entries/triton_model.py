"""The model of an exported model's version; Triton's Python backend runs it as model.py."""

from pathlib import Path
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils

from kfp_custody.components.seldon_deployment.serving.exported import load_exported
from kfp_custody.components.seldon_deployment.serving.inputs import InputFault, Tensor

_KINDS = {"b": "BOOL", "i": "INT", "u": "UINT", "f": "FP"}


class TritonPythonModel:
    """Answers tensors with a model that was verified in this process."""

    def initialize(self, args: dict[str, str]) -> None:
        """Verify and load; Triton takes a model whose `initialize` raises for failed."""
        self._exported = load_exported(Path(args["model_repository"], args["model_version"]))

    def execute(self, requests: list[Any]) -> list[Any]:
        """Answer each request by itself; one that does not fit the model is its client's mistake."""
        return [self._answer(request) for request in requests]

    def _answer(self, request: Any) -> Any:
        try:
            probability, label = self._exported.answer([_tensor(given) for given in request.inputs()])
        except InputFault as fault:
            error = pb_utils.TritonError(str(fault), pb_utils.TritonError.INVALID_ARG)
            return pb_utils.InferenceResponse(output_tensors=[], error=error)
        outputs = {
            "probability": np.array(probability, dtype=np.float64),
            "label": np.array(label, dtype=np.int64),
            "version": np.array([self._exported.digest.encode()], dtype=np.object_),
        }
        return pb_utils.InferenceResponse(output_tensors=[pb_utils.Tensor(*output) for output in outputs.items()])


def _tensor(given: Any) -> Tensor:
    values = given.as_numpy()
    kind = _KINDS.get(values.dtype.kind, "BYTES")
    datatype = kind if kind in ("BOOL", "BYTES") else f"{kind}{8 * values.dtype.itemsize}"
    return Tensor(given.name(), datatype, tuple(values.shape), values)
