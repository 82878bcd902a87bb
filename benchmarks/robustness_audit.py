"""What it costs to attack a row, and how near the attack gets, beside ART's HopSkipJump with its defaults.

Both attack the same 20 rows of fraud that the same model detects, once a logistic regression and once gradient boosting
of scikit-learn, of 20,000 rows and 30 features in standard deviations. ART runs in an environment of its own below
build/bench, made in the first turn: nothing of ours depends on it. CPU seconds are those of the process while it
attacks, with one thread for each, so without imports and without the training, which both do alike (the scores of the
rows are compared). A row that was not moved past the model counts for neither; there is none, which is asserted.

The last lines are what an audit of 200 rows costs a row, and how far it is from the exact distance where that is known.
"""

import json
import os
import subprocess
import sys
import time
import venv
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

PEER, ART = "ART HopSkipJump", "1.20.1"
ROWS, FEATURES, SAME, MANY = 20_000, 30, 20, 200
MODELS = ("logistic regression", "gradient boosting")
ONE_THREAD = {f"{library}_NUM_THREADS": "1" for library in ("OMP", "OPENBLAS", "MKL")}


def main() -> int:
    """Attack with both, compare, publish."""
    from _table import RESULTS, Result, publish

    here = RESULTS / "art"
    said = [_run(python, work) for python, work in ((sys.executable, "ours"), (str(_environment(here)), "peer"))]
    results = []
    for model in MODELS:
        ours, theirs = (each[model] for each in said)
        assert np.allclose(ours["scores"], theirs["scores"], atol=1e-6), "the models differ"
        assert ours["passed"] == theirs["passed"] == SAME
        less = theirs["cpu"] / ours["cpu"]
        results += [
            Result(model, less, 1, "times less CPU a row", 20, peer_name=PEER),
            Result("  CPU a row", ours["cpu"], theirs["cpu"], "s", peer_name=PEER),
            Result("  mean distance", ours["mean"], theirs["mean"], "sd", 1.0, True, PEER, relative=True),
            Result(f"  CPU a row of {MANY}", ours["cpu_many"], None, "s"),
        ]
    exact = said[0][MODELS[0]]
    results += [
        Result("median distance / exact", exact["to_exact"], None, "", 1.05, most=True),
        Result("  the least of a row", exact["least"], None, "", 1.0 - 1e-9),
    ]
    return 0 if publish("robustness_audit", results) else 1


def _environment(root: Path) -> Path:
    """Return the Python of an environment with ART and our versions of what it runs on."""
    python = root / "bin" / "python"
    ready = root / "ready"
    if not ready.exists():
        venv.create(root, with_pip=True, clear=True)
        same = [
            f"{name}=={version(name)}" for name in ("numpy", "scipy", "scikit-learn", "packaging")
        ]  # ART forgets one
        wanted = [f"adversarial-robustness-toolbox=={ART}", *same]
        subprocess.run([str(python), "-m", "pip", "install", "-q", "--only-binary", ":all:", *wanted], check=True)
        ready.touch()
    return python


def _run(python: str, work: str) -> Any:
    done = subprocess.run(
        [python, __file__, work], check=True, stdout=subprocess.PIPE, env={**os.environ, **ONE_THREAD}
    )
    return json.loads(done.stdout.splitlines()[-1])


def _data() -> tuple[np.ndarray, np.ndarray]:
    """Return rows in standard deviations and labels, of which a twentieth is fraud."""
    random = np.random.default_rng(7)
    rows = random.standard_normal((ROWS, FEATURES))
    rows = (rows - rows.mean(axis=0)) / rows.std(axis=0)
    told = rows[:, :15] @ random.standard_normal(15) + rows[:, 0] * rows[:, 1] + random.logistic(size=ROWS)
    return rows, (told > np.quantile(told, 0.95)).astype(int)


