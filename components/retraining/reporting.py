"""What a person reads about a decision: what was found, what was done about it, and what was missed before."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kfp_custody.components._shared.evidence import stamp
from kfp_custody.components._shared.report import Section, page, paragraph, table
from kfp_custody.components.retraining.orders import Order
from kfp_custody.components.retraining.windows import Before

_WARNED = ("ALERT_ONLY", "TOO_LATE")
_WHY = {
    "STARTED": "A check failed, and this run started the retraining of its window.",
    "ADOPTED": "A check failed. The retraining of this window ran already, started by somebody who could not say so.",
    "ALREADY": "A check failed. The retraining of this window was started before.",
    "NOT_NEEDED": "No check failed; nothing was started.",
    "ALERT_ONLY": "A check failed. This schedule only alerts; a person decides.",
    "TOO_LATE": "A check failed, but the window is older than its limit: it is recorded as missed, and nothing was "
    "started. Run it again with action backfill to start it.",
}


@dataclass(frozen=True)
class Facts:
    """What was decided about a window, and why.

    `due` is the schedule and the time, `key` its digest, `failed` the kinds of evidence that ask for a retraining.
    """

    due: Mapping[str, str]
    key: str
    failed: Sequence[str]
    decision: str
    order: Order | None = None
    orders_sha256: str = ""
    claim: str = ""
    before: Before = Before(None, 0)
    run_id: str = ""
    link: str = ""

    @property
    def warned(self) -> bool:
        """Whether a person should look."""
        return self.decision in _WARNED

    def document(self) -> dict[str, Any]:
        """Return the facts as the JSON that the evidence binds."""
        order = self.order
        return {
            **self.due,
            "decision": self.decision,
            "why": _WHY[self.decision],
            "failed": list(self.failed),
            "claim": self.key,
            "run_id": self.run_id or None,
            "order": {"name": order.name, "pipeline": order.pipeline, "version": order.version} if order else None,
            "window_before": stamp(self.before.moment) if self.before.moment else None,
            "missed_windows": self.before.missed,
        }


def html(facts: Facts) -> str:
    """Return the report."""
    rows = [
        ("schedule", facts.due["schedule"]),
        ("window", facts.due["time"]),
        ("failed", ", ".join(facts.failed) or "nothing"),
        ("claim", facts.claim or facts.key),
    ]
    if facts.order:
        rows.append(("pipeline", f"{facts.order.pipeline}, version {facts.order.version}"))
    if facts.run_id:
        rows += [("run", facts.run_id), ("to be seen at", facts.link or "the user interface")]
    sections = [Section("Decision", table(("what", "value"), rows))]
    if facts.before.moment:
        text = f"The window before this one was that of {stamp(facts.before.moment)}."
        if facts.before.missed:
            text += f" {facts.before.missed} windows in between were missed; they are not caught up."
        sections.append(Section("Windows before", paragraph(text)))
    return page("Retraining", facts.decision, sections, _WHY[facts.decision])
