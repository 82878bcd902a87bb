"""What only the commands need of a server, through kfp.Client: a kubeconfig's proxy, uploads, packages, schedules.

The only module beside the contracts that imports kfp. kfp.Client prints links, keeps a context file in the home
directory and asks for the server's health with retries and logged tracebacks; none of that is wanted of a command.
"""

import contextlib
import io
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from google.protobuf import json_format
from kfp.client import Client
from kfp.client.set_volume_credentials import ServiceAccountTokenVolumeCredentials
from kfp.pipeline_spec import pipeline_spec_pb2
from kfp_server_api import V2beta1GetHealthzResponse, V2beta1Pipeline

from kfp_custody.components._cli.kfp_api.package import Package
from kfp_custody.components._shared import codes
from kfp_custody.components._shared.digests import sha256_bytes
from kfp_custody.components._shared.documents import canonical_json
from kfp_custody.components._shared.errors import InputRefused
from kfp_custody.components._shared.kfp_api import client
from kfp_custody.components._shared.kfp_api.client import Run, Version
from kfp_custody.components._shared.kfp_api.credentials import read_cookies, read_token, require_safe
from kfp_custody.components._shared.settings import KfpSettings


@dataclass(frozen=True)
class Schedule:
    """A recurring run."""

    schedule_id: str
    name: str
    enabled: bool
    created_at: datetime
    description: str
    cron: str


@dataclass(frozen=True)
class Trigger:
    """What a schedule starts, where, when, and as whom. Two schedules with the same digest do the same."""

    version: Version
    experiment_id: str
    cron: str
    parameters: Mapping[str, Any]
    service_account: str | None
    start: datetime | None
    end: datetime | None

    @property
    def digest(self) -> str:
        """SHA-256 over all of it. The server fills in defaults, so what it returns could not be compared."""
        said = {
            "version": self.version.version_id,
            "experiment": self.experiment_id,
            "cron": self.cron,
            "parameters": self.parameters,
            "service_account": self.service_account,
            "start": _stamp(self.start),
            "end": _stamp(self.end),
        }
        return sha256_bytes(canonical_json(said))


class _Client(Client):  # type: ignore[misc]  # no types
    """kfp.Client without its context file: which namespace a command works in is said by its own settings."""

    def _load_context_setting_or_default(self) -> None:
        self._context_setting = {"namespace": ""}

    def set_user_namespace(self, namespace: str) -> None:
        self._context_setting["namespace"] = namespace

    def get_kfp_healthz(self, sleep_duration: int = 5) -> V2beta1GetHealthzResponse:
        return V2beta1GetHealthzResponse()  # asked below, once and through our transport


class _TokenFile(ServiceAccountTokenVolumeCredentials):  # type: ignore[misc]  # no types
    """kfp's credentials from a file, read again for every request, by our rules for secret files."""

    def _get_token(self) -> str:
        return read_token(Path(self._token_path))


class Kfp(client.Kfp):
    """A server that answers, with what only the commands ask of it."""

    def __init__(self, kfp_client: Client, address: str, namespace: str | None) -> None:
        """Keep the client; see `connect`."""
        super().__init__(kfp_client._run_api.api_client, address, namespace)
        self._client = kfp_client

    # --- pipelines and versions --------------------------------------------------------------------------------------

    def create_pipeline(self, name: str, description: str) -> str:
        """Make a pipeline without a version and return its id.

        kfp.Client.upload_pipeline would make a first version with it, under the name of the pipeline.
        """
        body = V2beta1Pipeline(name=name, display_name=name, description=description, namespace=self._namespace)
        return str(self._client.pipelines.pipeline_service_create_pipeline(pipeline=body).pipeline_id)

    def upload_version(self, pipeline_id: str, package: Package, name: str, description: str) -> str:
        """Upload a version and return its id."""
        with tempfile.TemporaryDirectory() as folder, _quiet():
            path = Path(folder, "pipeline.yaml")
            path.write_bytes(package.data)
            made = self._client.upload_pipeline_version(
                str(path), pipeline_version_name=name, pipeline_id=pipeline_id, description=description
            )
        return str(made.pipeline_version_id)

    # --- runs --------------------------------------------------------------------------------------------------------

    def start_run(
        self,
        experiment_id: str,
        name: str,
        pipeline: Package | Version,
        parameters: Mapping[str, Any],
        *,
        service_account: str | None,
        no_cache: bool,
    ) -> Run:
        """Start a run of an uploaded version, or of a package that is sent along."""
        if isinstance(pipeline, Version):
            return self.start_version(experiment_id, name, pipeline, parameters, service_account=service_account)
        with tempfile.TemporaryDirectory() as folder, _quiet():
            path = Path(folder, "pipeline.yaml")
            path.write_bytes(pipeline.data)
            return client.read_run(
                self._client.run_pipeline(
                    experiment_id=experiment_id,
                    job_name=name,
                    params=dict(parameters),
                    service_account=service_account,
                    pipeline_package_path=str(path),
                    enable_caching=False if no_cache else None,
                )
            )

    # --- schedules ---------------------------------------------------------------------------------------------------

    def schedules(self, name: str | None = None) -> list[Schedule]:
        """Return the recurring runs of the namespace, oldest first; `name`: only those of this name."""
        where = client.named("display_name", name) if name else None
        found = client.pages(self._client.list_recurring_runs, "recurring_runs", where, namespace=self._namespace)
        known = [_schedule(entry) for entry in found if name in (None, entry.display_name)]
        return sorted(known, key=lambda entry: (entry.created_at, entry.schedule_id))

    def create_schedule(self, name: str, trigger: Trigger, description: str) -> str:
        """Make an enabled recurring run, without catching up, one run at a time; return its id."""
        made = self._client.create_recurring_run(
            experiment_id=trigger.experiment_id,
            job_name=name,
            description=description,
            start_time=_stamp(trigger.start),
            end_time=_stamp(trigger.end),
            cron_expression=trigger.cron,
            max_concurrency=1,
            no_catchup=True,
            params=dict(trigger.parameters),
            pipeline_id=trigger.version.pipeline_id,
            version_id=trigger.version.version_id,
            service_account=trigger.service_account,
        )
        return str(made.recurring_run_id)

    def enable_schedule(self, schedule_id: str) -> None:
        """Let a recurring run fire."""
        self._client.enable_recurring_run(schedule_id)

    def disable_schedule(self, schedule_id: str) -> None:
        """Keep a recurring run from firing."""
        self._client.disable_recurring_run(schedule_id)


