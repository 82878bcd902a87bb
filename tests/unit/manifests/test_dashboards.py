"""The dashboards: every query is one that Prometheus takes, over metrics that are exported; no panel hides another."""

import json
import re
import shutil
import subprocess
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import yaml

from unit.manifests.promql import metric_names
from unit.manifests.test_alert_rules import MONITORING, exported, known

kustomize = pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not here to render the overlays")
DASHBOARDS = sorted((MONITORING / "dashboards").glob("*.json"))


def load(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text())  # type: ignore[no-any-return]


def expressions(board: dict[str, Any]) -> list[str]:
    """Every query, with values for Grafana's variables."""
    found = [target["expr"] for panel in board["panels"] for target in panel["targets"]]
    return [each.replace("$model", "fraud|churn").replace("$__rate_interval", "5m") for each in found]


def test_there_are_dashboards_and_the_kustomization_holds_them_all() -> None:
    (generator,) = yaml.safe_load((MONITORING / "kustomization.yaml").read_text())["configMapGenerator"]
    assert [f"dashboards/{path.name}" for path in DASHBOARDS] == sorted(generator["files"])
    assert len({load(path)["uid"] for path in DASHBOARDS}) == len(DASHBOARDS) == 2


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_prometheus_takes_every_query(path: Path, tmp_path: Path) -> None:
    queries = expressions(load(path))
    assert all("$" not in query for query in queries)
    rules = [{"record": f"panel:{number}", "expr": query} for number, query in enumerate(queries)]

    def checked(rules: list[dict[str, str]]) -> int:
        (tmp_path / "rules.yml").write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))
        return subprocess.run(["promtool", "check", "rules", str(tmp_path / "rules.yml")], check=False).returncode

    assert checked(rules) == 0
    assert checked([*rules, {"record": "panel:wrong", "expr": f"sum by ({queries[0]}"}]) != 0


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_every_metric_of_a_query_is_exported(path: Path) -> None:
    for query in expressions(load(path)):
        names = metric_names(query)
        assert names, query
        assert names - known() == set(), query


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_panels_have_their_own_ids_and_places(path: Path) -> None:
    panels = load(path)["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    assert len({panel["title"] for panel in panels}) == len(panels)
    for panel in panels:
        place = panel["gridPos"]
        assert 0 <= place["x"] < place["x"] + place["w"] <= 24
        references = [target["refId"] for target in panel["targets"]]
        assert len(set(references)) == len(references)
    for one, other in combinations((panel["gridPos"] for panel in panels), 2):
        apart = (
            one["x"] + one["w"] <= other["x"]
            or other["x"] + other["w"] <= one["x"]
            or one["y"] + one["h"] <= other["y"]
            or other["y"] + other["h"] <= one["y"]
        )
        assert apart, (one, other)


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_variables_are_defined_and_read_what_is_exported(path: Path) -> None:
    board = load(path)
    defined = {each["name"] for each in board["templating"]["list"]}
    text = json.dumps(board)
    assert set(re.findall(r"\$\{?([a-z]+)\b", text)) == defined == {"source", "model"}
    for each in board["templating"]["list"]:
        if each["type"] == "query":
            metric, label = re.fullmatch(r"label_values\((\w+), (\w+)\)", each["query"]).groups()  # type: ignore[union-attr]
            assert (metric in exported(), label) == (True, "model")


def test_names_are_found_in_an_expression_and_nothing_else() -> None:
    query = 'sum by (model, le) (rate(a_bucket{le=~"b|c"}[5m] offset 1h)) / on (d) group_left (e) f:g:h'
    query += " and -i > 1e3 == bool inf"
    assert metric_names(query) == {"a_bucket", "f:g:h", "i"}


@kustomize
def test_an_overlay_gets_rules_and_dashboards_with_the_component(tmp_path: Path) -> None:
    copy = shutil.copytree(MONITORING, tmp_path / "monitoring")
    (tmp_path / "overlay").mkdir()
    overlay = {"kind": "Kustomization", "namespace": "watched", "components": [f"../{copy.name}"]}
    (tmp_path / "overlay" / "kustomization.yaml").write_text(yaml.safe_dump(overlay))
    done = subprocess.run(
        ["kubectl", "kustomize", str(tmp_path / "overlay")], capture_output=True, text=True, check=True
    )
    boards, rules = sorted(yaml.safe_load_all(done.stdout), key=lambda each: str(each["kind"]))
    assert {each["metadata"]["namespace"] for each in (boards, rules)} == {"watched"}
    assert boards["metadata"]["labels"] == {"grafana_dashboard": "1"}
    assert {name: json.loads(text) for name, text in boards["data"].items()} == {
        path.name: load(path) for path in DASHBOARDS
    }
    assert rules["kind"] == "PrometheusRule"
