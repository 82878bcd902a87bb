"""The parameters that the stages of this room share, and their checks."""

import re

from kfp_custody.components._shared.errors import Misconfigured
from kfp_custody.components._shared.settings import Settings

PLATFORM = "platform"
CLUSTERS = ("seldon-v2", "seldon-v1", "kserve")
GIT = {f"git-{name}": name for name in CLUSTERS}  # whose objects are committed instead of applied
TARGETS = ("local", *CLUSTERS, *GIT, PLATFORM)
ROLLOUTS = ("direct", "canary")
_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,52}[a-z0-9])?")  # a DNS label that leaves room for -<8 digits>
_MAX_TIMEOUT = 3600


def resolve_target(target: str, settings: Settings) -> str:
    """Return the target that counts: the one given, or the one that the platform's owner chose.

    Raises:
        Misconfigured: there is no such target, or the platform does not say.
    """
    require(target in TARGETS, "target", target, f"one of {', '.join(TARGETS)}")
    if target != PLATFORM:
        return target
    chosen = settings.deploy_target
    if chosen is None or chosen == PLATFORM or chosen not in TARGETS:
        known = ", ".join(name for name in TARGETS if name != PLATFORM)
        raise Misconfigured(
            "The platform does not say where models are deployed to; nothing was deployed.",
            evidence=f"CUSTODY_DEPLOY_TARGET is {repr(chosen[:80]) if chosen else 'not set'}",
            remedy=f"Set it to one of {known} in the ConfigMap custody-settings, or in the environment.",
        )
    return chosen


def require_watched(target: str, what: str) -> None:
    """Refuse a target of which nobody sees what it answers.

    Args:
        target: One that `resolve_target` returned.
        what: What would have to look at the traffic.

    Raises:
        Misconfigured: its objects are only committed to a repository.
    """
    if target in GIT:
        raise Misconfigured(
            f"{what} cannot be done through a Git repository: nobody can watch or shift traffic there.",
            evidence=f"target = {target!r}",
            remedy=f"Deploy with rollout direct, or to {GIT[target]} through the Kubernetes API.",
        )


def require_name(name: str) -> None:
    """Refuse what is no name of a service.

    Raises:
        Misconfigured: it is no DNS label.
    """
    wanted = "a DNS label (lower-case letters, digits, hyphens inside) of at most 54 characters"
    require(bool(_NAME.fullmatch(name)), "name", name, wanted)


def require_timeout(timeout_seconds: int) -> None:
    """Refuse a time that is none.

    Raises:
        Misconfigured: it is not in 1 to 3600 seconds.
    """
    require(1 <= timeout_seconds <= _MAX_TIMEOUT, "timeout_seconds", timeout_seconds, f"1 to {_MAX_TIMEOUT}")


def require(holds: bool, parameter: str, value: object, wanted: str) -> None:
    """Refuse a parameter.

    Raises:
        Misconfigured: it does not hold.
    """
    if not holds:
        raise Misconfigured(
            f"The parameter {parameter} is wrong; nothing was deployed.",
            evidence=f"{parameter} = {str(value)[:80]!r}",
            remedy=f"Give {wanted}.",
        )
