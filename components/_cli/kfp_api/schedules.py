"""Schedules that are replaced and never edited: KFP's recurring runs know no update.

A new recurring run is made first and the old one of its name disabled then, so that no firing is lost in between.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from kfp_custody.components._shared import codes
from kfp_custody.components._shared.errors import CustodyError, Misconfigured, ServiceUnreachable
from kfp_custody.components._shared.kfp_api import names

if TYPE_CHECKING:
    from kfp_custody.components._cli.kfp_api.client import Kfp, Schedule, Trigger


@dataclass(frozen=True)
class Standing:
    """The one enabled schedule of a name; `how` it came to be so, and the `replaced` ones that were disabled."""

    schedule_id: str
    how: str
    replaced: tuple[str, ...] = ()


def set_schedule(kfp: "Kfp", name: str, trigger: "Trigger") -> Standing:
    """Have exactly one enabled schedule of this name, with this trigger.

    The newest of the name is what was set last: when it is the same, it is kept, and enabled if it was paused; else a
    new one is made. Every other one of the name is disabled.

    Raises:
        InputRefused: the name does not fit.
        ServiceUnreachable: an old one could not be disabled (the new one then is), or somebody else set it meanwhile.
        CustodyError: see `Transport.request`.
    """
    names.require_name("schedule", name, names.DISPLAY)
    mark = f"custody:{trigger.digest}"
    known = kfp.schedules(name)
    kept = known[-1] if known and known[-1].description.endswith(mark) else None
    if kept is None:
        description = f"{trigger.version.pipeline}, version {trigger.version.name}; {mark}"
        standing_id, how = kfp.create_schedule(name, trigger, description), "created"
    else:
        standing_id, how = kept.schedule_id, "unchanged" if kept.enabled else "enabled again"
        if not kept.enabled:
            kfp.enable_schedule(standing_id)
    old = [entry for entry in known if entry.enabled and entry.schedule_id != standing_id]
    try:
        for entry in old:
            kfp.disable_schedule(entry.schedule_id)
    except CustodyError as error:
        raise _undone(kfp, name, standing_id, how, error) from error
    enabled = [entry.schedule_id for entry in kfp.schedules(name) if entry.enabled]
    if enabled != [standing_id]:
        raise ServiceUnreachable(
            "Somebody else changed the schedule at the same time.",
            evidence=f"{name}: enabled are {', '.join(enabled) or 'none'}, and {standing_id} should be",
            remedy="Run the command again.",
            code=codes.KFP_CONFLICT,
        )
    return Standing(standing_id, how, tuple(entry.schedule_id for entry in old))


def pause_schedule(kfp: "Kfp", name: str) -> list[str]:
    """Disable every schedule of a name and return those that were enabled.

    Raises:
        Misconfigured: there is none of this name.
        CustodyError: see `Transport.request`.
    """
    enabled = [entry.schedule_id for entry in _known(kfp, name) if entry.enabled]
    for schedule_id in enabled:
        kfp.disable_schedule(schedule_id)
    return enabled


def resume_schedule(kfp: "Kfp", name: str) -> Standing:
    """Enable the newest schedule of a name; nothing is done when one is enabled.

    Raises:
        Misconfigured: there is none of this name.
        CustodyError: see `Transport.request`.
    """
    known = _known(kfp, name)
    enabled = [entry for entry in known if entry.enabled]
    if enabled:
        return Standing(enabled[-1].schedule_id, "unchanged")
    kfp.enable_schedule(known[-1].schedule_id)
    return Standing(known[-1].schedule_id, "enabled again")


def _known(kfp: "Kfp", name: str) -> "list[Schedule]":
    known = kfp.schedules(name)
    if not known:
        raise Misconfigured(
            "There is no such schedule.",
            evidence=name,
            remedy="kfp-custody schedule list shows those of the namespace.",
            code=codes.KFP_NOT_FOUND,
        )
    return known


def _undone(kfp: "Kfp", name: str, standing_id: str, how: str, error: CustodyError) -> ServiceUnreachable:
    """Take the new schedule back, so that not two fire, and say what is left."""
    left = "the new one was disabled again, and the old one goes on"
    if how == "unchanged":
        left = "the one that should stand is enabled, and an older one too"
    else:
        try:
            kfp.disable_schedule(standing_id)
        except CustodyError:
            left = f"the new one, {standing_id}, could not be disabled either: both fire"
    return ServiceUnreachable(
        "An older schedule of this name could not be disabled.",
        evidence=f"{name}: {left}. {' '.join(error.evidence.split())}",
        remedy="Run the command again when the server answers; it finishes what is left.",
        code=codes.SCHEDULE_HALF,
    )
