"""The one way to the Kubernetes API: as the pod's service account, else by the kubeconfig."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

from kfp_custody.components._shared.errors import Misconfigured

if TYPE_CHECKING:
    from kubernetes.client import ApiClient


def connect() -> "ApiClient":
    """Return a client for the pod's service account, else for the kubeconfig.

    Raises:
        Misconfigured: there is no access.
    """
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
            remedy="Run it in the cluster, or set KUBECONFIG; what works on one machine needs no cluster.",
        ) from error
    configuration.retries = 1
    return client.ApiClient(configuration)
