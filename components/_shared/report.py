"""One look for every HTML report: self-contained, no script, no network, readable in the KFP UI's sandboxed frame.

Everything that comes from outside is escaped here. Charts are inline SVG with their numbers as text, so that a report
can be read by a screen reader and printed.
"""

import html
from collections.abc import Sequence
from dataclasses import dataclass

_GOOD, _WARN, _BAD, _QUIET = "#1a7f37", "#9a6700", "#cf222e", "#57606a"
_COLOURS = {"PASSED": _GOOD, "OK": _GOOD, "WARNED": _WARN, "FAILED": _BAD, "REFUSED": _BAD, "DRIFT": _BAD}
_SERIES = ("#0969da", "#bc4c00", "#8250df", "#1a7f37")

_STYLE = """
:root{color-scheme:light}
body{font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif;color:#1f2328;background:#fff;margin:0}
main{max-width:64rem;margin:0 auto;padding:1.5rem}
h1{font-size:1.5rem;margin:0 0 .25rem}h2{font-size:1.1rem;margin:2rem 0 .5rem;border-bottom:1px solid #d1d9e0}
table{border-collapse:collapse;width:100%;font-size:.9rem}th,td{text-align:left;padding:.3rem .6rem;vertical-align:top;
border-bottom:1px solid #eaeef2;overflow-wrap:anywhere}th{color:#57606a;font-weight:600;white-space:nowrap}
code,.mono{font-family:ui-monospace,SFMono-Regular,Menlo,monospace;font-size:.85em}
.badge{display:inline-block;white-space:nowrap;color:#fff;border-radius:1rem;padding:.05rem .6rem;font-size:.8rem;
font-weight:600}
.grid{display:flex;flex-wrap:wrap;gap:1rem}figure{margin:0}figcaption{color:#57606a;font-size:.85rem}
.note{color:#57606a}svg{max-width:100%;height:auto}
"""


@dataclass(frozen=True)
class Section:
    """A part of a report: a heading and HTML that is already escaped (from the helpers below)."""

    title: str
    html: str


@dataclass(frozen=True)
class Series:
    """A line of a chart: its name and its points, equally many x and y."""

    name: str
    xs: Sequence[float]
    ys: Sequence[float]


def page(title: str, verdict: str, sections: Sequence[Section], summary: str = "") -> str:
    """Return a whole HTML document.

    Args:
        title: The heading.
        verdict: PASSED, WARNED, FAILED... shown as a badge; empty for none.
        sections: In order.
        summary: One sentence under the heading (plain text).
    """
    body = "".join(f"<section><h2>{text(part.title)}</h2>{part.html}</section>" for part in sections)
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        '<link rel="icon" href="data:,">'  # or a browser asks for /favicon.ico
        f"<title>{text(title)}</title><style>{_STYLE}</style></head><body><main>"
        f"<h1>{text(title)} {badge(verdict) if verdict else ''}</h1>"
        f'<p class="note">{text(summary)}</p>{body}</main></body></html>\n'
    )


def text(value: object) -> str:
    """Escape anything for HTML."""
    return html.escape(str(value))


def paragraph(value: object) -> str:
    """Return a paragraph of plain text."""
    return f"<p>{text(value)}</p>"


def badge(verdict: str) -> str:
    """Return a coloured word."""
    return f'<span class="badge" style="background:{_COLOURS.get(verdict, _QUIET)}">{text(verdict)}</span>'


