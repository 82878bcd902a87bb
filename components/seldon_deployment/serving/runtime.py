"""The only code that MLServer may run for our models: loads verified bytes and answers the V2 protocol.

Inputs: see `inputs.read_columns`. Outputs: `probability` FP64 [rows] of class 1 and `label` INT64 [rows], 1 when the
probability is at least the threshold of `signature.json`.
"""

import asyncio
import os
import re
from functools import cache
from pathlib import Path
from time import perf_counter

import numpy as np
from mlserver import MLModel
from mlserver.errors import InferenceError, MLServerError
from mlserver.logging import logger
from mlserver.types import Datatype, InferenceRequest, InferenceResponse, MetadataTensor, ResponseOutput

from kfp_custody.components._shared.errors import CustodyError, InputRefused
from kfp_custody.components._shared.scoring import Scorer, load_scorer
from kfp_custody.components.seldon_deployment.serving.admitted import take
from kfp_custody.components.seldon_deployment.serving.inputs import InputFault, Tensor, as_arrays, read_columns
from kfp_custody.components.seldon_deployment.serving.names import MODEL_HEADER
from kfp_custody.components.seldon_deployment.serving.request_log import RequestLog
from kfp_custody.components.seldon_deployment.serving.telemetry import Telemetry, model_refused

REFUSED_MODEL = "model refused: it cannot be loaded (the reason is in the server's log)"


@cache
def request_log() -> RequestLog | None:
    """Return the log of this process; None where the environment names no file for it."""
    path = os.environ.get("CUSTODY_REQUEST_LOG")
    return RequestLog(Path(path)) if path else None


class SignedModelRuntime(MLModel):
    """Serves a model that `VerifiedRepository` read and verified."""

    _scorer: Scorer
    _telemetry: Telemetry | None = None

    async def load(self) -> bool:
        """Load the verified bytes.

        Raises:
            MLServerError: 422 with no detail; the reason is in the log. The version served so far stays.
        """
        parameters = self.settings.parameters
        files = take(self.name, (parameters.extra or {}).get("admitted")) if parameters else None
        if files is None:
            model_refused()
            logger.error("refused %s: it did not come through VerifiedRepository", self.name)
            raise MLServerError(REFUSED_MODEL, 422)
        try:
            self._scorer = await asyncio.to_thread(load_scorer, files)
        except (CustodyError, OSError) as error:
            model_refused()
            logger.error("refused %s: %s", self.name, " ".join(str(error).split()))
            raise MLServerError(REFUSED_MODEL, 422) from error
        features = tuple(feature.name for feature in self._scorer.features)
        self._telemetry = Telemetry(self.name, self._served_version(), features)
        self.inputs = [
            MetadataTensor(name=f.name, datatype="FP64" if f.type == "number" else "BYTES", shape=[-1, 1])
            for f in self._scorer.features
        ]
        self.outputs = [
            MetadataTensor(name="probability", datatype="FP64", shape=[-1]),
            MetadataTensor(name="label", datatype="INT64", shape=[-1]),
        ]
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """Answer a request.

        Raises:
            InferenceError: 400: the request does not fit the model.
        """
        started, telemetry = perf_counter(), self._telemetry
        assert telemetry is not None  # noqa: S101  (it is loaded)
        tensors = [Tensor(i.name, Datatype(i.datatype).value, tuple(i.shape), i.data.root) for i in payload.inputs]
        try:
            self._require_meant(payload)
            columns = read_columns(tensors, self._scorer.features)
            probability = self._scorer.score(as_arrays(columns))
        except (InputFault, InputRefused) as fault:
            seconds = perf_counter() - started
            telemetry.refused(seconds)
            if log := request_log():
                log.refused(self.name, self._served_version(), payload.id, seconds)
            raise InferenceError(fault.evidence if isinstance(fault, InputRefused) else str(fault)) from fault
        label = (probability >= self._scorer.threshold).astype(np.int64)
        rows = [len(probability)]
        seconds = perf_counter() - started
        telemetry.answered(columns, probability, seconds)
        if log := request_log():
            log.answered(self.name, self._served_version(), payload.id, columns, probability.tolist(), seconds)
        return InferenceResponse(
            model_name=self.name,
            model_version=self._served_version(),
            outputs=[
                ResponseOutput(name="probability", datatype="FP64", shape=rows, data=probability.tolist()),
                ResponseOutput(name="label", datatype="INT64", shape=rows, data=label.tolist()),
            ],
        )

    async def unload(self) -> bool:
        """Forget the model and its series; a model that could not be loaded has none."""
        if self._telemetry:
            self._telemetry.end()
        return True

    def _require_meant(self, payload: InferenceRequest) -> None:
        """Refuse a request whose header names another model than its path or message.

        A door decides by the header who may ask, and cannot see into a gRPC message. Seldon Core v2 has names of its
        own for versions and their copies: `<name>-<8 digits>_<number>`, asked for as `<name>.experiment`.
        """
        headers = getattr(payload.parameters, "headers", None) or {}
        meant = re.escape(str(headers.get(MODEL_HEADER, self.name)).removesuffix(".experiment"))
        if not re.fullmatch(rf"{meant}(-[0-9a-f]{{8}})?(_\d+)?", self.name):
            raise InputFault(f"the header {MODEL_HEADER} names another model than the request")

    def _served_version(self) -> str:
        return str(self.version or self.settings.parameters.extra["listing_sha256"])