def connect(settings: KfpSettings) -> Kfp:
    """Reach the server and make sure that it is one.

    Raises:
        Misconfigured: no address, credentials that cannot be used, or many users and no namespace.
        ServiceUnreachable: see `Transport.request`.
    """
    require_safe(settings)
    if settings.token_file:
        read_token(settings.token_file)  # now, and not in the middle of what kfp.Client does
    cookies = read_cookies(settings.cookies_file) if settings.cookies_file else None
    with _quiet():
        kfp_client = _Client(
            host=settings.host,
            cookies=cookies,
            credentials=_TokenFile(str(settings.token_file)) if settings.token_file else None,
            ssl_ca_cert=str(settings.ca_file) if settings.ca_file else None,
        )
    configuration = kfp_client._existing_config
    if not settings.host and configuration.host == "http://localhost":  # what stays when there is no kubeconfig
        raise client.no_address()
    _keep_host(configuration)
    namespace = client.reach(kfp_client._run_api.api_client, settings)  # one client for all of kfp.Client's services
    return Kfp(kfp_client, settings.ui_host or configuration.host, namespace)


def _keep_host(configuration: Any) -> None:
    """Keep the way through the cluster's proxy that kfp.Client took out of a kubeconfig.

    It is the API server's address with a path (and a slash too many); the hook that refreshes a kubeconfig's token sets
    the address back to the API server alone, and itself anew.
    """
    host, refresh = configuration.host.rstrip("/"), configuration.refresh_api_key_hook
    configuration.host = host
    if refresh:

        def refresh_and_keep(config: Any) -> None:
            refresh(config)
            config.host, config.refresh_api_key_hook = host, refresh_and_keep

        configuration.refresh_api_key_hook = refresh_and_keep


def same_pipeline(package: Package, version: Version) -> bool:
    """Tell whether a version holds what a package holds.

    The server keeps the meaning and not the bytes (it leaves out what has its default), so the meaning is compared.

    Raises:
        InputRefused: the package is no pipeline by KFP's schema.
    """

    def read(spec: Mapping[str, Any], platform: Mapping[str, Any], strict: bool) -> tuple[Any, Any]:
        return (
            json_format.ParseDict(spec, pipeline_spec_pb2.PipelineSpec(), ignore_unknown_fields=not strict),
            json_format.ParseDict(platform, pipeline_spec_pb2.PlatformSpec(), ignore_unknown_fields=not strict),
        )

    require_schema(package)
    return read(package.spec, package.platform, True) == read(version.spec, version.platform, False)


def require_schema(package: Package) -> None:
    """Refuse what the schema of KFP does not know.

    Raises:
        InputRefused: the package is no pipeline by KFP's schema.
    """
    try:
        json_format.ParseDict(package.spec, pipeline_spec_pb2.PipelineSpec())
        json_format.ParseDict(package.platform, pipeline_spec_pb2.PlatformSpec())
    except json_format.ParseError as error:
        raise InputRefused(
            "The file is no pipeline that this version of kfp knows.",
            evidence=" ".join(str(error).split())[:300],
            remedy="Compile the pipeline again with kfp 2, and do not edit what it writes.",
            code=codes.PIPELINE_FILE,
        ) from error


def _schedule(entry: Any) -> Schedule:
    cron = entry.trigger.cron_schedule if entry.trigger else None
    return Schedule(
        schedule_id=str(entry.recurring_run_id),
        name=str(entry.display_name),
        enabled=entry.status == "ENABLED",
        created_at=entry.created_at,
        description=str(entry.description or ""),
        cron=str(cron.cron or "") if cron else "",
    )


def _stamp(moment: datetime | None) -> str | None:
    return moment.isoformat().replace("+00:00", "Z") if moment else None


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Swallow what kfp.Client prints and warns about: links of its own, its age."""
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
