"""Claims as Leases (coordination.k8s.io) of a namespace.

A Lease is made for this: it holds a holder and times, and nobody's configuration. That counts because Kubernetes cannot
narrow `create` to a name, nor `update` to names that are not known beforehand: whoever may update ConfigMaps in a
namespace may rewrite the trust file of its runs. With Leases the same right is over other Leases only.
"""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from kfp_custody.components._shared import codes
from kfp_custody.components._shared.documents import DocumentFault
from kfp_custody.components._shared.errors import CustodyError, Misconfigured, ServiceUnreachable
from kfp_custody.components._shared.kubernetes_access import connect
from kfp_custody.components.retraining.claims import Claim, Standing, decode
from kfp_custody.components.retraining.folder_store import not_a_claim

if TYPE_CHECKING:
    from kubernetes.client import ApiClient

PREFIX: Final = "custody-retraining-"
_CLAIM: Final = "custody.kubeflow.org/claim"
_TIMEOUTS: Final = (5.0, 30.0)  # seconds to connect and to answer, for each call


class LeaseStore:
    """A Lease for each claim. The API server's resourceVersion says which state of it somebody read."""

    def __init__(self, namespace: str, api: "ApiClient | None" = None) -> None:
        """Connect: with the client given, else as the pod's service account, else by the kubeconfig.

        Raises:
            Misconfigured: there is no access.
        """
        from kubernetes.client import CoordinationV1Api

        self._api = CoordinationV1Api(api or connect())
        self._namespace = namespace

    def name(self, key: str) -> str:
        """Return the Lease's name and namespace."""
        return f"Lease {PREFIX}{key} in namespace {self._namespace}"

    def create(self, key: str, claim: Claim) -> Standing | None:
        """Create the Lease; the API server lets one be first."""
        body = _lease(f"{PREFIX}{key}", self._namespace, claim, transitions=0)
        made = self._call("create", 409, self._api.create_namespaced_lease, self._namespace, body)
        return None if made is None else Standing(claim, made.metadata.resource_version)

    def read(self, key: str) -> Standing | None:
        """Read the Lease.

        Raises:
            Misconfigured: it holds no claim.
        """
        name = f"{PREFIX}{key}"
        found = self._call("get", 404, self._api.read_namespaced_lease, name, self._namespace)
        if found is None:
            return None
        try:
            text = (found.metadata.annotations or {}).get(_CLAIM)
            if text is None:
                raise DocumentFault(f"it has no annotation {_CLAIM}")
            return Standing(decode(text.encode()), found.metadata.resource_version)
        except DocumentFault as fault:
            raise not_a_claim(self.name(key), fault) from fault

    def replace(self, key: str, standing: Standing, claim: Claim) -> Standing | None:
        """Update the Lease as it was read; the API server refuses when it is another one by now."""
        name = f"{PREFIX}{key}"
        body = _lease(name, self._namespace, claim, transitions=int(claim.holder != standing.claim.holder))
        body["metadata"]["resourceVersion"] = standing.version
        done = self._call("update", 409, self._api.replace_namespaced_lease, name, self._namespace, body)
        return None if done is None else Standing(claim, done.metadata.resource_version)

    def _call(self, verb: str, none: int, call: Callable[..., Any], *arguments: Any) -> Any:
        from kubernetes.client import ApiException
        from urllib3.exceptions import HTTPError

        try:
            return call(*arguments, _request_timeout=_TIMEOUTS)
        except ApiException as error:
            if error.status == none:
                return None
            raise _refusal(int(error.status or 0), verb, self._namespace, error.body) from error
        except (HTTPError, OSError) as error:
            raise ServiceUnreachable(
                "The Kubernetes API did not answer, so nothing was started.",
                evidence=f"{self._api.api_client.configuration.host}: {type(error).__name__}",
                remedy="Check that the cluster runs and that this task may reach it.",
                code=codes.CLAIMS_SILENT,
            ) from error


def _lease(name: str, namespace: str, claim: Claim, transitions: int) -> dict[str, Any]:
    now = datetime.now(UTC)
    labels = {"app.kubernetes.io/managed-by": "kfp-custody", "app.kubernetes.io/component": "retraining"}
    annotations = {_CLAIM: claim.encode().decode()}
    micro = now.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    seconds = max(int((claim.until - now).total_seconds()), 1)
    spec = {"holderIdentity": claim.holder, "leaseDurationSeconds": seconds, "renewTime": micro}
    return {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {"name": name, "namespace": namespace, "labels": labels, "annotations": annotations},
        "spec": {**spec, "acquireTime": micro, "leaseTransitions": transitions},
    }


def _refusal(status: int, verb: str, namespace: str, body: Any) -> CustodyError:
    where = f"HTTP {status}: {verb} leases.coordination.k8s.io in namespace {namespace!r}"
    if status == 401:
        return Misconfigured(
            "The Kubernetes API does not know who asks.",
            evidence=where,
            remedy="Run the task with a service account whose token is mounted, or renew the kubeconfig.",
            code=codes.CLAIMS_DENIED,
        )
    if status == 403:
        return Misconfigured(
            "The Kubernetes API does not allow this, so nothing was started.",
            evidence=where,
            remedy=f"Bind the task's service account to a Role in {namespace!r} with the rule {{apiGroups: "
            f'["coordination.k8s.io"], resources: ["leases"], verbs: [{verb}]}}; manifests/base/runs has the Role.',
            code=codes.CLAIMS_DENIED,
        )
    if status == 429 or status >= 500 or status == 0:
        return ServiceUnreachable(
            "The Kubernetes API failed, so nothing was started.",
            evidence=where,
            remedy="Try again; if it persists, ask the cluster's operator.",
            code=codes.CLAIMS_SILENT,
        )
    return Misconfigured(
        "The Kubernetes API refused the claim; nothing was started.",
        evidence=f"{where}{_reason(body)}",
        remedy="Check that the namespace exists, and ask the cluster's administrator which policy refuses it.",
        code=codes.CLAIMS_DENIED,
    )


def _reason(body: Any) -> str:
    try:
        return f": {str(json.loads(body)['message'])[:200]}"
    except (ValueError, TypeError, KeyError):
        return ""
