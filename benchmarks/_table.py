"""Results of a benchmark: one JSON file in build/bench, and the same as a table for people."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "build" / "bench"


@dataclass(frozen=True)
class Result:
    """One measurement, ours beside a peer's on the same input in the same run.

    Attributes:
        name: What was measured.
        ours: Our figure.
        peer: The peer's figure, None where there is nothing to compare with.
        unit: Unit of both.
        goal: What ours has to reach; None promises nothing.
        most: The goal is a ceiling and not a floor.
        peer_name: Who the peer is.
        relative: The goal is for the ratio to the peer and not for our figure.
    """

    name: str
    ours: float
    peer: float | None
    unit: str
    goal: float | None = None
    most: bool = False
    peer_name: str | None = None
    relative: bool = False

    @property
    def ratio(self) -> float | None:
        """Ours divided by the peer's."""
        return self.ours / self.peer if self.peer else None

    @property
    def holds(self) -> bool:
        """Whether the goal is reached."""
        if self.goal is None:
            return True
        figure = self.ratio if self.relative else self.ours
        return figure is not None and (figure <= self.goal if self.most else figure >= self.goal)


def publish(benchmark: str, results: list[Result]) -> bool:
    """Write build/bench/<benchmark>.json and print the table.

    Returns:
        Whether every goal is reached.
    """
    fields = ("name", "ours", "peer", "peer_name", "unit", "ratio", "goal", "holds")
    rows = [
        {field: (asdict(each) | {"ratio": each.ratio, "holds": each.holds})[field] for field in fields}
        for each in results
    ]
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / f"{benchmark}.json").write_text(json.dumps(rows, indent=2) + "\n")

    peers = sorted({each.peer_name for each in results if each.peer_name})
    print(f"\n{benchmark}" + (f" (peer: {peers[0]})" if len(peers) == 1 else ""))
    lines = [("", "ours", "peer", "unit", "ratio", "goal", "", "")]
    for each in results:
        goal, verdict = "", ""
        if each.goal is not None:
            goal = f"{'<=' if each.most else '>='} {each.goal:.3g}{' x' if each.relative else ''}"
            verdict = "holds" if each.holds else "MISSED"
        versus = f"vs {each.peer_name}" if each.peer_name and len(peers) > 1 else ""
        figures = (_figure(each.ours), _figure(each.peer), each.unit, _figure(each.ratio))
        lines.append((each.name, *figures, goal, verdict, versus))
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    for line in lines:
        cells = [
            cell.ljust(width) if column in (0, 3, 6, 7) else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ]
        print("  " + "  ".join(cells).rstrip())
    return all(each.holds for each in results)


def _figure(value: float | None) -> str:
    if value is None:
        return "-"
    return str(int(value)) if float(value).is_integer() and abs(value) > 1 else f"{value:.3f}"
