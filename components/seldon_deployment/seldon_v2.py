"""The target `seldon-v2`: an immutable Model for each version and one permanent Experiment for each service.

Only fields of the v2.6.0 schema (mlops.seldon.io/v1alpha1) are written; later versions know them all. The Seldon
operator never reports which generation a status belongs to, so "Ready" of an edited object may be that of its old
version. Hence a Model is never edited: its name holds the digest, and its Ready can only mean itself.
"""

import os
import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kfp_custody.components._shared.errors import CustodyError, Misconfigured, ServiceUnreachable
from kfp_custody.components.seldon_deployment.decision import Admitted

if TYPE_CHECKING:
    from kubernetes.client import ApiClient

GROUP, VERSION = "mlops.seldon.io", "v1alpha1"
REQUIREMENT = "custody"  # the capability of Servers that run our model server image; no other Server gets the model
_MANAGER = "kfp-custody"
_POLL_SECONDS = 1.0
_TIMEOUTS = (5.0, 30.0)  # seconds to connect and to answer, for each call
_URI = re.compile(r"[a-z][a-z0-9+.-]*:[^\s?#@]+")  # no user, no query: parameters are logged, signed addresses leak
_PLURALS = {"Model": "models", "Experiment": "experiments"}


@dataclass(frozen=True)
class Applied:
    """What was applied: the Model's and the Experiment's name, and the address inside the cluster."""

    model: str
    experiment: str
    url: str


def render_model(admitted: Admitted, name: str, model_uri: str, namespace: str) -> dict[str, Any]:
    """Return the immutable Model of a version, with the digests that the model server must find.

    Raises:
        Misconfigured: `model_uri` is missing or no object-store address that may be shown.
    """
    if not _URI.fullmatch(model_uri):
        raise Misconfigured(
            "The target seldon-v2 needs the address of the signed model in an object store.",
            evidence=f"model_uri has {len(model_uri)} characters; it needs a scheme, and no user, query or space",
            remedy="Set model_uri to where model/ and model.sig were stored, such as s3://bucket/fraud/1; "
            "credentials belong into a Seldon rclone Secret.",
        )
    parameters = [
        {"name": "listing_sha256", "value": admitted.digest},
        {"name": "signature_sha256", "value": admitted.signature_sha256},
        {"name": "decision_sha256", "value": admitted.decision_sha256},
    ]
    spec = {"storageUri": model_uri, "requirements": [REQUIREMENT], "parameters": parameters}
    return _object("Model", f"{name}-{admitted.version}", name, namespace, spec)


def render_experiment(name: str, model: str, namespace: str) -> dict[str, Any]:
    """Return the permanent Experiment of a service, sending all traffic to one Model."""
    return _object("Experiment", name, name, namespace, {"candidates": [{"name": model, "weight": 100}]})


def apply(
    admitted: Admitted,
    name: str,
    model_uri: str,
    namespace: str,
    timeout_seconds: float,
    api: "ApiClient | None" = None,
) -> Applied:
    """Apply the Model, wait until it is Ready, then switch the Experiment to it.

    A Model that does not become Ready is deleted again when this call made it; the Experiment is then untouched.

    Args:
        admitted: the verified model.
        name: name of the service.
        model_uri: address of the signed model.
        namespace: where the objects live.
        timeout_seconds: for becoming Ready.
        api: a configured client; the pod's service account or the kubeconfig when None.

    Raises:
        Misconfigured: not allowed, not installed, refused by the API, or the immutable Model exists with other content.
        ServiceUnreachable: the API does not answer, or the Model is not Ready in time.
    """
    model = render_model(admitted, name, model_uri, namespace)
    model_name = str(model["metadata"]["name"])
    cluster = _Cluster(api or _connect(), namespace)
    created = cluster.put_immutable(model)
    try:
        cluster.await_ready("Model", model_name, time.monotonic() + timeout_seconds)
    except CustodyError as error:
        if created:
            cluster.discard(model_name, error)
        raise
    cluster.apply(render_experiment(name, model_name, namespace))
    return Applied(model_name, name, f"http://seldon-mesh.{namespace}.svc/v2/models/{name}.experiment")


