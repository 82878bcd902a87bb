"""What the audit leaves to read: metrics for rules, report.json for programs, HTML for people.

All of them hold names of features and distances in standard deviations, and no value of a row.
"""

from typing import Any

import numpy as np

from kfp_custody.components._shared.documents import canonical_json
from kfp_custody.components._shared.report import (
    Markup,
    Section,
    Series,
    badge,
    line_chart,
    page,
    paragraph,
    table,
)
from kfp_custody.components.robustness_audit.auditing import Audit, Example
from kfp_custody.components.robustness_audit.constraints import Constraints
from kfp_custody.components.robustness_audit.limits import DISTANCES, Limits

_SHOWN = 8  # features of an example
_CURVE = tuple(number / 20 for number in range(61))  # to three standard deviations


def metrics(found: Audit) -> dict[str, float]:
    """Return the numbers for the gate's rules; what was not measured, or is infinite, is left out."""
    told: dict[str, float] = {
        "positives": found.positives,
        "detected": found.detected,
        "attacked": found.distances.size,
    }
    if found.distances.size:
        hidden = found.distances[np.isfinite(found.distances)]
        told["evaded"] = hidden.size
        told |= {f"still_detected_{round(100 * far):03}": found.still_detected(far) for far in DISTANCES}
        told |= {"median_distance": found.median} if np.isfinite(found.median) else {}
        told |= {"least_distance": hidden.min(), "mean_distance": hidden.mean()} if hidden.size else {}
        told["queries_per_row"] = found.queries / found.distances.size
    return {name: float(value) for name, value in told.items()}


def coverage(found: Audit) -> dict[str, int]:
    """Return how many detected rows were attacked and left out, and how many rows could not be scored."""
    return {"checked": found.distances.size, "skipped": found.left_out, "errors": found.unscorable}


def report_json(found: Audit, constraints: Constraints, limits: Limits) -> bytes:
    """Return report.json."""
    return canonical_json(
        {
            "stage": "audit-robustness",
            "verdict": found.verdict,
            "checks": [vars(check) for check in found.checks],
            "metrics": metrics(found),
            "coverage": coverage(found),
            "curve": _curve(found),
            "worst": [_told(example) for example in found.worst],
            "not_moved": dict(found.fixed),
            "constraints": {"source": constraints.source, "sha256": constraints.sha256},
            "limits": {"source": limits.source, "sha256": limits.sha256, "seed": limits.seed},
        }
    )


def html(found: Audit, constraints: Constraints, limits: Limits) -> str:
    """Return the report for people."""
    summary = (
        f"{found.distances.size} of {found.detected} detected positives were attacked ({found.positives} positives in "
        f"all); constraints {constraints.source}, limits {limits.source}."
    )
    checks = [[check.name, Markup(badge(check.verdict)), check.reason] for check in found.checks]
    sections = [Section("Checks", table(["check", "verdict", ""], checks))]
    if found.distances.size:
        sections += [Section("How far", _how_far(found)), Section("Rows that were changed least", _worst(found))]
    sections.append(Section("Not moved", _fixed(found)))
    return page("Robustness", found.verdict, sections, summary)


def _curve(found: Audit) -> dict[str, float]:
    return {f"{far:g}": found.still_detected(far) for far in DISTANCES} if found.distances.size else {}


def _how_far(found: Audit) -> str:
    line = Series("still detected", _CURVE, [found.still_detected(far) for far in _CURVE])
    chart = line_chart(
        [line],
        title="Share of the attacked rows still detected, by the size of the change",
        x_label="standard deviations of the training data",
        y_label="share",
        y_range=(0.0, 1.0),
    )
    numbers = table(["metric", ""], [[name, value] for name, value in metrics(found).items()])
    note = (
        "An attack gives an upper bound: where it found no change, a better one might. Distances are L2 in standard "
        "deviations of the training data, a switch of category counts as the constraints say."
    )
    return chart + numbers + paragraph(note)


def _worst(found: Audit) -> str:
    rows = []
    for example in found.worst:
        moved = [f"{name} {shift:+.2g}" for name, shift in example.shifts]
        more = [f"and {len(moved) - _SHOWN} more"] if len(moved) > _SHOWN else []
        told = ", ".join([*(f"{name} switched" for name in example.switched), *moved[:_SHOWN], *more])
        rows.append([example.distance, told])
    if not rows:
        return paragraph("No change was found that hides a row.")
    return table(["distance", "what was changed, in standard deviations"], rows)


def _fixed(found: Audit) -> str:
    if not found.fixed:
        return paragraph("Every feature could be moved.")
    return table(["feature", "why"], [[name, why] for name, why in found.fixed.items()][:200])


def _told(example: Example) -> dict[str, Any]:
    return {"distance": example.distance, "shifts": dict(example.shifts), "switched": list(example.switched)}
