"""What monitoring leaves to read: metrics for rules and alerts, report.json for programs, HTML for people.

All of them hold aggregates: counts, quantiles, distances, and digests of the clients that did something. No payload, no
category, no address, no client's name.
"""

from typing import Any

from kfp_custody.components._shared.documents import canonical_json
from kfp_custody.components._shared.report import Markup, Section, badge, histogram_pair, page, paragraph, table
from kfp_custody.components.inference_monitoring.drift import UNKNOWN, Measured
from kfp_custody.components.inference_monitoring.limits import Limits
from kfp_custody.components.inference_monitoring.monitoring import Monitored
from kfp_custody.components.inference_monitoring.tallies import PROBABILITIES

_SHOWN = 50  # clients a check, and features
_TITLES = {
    "near_duplicates": "Nearly the same query again and again (share of the queries)",
    "budget": "More rows than the budget",
    "out_of_distribution": "Far from what others ask (share of the rows)",
    "unauthorised": "Turned away (401, 403)",
    "probing": "Asked for closed paths",
}


def metrics(found: Monitored) -> dict[str, float]:
    """Return the numbers for the gate's rules and for alerts; one that the logs do not tell is left out."""
    view, scored, lines = found.view, found.scored, found.lines
    told: dict[str, float | None] = {"requests": view.requests if view else 0, "lines_unreadable": lines.errors}
    if view:
        told |= {f"latency_p{percent}": view.seconds.quantile(percent / 100) for percent in (50, 90, 99)}
        told["rows"] = max(each.rows for each in found.views.values())
        told["error_ratio"] = view.errors / view.known if view.known and _is_judged(found, "errors") else None
        told["refused_ratio"] = view.refused / view.known if view.known else None
    if scored:
        told |= {f"confidence_p{percent}": scored.scores.confidence(percent / 100) for percent in (10, 50)}
    told["prediction_psi"] = found.prediction.psi
    judged = [feature for feature in found.features if feature.verdict != UNKNOWN]
    if judged:
        told["feature_psi_max"] = max(feature.psi or 0.0 for feature in judged)
        told["features_drifted"] = sum(feature.verdict == "FAILED" for feature in judged)
    told["clients"] = found.clients_seen
    for check, name in (("budget", "over_budget"), *((check, check) for check in _TITLES if check != "budget")):
        told[f"clients_{name}"] = len(found.clients[check]) if _is_judged(found, check) else None
    return {name: float(value) for name, value in told.items() if value is not None}


def coverage(found: Monitored) -> dict[str, int]:
    """Return how many lines were checked, were of another model or copies, and could not be read."""
    return {"checked": found.lines.checked, "skipped": found.lines.skipped, "errors": found.lines.errors}


def report_json(found: Monitored, limits: Limits, window: tuple[str, str]) -> bytes:
    """Return report.json."""
    return canonical_json(
        {
            "stage": "monitor-inference",
            "verdict": found.verdict,
            "window": {"start": window[0], "end": window[1]},
            "checks": [vars(check) for check in found.checks],
            "metrics": metrics(found),
            "coverage": coverage(found),
            "lines": vars(found.lines),
            "logs": {
                name: {"requests": view.requests, "rows": view.rows, "errors": view.errors, "refused": view.refused}
                for name, view in found.views.items()
            },
            "features": [_measured(feature) for feature in found.features],
            "prediction": _measured(found.prediction),
            "clients": {check: dict(list(those.items())[:_SHOWN]) for check, those in found.clients.items()},
            "limits": dict(limits.document),
        }
    )


