"""Whole audits on real Parquet files, and what they do with the input one gets on a bad day."""

import json
from dataclasses import replace

import numpy as np
import pytest
from robustness_inputs import boosted, by_formula, logistic, normal_rows, write_rows

from kfp_custody.components._shared.errors import InputRefused, Misconfigured
from kfp_custody.components._shared.scoring import Feature
from kfp_custody.components.robustness_audit.auditing import audit
from kfp_custody.components.robustness_audit.constraints import load_constraints
from kfp_custody.components.robustness_audit.limits import Limit, load_limits
from kfp_custody.components.robustness_audit.reporting import coverage, html, metrics, report_json

LIMITS = replace(load_limits("default"), iterations=8)
ALLOWED = load_constraints("default")
NAMES = [f"x{place}" for place in range(6)]


@pytest.fixture
def judge(tmp_path):
    def run(columns, scorer, *, constraints=ALLOWED, limits=LIMITS, label="y"):
        found = audit(write_rows(tmp_path / "rows", columns), scorer, label, constraints, limits)
        document = json.loads(report_json(found, constraints, limits))  # whatever came in, the reports can be written
        page = html(found, constraints, limits)
        assert document["verdict"] == found.verdict
        assert document["verdict"] in page
        assert len(page) < 300_000
        assert all(np.isfinite(value) for value in metrics(found).values())
        return found

    return run


def constraints_of(tmp_path, text):
    path = tmp_path / "constraints.yaml"
    path.write_text(text)
    return load_constraints(str(path))


def above(threshold):
    """Return a model that detects what has a greater x0."""
    features = tuple(Feature(name, "number") for name in NAMES)
    return by_formula(features, lambda held: (held["x0"] > threshold).astype(float))


def test_a_steep_model_fails_and_a_flat_one_passes(judge, tmp_path):
    columns = normal_rows()
    scorer, *_ = logistic(columns, NAMES)
    strict = replace(LIMITS, median_distance=Limit(warn=10.0, fail=5.0))
    near = judge(columns, scorer, limits=strict)
    assert near.verdict == "FAILED"
    assert [check.name for check in near.checks if check.verdict == "FAILED"] == ["median_distance"]
    assert metrics(near)["median_distance"] < 2.0
    apart = columns | {"x0": np.where(columns["y"] == 1, columns["x0"] + 100.0, columns["x0"])}
    flat = audit(write_rows(tmp_path / "apart", apart), above(50.0), "y", ALLOWED, LIMITS)
    assert flat.verdict == "PASSED", flat.checks
    assert metrics(flat)["still_detected_100"] == 1.0
    assert [name for name, _ in flat.worst[0].shifts] == ["x0"]


def test_what_is_told_of_the_curve_is_what_was_found(judge):
    columns = normal_rows()
    found = judge(columns, logistic(columns, NAMES)[0])
    told = metrics(found)
    assert told["attacked"] == coverage(found)["checked"] == found.distances.size == LIMITS.rows
    assert told["detected"] == told["attacked"] + coverage(found)["skipped"]
    assert told["still_detected_050"] == np.mean(found.distances > 0.5)
    assert told["median_distance"] == np.median(found.distances)
    assert (np.diff([told[f"still_detected_{far}"] for far in ("025", "050", "100", "200")]) <= 0).all()
    assert found.worst[0].distance == told["least_distance"]


def test_no_value_of_a_row_is_told(judge):
    columns = normal_rows()
    columns["x5"] = columns["x5"] + 123_456_789.0
    scorer, *_ = logistic(columns, NAMES)
    found = judge(columns, scorer)
    told = report_json(found, ALLOWED, LIMITS).decode() + html(found, ALLOWED, LIMITS)
    assert "12345" not in told
    assert "x3" in told


def test_immutable_features_stay_and_are_named(judge, tmp_path):
    columns = normal_rows()
    text = (
        "version: 1\nnumbers: {change: immutable}\ncategories: {change: immutable}\none_hot: []\n"
        "features: {x1: {change: free, integer: false, box: observed}}\n"
    )
    found = judge(columns, logistic(columns, NAMES)[0], constraints=constraints_of(tmp_path, text))
    assert {name for example in found.worst for name, _ in example.shifts} == {"x1"}
    assert set(found.fixed) == {"x0", "x2", "x3", "x4", "x5"}


def test_a_model_that_detects_nothing_or_everything_cannot_be_judged_and_fails(tmp_path):
    columns = normal_rows(rows=300)
    for score, why in ((0.0, "detects none of 60 positive rows"), (1.0, "detects every row")):
        scorer = by_formula((Feature("x0", "number"),), lambda held, score=score: np.full(len(held["x0"]), score))
        found = audit(write_rows(tmp_path / f"{score:g}", columns), scorer, "y", ALLOWED, LIMITS)
        assert found.verdict == "FAILED"
        assert why in found.checks[0].reason
        assert metrics(found)["attacked"] == 0.0
        assert "still_detected_050" not in metrics(found)  # a rule about it denies
        assert why in html(found, ALLOWED, LIMITS)


