"""A Kubeflow Pipelines server through kfp.Client: the calls that the commands need, in plain types.

The only module beside the contracts that imports kfp. kfp.Client prints links, keeps a context file in the home
directory and asks for the server's health with retries and logged tracebacks; none of that is wanted of a command.
"""

import contextlib
import io
import json
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from google.protobuf import json_format
from kfp.client import Client
from kfp.client.set_volume_credentials import ServiceAccountTokenVolumeCredentials
from kfp.pipeline_spec import pipeline_spec_pb2
from kfp_server_api import V2beta1GetHealthzResponse, V2beta1Pipeline

from kfp_custody.components._cli.kfp_api.credentials import read_cookies, read_token, require_safe
from kfp_custody.components._cli.kfp_api.package import Package
from kfp_custody.components._cli.kfp_api.transport import Transport
from kfp_custody.components._shared import codes
from kfp_custody.components._shared.digests import sha256_bytes
from kfp_custody.components._shared.documents import canonical_json
from kfp_custody.components._shared.errors import InputRefused, Misconfigured, ServiceUnreachable
from kfp_custody.components._shared.settings import KfpSettings

_PAGE: Final = 100


@dataclass(frozen=True)
class Version:
    """An uploaded version of a pipeline; `spec` is its pipeline spec, `platform` its platform spec."""

    pipeline_id: str
    version_id: str
    pipeline: str
    name: str
    spec: Mapping[str, Any]
    platform: Mapping[str, Any]


@dataclass(frozen=True)
class Run:
    """A run; `state` is one of KFP's (SUCCEEDED, FAILED, ...), empty when the server has not said yet."""

    run_id: str
    name: str
    state: str
    created_at: datetime
    error: str


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


