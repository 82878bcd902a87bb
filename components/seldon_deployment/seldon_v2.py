"""The target `seldon-v2`: an immutable Model for each version and one permanent Experiment for each service.

Only fields of the v2.6.0 schema (mlops.seldon.io/v1alpha1) are written; later versions know them all. The Seldon
operator never reports which generation a status belongs to, so "Ready" of an edited object may be that of its old
version. Hence a Model is never edited: its name holds the digest, and its Ready can only mean itself.
"""

import re
from typing import Any

from kfp_custody.components._shared.errors import Misconfigured
from kfp_custody.components.seldon_deployment.decision import Admitted
from kfp_custody.components.seldon_deployment.kubernetes_api import make

REQUIREMENT = "custody"  # the capability of Servers that run our model server image; no other Server gets the model
HINT = f"the scheduler and at Servers with capability {REQUIREMENT!r}"
_URI = re.compile(r"[a-z][a-z0-9+.-]*:[^\s?#@]+")  # no user, no query: parameters are logged, signed addresses leak


def render_model(admitted: Admitted, name: str, model_uri: str, namespace: str) -> dict[str, Any]:
    """Return the immutable Model of a version, with the digests that the model server must find.

    Raises:
        Misconfigured: `model_uri` is missing or no object-store address that may be shown.
    """
    require_uri(model_uri)
    parameters = [
        {"name": "listing_sha256", "value": admitted.digest},
        {"name": "signature_sha256", "value": admitted.signature_sha256},
        {"name": "decision_sha256", "value": admitted.decision_sha256},
    ]
    spec = {"storageUri": model_uri, "requirements": [REQUIREMENT], "parameters": parameters}
    return make("Model", f"{name}-{admitted.version}", name, namespace, spec)


def require_uri(model_uri: str) -> None:
    """Refuse what is no address of a signed model in an object store.

    Raises:
        Misconfigured: it is missing, or no object-store address that may be shown.
    """
    if not _URI.fullmatch(model_uri):
        raise Misconfigured(
            "A deployment to a cluster needs the address of the signed model in an object store.",
            evidence=f"model_uri has {len(model_uri)} characters; it needs a scheme, and no user, query or space",
            remedy="Set model_uri to where model/ and model.sig were stored, such as s3://bucket/fraud/1; "
            "credentials belong into a Secret of the serving system.",
        )


def url(name: str, namespace: str) -> str:
    """Return where a service answers inside the cluster."""
    return f"http://seldon-mesh.{namespace}.svc/v2/models/{name}.experiment"
