"""Which places models can be rolled out to, by name."""

from kfp_custody.components._shared.images import image
from kfp_custody.components._shared.settings import Settings
from kfp_custody.components.seldon_deployment.kubernetes_api import Cluster
from kfp_custody.components.seldon_deployment.parameters import require_name, resolve_target
from kfp_custody.components.seldon_deployment.rollout.cluster import ClusterTarget, Setup
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
        Misconfigured: there is no such target, or no access to the cluster.
    """
    require_name(name)
    kind = resolve_target(target, settings)
    if kind == "local":
        return LocalTarget(name, settings, timeout_seconds)
    counting = Prometheus(settings.prometheus, settings.prometheus_token_file) if settings.prometheus else None
    setup = Setup(model_uri, settings.serving_image or image("serving"), counting, settings.kserve_mode)
    return _IN_CLUSTER[kind](name, Cluster(settings.namespace), timeout_seconds, setup)
