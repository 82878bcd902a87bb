"""What screen_poisoning finds of poison that was put in, by share of the rows and over seeds, and what it costs.

The tables are those of the tests: 20,000 rows, 30 columns, 5 % fraud (tests/fraud_tables.py). Each seed of flips has
an earlier window and a trusted model of its own; both ways to know what is expected are counted, with the window and
without.
The cost is the CPU time of a process from its start: imports, reading, every check with the window, and the reports.
"""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from _table import ROOT, Result, publish

sys.path.insert(0, str(ROOT / "tests"))

from fraud_tables import Frauds, flipped, flooded, frauds, ranged, sample_of, triggered, write_scorer  # noqa: E402
from kfp_custody.components._shared.scoring import Scorer, load_scorer  # noqa: E402
from kfp_custody.components.poisoning_screen import disagreement, floods, label_errors, rules, spikes  # noqa: E402
from kfp_custody.components.poisoning_screen.findings import Check  # noqa: E402
from kfp_custody.components.poisoning_screen.label_errors import Window  # noqa: E402
from kfp_custody.components.poisoning_screen.limits import load_limits  # noqa: E402
from kfp_custody.components.poisoning_screen.reporting import html, report_json, suspects  # noqa: E402
from kfp_custody.components.poisoning_screen.rows import read_rows  # noqa: E402
from kfp_custody.components.poisoning_screen.screening import Trusted, screen  # noqa: E402

LIMITS = load_limits("default")
FLIPS = (0.0, 0.001, 0.002, 0.003, 0.005, 0.01)
FLIP_SEEDS, CLEAN_SEEDS, SEEDS = 15, 30, 5
EARLIER = 1000  # seed of the first earlier window


def main() -> int:
    """Screen what was poisoned, and print what was found and what it took."""
    with tempfile.TemporaryDirectory(prefix="poison-") as folder:
        root = Path(folder)
        cost = _cost(root)
        scorer = _trusted(root, EARLIER)
        results = [
            Result("20,000 x 30, a whole process", cost["cpu"], None, "CPU s", 5, most=True),
            Result("  without imports", cost["screening"], None, "CPU s"),
            *_clean(scorer),
            *_label_errors(),
            *_flips(root),
            *_recalls("flood", flooded, _flood, (0.01, 0.05)),
            *_recalls("spike", triggered, _spike, (0.0025, 0.01)),
            *_recalls("range trigger", ranged, lambda made: _rule(made, scorer), (0.0005, 0.001, 0.0025, 0.01), None),
        ]
    return 0 if publish("poisoning_screen", results) else 1


def _trusted(root: Path, seed: int) -> Scorer:
    place = root / str(seed)
    write_scorer(place, frauds(seed))
    return load_scorer(place)


def _clean(scorer: Scorer) -> list[Result]:
    found = [screen(sample_of(frauds(seed)), LIMITS, Trusted(scorer)) for seed in range(CLEAN_SEEDS)]
    alarms = sum(bool(one.names("FAILED")) for one in found)
    warnings = sum(one.verdict == "WARNED" for one in found)
    return [
        Result(f"{CLEAN_SEEDS} clean windows: FAILED", alarms, None, "windows", 0, most=True),
        Result("  WARNED", warnings, None, "windows", 0, most=True),
    ]


def _label_errors() -> list[Result]:
    results = []
    for share in (0.01, 0.03, 0.05):
        precisions = []
        for seed in range(SEEDS):
            made = flipped(frauds(seed), seed, share)
            sample = sample_of(made)
            found = label_errors.judge(_out_of_fold(made), sample.labels, None, LIMITS.label_errors)
            precisions.append(np.isin(found.suspects[: made.poisoned.size], made.poisoned).sum() / made.poisoned.size)
        goal = 0.8 if share == 0.03 else None
        name = f"{share:.0%} flipped, {SEEDS} seeds: precision at k"
        results.append(Result(name, float(min(precisions)), None, "least", goal))
    return results