class Kfp:
    """A server that answers. Every method raises what `Transport.request` raises."""

    def __init__(self, client: Client, address: str, namespace: str | None) -> None:
        """Keep the client; see `connect`."""
        self._client, self._address, self._namespace = client, address, namespace

    def link(self, path: str) -> str:
        """Return an address in the user interface."""
        return f"{self._address}/#/{path}"

    # --- pipelines and versions --------------------------------------------------------------------------------------

    def find_pipeline(self, name: str, *, shared: bool = False) -> str | None:
        """Return the id of a pipeline by name; `shared`: also among those that all namespaces share."""
        for namespace in dict.fromkeys((self._namespace, None) if shared else (self._namespace,)):
            found = _pages(self._client.list_pipelines, "pipelines", _named("name", name), namespace=namespace)
            for pipeline in found:
                return str(pipeline.pipeline_id)
        return None

    def create_pipeline(self, name: str, description: str) -> str:
        """Make a pipeline without a version and return its id.

        kfp.Client.upload_pipeline would make a first version with it, under the name of the pipeline.
        """
        body = V2beta1Pipeline(name=name, display_name=name, description=description, namespace=self._namespace)
        return str(self._client.pipelines.pipeline_service_create_pipeline(pipeline=body).pipeline_id)

    def find_version(self, pipeline_id: str, pipeline: str, name: str) -> Version | None:
        """Return a version of a pipeline by name."""
        found = _pages(self._client.list_pipeline_versions, "pipeline_versions", _named("name", name), pipeline_id)
        for version in found:
            spec, platform = _parts(version.pipeline_spec or {})
            return Version(pipeline_id, str(version.pipeline_version_id), pipeline, name, spec, platform)
        return None

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

    def experiment(self, name: str) -> str:
        """Return the id of an experiment, which is made when it is not there."""
        with _quiet():
            try:
                found = self._client.create_experiment(name, namespace=self._namespace)
            except ServiceUnreachable as error:
                if error.code != codes.KFP_CONFLICT:
                    raise
                found = self._client.create_experiment(name, namespace=self._namespace)  # somebody just made it
        return str(found.experiment_id)

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
        common = {
            "experiment_id": experiment_id,
            "job_name": name,
            "params": dict(parameters),
            "service_account": service_account,
        }
        with tempfile.TemporaryDirectory() as folder, _quiet():
            if isinstance(pipeline, Version):
                source = {"pipeline_id": pipeline.pipeline_id, "version_id": pipeline.version_id}
            else:
                path = Path(folder, "pipeline.yaml")
                path.write_bytes(pipeline.data)
                source = {"pipeline_package_path": str(path)}
            enable_caching = False if no_cache else None
            return _run(self._client.run_pipeline(**common, **source, enable_caching=enable_caching))

    def runs(self, experiment_id: str, name: str) -> list[Run]:
        """Return the runs of an experiment that have exactly this name."""
        arguments = {"experiment_id": experiment_id, "namespace": self._namespace}
        found = _pages(self._client.list_runs, "runs", _named("display_name", name), **arguments)
        return [_run(run) for run in found if run.display_name == name]

    def run(self, run_id: str) -> Run:
        """Look at a run."""
        return _run(self._client.get_run(run_id))

    def terminate_run(self, run_id: str) -> None:
        """End a run."""
        self._client.terminate_run(run_id)

    # --- schedules ---------------------------------------------------------------------------------------------------

    def schedules(self, name: str | None = None) -> list[Schedule]:
        """Return the recurring runs of the namespace, oldest first; `name`: only those of this name."""
        where = _named("display_name", name) if name else None
        found = _pages(self._client.list_recurring_runs, "recurring_runs", where, namespace=self._namespace)
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
        client = _Client(
            host=settings.host,
            cookies=cookies,
            credentials=_TokenFile(str(settings.token_file)) if settings.token_file else None,
            ssl_ca_cert=str(settings.ca_file) if settings.ca_file else None,
        )
    configuration = client._existing_config
    if not settings.host and configuration.host == "http://localhost":  # what stays when there is no kubeconfig
        raise Misconfigured(
            "The address of Kubeflow Pipelines is not configured.",
            evidence="neither --host nor KFP_HOST is given, this is no pod, and there is no kubeconfig",
            remedy="Give --host, such as https://kubeflow.example.org/pipeline.",
            code=codes.KFP_HOST,
        )
    _keep_host(configuration)
    api = client._run_api.api_client  # one for all of kfp.Client's services
    api.rest_client = Transport(configuration, configuration.host, settings.namespace)
    # Servers for one user refuse a namespace; those for many need one.
    many = client.healthzs.healthz_service_get_healthz().multi_user is True
    if many and not settings.namespace:
        raise Misconfigured(
            "This Kubeflow Pipelines server has many users, and no namespace is given.",
            evidence=f"{configuration.host} says multi_user",
            remedy="Give --namespace (or KFP_NAMESPACE) with the namespace of your profile.",
            code=codes.KFP_NAMESPACE,
        )
    return Kfp(client, settings.ui_host or configuration.host, settings.namespace if many else None)


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


def _pages(call: Callable[..., Any], items: str, where: str | None, *arguments: Any, **options: Any) -> Iterator[Any]:
    """Yield what a listing holds, page by page."""
    token = ""
    while True:
        page = call(*arguments, page_token=token, page_size=_PAGE, filter=where, **options)
        yield from getattr(page, items) or ()
        token = page.next_page_token or ""
        if not token:
            return


def _named(key: str, name: str) -> str:
    return json.dumps({"predicates": [{"operation": "EQUALS", "key": key, "string_value": name}]})


def _parts(spec: Mapping[str, Any]) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """Return pipeline spec and platform spec: together the server wraps them into one object."""
    return (spec["pipeline_spec"], spec.get("platform_spec", {})) if "pipeline_spec" in spec else (spec, {})


def _run(run: Any) -> Run:
    return Run(
        run_id=str(run.run_id),
        name=str(run.display_name),
        state=str(run.state or ""),
        created_at=run.created_at,
        error=str(run.error.message or "") if run.error else "",
    )


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