class _Cluster:
    """The few calls that are needed, without discovery: its cache in a shared folder could be written by others."""

    def __init__(self, api: "ApiClient", namespace: str) -> None:
        from kubernetes.dynamic import DynamicClient

        self._client = DynamicClient(api, discoverer=lambda client, cache_file: None)
        self._host, self._namespace = api.configuration.host, namespace

    def put_immutable(self, wanted: dict[str, Any]) -> bool:
        """Apply a Model unless the same one exists; return whether this call made it."""
        name = wanted["metadata"]["name"]
        found = self._call("get", "Model", name=name, absent_is_none=True)
        if found is None:
            self.apply(wanted)
            return True
        if {key: found["spec"].get(key) for key in wanted["spec"]} != wanted["spec"]:
            raise Misconfigured(
                "A Model of this version exists with other content; versions are never edited.",
                evidence=f"{name} in {self._namespace}: storageUri or digests differ from what was to be applied",
                remedy=f"Compare it (kubectl get models.{GROUP} {name} -o yaml); remove it when nobody needs it.",
            )
        return False

    def apply(self, wanted: dict[str, Any]) -> None:
        """Apply an object server-side as `kfp-custody`; fields of other managers are never taken over by force."""
        self._call("server_side_apply", wanted["kind"], body=wanted, field_manager=_MANAGER)

    def await_ready(self, kind: str, name: str, deadline: float) -> None:
        """Wait for condition Ready.

        A False may turn True again while replicas start, so only the deadline ends the waiting.
        """
        last = "no status yet"
        while True:
            found = self._call("get", kind, name=name, absent_is_none=True)
            for condition in ((found or {}).get("status") or {}).get("conditions") or ():
                if condition.get("type") == "Ready":
                    if condition.get("status") == "True":
                        return
                    last = f"{condition.get('reason', 'not ready')}: {str(condition.get('message', ''))[:300]}"
            if time.monotonic() >= deadline:
                raise ServiceUnreachable(
                    f"The {kind} was not Ready in time; the service still sends its traffic where it did.",
                    evidence=f"{name} in {self._namespace}: {last}",
                    remedy=f"Look at the scheduler and at Servers with capability {REQUIREMENT!r}, then deploy again.",
                )
            time.sleep(min(_POLL_SECONDS, max(deadline - time.monotonic(), 0)))

    def discard(self, name: str, because: CustodyError) -> None:
        """Delete a Model that this call made; when that fails, say so in the refusal that led here."""
        try:
            self._call("delete", "Model", name=name)
        except CustodyError as error:
            because.evidence += f"; it could not be deleted: {error.what}"

    def _call(self, verb: str, kind: str, *, absent_is_none: bool = False, **arguments: Any) -> dict[str, Any] | None:
        from kubernetes.client import ApiException
        from kubernetes.dynamic.exceptions import DynamicApiError
        from kubernetes.dynamic.resource import Resource
        from urllib3.exceptions import HTTPError

        plural = _PLURALS[kind]
        resource = Resource(
            prefix="apis",
            group=GROUP,
            api_version=VERSION,
            kind=kind,
            name=plural,
            namespaced=True,
            client=self._client,
        )
        method = getattr(self._client, verb)
        try:
            answer = method(resource, namespace=self._namespace, _request_timeout=_TIMEOUTS, **arguments)
        except (ApiException, DynamicApiError) as error:
            if error.status == 404 and absent_is_none:
                return None
            raise _refusal(error.status, verb, plural, self._namespace) from error
        except (HTTPError, OSError) as error:
            raise ServiceUnreachable(
                "The Kubernetes API did not answer.",
                evidence=f"{self._host}: {type(error).__name__}",
                remedy="Check that the cluster runs and that this task may reach it.",
            ) from error
        return answer.to_dict()  # type: ignore[no-any-return]


def _refusal(status: int, verb: str, plural: str, namespace: str) -> CustodyError:
    verbs = {"server_side_apply": "patch, create"}.get(verb, verb)
    where = f"HTTP {status}: {verbs} {plural}.{GROUP} in namespace {namespace!r}"
    match status:
        case 401:
            return Misconfigured(
                "The Kubernetes API does not know who asks.",
                evidence=where,
                remedy="Run the task with a service account whose token is mounted, or renew the kubeconfig.",
            )
        case 403:
            return Misconfigured(
                "The Kubernetes API does not allow this.",
                evidence=where,
                remedy=f"Bind the task's service account to a Role in {namespace!r} with the rule "
                f'{{apiGroups: ["{GROUP}"], resources: ["{plural}"], verbs: [get, create, patch, delete]}}.',
            )
        case 404:
            return Misconfigured(
                "Seldon Core v2 is not installed there, or the namespace does not exist.",
                evidence=where,
                remedy=f"Install Seldon Core v2 (kubectl get crd {plural}.{GROUP}), or correct CUSTODY_NAMESPACE.",
            )
        case 409:
            return Misconfigured(
                "Somebody else manages these fields, and nothing is taken over by force.",
                evidence=where,
                remedy=f"Let only {_MANAGER} manage this object: remove it from the other tool.",
            )
        case 429:
            pass
        case _ if status < 500:
            return Misconfigured(
                "The Kubernetes API refused the object.",
                evidence=where,
                remedy="Ask its administrator which schema or admission policy refuses it.",
            )
    return ServiceUnreachable(
        "The Kubernetes API failed.", evidence=where, remedy="Try again; if it persists, ask the cluster's operator."
    )


def _object(kind: str, name: str, service: str, namespace: str, spec: dict[str, Any]) -> dict[str, Any]:
    labels = {"app.kubernetes.io/managed-by": _MANAGER, "app.kubernetes.io/part-of": service}
    metadata = {"name": name, "namespace": namespace, "labels": labels}
    return {"apiVersion": f"{GROUP}/{VERSION}", "kind": kind, "metadata": metadata, "spec": spec}


def _connect() -> "ApiClient":
    """Return a client for the pod's service account, else for the kubeconfig."""
    from kubernetes import client, config

    configuration = client.Configuration()
    try:
        if os.environ.get("KUBERNETES_SERVICE_HOST"):
            config.load_incluster_config(client_configuration=configuration)
        else:
            # The library reads KUBECONFIG once, at import; it may have been set since.
            files = os.environ.get("KUBECONFIG") or str(Path.home() / ".kube" / "config")
            config.load_kube_config(config_file=files, client_configuration=configuration)
    except (config.ConfigException, OSError) as error:
        raise Misconfigured(
            "There is no access to a Kubernetes cluster.",
            evidence=f"neither a service account in a pod nor a kubeconfig ({type(error).__name__})",
            remedy="Run it in the cluster, or set KUBECONFIG; the target local needs no cluster.",
        ) from error
    configuration.retries = 1
    return client.ApiClient(configuration)
