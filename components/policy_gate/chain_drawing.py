"""The chain of custody as a drawing: what was made from what, and which links hold."""

import re
from collections.abc import Sequence

from kfp_custody.components._shared.report import text
from kfp_custody.components.policy_gate.checks import Check

_GOOD, _BAD, _LINE = "#1a7f37", "#cf222e", "#57606a"

# name -> column, row, first line, second line
_BOXES = {
    "source": (0, 0, "fetch_dataset", "training month"),
    "masking": (1, 0, "mask_pii", "training month"),
    "dataset": (2, 0, "attest_dataset", "masked dataset"),
    "training": (3, 0, "train_model", "model + lineage"),
    "model": (4, 0, "sign_model", "OpenSSF signature"),
    "current-source": (1, 1, "fetch_dataset", "present month"),
    "current-masking": (2, 1, "mask_pii", "present month"),
    "drift": (3, 1, "check_drift", "present vs training"),
    "gate": (4, 1, "enforce_policy", "signed decision"),
}
_FETCHED = ("source", "current-source")
_ARROWS = (
    ("source", "masking"),
    ("current-source", "current-masking"),
    ("masking", "dataset"),
    ("dataset", "training"),
    ("training", "model"),
    ("current-masking", "drift"),
    ("dataset", "drift"),
    ("training", "drift"),
    ("drift", "gate"),
    ("model", "gate"),
)
_WIDE, _HIGH, _GAP_X, _GAP_Y = 158, 54, 52, 62


def draw_chain(checks: Sequence[Check], verdict: str, digests: dict[str, str]) -> str:
    """Return an SVG of the chain.

    Args:
        checks: Every check of the gate; a box is red when a check about it failed, an arrow when the link failed.
        verdict: The decision, for the gate's own box.
        digests: Box name -> SHA-256 of what the stage made, of which the start is shown.
    """
    failed = [check.id for check in checks if check.verdict != "PASSED"]
    # Raw data that was not fetched has no evidence; without checks, the reference pipeline is drawn.
    named = " ".join(check.id for check in checks)
    shown = {name for name in _BOXES if name not in _FETCHED or not checks or re.search(rf"[:>]{name}\b", named)}
    parts = [
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        f'<path d="M0 0L8 4L0 8z" fill="{_LINE}"/></marker></defs>'
    ]
    for start, end in (arrow for arrow in _ARROWS if shown.issuperset(arrow)):
        broken = any(i.startswith("link:") and _about(i, end) and i.endswith(start) for i in failed)
        parts.append(_arrow(start, end, broken))
    for name in (name for name in _BOXES if name in shown):
        bad = verdict != "PASSED" if name == "gate" else any(_about(i, name) for i in failed)
        parts.append(_box(name, bad, digests.get(name, "")))
    width, height = 5 * _WIDE + 4 * _GAP_X + 4, 2 * _HIGH + _GAP_Y + 4
    return (
        f'<svg role="img" aria-label="The chain of custody" xmlns="http://www.w3.org/2000/svg" '
        f'viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        f'font-family="system-ui,sans-serif" font-size="12">{"".join(parts)}</svg>'
    )


def _about(check: str, box: str) -> bool:
    """Tell whether a check speaks of a box: `evidence:drift`, `bytes:dataset=masking`, `link:drift->dataset`.

    `evidence:masking.mask-shard-0` speaks of masking.
    """
    kind, _, rest = check.partition(":")
    if kind == "evidence":
        return rest.partition(".")[0] == box
    if kind == "bytes":
        return rest.partition("=")[2] == box or rest.partition("=")[0] == box
    return kind == "link" and rest.partition("->")[0].partition(".")[0] == box


def _corner(name: str) -> tuple[float, float]:
    column, row, _, _ = _BOXES[name]
    return 2 + column * (_WIDE + _GAP_X), 2 + row * (_HIGH + _GAP_Y)


def _box(name: str, bad: bool, digest: str) -> str:
    x, y = _corner(name)
    _, _, first, second = _BOXES[name]
    colour = _BAD if bad else _GOOD
    lines = ((18, "bold", first), (33, "normal", second), (47, "normal", f"sha256:{digest[:10]}…" if digest else ""))
    words = "".join(
        f'<text x="{x + 10}" y="{y + dy}" font-weight="{weight}" fill="#1f2328">{text(line)}</text>'
        for dy, weight, line in lines
    )
    state = "refused" if bad else "holds"
    return (
        f'<g><title>{text(first)}: {state}</title><rect x="{x}" y="{y}" width="{_WIDE}" height="{_HIGH}" rx="6" '
        f'fill="#fff" stroke="{colour}" stroke-width="2"/><text x="{x + _WIDE - 20}" y="{y + 19}" fill="{colour}" '
        f'font-weight="bold">{"✗" if bad else "✓"}</text>{words}</g>'
    )


def _arrow(start: str, end: str, broken: bool) -> str:
    (x1, y1), (x2, y2) = _corner(start), _corner(end)
    if y1 == y2:
        points = (x1 + _WIDE, y1 + _HIGH / 2, x2, y2 + _HIGH / 2)
    elif x1 == x2:
        points = (x1 + _WIDE / 2, y1 + _HIGH, x2 + _WIDE / 2, y2)
    else:
        points = (x1 + _WIDE * 0.8, y1 + _HIGH, x2 + _WIDE * 0.2, y2)
    style = f'stroke="{_BAD}" stroke-dasharray="5 4"' if broken else f'stroke="{_LINE}"'
    return (
        f'<line x1="{points[0]:g}" y1="{points[1]:g}" x2="{points[2]:g}" y2="{points[3]:g}" {style} '
        'stroke-width="1.5" marker-end="url(#tip)"/>'
    )
