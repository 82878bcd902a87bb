"""The MLflow run that a training belongs to.

The client is used, not MLflow's fluent functions: no state of the process is changed, nothing is renamed, and a run
that somebody else opened (KFP does, and says so in MLFLOW_RUN_ID) is left open for its owner to end.
Nothing here puts an address or MLflow's own message into a refusal: both may hold credentials.
"""

import os
import socket
import sqlite3
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, urlsplit

from kfp_custody.components._shared.documents import canonical_json
from kfp_custody.components._shared.errors import Misconfigured, ServiceUnreachable

DEFAULT_EXPERIMENT = "kfp-custody"
PREFIX = "train."  # KFP logs the task's parameters under their own names; the same key twice would be refused
_DIGEST_LENGTH = 36  # of a dataset's digest in MLflow's database; the whole digest is in a tag and in the source
_SECONDS = 5.0
# MLflow tries seven times with growing pauses, which is minutes for a server that is down; and it reports its use to
# its makers, which nobody in a run agreed to.
_ENVIRONMENT = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_DISABLE_TELEMETRY": "true",
}
_DATABASE_PORTS = {"postgresql": 5432, "mysql": 3306, "mssql": 1433}


@dataclass(frozen=True)
class TrackedRun:
    """An open MLflow run."""

    run_id: str
    experiment_id: str
    store: str
    joined: bool
    client: Any

    def log(self, params: Mapping[str, Any], metrics: Mapping[str, float], tags: Mapping[str, str]) -> None:
        """Log parameters (prefixed), metrics and tags in one request."""
        from mlflow.entities import Metric, Param, RunTag

        moment = int(time.time() * 1000)
        self.client.log_batch(
            self.run_id,
            metrics=[Metric(name, value, moment, 0) for name, value in metrics.items()],
            params=[Param(PREFIX + name, str(value)) for name, value in params.items()],
            tags=[RunTag(name, value) for name, value in tags.items()],
        )

    def log_rounds(self, rounds: Mapping[str, list[float]]) -> None:
        """Log scalars of each boosting round as metrics `rounds/<name>` with the round as step."""
        from mlflow.entities import Metric

        moment = int(time.time() * 1000)
        points = [
            Metric(f"rounds/{name}", value, moment, step)
            for name, values in rounds.items()
            for step, value in enumerate(values)
        ]
        for start in range(0, len(points), 1000):
            self.client.log_batch(self.run_id, metrics=points[start : start + 1000])

    def log_dataset(self, name: str, sha256: str, rows: int, attestation_sha256: str) -> None:
        """Log the attested dataset as the run's training input."""
        from mlflow.entities import Dataset, DatasetInput, InputTag

        source = {"sha256": sha256, "attestation_sha256": attestation_sha256}
        entry = Dataset(
            name=name,
            digest=sha256[:_DIGEST_LENGTH],
            source_type="custody",
            source=canonical_json(source).decode(),
            profile=canonical_json({"num_rows": rows}).decode(),
        )
        self.client.log_inputs(self.run_id, [DatasetInput(entry, [InputTag("mlflow.data.context", "training")])])

    def log_files(self, directory: Path, place: str) -> None:
        """Upload a directory's files into the run's folder `place`."""
        try:
            self.client.log_artifacts(self.run_id, str(directory), place)
        except ImportError as error:
            raise Misconfigured(
                "The MLflow server keeps files in a store that this image has no client for.",
                evidence=f"no module {error.name!r}",
                remedy="Let the server hand on files itself (mlflow server --serve-artifacts), or add the client.",
            ) from error


@contextmanager
def tracked_run(run_name: str, environ: Mapping[str, str] = os.environ) -> Iterator[TrackedRun]:
    """Join the run of MLFLOW_RUN_ID, or open a new one and end it with the block: FINISHED, or FAILED on any error.

    Args:
        run_name: Name of a new run; a joined one keeps its own.
        environ: Where MLFLOW_TRACKING_URI, MLFLOW_RUN_ID and MLFLOW_EXPERIMENT_NAME are read.

    Raises:
        ServiceUnreachable: the server or database does not answer, or answers with an error.
        Misconfigured: the address cannot be used, or the run or experiment that was named does not exist.
    """
    uri, artifacts = _tracking_uri(environ)
    store = uri.partition(":")[0].partition("+")[0] if "://" in uri else "file"
    with _environment(), _refusals(store):
        client = _client(uri)
        run, joined = _open(client, run_name, artifacts, environ)
        tracked = TrackedRun(run.info.run_id, run.info.experiment_id, store, joined, client)
        try:
            yield tracked
        except BaseException:
            if not joined:
                _end_failed(tracked)
            raise
        if not joined:
            client.set_terminated(tracked.run_id, "FINISHED")


