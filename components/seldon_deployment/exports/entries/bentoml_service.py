"""The service of an exported model; BentoML runs it as service.py of the bento."""

from pathlib import Path
from typing import Any

import bentoml
from starlette.responses import JSONResponse

from kfp_custody.components.seldon_deployment.serving.exported import load_exported, require_verified
from kfp_custody.components.seldon_deployment.serving.inputs import InputFault

HERE = Path(__file__).parent
# While it is imported, so also by the command that starts the server or builds the bento: a worker that cannot start is
# started again and again.
require_verified(HERE)


@bentoml.service
class SignedModel:
    """Answers rows with a model that was verified in this process."""

    def __init__(self) -> None:
        """Verify once more, and load the bytes that were verified here."""
        self._exported = load_exported(HERE)

    # Bytes, and a fault that is returned: what BentoML cannot read, or is raised, it logs with the values that it got.
    @bentoml.api
    def score(self, body: bytes, /) -> dict[str, Any]:
        """Score `{"rows": [{<feature>: <value>, ...}, ...]}`; 400 when it does not fit the model."""
        try:
            return self._exported.answer_rows(body)
        except InputFault as fault:
            return JSONResponse({"error": str(fault)}, status_code=400)  # type: ignore[return-value]


class _PlainBody:
    """Has every body read as it came, whatever its sender calls it: no form of BentoML's, and no pickle."""

    def __init__(self, app: Any) -> None:
        self._app = app

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            headers = [header for header in scope["headers"] if header[0] != b"content-type"]
            scope = {**scope, "headers": [*headers, (b"content-type", b"application/json")]}
        await self._app(scope, receive, send)


SignedModel.add_asgi_middleware(_PlainBody)  # type: ignore[attr-defined]  # the decorator made it a service
