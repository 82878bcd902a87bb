"""The only code that MLServer may run for our models: loads a verified copy and answers the V2 protocol.

Inputs: see `inputs.read_columns`. Outputs: `probability` FP64 [rows] of class 1 and `label` INT64 [rows], 1 when the
probability is at least the threshold of `signature.json`.
"""

import asyncio
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from mlserver import MLModel
from mlserver.errors import InferenceError, MLServerError
from mlserver.logging import logger
from mlserver.types import Datatype, InferenceRequest, InferenceResponse, MetadataTensor, ResponseOutput

from kfp_custody.components._shared.errors import CustodyError, InputRefused
from kfp_custody.components._shared.scoring import Scorer, load_scorer
from kfp_custody.components.seldon_deployment.serving.inputs import Column, InputFault, Tensor, read_columns

REFUSED_MODEL = "model refused: it cannot be loaded (the reason is in the server's log)"


class SignedModelRuntime(MLModel):
    """Serves a model directory that `VerifiedRepository` copied and verified."""

    _scorer: Scorer

    async def load(self) -> bool:
        """Load the verified copy into memory and remove the copy.

        Raises:
            MLServerError: 422 with no detail; the reason is in the log. The version served so far stays.
        """
        parameters = self.settings.parameters
        if parameters is None or not parameters.uri or (parameters.extra or {}).get("verified_copy") is not True:
            logger.error("refused %s: it did not come through VerifiedRepository", self.name)
            raise MLServerError(REFUSED_MODEL, 422)
        model = Path(parameters.uri)
        try:
            self._scorer = await asyncio.to_thread(load_scorer, model)
        except (CustodyError, OSError) as error:
            logger.error("refused %s: %s", self.name, " ".join(str(error).split()))
            raise MLServerError(REFUSED_MODEL, 422) from error
        finally:
            shutil.rmtree(model.parent, ignore_errors=True)
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
        tensors = [Tensor(i.name, Datatype(i.datatype).value, tuple(i.shape), i.data.root) for i in payload.inputs]
        try:
            columns = read_columns(tensors, self._scorer.features)
            probability = self._scorer.score({name: _array(column) for name, column in columns.items()})
        except InputFault as fault:
            raise InferenceError(str(fault)) from fault
        except InputRefused as refusal:
            raise InferenceError(refusal.evidence) from refusal
        label = (probability >= self._scorer.threshold).astype(np.int64)
        rows = [len(probability)]
        return InferenceResponse(
            model_name=self.name,
            model_version=self.version or self.settings.parameters.extra["listing_sha256"],
            outputs=[
                ResponseOutput(name="probability", datatype="FP64", shape=rows, data=probability.tolist()),
                ResponseOutput(name="label", datatype="INT64", shape=rows, data=label.tolist()),
            ],
        )


def _array(column: Column) -> "np.ndarray[Any, Any]":
    return np.array(column, dtype=np.float64 if isinstance(column[0], float) else object)
