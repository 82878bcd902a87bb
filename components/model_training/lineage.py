"""Where a model comes from: one record for MLflow's tags, the report and the signed statement."""

import platform
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import version
from typing import Any

from kfp_custody.components._shared.digests import Listing, sha256_bytes
from kfp_custody.components._shared.evidence import TRAINING, provenance, resource
from kfp_custody.components._shared.settings import Settings
from kfp_custody.components._shared.verification import Verified
from kfp_custody.components.model_training.tracking import TrackedRun
from kfp_custody.components.model_training.trainers import Trainer

_LIBRARIES = ("numpy", "pandas", "pyarrow", "scikit-learn", "xgboost-cpu", "skops", "mlflow")


@dataclass(frozen=True)
class Lineage:
    """Where a model comes from."""

    run_id: str
    started: datetime
    parameters: Mapping[str, Any]
    dataset: Listing
    attestation: Verified
    trainer: Trainer
    model: Listing
    mlflow: TrackedRun
    settings: Settings

    def tags(self) -> dict[str, str]:
        """MLflow tags: digests of the evidence and the run."""
        tags = {
            "custody.run_id": self.run_id,
            "custody.dataset.sha256": self.dataset.sha256,
            "custody.attestation.sha256": self.attestation.bundle_sha256,
            "custody.model.sha256": self.model.sha256,
            "custody.trainer.sha256": self.trainer.sha256,
        }
        revision = self.settings.source_revision
        return tags | ({"mlflow.source.git.commit": revision} if revision else {})

    def facts(self) -> dict[str, str]:
        """Rows of the report."""
        return {
            "Pipeline run": self.run_id,
            "Dataset (sha256 of its listing)": self.dataset.sha256,
            "Attestation (sha256 of its bundle)": self.attestation.bundle_sha256,
            "Attested by": self.attestation.signer,
            "Model (sha256 of its listing)": self.model.sha256,
            "Trainer": self.trainer.name,
            "Trainer source (sha256)": self.trainer.sha256,
            "MLflow run": self.mlflow.run_id,
        }

    def statement(self, metrics: Mapping[str, float], document: bytes, page: bytes) -> dict[str, Any]:
        """Return the SLSA provenance of the model.

        Args:
            metrics: Finite numbers; the policy's rules read them from the by-product `metrics`.
            document: `report.json`.
            page: The HTML report.
        """
        return provenance(
            TRAINING,
            self.model,
            run_id=self.run_id,
            started=self.started,
            parameters=self.parameters,
            internal={
                "mlflow": {
                    "run_id": self.mlflow.run_id,
                    "experiment_id": self.mlflow.experiment_id,
                    "store": self.mlflow.store,
                },
                "versions": {"python": platform.python_version()} | {name: version(name) for name in _LIBRARIES},
            },
            dependencies=self._dependencies(),
            byproducts=[
                resource("metrics", sha256_bytes(document), annotations=metrics),
                resource("report", sha256_bytes(document), media_type="application/json"),
                resource("html", sha256_bytes(page), media_type="text/html"),
            ],
        )

    def _dependencies(self) -> list[dict[str, Any]]:
        found = [
            resource("dataset", self.dataset.sha256),
            resource("attestation", self.attestation.bundle_sha256),
            resource("trainer", self.trainer.sha256, uri=self.trainer.uri),
        ]
        if self.settings.image_digest:
            found.append(resource("image", self.settings.image_digest.removeprefix("sha256:")))
        if self.settings.source_revision:
            found.append(resource("source", annotations={"revision": self.settings.source_revision}))
        return found