def _flips(root: Path) -> list[Result]:
    counts = {(share, basis): 0 for share in FLIPS for basis in ("model", "window")}
    for seed in range(FLIP_SEEDS):
        before, clean, scorer = frauds(EARLIER + 1 + seed), frauds(seed), _trusted(root, EARLIER + 1 + seed)
        scores, window = scorer.score(sample_of(clean).inputs(scorer.features)), Window(before.labels, _scores(before))
        for share in FLIPS:
            labels = flipped(clean, seed, share, label=1).labels
            for basis, known in (("model", None), ("window", window)):
                found = disagreement.disagreement(scores, labels, known, LIMITS.trusted_disagreement)
                counts[share, basis] += found.verdict == "FAILED"
    return [
        Result(
            f"{share:.1%} fraud called legitimate, by the {basis}",
            count,
            None,
            f"of {FLIP_SEEDS} seeds found",
            {0.0: 0, 0.005: FLIP_SEEDS}.get(share),
            most=share == 0.0,
        )
        for (share, basis), count in counts.items()
    ]


def _scores(made: Frauds) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    found = _out_of_fold(made)
    assert found is not None
    return found


def _out_of_fold(made: Frauds) -> "np.ndarray[tuple[int], np.dtype[np.float64]] | None":
    sample = sample_of(made)
    return label_errors.out_of_fold(sample.matrix()[1], sample.labels, LIMITS.label_errors.folds)


def _recalls(
    name: str,
    poison: Callable[[Frauds, int, float], Frauds],
    find: Callable[[Frauds], Check],
    shares: tuple[float, ...],
    goal: float | None = 1.0,
) -> list[Result]:
    results = []
    for share in shares:
        recalls, precisions = [], []
        for seed in range(SEEDS):
            made = poison(frauds(seed), seed, share)
            found = find(made)
            hit = np.intersect1d(found.suspects, made.poisoned).size
            recalls.append(hit / made.poisoned.size)
            precisions.append(hit / max(found.suspects.size, 1))
        what = f"{name}, {share:.2%}, {SEEDS} seeds"
        results.append(Result(f"{what}: recall", min(recalls), None, "least", goal if share == 0.01 else None))
        results.append(Result("  precision", min(precisions), None, "least"))
    return results


def _flood(made: Frauds) -> Check:
    return floods.judge(floods.continuous(sample_of(made).numbers), LIMITS.near_duplicates)


def _spike(made: Frauds) -> Check:
    sample = sample_of(made)
    columns = floods.continuous(sample.numbers)
    groups = spikes.repeated(columns, LIMITS.repeated_values.repeats)
    matrix = sample.matrix(without=list(groups))[1]
    expected = label_errors.out_of_fold(matrix, sample.labels, LIMITS.label_errors.folds)
    return spikes.judge(columns, groups, expected, sample.labels, LIMITS.repeated_values)


def _rule(made: Frauds, scorer: Scorer) -> Check:
    sample = sample_of(made)
    names, matrix = sample.matrix()
    return rules.judge(names, matrix, scorer.score(sample.inputs(scorer.features)), sample.labels, LIMITS.rules)


def _cost(root: Path) -> dict[str, float]:
    """Screen files in a process of its own."""
    for name, seed in (("then", EARLIER + 500), ("now", 0)):
        (root / name).mkdir()
        pq.write_table(frauds(seed).table(), root / name / "data.parquet")
    write_scorer(root / "model", frauds(EARLIER + 500))
    done = subprocess.run([sys.executable, __file__, str(root)], check=True, capture_output=True, text=True)
    return json.loads(done.stdout)  # type: ignore[no-any-return]


def cost(root: Path) -> None:
    """Screen one table with a trusted model and its window, and print the CPU seconds."""
    for name in ("pyarrow.parquet", "scipy.sparse.csgraph", "scipy.spatial", "scipy.stats", "sklearn.tree", "xgboost"):
        import_module(name)
    started = time.process_time()
    now, then = (read_rows(root / name, ["data.parquet"], "is_fraud", LIMITS.rows, name) for name in ("now", "then"))
    found = screen(now, LIMITS, Trusted(load_scorer(root / "model"), then))
    made = (html(found, LIMITS), report_json(found, LIMITS), suspects(found, LIMITS))
    assert all(made)
    print(json.dumps({"cpu": time.process_time(), "screening": time.process_time() - started}))


if __name__ == "__main__":
    if len(sys.argv) > 1:
        cost(Path(sys.argv[1]))
    else:
        raise SystemExit(main())