def _tracking_uri(environ: Mapping[str, str]) -> tuple[str, str | None]:
    """Return the address, and where a new experiment of a local database keeps its files."""
    uri = environ.get("MLFLOW_TRACKING_URI", "")
    if not uri:
        uri = f"sqlite:///{Path('mlruns').absolute()}/mlflow.db"
    try:
        parts = urlsplit(uri)
        _ = parts.port  # raises when it is none
    except ValueError as error:
        raise _unusable("MLFLOW_TRACKING_URI is no address", "Set it to http(s)://host or sqlite:////path.") from error
    scheme = parts.scheme.partition("+")[0]
    if scheme in ("http", "https") and "@" in parts.netloc:
        raise _unusable(
            f"MLFLOW_TRACKING_URI is an {scheme} address with credentials in it, which would end in logs",
            "Put them into MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN.",
        )
    if scheme == "sqlite":
        return uri, _check_sqlite(uri)
    if scheme in _DATABASE_PORTS:
        _check_database(parts, scheme)
    return uri, None


def _check_sqlite(uri: str) -> str | None:
    """Open the file for writing: MLflow would retry a file it cannot open for more than a minute."""
    file = Path(uri.partition(":///")[2].partition("?")[0])
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(file, timeout=_SECONDS)
        try:
            connection.execute("BEGIN IMMEDIATE").execute("SELECT count(*) FROM sqlite_master")
            connection.rollback()
        finally:
            connection.close()
    except (sqlite3.Error, OSError) as error:
        raise ServiceUnreachable(
            "MLflow's SQLite file cannot be opened for writing.",
            evidence=f"{file.name}: {type(error).__name__}",
            remedy="Check the path in MLFLOW_TRACKING_URI, its permissions, and who else holds the file.",
        ) from error
    return str(file.parent.absolute() / "artifacts")


def _check_database(parts: SplitResult, scheme: str) -> None:
    address = (parts.hostname or "localhost", parts.port or _DATABASE_PORTS[scheme])
    try:
        socket.create_connection(address, timeout=_SECONDS).close()
    except OSError as error:
        raise _unreachable(scheme, type(error).__name__) from error


def _client(uri: str) -> Any:
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=uri)


def _open(client: Any, run_name: str, artifacts: str | None, environ: Mapping[str, str]) -> tuple[Any, bool]:
    given = environ.get("MLFLOW_RUN_ID")
    if given:
        return client.get_run(given), True
    experiment = environ.get("MLFLOW_EXPERIMENT_ID") or _experiment(client, artifacts, environ)
    return client.create_run(experiment, run_name=run_name, tags={"mlflow.source.name": "train_model"}), False


def _experiment(client: Any, artifacts: str | None, environ: Mapping[str, str]) -> str:
    from mlflow.exceptions import MlflowException

    name = environ.get("MLFLOW_EXPERIMENT_NAME") or DEFAULT_EXPERIMENT
    found = client.get_experiment_by_name(name)
    if found is None:
        try:
            return str(client.create_experiment(name, artifact_location=artifacts))
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":  # another task was faster
                raise
            found = client.get_experiment_by_name(name)
    return str(found.experiment_id)


def _end_failed(run: TrackedRun) -> None:
    """Mark a run as failed when that is still possible; the error that is under way matters more."""
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        run.client.set_terminated(run.run_id, "FAILED")
    except (MlflowException, SQLAlchemyError, OSError):
        return


@contextmanager
def _environment() -> Iterator[None]:
    added = {name: value for name, value in _ENVIRONMENT.items() if name not in os.environ}
    os.environ.update(added)
    try:
        yield
    finally:
        for name in added:
            os.environ.pop(name, None)


@contextmanager
def _refusals(store: str) -> Iterator[None]:
    """Turn what MLflow and its transports raise into a refusal that names no address."""
    from mlflow.exceptions import MlflowException
    from requests.exceptions import RequestException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            raise Misconfigured(
                "The MLflow run or experiment that the environment names does not exist.",
                evidence=f"{store} store: {error.error_code}",
                remedy="Check MLFLOW_RUN_ID and MLFLOW_EXPERIMENT_ID, or leave them out.",
            ) from error
        raise _unreachable(store, str(error.error_code)) from error
    except (RequestException, SQLAlchemyError) as error:
        raise _unreachable(store, type(error).__name__) from error


def _unreachable(store: str, why: str) -> ServiceUnreachable:
    return ServiceUnreachable(
        "MLflow did not answer, or answered with an error.",
        evidence=f"{store} store (MLFLOW_TRACKING_URI): {why}",
        remedy="Check that the tracking server runs, is reachable from this task, and accepts its credentials.",
    )


def _unusable(evidence: str, remedy: str) -> Misconfigured:
    return Misconfigured("The address of MLflow cannot be used.", evidence=evidence, remedy=remedy)
