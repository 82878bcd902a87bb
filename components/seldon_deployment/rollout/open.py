"""Which places models can be rolled out to, by name."""

import time

from kfp_custody.components._shared.images import image
from kfp_custody.components._shared.settings import Settings
from kfp_custody.components.seldon_deployment.kubernetes_api import Cluster, Objects
from kfp_custody.components.seldon_deployment.parameters import GIT, require_name, require_watched, resolve_target
from kfp_custody.components.seldon_deployment.rollout.cluster import ClusterTarget, Setup
from kfp_custody.components.seldon_deployment.rollout.gitops import Repository
from kfp_custody.components.seldon_deployment.rollout.local import LocalTarget
from kfp_custody.components.seldon_deployment.rollout.on_kserve import KServe
from kfp_custody.components.seldon_deployment.rollout.on_seldon_v1 import SeldonV1
from kfp_custody.components.seldon_deployment.rollout.on_seldon_v2 import SeldonV2
from kfp_custody.components.seldon_deployment.rollout.prometheus import Prometheus
from kfp_custody.components.seldon_deployment.rollout.target import Target

_IN_CLUSTER: dict[str, type[ClusterTarget]] = {"seldon-v2": SeldonV2, "seldon-v1": SeldonV1, "kserve": KServe}


def open_target(target: str, name: str, settings: Settings, timeout_seconds: float, model_uri: str = "") -> Target:
    """Return the service of a name in a place.

    Args:
        target: one of `parameters.TARGETS`.
        name: the service's name.
        settings: the environment.
        timeout_seconds: for each change.
        model_uri: where the signed model lies, for targets that fetch it.

    Raises:
        Misconfigured: there is no such target, no access to the cluster, or the target is a Git repository.
    """
    require_name(name)
    kind = resolve_target(target, settings)
    require_watched(kind, "A rollout by steps")
    if kind == "local":
        return LocalTarget(name, settings, timeout_seconds)
    return _in_cluster(kind, name, Cluster(settings.namespace), settings, timeout_seconds, model_uri)


def open_repository(target: str, name: str, settings: Settings, timeout_seconds: float, model_uri: str) -> Repository:
    """Return the repository that the objects of a service are committed to.

    Args:
        target: one of `parameters.GIT`.
        name: the service's name.
        settings: the environment.
        timeout_seconds: for reading and pushing, with all attempts.
        model_uri: where the signed model lies.

    Raises:
        Misconfigured: the settings name no repository, branch or folder, or the token cannot be read.
    """

    def service(objects: Objects) -> ClusterTarget:
        return _in_cluster(GIT[target], name, objects, settings, timeout_seconds, model_uri)

    return Repository(settings.gitops, name, settings.namespace, service, time.monotonic() + timeout_seconds)


def _in_cluster(
    kind: str, name: str, objects: Objects, settings: Settings, timeout_seconds: float, model_uri: str
) -> ClusterTarget:
    counting = Prometheus(settings.prometheus, settings.prometheus_token_file) if settings.prometheus else None
    setup = Setup(model_uri, settings.serving_image or image("serving"), counting, settings.kserve_mode)
    return _IN_CLUSTER[kind](name, objects, timeout_seconds, setup)
