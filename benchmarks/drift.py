"""What a drift check costs, beside Evidently's preset: CPU seconds and peak memory of whole processes.

Two months of a million rows and 35 columns (30 of numbers, 5 of categories) are written as Parquet. Four columns of the
second are moved, so that it can be seen what each contender finds. Every contender reads both from disk in a process of
its own, which is measured from its start to its end, imports included, by what the kernel says of it; the months are
made in such processes too, because a process inherits the peak of the one that started it.

The peer is Evidently's `DataDriftPreset` as its documentation shows it, with its JSON and its HTML. Ours measures more
(missing and infinite values, new categories, noise floors; the exact check also the scores of a model, for which it
imports XGBoost) and leaves JSON and HTML as well. The profile is compared without scores, as the peer compares, and
with them.
"""

import json
import os
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

from _table import Result, publish

if TYPE_CHECKING:
    from kfp_custody.components.drift_detection.sources import Source

PEER = "Evidently DataDriftPreset"
ROWS, MANY_ROWS = 1_000_000, 10_000_000
NUMBERS = [f"n{number:02}" for number in range(30)]
CATEGORIES = [f"c{number}" for number in range(5)]
FEW = [*NUMBERS[:6], CATEGORIES[0]]  # what is written of the ten million rows: columns are read one at a time
MOVED = {"n03", "n17", "n24", "c2"}
GROUP = 1_000_000
GIB = 1024**3


@dataclass(frozen=True)
class Cost:
    """What a process took, and what it printed."""

    cpu: float
    peak: float  # bytes
    said: Any


def main() -> int:
    """Make the months, let each contender judge them, and print what they cost."""
    with tempfile.TemporaryDirectory(prefix="drift-") as folder:
        root = Path(folder)
        _cost("months", root)
        _cost("large_months", root)
        peer, exact = _cost("evidently", root), _cost("exact", root)
        profiled, profile, scored = (_cost(work, root) for work in ("make_profile", "profile", "scored_profile"))
        large = _cost("large", root)
        disjoint = _cost("disjoint", root)
    what = f"{ROWS:,} x {len(NUMBERS) + len(CATEGORIES)}"
    results = [
        Result(f"exact, {what}", peer.cpu / exact.cpu, 1, "times less CPU", 15, peer_name=PEER),
        Result("  peak memory", peer.peak / exact.peak, 1, "times less", 5, peer_name=PEER),
        Result("  moved columns not found", _differing(exact), None, f"of {len(MOVED)}, or false", 0, most=True),
        Result(f"against a profile, {what}", peer.cpu / profile.cpu, 1, "times less CPU", 100, peer_name=PEER),
        Result("  moved columns not found", _differing(profile), None, f"of {len(MOVED)}, or false", 0, most=True),
        Result("  and the model's scores", peer.cpu / scored.cpu, 1, "times less CPU", peer_name=PEER),
        Result("  CPU of making the profile", profiled.cpu, None, "s"),
        Result("10,000 categories, none in common", disjoint.said, None, "s wall", 1, most=True),
        Result(f"exact, {MANY_ROWS:,} x {len(FEW)}, peak", large.peak / GIB, None, "GiB", 2, most=True),
    ]
    costs = {"Evidently": peer, "exact": exact, "profile": profile, "and scores": scored, "10 million rows": large}
    for name, cost in costs.items():
        print(f"{name}: {cost.cpu:.2f} CPU s, peak {cost.peak / GIB:.2f} GiB")
    print(f"Evidently found: {', '.join(peer.said)}")
    return 0 if publish("drift", results) else 1


def _differing(cost: Cost) -> float:
    return len(MOVED ^ set(cost.said))


def _cost(work: str, root: Path) -> Cost:
    """Run one of the works below in a process of its own."""
    said = root / "said.json"
    said.unlink(missing_ok=True)
    command = [sys.executable, __file__, work, str(root)]
    process = os.posix_spawn(command[0], command, os.environ)
    _, status, usage = os.wait4(process, 0)
    if os.waitstatus_to_exitcode(status):
        raise SystemExit(f"{work} ended with {os.waitstatus_to_exitcode(status)}")
    return Cost(usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024, json.loads(said.read_bytes()))


# --- the works, each in its own process ----------------------------------------------------------------------------


def months(root: Path) -> None:
    """Write two months and a model of their columns."""
    import numpy as np
    import xgboost

    for month in range(2):
        _write(root / f"{month}.parquet", month, ROWS, [*NUMBERS, *CATEGORIES])
    rng = np.random.default_rng(2)
    rows = rng.normal(size=(5_000, len(NUMBERS) + len(CATEGORIES)))
    rows[:, len(NUMBERS) :] = rng.integers(0, 12, (5_000, len(CATEGORIES)))
    model = xgboost.XGBClassifier(n_estimators=50, max_depth=4, n_jobs=1)
    model.fit(rows, (rows[:, 3] + rng.normal(size=5_000) > 1.5).astype(int))
    for name, columns in (("model", [*NUMBERS, *CATEGORIES]), ("few", FEW)):
        (root / name).mkdir()
        if columns == FEW:
            model.fit(rows[:, : len(FEW)], (rows[:, 3] > 1).astype(int))
        model.save_model(root / name / "model.ubj")
        features = [
            {"name": column, "type": "number"}
            if column in NUMBERS
            else {"name": column, "type": "category", "categories": [f"category {place}" for place in range(12)]}
            for column in columns
        ]
        signature = {"schema_version": 1, "format": "xgboost-ubj", "file": "model.ubj", "features": features}
        signature |= {"label": "label", "threshold": 0.5, "trusted_types": []}
        (root / name / "signature.json").write_text(json.dumps(signature))


