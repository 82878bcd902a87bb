"""The few calls to the Kubernetes API that the stages make, and what each of its answers means to a person.

No discovery: its cache in a shared folder could be written by others. Objects are applied server-side as `kfp-custody`
and never by force. With a `resourceVersion` in them, what changed since it was read is not overwritten.
"""

import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from kfp_custody.components._shared.errors import CustodyError, Misconfigured, ServiceUnreachable
from kfp_custody.components._shared.kubernetes_access import connect

if TYPE_CHECKING:
    from kubernetes.client import ApiClient

Object = dict[str, Any]
MANAGER = "kfp-custody"
POLL_SECONDS = 1.0
_TIMEOUTS = (5.0, 30.0)  # seconds to connect and to answer, for each call
# What each system's objects are called: kind -> (group, version, plural, system).
KINDS = {
    "Model": ("mlops.seldon.io", "v1alpha1", "models", "Seldon Core v2"),
    "Experiment": ("mlops.seldon.io", "v1alpha1", "experiments", "Seldon Core v2"),
    "SeldonDeployment": ("machinelearning.seldon.io", "v1", "seldondeployments", "Seldon Core v1"),
    "InferenceService": ("serving.kserve.io", "v1beta1", "inferenceservices", "KServe"),
}


def make(
    kind: str, name: str, service: str, namespace: str, spec: Object, annotations: Mapping[str, str] | None = None
) -> Object:
    """Return an object of ours."""
    group, version, *_ = KINDS[kind]
    labels = {"app.kubernetes.io/managed-by": MANAGER, "app.kubernetes.io/part-of": service}
    metadata: Object = {"name": name, "namespace": namespace, "labels": labels}
    if annotations:
        metadata["annotations"] = dict(annotations)
    return {"apiVersion": f"{group}/{version}", "kind": kind, "metadata": metadata, "spec": spec}


class Objects(ABC):
    """The objects of one namespace: in a cluster, or as files that somebody else applies (`rollout/git_files.py`)."""

    namespace: str

    @abstractmethod
    def get(self, kind: str, name: str) -> Object | None:
        """Return an object; None when there is none of this name."""

    @abstractmethod
    def list(self, kind: str, service: str) -> list[Object]:
        """Return the objects of a service."""

    @abstractmethod
    def apply(self, wanted: Object) -> Object:
        """Apply an object and return what it is now."""

    @abstractmethod
    def delete(self, kind: str, name: str) -> None:
        """Delete an object; one that is not there is as it should be."""

    @abstractmethod
    def where(self, kind: str, name: str) -> str:
        """Say how a person looks at an object."""

    def put_immutable(self, wanted: Object) -> bool:
        """Apply an object unless the same one exists; return whether this call made it.

        Raises:
            Misconfigured: it exists with other content.
        """
        kind, name = wanted["kind"], wanted["metadata"]["name"]
        found = self.get(kind, name)
        if found is None:
            self.apply(wanted)
            return True
        if {key: found["spec"].get(key) for key in wanted["spec"]} != wanted["spec"]:
            raise Misconfigured(
                f"A {kind} of this version exists with other content; versions are never edited.",
                evidence=f"{name} in {self.namespace}: storageUri or digests differ from what was to be applied",
                remedy=f"Compare it ({self.where(kind, name)}); remove it when nobody needs it.",
            )
        return False