def html(found: Monitored, limits: Limits, window: tuple[str, str]) -> str:
    """Return the report for people."""
    lines = found.lines
    summary = (
        f"{window[0]} to {window[1]}; {lines.checked} lines told something, {lines.skipped} were of another model or "
        f"path or copies, {lines.errors} could not be read; limits {limits.source}."
    )
    why = [f"{check.name}: {check.reason}" for check in found.checks if check.verdict in ("WARNED", "FAILED")]
    if limits.measures["unreadable"].verdict(lines.unreadable) != "PASSED":
        why.insert(0, f"{lines.errors} lines could not be read ({lines.unreadable:.2%})")
    if limits.measures["unreadable"].verdict(lines.unreadable) == "FAILED":
        why.insert(0, "Too much could not be read: the window cannot be judged.")
    sections = [
        Section("Why", "".join(paragraph(reason) for reason in why) or paragraph("Nothing reached a limit.")),
        Section("Checks", _checks(found)),
        Section("Requests", _numbers(found) + _views(found)),
        Section("Scores", _scores(found)),
        Section("Features, worst first", _features(found)),
        Section("Clients", _clients(found)),
    ]
    return page("Inference", found.verdict, sections, summary)


def _checks(found: Monitored) -> str:
    rows = [[check.name, _badge(check.verdict), check.reason] for check in found.checks]
    return table(["check", "verdict", ""], rows) + paragraph("UNKNOWN: these logs tell nothing about it.")


def _numbers(found: Monitored) -> str:
    return table(["metric", ""], [[name, value] for name, value in metrics(found).items()])


def _views(found: Monitored) -> str:
    rows = [
        [name, view.requests, view.rows, view.errors, view.refused, found.view is view and "the figures above" or ""]
        for name, view in found.views.items()
        if view.requests
    ]
    more = f"{found.lines.duplicates} halves of events came twice, {found.lines.missing} lack the other half."
    return table(["log", "requests", "rows", "5xx", "4xx", ""], rows) + paragraph(more)


def _scores(found: Monitored) -> str:
    if found.scored is None:
        return paragraph("These logs have no scores.")
    if found.reference is None:
        return paragraph("There is no profile of scores to compare with.") + _histogram(found)
    before, after = found.reference.counts, found.scored.scores.cells
    labels = [str(number) for number in range(1, before.size + 1)]
    shares = [(counts / max(counts.sum(), 1)).tolist() for counts in (before, after)]
    moved = f"PSI {found.prediction.psi:.4g}, floor {found.prediction.floor:.2g}" if found.prediction.psi else ""
    picture = histogram_pair(shares[0], shares[1], labels, title="Scores, in bins of the profile's quantiles")
    return paragraph(moved) + picture + _histogram(found)


def _histogram(found: Monitored) -> str:
    counts = found.scored.scores.counts.reshape(20, PROBABILITIES // 20).sum(axis=1) if found.scored else []
    total = max(int(sum(counts)), 1)
    return table(
        ["scores from", "share"], [[number / 20, f"{count / total:.2%}"] for number, count in enumerate(counts)]
    )


def _features(found: Monitored) -> str:
    if not found.features:
        return paragraph("There is no profile, or these logs hold none of its columns.")
    rows = [
        [one.name, _badge(one.verdict), _short(one.psi), _short(one.floor), _short(one.null_share)]
        for one in found.features[:_SHOWN]
    ]
    left_out = len(found.features) - len(rows)
    more = paragraph(f"{left_out} features are not shown.") if left_out else ""
    return table(["feature", "verdict", "PSI", "floor", "missing, change of share"], rows) + more


def _clients(found: Monitored) -> str:
    note = paragraph(f"{found.clients_seen} clients. A client is shown by the first digits of its name's SHA-256.")
    tables = []
    for check, those in found.clients.items():
        if those:
            rows = [[Markup(f"<code>{digest}</code>"), much] for digest, much in list(those.items())[:_SHOWN]]
            left_out = len(those) - len(rows)
            more = paragraph(f"{left_out} more are not shown.") if left_out else ""
            tables.append(paragraph(_TITLES[check]) + table(["client", ""], rows) + more)
    return note + "".join(tables)


def _is_judged(found: Monitored, name: str) -> bool:
    return name not in found.names(UNKNOWN)


def _measured(found: Measured) -> dict[str, Any]:
    return dict(vars(found))


def _badge(verdict: str) -> Markup:
    return Markup(badge(verdict))


def _short(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"
