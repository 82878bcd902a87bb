"""The handler of an exported model; TorchServe runs it as handler.py of the archive."""

from pathlib import Path
from typing import Any

from kfp_custody.components.seldon_deployment.serving.exported import load_exported
from kfp_custody.components.seldon_deployment.serving.inputs import InputFault


class SignedModelHandler:  # the only class of the file: TorchServe looks for exactly one
    """Answers rows with a model that was verified in this process."""

    def initialize(self, context: Any) -> None:
        """Verify and load; a worker whose `initialize` raises does not come up."""
        self._exported = load_exported(Path(context.system_properties["model_dir"]))

    def handle(self, data: list[dict[str, Any]], context: Any) -> list[dict[str, Any]]:
        """Answer each request of a batch by itself; one that does not fit the model gets status 400."""
        return [self._answer(at, request, context) for at, request in enumerate(data)]

    def _answer(self, at: int, request: dict[str, Any], context: Any) -> dict[str, Any]:
        try:
            return self._exported.answer_rows(request.get("body", request.get("data")))
        except InputFault as fault:
            context.set_response_status(code=400, phrase="Bad Request", idx=at)
            return {"error": str(fault)}
