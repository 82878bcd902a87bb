"""What a scan leaves to read: metrics for rules, report.json for programs, HTML for people."""

from itertools import islice

from kfp_custody.components._shared.documents import canonical_json
from kfp_custody.components._shared.report import Markup, Section, badge, page, paragraph, table
from kfp_custody.components.model_scanning.allowing import Allowed
from kfp_custody.components.model_scanning.formats import FAILED, WARNED
from kfp_custody.components.model_scanning.scanning import Scan, worst_first

_ROWS, _LISTED = 100, 1000  # of the page, which stays below 300 KB, and of report.json
_CELL = 200  # characters


def metrics(scan: Scan) -> dict[str, float]:
    """Return the numbers that the evidence holds."""
    failed = [item for item in scan.items if item.verdict == FAILED]
    return {
        "files": float(sum("!" not in item.name for item in scan.items)),
        "items": float(len(scan.items)),
        "bytes": float(scan.bytes),
        "items_denied": float(sum(not item.is_unread for item in failed)),
        "items_unread": float(sum(item.is_unread for item in failed)),
        "items_warned": float(sum(item.verdict == WARNED for item in scan.items)),
    }


def coverage(scan: Scan) -> dict[str, int]:
    """Return how many items were read to their end, were skipped (none ever is), and could not be read."""
    errors = sum(item.is_unread for item in scan.items)
    return {"checked": len(scan.items) - errors, "skipped": 0, "errors": errors}


def report_json(scan: Scan, allowed: Allowed) -> bytes:
    """Return the report for programs, the worst items first."""
    items = [
        {"name": item.name[:_CELL], "format": item.format, "verdict": item.verdict, "finding": item.finding[:2000]}
        for item in islice(worst_first(scan.items), _LISTED)
    ]
    return canonical_json(
        {
            "version": 1,
            "verdict": scan.verdict,
            "declared": scan.declared,
            "declared_fault": scan.fault,
            "allow_list": {"name": allowed.source, "sha256": allowed.sha256},
            "coverage": coverage(scan),
            "metrics": metrics(scan),
            "opinions": dict(scan.opinions),
            "items": items,
            "items_left_out": len(scan.items) - len(items),
        }
    )


def html(scan: Scan, allowed: Allowed) -> str:
    """Return the report for people, the worst items first."""
    rows = [
        (item.name[:_CELL], item.format, Markup(badge(item.verdict)), item.finding[:_CELL])
        for item in islice(worst_first(scan.items), _ROWS)
    ]
    left_out = len(scan.items) - len(rows)
    more = paragraph(f"{left_out} more are in report.json, or counted there.") if left_out else ""
    others = ", ".join(f"{name}: {word}" for name, word in scan.opinions.items())
    declared = scan.fault or f"{scan.declared}, and the model's one file is of that format"
    return page(
        "Scan of the model's files",
        scan.verdict,
        [
            Section("Declared format", paragraph(declared)),
            Section("Files, and what is in them", table(("file", "format", "result", "finding"), rows) + more),
            Section("Other scanners", paragraph(others or "None is installed beside this stage.")),
            Section("Allow-list", paragraph(f"{allowed.source}, sha256:{allowed.sha256}")),
        ],
        "Nothing was imported, made or executed. What is not on the allow-list or cannot be read to its end fails.",
    )