class Markup(str):
    """A table cell that is HTML already (a badge, a chart) and is not escaped again."""

    __slots__ = ()


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Return a table; cells are escaped unless they are `Markup`, floats get four significant digits."""
    head = "".join(f'<th scope="col">{text(cell)}</th>' for cell in header)
    lines = "".join("<tr>" + "".join(f"<td>{_cell(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{lines}</tbody></table>"


def line_chart(
    series: Sequence[Series],
    *,
    title: str,
    x_label: str,
    y_label: str,
    x_range: tuple[float, float] | None = None,
    y_range: tuple[float, float] | None = None,
    diagonal: bool = False,
) -> str:
    """Return a figure with lines, axes and a legend.

    Args:
        series: At most four lines.
        title: Caption and accessible name.
        x_label: Name of the x axis.
        y_label: Name of the y axis.
        x_range: Ends of the x axis; those of the data when None.
        y_range: Ends of the y axis; those of the data when None.
        diagonal: Draw the line from corner to corner, for comparison.
    """
    left, top, width, height = 66, 10, 300, 200
    low_x, high_x = x_range or _span([x for line in series for x in line.xs])
    low_y, high_y = y_range or _span([y for line in series for y in line.ys])

    def at(x: float, y: float) -> str:
        across = (x - low_x) / ((high_x - low_x) or 1)
        up = (y - low_y) / ((high_y - low_y) or 1)
        return f"{left + width * across:.1f},{top + height * (1 - up):.1f}"

    parts = [f'<rect x="{left}" y="{top}" width="{width}" height="{height}" fill="none" stroke="#d1d9e0"/>']
    if diagonal:
        start, end = at(low_x, low_y).split(","), at(high_x, high_y).split(",")
        parts.append(_line(start, end, 'stroke="#8c959f" stroke-dasharray="4 4"'))
    for number, line in enumerate(series):
        points = " ".join(at(x, y) for x, y in zip(line.xs, line.ys, strict=True))
        colour = _SERIES[number % len(_SERIES)]
        parts.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts.append(_text(left, top + height + 44 + 15 * number, f"— {line.name}", colour))
    parts += [
        _text(left, top + height + 15, _short(low_x)),
        _text(left + width, top + height + 15, _short(high_x), anchor="end"),
        _text(left + width / 2, top + height + 28, x_label, anchor="middle"),
        _text(left - 4, top + height, _short(low_y), anchor="end"),
        _text(left - 4, top + 10, _short(high_y), anchor="end"),
        _text(left - 4, top + height / 2, y_label, anchor="end"),
    ]
    return _figure(title, left + width + 20, top + height + 36 + 15 * len(series), parts)


def histogram_pair(reference: Sequence[float], current: Sequence[float], labels: Sequence[str], *, title: str) -> str:
    """Return a figure with two histograms side by side over the same bins.

    Args:
        reference: Share of each bin (0 to 1), as many as `labels`.
        current: Share of each bin (0 to 1), as many as `labels`.
        labels: Name of each bin, shown on hovering.
        title: Caption and accessible name.
    """
    width, height, base = 300, 90, 96
    highest = max([*reference, *current, 1e-12])
    step = width / max(len(labels), 1)
    parts = []
    for number, (before, after, label) in enumerate(zip(reference, current, labels, strict=True)):
        for offset, share, colour in ((0.05, before, _SERIES[0]), (0.5, after, _SERIES[1])):
            tall = height * share / highest
            parts.append(
                f'<rect x="{step * (number + offset):.1f}" y="{base - tall:.1f}" width="{step * 0.42:.1f}" '
                f'height="{tall:.1f}" fill="{colour}"><title>{text(label)}: {share:.4f}</title></rect>'
            )
    parts += [_text(0, base + 14, "reference", _SERIES[0]), _text(70, base + 14, "current", _SERIES[1])]
    return _figure(title, width, base + 20, parts)


def _figure(title: str, width: float, height: float, parts: Sequence[str]) -> str:
    return (
        f'<figure><svg role="img" aria-label="{text(title)}" viewBox="0 0 {width:g} {height:g}" width="{width:g}" '
        f'height="{height:g}" font-family="system-ui,sans-serif" font-size="11">{"".join(parts)}</svg>'
        f"<figcaption>{text(title)}</figcaption></figure>"
    )


def _line(start: Sequence[str], end: Sequence[str], style: str) -> str:
    return f'<line x1="{start[0]}" y1="{start[1]}" x2="{end[0]}" y2="{end[1]}" {style}/>'


def _text(x: float, y: float, value: str, colour: str = "#57606a", anchor: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" fill="{colour}" text-anchor="{anchor}">{text(value)}</text>'


def _cell(value: object) -> str:
    if isinstance(value, Markup):
        return value
    return text(_short(value)) if isinstance(value, float) else text(value)


def _short(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 and value == int(value) else f"{value:.4g}"


def _span(values: Sequence[float]) -> tuple[float, float]:
    return (min(values), max(values)) if values else (0.0, 1.0)
