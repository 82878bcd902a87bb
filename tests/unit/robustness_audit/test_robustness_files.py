"""The constraints and limits files, read strictly."""

import pytest
import yaml

from kfp_custody.components._shared.errors import Misconfigured
from kfp_custody.components._shared.scoring import Feature
from kfp_custody.components.robustness_audit.constraints import load_constraints
from kfp_custody.components.robustness_audit.limits import DISTANCES, load_limits

FREE = {"change": "free", "integer": "observed", "box": "observed"}
CONSTRAINTS = {
    "version": 1,
    "numbers": FREE,
    "categories": {"change": "immutable"},
    "one_hot": [{"columns": ["a", "b"], "change": "switch", "cost": 1.0}],
    "features": {"x": {"change": "free", "integer": True, "box": [0, 10]}},
}
LIMIT = {"warn": 0.5, "fail": 0.25}
LIMITS = {
    "version": 1,
    "seed": 1,
    "rows": 10,
    "least_rows": 5,
    "iterations": 3,
    "still_detected": dict.fromkeys(DISTANCES, LIMIT),
    "median_distance": LIMIT,
}
FEATURES = (*(Feature(name, "number") for name in "abx"), Feature("c", "category", ("u", "v")))


class Plain(yaml.SafeDumper):
    def ignore_aliases(self, data):  # which a strict reader refuses
        return True


def written(tmp_path, document):
    path = tmp_path / "file.yaml"
    path.write_text(yaml.dump(document, Dumper=Plain))
    return str(path)


def test_files_that_are_in_order_are_read(tmp_path):
    read = load_constraints(written(tmp_path, CONSTRAINTS))
    rules = read.rules(FEATURES)
    assert set(rules) == {"x", "c"}
    assert (rules["x"].integer, rules["x"].box) == (True, (0.0, 10.0))
    assert read.one_hot[0].columns == ("a", "b")
    assert load_limits(written(tmp_path, LIMITS)).still_detected[0.25].fail == 0.25
    assert load_constraints("default").rules(FEATURES)["c"].change == "immutable"
    assert load_limits("default").rows > load_limits("default").least_rows


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"version": 2}, "version"),
        ({"version": True}, "version"),
        ({"more": 1}, "unknown 'more'"),
        ({"numbers": {"change": "switch", "cost": 1}}, "numbers cannot be switch"),
        ({"categories": FREE}, "categories free"),
        ({"numbers": {"change": "sometimes"}}, "none of immutable, free, switch"),
        ({"numbers": {"change": ["free"]}}, "none of immutable, free, switch"),
        ({"numbers": None}, "none of immutable"),
        ({"numbers": FREE | {"integer": "yes"}}, "integer is none of"),
        ({"numbers": FREE | {"integer": 1}}, "integer is none of"),
        ({"numbers": FREE | {"box": [1]}}, "box is none of"),
        ({"numbers": FREE | {"box": [2, 1]}}, "ends before it begins"),
        ({"numbers": FREE | {"box": [0, float("nan")]}}, "no number from"),
        ({"numbers": FREE | {"box": [False, 1]}}, "no number from"),
        ({"categories": {"change": "switch", "cost": -1}}, "no number from 0"),
        ({"one_hot": {}}, "one_hot no list"),
        ({"one_hot": [{"columns": ["a"], "change": "immutable"}]}, "at least two names"),
        ({"one_hot": [{"columns": ["a", "b"], "change": "free"}]}, "neither immutable nor switch"),
        ({"one_hot": [{"columns": ["a", "a"], "change": "immutable"}]}, "stands in it twice"),
        ({"features": {"a": {"change": "immutable"}}}, "stands in it twice"),
        ({"features": {1: {"change": "immutable"}}}, "no object with names"),
        ({"features": {"x": {"change": "immutable", "cost": 1}}}, "unknown 'cost'"),
    ],
)
def test_constraints_that_are_not_exactly_of_the_form_are_refused(tmp_path, change, why):
    with pytest.raises(Misconfigured, match=why):
        load_constraints(written(tmp_path, CONSTRAINTS | change))


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"features": {"z": {"change": "immutable"}}}, "no feature 'z'"),
        ({"one_hot": [{"columns": ["a", "z"], "change": "immutable"}]}, "no feature 'z'"),
        ({"one_hot": [{"columns": ["a", "c"], "change": "immutable"}]}, "'c' in one_hot is no number"),
        ({"features": {"c": FREE}}, "a category cannot be free"),
        ({"features": {"x": {"change": "switch", "cost": 1}}}, "a number cannot be switch"),
    ],
)
def test_rules_that_do_not_fit_the_model_are_refused(tmp_path, change, why):
    read = load_constraints(written(tmp_path, CONSTRAINTS | change))
    with pytest.raises(Misconfigured, match=why):
        read.rules(FEATURES)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"version": 2}, "version"),
        ({"more": 1}, "unknown 'more'"),
        ({"seed": -1}, "seed"),
        ({"seed": 1.5}, "seed"),
        ({"rows": 0}, "rows"),
        ({"rows": True}, "rows"),
        ({"iterations": 201}, "iterations"),
        ({"still_detected": {0.5: LIMIT}}, "still_detected has other keys"),
        ({"still_detected": []}, "still_detected has other keys"),
        ({"still_detected": dict.fromkeys(DISTANCES, {"warn": 1.5, "fail": 0})}, "no number from 0 to 1"),
        ({"median_distance": {"warn": 0.1, "fail": 0.2}}, "fails below 0.2"),
        ({"median_distance": {"warn": float("nan"), "fail": 0.2}}, "no number"),
        ({"median_distance": {"warn": 0.1}}, "lacks fail"),
    ],
)
def test_limits_that_are_not_exactly_of_the_form_are_refused(tmp_path, change, why):
    with pytest.raises(Misconfigured, match=why):
        load_limits(written(tmp_path, LIMITS | change))


@pytest.mark.parametrize("load", [load_constraints, load_limits])
def test_a_name_that_does_not_exist_is_refused(load, tmp_path):
    for name in ("strict", str(tmp_path / "none.yaml")):
        with pytest.raises(Misconfigured, match="cannot be read"):
            load(name)