def _models(rows: np.ndarray, labels: np.ndarray) -> dict[str, Any]:
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.linear_model import LogisticRegression

    fitted = (LogisticRegression(max_iter=500), HistGradientBoostingClassifier(random_state=0))
    return {name: model.fit(rows, labels) for name, model in zip(MODELS, fitted, strict=True)}


def _detected(model: Any, rows: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the places of frauds that are detected, and of rows that are not."""
    scores = model.predict_proba(rows)[:, 1]
    return np.flatnonzero((scores >= 0.5) & (labels == 1)), np.flatnonzero(scores < 0.5)


def ours() -> dict[str, Any]:
    """Attack as audit_robustness does."""
    from kfp_custody.components._shared.scoring import Feature, Scorer, Signature
    from kfp_custody.components.robustness_audit.evasion import Donors, attack
    from kfp_custody.components.robustness_audit.limits import load_limits
    from kfp_custody.components.robustness_audit.space import Number, Space

    rows, labels = _data()
    names = [f"x{place}" for place in range(FEATURES)]
    signature = Signature("sklearn-skops", "m", tuple(Feature(name, "number") for name in names), "y", 0.5, frozenset())
    numbers = tuple(Number(name, 1.0, -1e9, 1e9, False) for name in names)
    limits = load_limits("default")
    said = {}
    for name, model in _models(rows, labels).items():

        def score(columns: dict[str, np.ndarray], model: Any = model) -> np.ndarray:
            return model.predict_proba(np.column_stack([columns[name] for name in names]))[:, 1]

        detected, passing = _detected(model, rows, labels)
        donors = Donors(rows[passing[:2000]], np.empty((2000, 0), dtype=np.int64))
        seconds, found = {}, {}
        for count in (SAME, MANY):
            chosen = rows[detected[:count]]
            space = Space(Scorer(signature, score), dict(zip(names, chosen.T, strict=True)), numbers, ())
            start = time.process_time()
            points, distances = attack(space, donors, limits.iterations, limits.seed)
            seconds[count] = (time.process_time() - start) / len(chosen)
            passed = model.predict_proba(points.values)[:, 1] < 0.5
            found[count] = distances, int(passed.sum())
        distances, passed = found[SAME]
        first = model.predict_proba(rows[detected[:SAME]])[:, 1].tolist()
        said[name] = {"cpu": seconds[SAME], "cpu_many": seconds[MANY], "mean": distances.mean(), "passed": passed}
        said[name]["scores"] = first
        if hasattr(model, "coef_"):
            exact = np.abs(model.decision_function(rows[detected[:MANY]])) / np.linalg.norm(model.coef_)
            many = found[MANY][0]
            said[name] |= {"to_exact": np.median(many) / np.median(exact), "least": (many / exact).min()}
    return said


def peer() -> dict[str, Any]:
    """Attack as ART does when nothing is chosen."""
    from art.attacks.evasion import HopSkipJump
    from art.estimators.classification import SklearnClassifier

    rows, labels = _data()
    said = {}
    for name, model in _models(rows, labels).items():
        chosen = rows[_detected(model, rows, labels)[0][:SAME]]
        np.random.seed(0)  # noqa: NPY002  (ART draws from the global generator)
        attack = HopSkipJump(SklearnClassifier(model), verbose=False)
        start = time.process_time()
        changed = attack.generate(chosen)
        seconds = (time.process_time() - start) / SAME
        passed = model.predict_proba(changed)[:, 1] < 0.5
        distances = np.linalg.norm(changed - chosen, axis=1)[passed]
        first = model.predict_proba(chosen)[:, 1].tolist()
        said[name] = {"cpu": seconds, "mean": distances.mean(), "passed": int(passed.sum()), "scores": first}
    return said


if __name__ == "__main__":
    works = {"ours": ours, "peer": peer}
    if len(sys.argv) == 1:
        raise SystemExit(main())
    print(json.dumps(works[sys.argv[1]](), default=float))