class Cluster(Objects):
    """The objects of one namespace of a cluster."""

    def __init__(self, namespace: str, api: "ApiClient | None" = None) -> None:
        """Connect: with the client given, else as the pod's service account, else by the kubeconfig.

        Raises:
            Misconfigured: there is no access.
        """
        from kubernetes.dynamic import DynamicClient

        api = api or connect()
        self._client = DynamicClient(api, discoverer=lambda client, cache_file: None)
        self._host, self.namespace = api.configuration.host, namespace

    def get(self, kind: str, name: str) -> Object | None:
        """Return an object; None when there is none of this name."""
        return self._call("get", "get", kind, name=name)

    def list(self, kind: str, service: str) -> list[Object]:
        """Return the objects of a service."""
        labels = f"app.kubernetes.io/managed-by={MANAGER},app.kubernetes.io/part-of={service}"
        found = self._call("list", "get", kind, label_selector=labels)
        return list((found or {}).get("items") or ())

    def apply(self, wanted: Object) -> Object:
        """Apply an object and return what it is now; fields of other managers are never taken over by force."""
        return self._call("patch", "server_side_apply", wanted["kind"], body=wanted, field_manager=MANAGER) or {}

    def delete(self, kind: str, name: str) -> None:
        """Delete an object; one that is not there is as it should be."""
        self._call("delete", "delete", kind, name=name)

    def where(self, kind: str, name: str) -> str:
        """Say how a person looks at an object."""
        group, _, plural, _ = KINDS[kind]
        return f"kubectl get {plural}.{group} {name} -o yaml"

    def await_ready(self, kind: str, name: str, deadline: float, condition: str = "Ready", hint: str = "") -> None:
        """Wait for a condition.

        A False may turn True again while replicas start, so only the deadline ends the waiting. Where the status says
        which generation it is of, one of an older generation counts for nothing.

        Raises:
            ServiceUnreachable: it does not come in time.
        """
        last = "no status yet"
        while True:
            found = self.get(kind, name) or {}
            status = found.get("status") or {}
            current = status.get("observedGeneration") in (None, found.get("metadata", {}).get("generation"))
            for each in status.get("conditions") or ():
                if each.get("type") == condition:
                    if each.get("status") == "True" and current:
                        return
                    last = f"{each.get('reason', 'not ready')}: {str(each.get('message', ''))[:300]}"
            self.wait(kind, name, last, deadline, hint)

    def wait(self, kind: str, name: str, last: str, deadline: float, hint: str = "") -> None:
        """Sleep before the next look.

        Raises:
            ServiceUnreachable: the deadline has passed; `last` is what was seen.
        """
        if time.monotonic() >= deadline:
            raise ServiceUnreachable(
                f"The {kind} was not Ready in time; the service still sends its traffic where it did.",
                evidence=f"{name} in {self.namespace}: {last}",
                remedy=f"Look at {hint or 'its pods and events'}, then deploy again.",
            )
        time.sleep(min(POLL_SECONDS, max(deadline - time.monotonic(), 0)))

    def _call(self, verb: str, method: str, kind: str, **arguments: Any) -> Object | None:
        from kubernetes.client import ApiException
        from kubernetes.dynamic.exceptions import DynamicApiError
        from kubernetes.dynamic.resource import Resource
        from urllib3.exceptions import HTTPError

        group, version, plural, _ = KINDS[kind]
        resource = Resource(
            prefix="apis",
            group=group,
            api_version=version,
            kind=kind,
            name=plural,
            namespaced=True,
            client=self._client,
        )
        try:
            answer = getattr(self._client, method)(
                resource, namespace=self.namespace, _request_timeout=_TIMEOUTS, **arguments
            )
        except (ApiException, DynamicApiError) as error:
            if error.status == 404 and verb in ("get", "delete"):
                return None
            raise _refusal(error, verb, kind, self.namespace) from error
        except (HTTPError, OSError) as error:
            raise ServiceUnreachable(
                "The Kubernetes API did not answer.",
                evidence=f"{self._host}: {type(error).__name__}",
                remedy="Check that the cluster runs and that this task may reach it.",
            ) from error
        return answer.to_dict()  # type: ignore[no-any-return]


def _refusal(error: Any, verb: str, kind: str, namespace: str) -> CustodyError:
    group, _, plural, system = KINDS[kind]
    status = error.status
    # To apply what is not there yet is to patch and to create.
    verbs = "patch (and create)" if verb == "patch" else verb
    where = f"HTTP {status}: {verbs} {plural}.{group} in namespace {namespace!r}"
    match status:
        case 401:
            return Misconfigured(
                "The Kubernetes API does not know who asks.",
                evidence=where,
                remedy="Run the task with a service account whose token is mounted, or renew the kubeconfig.",
            )
        case 403:
            needed = "patch, create" if verb == "patch" else verb
            return Misconfigured(
                "The Kubernetes API does not allow this.",
                evidence=where,
                remedy=f"Bind the task's service account to a Role in {namespace!r} with the rule "
                f'{{apiGroups: ["{group}"], resources: ["{plural}"], verbs: [{needed}]}}; manifests/ has the Roles.',
            )
        case 404:
            return Misconfigured(
                f"{system} is not installed there, or the namespace does not exist.",
                evidence=where,
                remedy=f"Install {system} (kubectl get crd {plural}.{group}), or correct CUSTODY_NAMESPACE.",
            )
        case 409:
            return Misconfigured(
                "Somebody else manages these fields or changed the object meanwhile; nothing is taken over by force.",
                evidence=where,
                remedy=f"Let only {MANAGER} manage this object: remove it from the other tool. Then run this again.",
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