def large_months(root: Path) -> None:
    """Write two months of ten million rows."""
    for month in range(2):
        _write(root / f"large-{month}.parquet", month, MANY_ROWS, FEW)


def _write(path: Path, month: int, rows: int, columns: list[str]) -> None:
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    rng, writer = np.random.default_rng(month), None
    names = np.array([f"category {place}" for place in range(12)])
    for _ in range(0, rows, GROUP):
        table: dict[str, Any] = {}
        for place, column in enumerate(columns):
            moved = bool(month) and column in MOVED
            if column in NUMBERS:
                draw = (rng.normal, rng.standard_exponential, rng.standard_gamma)[place % 3]
                values = draw(2.0, size=GROUP) if place % 3 == 2 else draw(size=GROUP)
                table[column] = values + 0.6 * moved
            else:
                weights = 1.0 / np.arange(1, 13)
                weights = weights[::-1] if moved else weights
                table[column] = names[rng.choice(12, GROUP, p=weights / weights.sum())]
        batch = pa.table(table)
        writer = writer or pq.ParquetWriter(path, batch.schema)
        writer.write_table(batch)
    assert writer is not None
    writer.close()


def evidently(root: Path) -> list[str]:
    """Let the peer judge, as its documentation shows it."""
    import pandas as pd
    from evidently import DataDefinition, Dataset, Report
    from evidently.presets import DataDriftPreset

    definition = DataDefinition(numerical_columns=NUMBERS, categorical_columns=CATEGORIES)
    reference, current = (
        Dataset.from_pandas(pd.read_parquet(root / f"{month}.parquet"), data_definition=definition)
        for month in range(2)
    )
    run = Report([DataDriftPreset()], include_tests=True).run(current, reference)
    run.save_html(str(root / "evidently.html"))
    return sorted(
        test["metric_config"]["params"]["column"]
        for test in json.loads(run.json())["tests"]
        if test["status"] == "FAIL" and "column" in test["metric_config"]["params"]
    )


def exact(root: Path) -> list[str]:
    """Compare the months with one another."""
    return _judge(root, _month(root, "0.parquet", "reference"), "1.parquet", "model")


def large(root: Path) -> list[str]:
    """Compare the large months with one another."""
    return _judge(root, _month(root, "large-0.parquet", "reference"), "large-1.parquet", "few")


def make_profile(root: Path) -> int:
    """Profile the first month and the model's scores on it."""
    from kfp_custody.components._shared.columns import open_columns
    from kfp_custody.components._shared.scoring import load_scorer
    from kfp_custody.components.drift_detection.profiling import profile_columns, with_scores

    columns = open_columns(root, ["0.parquet"], "profiled")
    found = profile_columns(columns)
    (root / "profile.json").write_bytes(found.json())
    data = with_scores(found, columns, load_scorer(root / "model")).json()
    (root / "scored.json").write_bytes(data)
    return len(data)


def profile(root: Path, name: str = "profile.json") -> list[str]:
    """Compare the columns of the second month with the profile of the first."""
    from kfp_custody.components._shared.profiles import read_profile
    from kfp_custody.components.drift_detection.sources import Profiled

    return _judge(root, Profiled(read_profile((root / name).read_bytes())), "1.parquet", "model")


def scored_profile(root: Path) -> list[str]:
    """Compare the columns and the model's scores with the profile."""
    return profile(root, "scored.json")


def disjoint(root: Path) -> float:
    """Return the seconds for a column whose 10,000 categories on one side are none of those on the other."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    from kfp_custody.components.drift_detection.comparing import compare_categories
    from kfp_custody.components.drift_detection.limits import load_thresholds

    for month in range(2):
        texts = np.array([f"{month}-{number}" for number in range(10_000)])
        rows = np.random.default_rng(month).integers(0, 10_000, ROWS)
        pq.write_table(pa.table({"token": texts[rows]}), root / f"disjoint-{month}.parquet")
    started = perf_counter()
    sides = [_month(root, f"disjoint-{month}.parquet", "either").texts("token") for month in range(2)]
    found = compare_categories("token", *sides, load_thresholds("default").column, 1e-4)
    seconds = perf_counter() - started
    assert found.verdict == "drift", found.reason
    return seconds


def _judge(root: Path, reference: "Source", current: str, model: str) -> list[str]:
    from kfp_custody.components.drift_detection.checking import check
    from kfp_custody.components.drift_detection.limits import load_thresholds
    from kfp_custody.components.drift_detection.reporting import html, report_json

    limits = load_thresholds("default")
    drift = check(reference, _month(root, current, "current"), root / model, "label", limits)
    (root / "report.json").write_bytes(report_json(drift, limits))
    (root / "report.html").write_text(html(drift, limits))
    return drift.named("drift")


def _month(root: Path, name: str, role: str) -> Any:
    from kfp_custody.components._shared.columns import open_columns
    from kfp_custody.components.drift_detection.limits import load_thresholds
    from kfp_custody.components.drift_detection.sources import Dataset

    return Dataset(open_columns(root, [name], role), load_thresholds("default").sample_rows)


WORKS: dict[str, Callable[[Path], Any]] = {
    work.__name__: work
    for work in (months, large_months, evidently, exact, make_profile, profile, scored_profile) + (large, disjoint)
}

if __name__ == "__main__":
    if len(sys.argv) == 3:
        place = Path(sys.argv[2])
        (place / "said.json").write_text(json.dumps(WORKS[sys.argv[1]](place)))
    else:
        raise SystemExit(main())
