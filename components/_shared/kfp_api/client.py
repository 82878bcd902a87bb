"""A Kubeflow Pipelines server in plain types: finding a version, starting it and looking at runs.

Through kfp_server_api, the generated client, because kfp.Client cannot be imported inside a task.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import kfp_server_api as api

from kfp_custody.components._shared import codes
from kfp_custody.components._shared.errors import Misconfigured, ServiceUnreachable
from kfp_custody.components._shared.kfp_api.credentials import read_cookies, read_token, require_safe
from kfp_custody.components._shared.kfp_api.transport import Transport
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


class Kfp:
    """A server that answers. Every method raises what `Transport.request` raises."""

    def __init__(self, client: api.ApiClient, address: str, namespace: str | None) -> None:
        """Keep the client; see `connect`."""
        self._address, self._namespace = address, namespace
        self._pipelines = api.PipelineServiceApi(client)
        self._experiments, self._runs = api.ExperimentServiceApi(client), api.RunServiceApi(client)

    def link(self, path: str) -> str:
        """Return an address in the user interface."""
        return f"{self._address}/#/{path}"

    def find_pipeline(self, name: str, *, shared: bool = False) -> str | None:
        """Return the id of a pipeline by name; `shared`: also among those that all namespaces share."""
        listed = self._pipelines.pipeline_service_list_pipelines
        for namespace in dict.fromkeys((self._namespace, None) if shared else (self._namespace,)):
            for pipeline in pages(listed, "pipelines", named("name", name), **_given(namespace=namespace)):
                return str(pipeline.pipeline_id)
        return None

    def find_version(self, pipeline_id: str, pipeline: str, name: str) -> Version | None:
        """Return a version of a pipeline by name."""
        listed = self._pipelines.pipeline_service_list_pipeline_versions
        for version in pages(listed, "pipeline_versions", named("name", name), pipeline_id):
            spec, platform = _parts(version.pipeline_spec or {})
            return Version(pipeline_id, str(version.pipeline_version_id), pipeline, name, spec, platform)
        return None

    def experiment(self, name: str) -> str:
        """Return the id of an experiment, which is made when it is not there."""
        known = self._find_experiment(name)
        if known:
            return known
        body = api.V2beta1Experiment(display_name=name, namespace=self._namespace)
        try:
            return str(self._experiments.experiment_service_create_experiment(experiment=body).experiment_id)
        except ServiceUnreachable as error:
            known = self._find_experiment(name) if error.code == codes.KFP_CONFLICT else None
            if known is None:
                raise
            return known  # somebody just made it

    def start_version(
        self,
        experiment_id: str,
        name: str,
        version: Version,
        parameters: Mapping[str, Any],
        *,
        service_account: str | None,
        description: str | None = None,
    ) -> Run:
        """Start a run of an uploaded version."""
        reference = {"pipeline_id": version.pipeline_id, "pipeline_version_id": version.version_id}
        body = api.V2beta1Run(
            experiment_id=experiment_id,
            display_name=name,
            description=description,
            pipeline_version_reference=api.V2beta1PipelineVersionReference(**reference),
            runtime_config=api.V2beta1RuntimeConfig(parameters=dict(parameters)),
            service_account=service_account,
        )
        return read_run(self._runs.run_service_create_run(run=body))

    def runs(self, experiment_id: str, name: str) -> list[Run]:
        """Return the runs of an experiment that have exactly this name."""
        listed = self._runs.run_service_list_runs
        found = pages(listed, "runs", named("display_name", name), experiment_id=experiment_id)
        return [read_run(run) for run in found if run.display_name == name]

    def run(self, run_id: str) -> Run:
        """Look at a run."""
        return read_run(self._runs.run_service_get_run(run_id=run_id))

    def terminate_run(self, run_id: str) -> None:
        """End a run."""
        self._runs.run_service_terminate_run(run_id=run_id)

    def _find_experiment(self, name: str) -> str | None:
        listed = self._experiments.experiment_service_list_experiments
        found = pages(listed, "experiments", named("display_name", name), **_given(namespace=self._namespace))
        return next((str(entry.experiment_id) for entry in found if entry.display_name == name), None)


def connect(settings: KfpSettings) -> Kfp:
    """Reach the server and make sure that it is one; in a pod it is the cluster's own unless the settings say another.

    Raises:
        Misconfigured: no address, credentials that cannot be used, or many users and no namespace.
        ServiceUnreachable: see `Transport.request`.
    """
    require_safe(settings)
    configuration = api.Configuration()
    if not settings.host:
        raise no_address()
    configuration.host = settings.host
    if settings.ca_file:
        configuration.ssl_ca_cert = str(settings.ca_file)
    if settings.token_file:
        token_file = settings.token_file
        read_token(token_file)  # now, and not in the middle of a request

        def refresh(configuration: Any) -> None:  # the kubelet writes another one before it ends
            configuration.api_key["authorization"] = read_token(token_file)

        configuration.api_key_prefix["authorization"] = "Bearer"
        configuration.refresh_api_key_hook = refresh
        refresh(configuration)
    cookies = read_cookies(settings.cookies_file) if settings.cookies_file else None
    client = api.ApiClient(configuration, cookie=cookies)
    return Kfp(client, settings.ui_host or configuration.host, reach(client, settings))


def reach(client: api.ApiClient, settings: KfpSettings) -> str | None:
    """Make sure that a server of Kubeflow Pipelines answers, and return the namespace to say to it.

    Raises:
        Misconfigured: it has many users, and no namespace is given.
        ServiceUnreachable: see `Transport.request`.
    """
    host = client.configuration.host
    client.rest_client = Transport(client.configuration, host, settings.namespace)
    # Servers for one user refuse a namespace; those for many need one.
    many = api.HealthzServiceApi(client).healthz_service_get_healthz().multi_user is True
    if many and not settings.namespace:
        raise Misconfigured(
            "This Kubeflow Pipelines server has many users, and no namespace is given.",
            evidence=f"{host} says multi_user",
            remedy="Give --namespace (or KFP_NAMESPACE) with the namespace of your profile.",
            code=codes.KFP_NAMESPACE,
        )
    return settings.namespace if many else None


def require_version(kfp: Kfp, pipeline: str, version: str, remedy: str) -> Version:
    """Return an uploaded version by the names of pipeline and version.

    Raises:
        Misconfigured: there is no such pipeline or version; `remedy` says what to do.
        ServiceUnreachable: see `Transport.request`.
    """
    pipeline_id = kfp.find_pipeline(pipeline, shared=True)
    found = kfp.find_version(pipeline_id, pipeline, version) if pipeline_id else None
    if found is None:
        raise Misconfigured(
            "There is no such version on the server." if pipeline_id else "There is no such pipeline on the server.",
            evidence=f"{pipeline}, version {version}",
            remedy=remedy,
            code=codes.KFP_NOT_FOUND,
        )
    return found


def no_address() -> Misconfigured:
    """Return the refusal of settings that name no server."""
    return Misconfigured(
        "The address of Kubeflow Pipelines is not configured.",
        evidence="neither --host nor KFP_HOST is given, this is no pod, and there is no kubeconfig",
        remedy="Give --host, such as https://kubeflow.example.org/pipeline.",
        code=codes.KFP_HOST,
    )


def pages(call: Callable[..., Any], items: str, where: str | None, *arguments: Any, **options: Any) -> Iterator[Any]:
    """Yield what a listing holds, page by page."""
    token = ""
    while True:
        page = call(*arguments, page_token=token, page_size=_PAGE, **_given(filter=where), **options)
        yield from getattr(page, items) or ()
        token = page.next_page_token or ""
        if not token:
            return


def named(key: str, name: str) -> str:
    """Return the filter of a listing for what has exactly this name."""
    return json.dumps({"predicates": [{"operation": "EQUALS", "key": key, "string_value": name}]})


def read_run(run: Any) -> Run:
    """Return a run of the generated client in our type."""
    return Run(
        run_id=str(run.run_id),
        name=str(run.display_name),
        state=str(run.state or ""),
        created_at=run.created_at,
        error=str(run.error.message or "") if run.error else "",
    )


def _given(**options: Any) -> dict[str, Any]:
    """Return the options that are given: the generated client would send an empty one along."""
    return {name: value for name, value in options.items() if value is not None}


def _parts(spec: Mapping[str, Any]) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """Return pipeline spec and platform spec: together the server wraps them into one object."""
    return (spec["pipeline_spec"], spec.get("platform_spec", {})) if "pipeline_spec" in spec else (spec, {})
