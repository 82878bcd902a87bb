"""Seconds per stage of the last `make demo`, from its summary."""

import json

from _table import ROOT, Result, publish

SUMMARY = ROOT / "build" / "demo" / "summary.json"
WARM_RUN = 120.0


def main() -> int:
    """Print the table; without a demo run say how to make one."""
    if not SUMMARY.is_file():
        print("\nstages: no demo run yet; run `make demo` first, twice for a warm one")
        return 0
    summary = json.loads(SUMMARY.read_text())
    results = [Result(stage["name"], round(stage["seconds"], 2), None, "s") for stage in summary["stages"]]
    total = round(sum(stage.ours for stage in results), 2)
    results.append(Result("all stages", total, None, "s", goal=WARM_RUN, most=True))
    return 0 if publish("stages", results) else 1


if __name__ == "__main__":
    raise SystemExit(main())
