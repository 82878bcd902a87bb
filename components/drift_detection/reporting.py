"""What a drift check leaves to read: metrics for the gate, report.json for programs, HTML for people."""

from collections.abc import Sequence
from typing import Any

from kfp_custody.components._shared.documents import canonical_json
from kfp_custody.components._shared.evidence import stamp
from kfp_custody.components._shared.report import (
    Markup,
    Section,
    Series,
    badge,
    histogram_pair,
    line_chart,
    page,
    paragraph,
    table,
)
from kfp_custody.components.drift_detection.checking import SCHEMA, Drift
from kfp_custody.components.drift_detection.comparing import DRIFT, UNKNOWN, WARN, Comparison, Measure
from kfp_custody.components.drift_detection.history import Past, series
from kfp_custody.components.drift_detection.limits import Thresholds
from kfp_custody.components.drift_detection.sides import Side

# Bytes that the table, the pictures and a reason may have: the page stays below 300 kB however wide the data is.
_TABLE, _PICTURES, _REASON = 140_000, 110_000, 2_000
_BADGES = {SCHEMA: "FAILED", DRIFT: "DRIFT", WARN: "WARNED", UNKNOWN: "UNKNOWN"}


def metrics(drift: Drift) -> dict[str, float]:
    """Return the numbers for the gate's rules; one that could not be taken is left out, so that its rule denies."""
    found: dict[str, float | None] = {
        "share_drifted": drift.share_drifted,
        "columns_drifted": len(drift.named(DRIFT, SCHEMA)),
        "columns_warned": len(drift.named(WARN)),
        "max_psi": _largest(drift, "psi"),
        "max_ks": _largest(drift, "ks"),
        "max_jensen_shannon": _largest(drift, "jensen_shannon"),
        "prediction_psi": drift.prediction.scores.value("psi") if drift.prediction.scores else None,
        "label_rate_delta": drift.label.delta if drift.label else None,
        "rows_reference": drift.rows_reference,
        "rows_current": drift.rows_current,
    }
    return {name: float(value) for name, value in found.items() if value is not None}


def coverage(drift: Drift) -> dict[str, int]:
    """Return how many columns were checked, could not be judged, and could not be read (or scored)."""
    skipped, unreadable = len(drift.named(UNKNOWN)), len(drift.named(SCHEMA))
    unscored = drift.prediction.scores is None
    unknown = unscored and drift.prediction.verdict == UNKNOWN
    return {
        "checked": len(drift.columns) - skipped - unreadable,
        "skipped": skipped + unknown,
        "errors": unreadable + (unscored and not unknown),
    }


def report_json(
    drift: Drift, thresholds: Thresholds, stage: str = "check-drift", history: Sequence[Past] = ()
) -> bytes:
    """Return the report.json of a stage: everything in numbers, and no value of the data."""
    prediction = drift.prediction
    return canonical_json(
        {
            "stage": stage,
            "verdict": drift.verdict,
            "reasons": list(drift.reasons),
            "metrics": metrics(drift),
            "coverage": coverage(drift),
            "alpha_per_column": drift.alpha,
            "thresholds": dict(thresholds.document),
            "columns": [_column(column) for column in drift.columns],
            "history": [{**vars(past), "time": stamp(past.time)} for past in history],
            "prediction": {
                "verdict": prediction.verdict,
                "reason": prediction.reason,
                "measures": _measures(prediction.scores) if prediction.scores else {},
                "positive_share": {"reference": prediction.positive_reference, "current": prediction.positive_current},
                "rows": _rows(prediction.scores),
                "rows_not_scored": prediction.unscored,
            },
            "label": drift.label
            and {
                "name": drift.label.name,
                "verdict": drift.label.verdict,
                "reference": drift.label.reference,
                "current": drift.label.current,
                "delta": drift.label.delta,
                "floor": drift.label.floor,
            },
        }
    )


def html(drift: Drift, thresholds: Thresholds, runs: Sequence[Past] = ()) -> str:
    """Return the report for people, worst columns first.

    Args:
        drift: What was found.
        thresholds: The limits.
        runs: The checks to draw a line through, oldest first, this one last.
    """
    summary = (
        f"{drift.rows_current} current rows against {drift.rows_reference} reference rows, "
        f"{len(drift.columns)} features; thresholds {thresholds.source}. "
        "A measure counts when it reaches its limit and passes its noise floor."
    )
    reasons = "".join(paragraph(_cut(reason)) for reason in drift.reasons)
    sections = [
        Section("Why", reasons or paragraph("Nothing moved enough.")),
        Section("Scores and label", _scores(drift)),
        *([Section("Past checks of this model", _trend(runs))] if len(runs) > 1 else []),
        Section("Features, worst first", _table(drift)),
        Section("Where they moved", _pictures(drift)),
    ]
    return page("Drift", drift.verdict, sections, summary)


