"""What screening leaves to read: numbers for rules, report.json for programs, HTML for people, rows to look at.

Columns are named, and rows by their numbers; no value of the data is in any of them.
"""

from io import BytesIO
from typing import Any

from kfp_custody.components._shared.documents import canonical_json
from kfp_custody.components._shared.report import Markup, Section, badge, page, paragraph, table
from kfp_custody.components.poisoning_screen.findings import Check
from kfp_custody.components.poisoning_screen.limits import FAILED, UNKNOWN, WARNED, Limits
from kfp_custody.components.poisoning_screen.screening import Screened

_SHOWN = 50  # rows and columns a list
_LONGEST = 2000  # characters of a reason, in which columns are named
BLIND = (
    "Wrong labels of fewer than about 0.3 % of the rows, all positives called negative: they are a trusted model's own "
    "errors as well. Without a trusted model, any such share of which the rest of the data looks alike.",
    "A trigger in a range of values, or in a combination of columns, in fewer than about 0.25 % of the rows; without a "
    "trusted model, any such trigger.",
    "A trigger in rows that bear the label they look like, and a repeated value in a column of few values.",
    "Copies that are made less alike than a tenth of the usual distance between rows, or in groups of fewer rows than "
    "the limits say.",
    "What the trusted model itself was taught wrong. A new pattern of fraud, on the other hand, looks like a rule.",
)


def metrics(found: Screened) -> dict[str, float]:
    """Return the numbers for the gate's rules; those of a check that tells nothing are left out."""
    rows = {"rows": float(found.rows.of), "rows_screened": float(found.rows.labels.size)}
    return rows | {name: value for check in found.checks for name, value in check.metrics.items()}


def coverage(found: Screened) -> dict[str, int]:
    """Return how many checks were made, tell nothing, and could not be made where they had to be."""
    errors, skipped = sum(check.failed for check in found.checks), len(found.names(UNKNOWN))
    return {"checked": len(found.checks) - skipped - errors, "skipped": skipped, "errors": errors}


def suspects(found: Screened, limits: Limits) -> bytes:
    """Return a Parquet file of the rows to look at: check, rank from 1, and number of the row in the dataset from 0."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = pa.schema([("check", pa.string()), ("rank", pa.int64()), ("row", pa.int64())])
    parts = [schema.empty_table()]
    for check in found.checks:
        rows = found.rows.places[check.suspects[: limits.suspects]]
        parts.append(pa.table([[check.name] * rows.size, range(1, rows.size + 1), rows.tolist()], schema=schema))
    file = BytesIO()
    pq.write_table(pa.concat_tables(parts), file)
    return file.getvalue()


def report_json(found: Screened, limits: Limits) -> bytes:
    """Return report.json."""
    return canonical_json(
        {
            "stage": "screen-poisoning",
            "verdict": found.verdict,
            "checks": [_told(check) for check in found.checks],
            "metrics": metrics(found),
            "coverage": coverage(found),
            "columns_left_out": found.rows.left_out[:_SHOWN],
            "not_found": list(BLIND),
            "limits": dict(limits.document),
        }
    )


def html(found: Screened, limits: Limits) -> str:
    """Return the report for people."""
    rows, screened = found.rows.of, found.rows.labels.size
    sample = f"{rows} rows" if screened == rows else f"a sample of {screened} of {rows} rows"
    silent = [name for name in found.names(UNKNOWN) if name in limits.must_judge]
    why = [f"{check.name}: {_short(check.reason)}" for check in found.checks if check.verdict in (WARNED, FAILED)]
    why += [f"{name}: the data tells nothing about it, and the limits say that it must" for name in silent]
    left_out = found.rows.left_out
    more = f" and {len(left_out) - _SHOWN} more" if len(left_out) > _SHOWN else ""
    names = ", ".join(name[:100] for name in left_out[:_SHOWN]) + more if left_out else "none"
    sections = [
        Section("Why", "".join(paragraph(reason) for reason in why) or paragraph("Nothing reached a limit.")),
        Section("Checks", _checks(found)),
        Section("Rows to look at", _rows(found)),
        Section("Figures", table(["metric", ""], [[name, value] for name, value in metrics(found).items()])),
        Section("What this cannot see", "".join(paragraph(sentence) for sentence in BLIND)),
        Section("Columns that no check looks at", paragraph(names)),
    ]
    return page("Poisoning", found.verdict, sections, f"{sample}; limits {limits.source}.")


def _checks(found: Screened) -> str:
    rows = [[check.name, Markup(badge(check.verdict)), _short(check.reason)] for check in found.checks]
    return table(["check", "verdict", ""], rows) + paragraph("UNKNOWN: the data, or what was given, tells nothing.")


def _rows(found: Screened) -> str:
    places = found.rows.places
    rows = [
        [check.name, check.suspects.size, ", ".join(str(row) for row in places[check.suspects[:_SHOWN]].tolist())]
        for check in found.checks
        if check.suspects.size
    ]
    note = paragraph(
        "Numbers from 0 over the files of the dataset in the order of its listing, the most suspect first."
    )
    return note + (table(["check", "rows", "the first of them"], rows) if rows else paragraph("None."))


def _told(check: Check) -> dict[str, Any]:
    return {
        "name": check.name,
        "verdict": check.verdict,
        "reason": _short(check.reason),
        "metrics": dict(check.metrics),
        "suspects": int(check.suspects.size),
    }


def _short(reason: str) -> str:
    return reason if len(reason) <= _LONGEST else reason[:_LONGEST] + "..."
