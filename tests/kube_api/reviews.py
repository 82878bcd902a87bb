"""SelfSubjectAccessReviews: what whoever asks may do, answered from the same Roles that requests are held against."""

from typing import Any

from kube_api.answers import Refused, bad_request
from kube_api.expressions import Unsupported
from kube_api.rbac import Rbac
from kube_api.requests import Request, unsupported

JSON = "application/json"
PATH = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
_KIND = {"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview"}


def review(request: Request, rbac: Rbac) -> dict[str, Any]:
    """Return the review with its status; like a real one it is kept nowhere."""
    if request.verb != "create":
        raise Refused(405, "MethodNotAllowed", "the server does not allow this method on the requested resource")
    if request.content_type != JSON:
        raise unsupported(JSON)  # kubectl sends Protocol Buffers, which a real one reads as well
    body = request.body
    if {**_KIND, **body} != {**body, **_KIND}:  # what is left out follows from the address
        raise bad_request("the object provided is no SelfSubjectAccessReview of authorization.k8s.io/v1")
    asked = body.get("spec", {}).get("resourceAttributes")
    if not asked:
        raise Unsupported("only resourceAttributes are known here")
    resource = "/".join(filter(None, (asked.get("resource", ""), asked.get("subresource", ""))))
    named = (asked.get("group", ""), resource, asked.get("namespace", ""), asked.get("name", ""))
    allowed = rbac.allows(request.user, asked.get("verb", ""), *named)
    return {**_KIND, "metadata": {}, "spec": body["spec"], "status": {"allowed": allowed}}
