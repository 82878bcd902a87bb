"""Runs on a Kubeflow Pipelines server, in the one version that the platform pinned."""

import time
from collections.abc import Callable
from datetime import datetime

from kfp_custody.components._shared.kfp_api import names
from kfp_custody.components._shared.kfp_api.client import Run, connect, require_version
from kfp_custody.components._shared.kfp_api.parameters import check_parameters
from kfp_custody.components._shared.settings import KfpSettings
from kfp_custody.components.retraining.orders import Order


class KfpStarter:
    """Starts an order; what belongs to a claim is found by its name, which holds the claim's digest."""

    def __init__(self, settings: KfpSettings, order: Order, moment: datetime) -> None:
        """Connect, find the version and check the parameters, before anything is claimed.

        Raises:
            Misconfigured: the server, or the version, is not there.
            InputRefused: the version does not take these parameters.
            ServiceUnreachable: see `Transport.request`.
        """
        self._kfp, self._order, self._interval = connect(settings), order, settings.interval
        remedy = "Upload it (kfp-custody upload), or correct the version in the retraining file."
        self._version = require_version(self._kfp, order.pipeline, order.version, remedy)
        self._parameters = check_parameters(order.at(moment), self._version.spec)
        self._experiment = self._kfp.experiment(names.require_name("experiment", order.experiment, names.EXPERIMENT))
        self.sleep: Callable[[float], None] = time.sleep

    def find(self, key: str) -> str | None:
        """Return the oldest run of a claim. One that failed counts too: it was started, and a person looks first."""
        oldest = self._oldest(key)
        return oldest.run_id if oldest else None

    def start(self, key: str) -> str:
        """Start a run."""
        return self._kfp.start_version(
            self._experiment,
            self._name(key),
            self._version,
            self._parameters,
            service_account=self._order.service_account,
            description=f"Started by kfp-custody, order {self._order.name}; claim {key}",
        ).run_id

    def settle(self, key: str, run_id: str) -> str:
        """Look again after an interval; when an older run of the claim is there, end ours."""
        self.sleep(self._interval)
        oldest = self._oldest(key)
        if oldest is None or oldest.run_id == run_id:
            return run_id
        self._kfp.terminate_run(run_id)
        return oldest.run_id

    def link(self, run_id: str) -> str:
        """Return a run's address in the user interface."""
        return self._kfp.link(f"runs/details/{run_id}")

    def _oldest(self, key: str) -> Run | None:
        found = self._kfp.runs(self._experiment, self._name(key))
        return min(found, key=lambda run: (run.created_at, run.run_id), default=None)

    def _name(self, key: str) -> str:
        return names.require_name("run", f"{self._order.pipeline} [retraining {key}]", names.DISPLAY)