@pytest.mark.parametrize(
    ("label", "why"),
    [
        (np.zeros(300, dtype=np.int64), "0 of 300 rows are 1"),
        (np.arange(300), "something else than 0 and 1"),
        (["no"] * 300, "neither a number nor a boolean"),
    ],
)
def test_without_positives_or_a_label_there_is_a_refusal(judge, label, why):
    columns = normal_rows(rows=300)
    scorer, *_ = logistic(columns, NAMES)
    with pytest.raises(InputRefused, match=why):
        judge(columns | {"y": label}, scorer)


def test_a_missing_label_or_feature_is_refused(tmp_path):
    columns = normal_rows(rows=300)
    scorer, *_ = logistic(columns, NAMES)
    with pytest.raises(Misconfigured, match="label 'fraud', the model's is 'y'"):
        audit(write_rows(tmp_path / "a", columns), scorer, "fraud", ALLOWED, LIMITS)
    for name, why in (("y", "label 'y' is missing"), ("x3", "feature 'x3' of the model is missing")):
        less = {column: values for column, values in columns.items() if column != name}
        with pytest.raises(InputRefused, match=why):
            audit(write_rows(tmp_path / name, less), scorer, "y", ALLOWED, LIMITS)


def test_a_model_of_categories_alone_and_rows_without_a_label(judge, tmp_path):
    kinds = np.array(["a", "b", "c"] * 100)
    columns = {"kind": kinds, "y": [1.0 if kind == "a" else None if kind == "c" else 0.0 for kind in kinds]}
    features = (Feature("kind", "category", ("a", "b", "c")),)
    scorer = by_formula(features, lambda held: (held["kind"] == "a").astype(float))
    text = (
        "version: 1\nnumbers: {change: immutable}\ncategories: {change: switch, cost: 0.7}\none_hot: []\nfeatures: {}\n"
    )
    found = judge(columns, scorer, constraints=constraints_of(tmp_path, text))
    assert found.positives == found.distances.size == 100
    assert set(found.distances) == {0.7}
    assert found.worst[0].switched == ("kind",)


def test_few_rows_warn(judge):
    columns = normal_rows(rows=60)
    columns["x0"] = np.where(columns["y"] == 1, 1000.0, columns["x0"])
    found = judge(columns, above(500.0))
    assert found.verdict == "WARNED"
    assert [check.name for check in found.checks if check.verdict == "WARNED"] == ["rows"]


def test_missing_infinite_and_constant_numbers_are_taken_for_what_they_are(judge):
    columns = normal_rows(rows=2000)
    columns["x1"][:700] = np.nan
    columns["x2"][::10] = np.inf
    columns["x3"] = np.full(2000, 4.0)
    matrix = np.column_stack([columns[name] for name in NAMES])
    usable = np.isfinite(matrix[:, 2])
    scorer = boosted(matrix[usable], columns["y"][usable], NAMES, n_estimators=20, max_depth=3)
    found = judge(columns, scorer)
    assert coverage(found)["errors"] == 200
    assert found.fixed == {"x3": "it does not vary in the training data, so no distance is known"}
    assert found.distances.size > 0
    assert np.isfinite(found.distances).all()


def test_whole_numbers_and_switches_of_a_dataset(judge, tmp_path):
    random = np.random.default_rng(4)
    rows = 2000
    columns = {"count": random.integers(0, 20, rows), "card": random.random(rows) < 0.5}
    columns["kind"] = random.choice(["a", "b"], rows)
    columns["y"] = ((columns["count"] > 12) & columns["card"] & (columns["kind"] == "a")).astype(np.int64)
    features = (Feature("count", "number"), Feature("card", "number"), Feature("kind", "category", ("a", "b")))

    def formula(held):
        return ((held["count"] > 12) & (held["card"] == 1) & (held["kind"] == "a")).astype(float)

    text = (
        "version: 1\nnumbers: {change: free, integer: observed, box: observed}\n"
        "categories: {change: switch, cost: 0.4}\none_hot: []\nfeatures: {}\n"
    )
    deviation = columns["count"].std()
    found = judge(columns, by_formula(features, formula), constraints=constraints_of(tmp_path, text))
    steps = columns["count"][columns["y"] == 1] - 12
    assert (found.distances <= 0.4 + 1e-9).all()  # a switch always does
    assert found.distances.min() == pytest.approx(min(0.4, steps.min() / deviation))
    by_number = judge_fixed(columns, by_formula(features, formula), tmp_path)
    nearest = np.minimum(steps / deviation, 1.0 / columns["card"].std())
    assert set(np.round(by_number.distances, 9)) <= set(np.round(nearest, 9))


def judge_fixed(columns, scorer, tmp_path):
    return audit(write_rows(tmp_path / "fixed", columns), scorer, "y", ALLOWED, LIMITS)


def test_constraints_that_leave_nothing_are_refused_before_anything_is_read(judge, tmp_path):
    columns = normal_rows(rows=300)
    text = "version: 1\nnumbers: {change: immutable}\ncategories: {change: immutable}\none_hot: []\nfeatures: {}\n"
    with pytest.raises(Misconfigured, match="nothing to audit"):
        judge(columns, logistic(columns, NAMES)[0], constraints=constraints_of(tmp_path, text))