def _trend(runs: Sequence[Past]) -> str:
    lines = (("share of drifted features", "share_drifted"), ("PSI of the scores", "prediction_psi"))
    drawn = [Series(name, *series(runs, metric)) for name, metric in lines]
    title = f"{len(runs)} checks, this one last"
    return line_chart(drawn, title=title, x_label="check", y_label="", x_range=(1, len(runs)))


def _scores(drift: Drift) -> str:
    prediction, label = drift.prediction, drift.label
    rows: list[list[object]] = [["verdict of the scores", _badge(prediction.verdict), _cut(prediction.reason)]]
    if prediction.scores:
        rows += [[f"{m.name} of the scores", f"{m.value:.4g}", _limits(m)] for m in prediction.scores.measures]
        shares = f"{prediction.positive_reference:.4%} -> {prediction.positive_current:.4%}"
        rows.append(["rows that the model calls positive", shares, ""])
    rows.append(["sampled rows that no model could score", prediction.unscored, "infinite or beyond single precision"])
    if label:
        shares = f"{label.reference:.4%} -> {label.current:.4%} (floor {label.floor:.2%})"
        rows.append([f"label {label.name}, share of positives", _badge(label.verdict), shares])
    else:
        rows.append(["label", "not compared", "no 0/1 column of that name on both sides"])
    picture = _picture(prediction.scores, "scores") if prediction.scores else ""
    return table(["", "", ""], rows) + picture


def _table(drift: Drift) -> str:
    limits = {m.name: m.limit for column in drift.columns for m in column.measures}
    said = "; ".join(f"{name} {limit.warn:g} and {limit.drift:g}" for name, limit in limits.items())
    rows, room = [], _TABLE
    for column in drift.columns:
        found = "; ".join(f"{m.name} {m.value:.3g} ({m.floor:.2g})" for m in column.measures)
        missing = f"{_share(column.reference)} -> {_share(column.current)}"
        row = [column.name, _badge(column.verdict), column.reason, missing, found]
        room -= len(table((), [row]).encode())
        if room < 0:
            break
        rows.append(row)
    note = paragraph(f"Measures, in brackets their noise floors. They warn and drift at: {said}.") if said else ""
    left_out = len(drift.columns) - len(rows)
    more = paragraph(f"{left_out} features are not listed here; report.json has all.") if left_out else ""
    return note + table(["feature", "verdict", "reason", "missing", "measures"], rows) + more


def _limits(measure: Measure) -> str:
    return f"floor {measure.floor:.2g}, warns at {measure.limit.warn:g}, drifts at {measure.limit.drift:g}"


def _pictures(drift: Drift) -> str:
    pictures, room = [], _PICTURES
    for column in drift.columns:
        picture = _picture(column, column.name)
        room -= len(picture.encode())
        if room < 0:
            break
        pictures.append(picture)
    note = "Numbers: equal bins from the 1st to the 99th percentile of the reference, tails in the outer bins."
    left_out = len(drift.columns) - sum(map(bool, pictures))
    more = paragraph(f"{left_out} features are not drawn.") if left_out else ""
    return f'{paragraph(note)}{more}<div class="grid">{"".join(pictures)}</div>'


def _cut(reason: str) -> str:
    return reason if len(reason) <= _REASON else f"{reason[:_REASON]}…"


def _picture(column: Comparison, title: str) -> str:
    picture = column.picture
    return histogram_pair(picture.reference, picture.current, picture.labels, title=title) if picture else ""


def _badge(verdict: str) -> Markup:
    return Markup(badge(_BADGES.get(verdict, "OK")))


def _share(side: Side | None) -> str:
    return f"{side.missing / side.rows:.2%}" if side else "-"


def _column(column: Comparison) -> dict[str, Any]:
    return {
        "name": column.name,
        "type": column.type,
        "verdict": column.verdict,
        "reason": column.reason,
        "measures": _measures(column),
        "rows": _rows(column),
    }


def _measures(column: Comparison) -> dict[str, Any]:
    return {m.name: {"value": m.value, "floor": m.floor, "verdict": m.verdict} for m in column.measures}


def _rows(column: Comparison | None) -> dict[str, Any]:
    if column is None or column.reference is None or column.current is None:
        return {}
    return {
        side: {"rows": found.rows, "missing": found.missing, "infinite": found.infinite}
        for side, found in (("reference", column.reference), ("current", column.current))
    }


def _largest(drift: Drift, measure: str) -> float | None:
    values = [value for column in drift.columns if (value := column.value(measure)) is not None]
    return max(values, default=None)
