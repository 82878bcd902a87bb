"""Which places models can be rolled out to, by name."""

from kfp_custody.components._shared.settings import Settings
from kfp_custody.components.seldon_deployment.parameters import resolve_target
from kfp_custody.components.seldon_deployment.rollout.local import LocalTarget
from kfp_custody.components.seldon_deployment.rollout.target import Target


def open_target(target: str, name: str, settings: Settings, timeout_seconds: float, model_uri: str = "") -> Target:
    """Return the service of a name in a place.

    Args:
        target: one of `parameters.TARGETS`.
        name: the service's name.
        settings: the environment.
        timeout_seconds: for each change.
        model_uri: where the signed model lies, for targets that fetch it.

    Raises:
        Misconfigured: the target or the name is none.
    """
    kind = resolve_target(target, settings)
    del model_uri, kind
    return LocalTarget(name, settings, timeout_seconds)
