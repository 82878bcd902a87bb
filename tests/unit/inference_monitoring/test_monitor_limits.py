"""The limits file is taken as documented, or refused by the name of what is wrong."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from log_lines import door, monitored, verdicts

from kfp_custody.components._shared.errors import Misconfigured
from kfp_custody.components.inference_monitoring import limits


@pytest.fixture
def document() -> dict[str, Any]:
    path = Path(limits.__file__).parent / "thresholds" / "default.yaml"
    found: dict[str, Any] = yaml.safe_load(path.read_bytes())
    return found


def written(tmp_path: Path, document: dict[str, Any]) -> str:
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(document))
    return str(path)


def test_shipped_by_name_and_the_same_file_by_path_are_one(tmp_path: Path, document: dict[str, Any]) -> None:
    shipped = limits.load_limits("default")
    assert (shipped.near_duplicates.result, shipped.near_duplicates.alpha) == ("FAILED", 1e-6)
    mine = limits.load_limits(written(tmp_path, document))
    assert (mine.measures, mine.near_duplicates, mine.budget) == (
        shipped.measures,
        shipped.near_duplicates,
        shipped.budget,
    )


@pytest.mark.parametrize(
    ("path", "value", "word"),
    [
        ("latencyp99", {}, "unknown .latencyp99"),
        ("latency_p99.drift", 1, "unknown .drift"),
        ("latency_p99", None, "no object"),
        ("latency_p99.warn", 9, "warns at"),
        ("error_ratio.fail", float("nan"), "error_ratio.fail"),
        ("error_ratio.fail", "0.3", "error_ratio.fail"),
        ("error_ratio.fail", True, "error_ratio.fail"),
        ("must_judge", ["everything"], "must_judge"),
        ("must_judge", "requests", "must_judge"),
        ("clients.near_duplicates.result", "PASSED", "result"),
        ("clients.near_duplicates.history", 1, "history"),
        ("clients.near_duplicates.quantile", 0.5, "quantile"),
        ("clients.budget.rows_per_hour", 0, "rows_per_hour"),
        ("clients.budget.rows_per_hour", 10.0, "rows_per_hour"),
        ("clients.more", {}, "unknown .more"),
        ("version", 2, "version"),
        ("version", True, "version"),
    ],
)
def test_anything_else_is_refused_by_name(
    tmp_path: Path, document: dict[str, Any], path: str, value: Any, word: str
) -> None:
    *parents, last = path.split(".")
    place = document
    for parent in parents:
        place = place[parent]
    place[last] = value
    with pytest.raises(Misconfigured, match=word):
        limits.load_limits(written(tmp_path, document))


@pytest.mark.parametrize("name", ["strict", "no/such.yaml", "\0", "", "../limits.py"])
def test_an_unknown_name_lists_what_ships(name: str) -> None:
    with pytest.raises(Misconfigured, match="shipped are: default|not read|no YAML"):
        limits.load_limits(name)


def test_what_must_be_judged_and_cannot_be_warns(tmp_path: Path, document: dict[str, Any]) -> None:
    document["must_judge"] = ["requests", "prediction"]
    assert monitored([door()] * 200).verdict == "PASSED"
    found = monitored([door()] * 200, limits=written(tmp_path, document))
    assert (found.verdict, verdicts(found)["prediction"]) == ("WARNED", "UNKNOWN")


def test_a_result_is_what_the_file_says(tmp_path: Path, document: dict[str, Any]) -> None:
    document["clients"]["unauthorised"] = {"result": "FAILED", "attempts": 2}
    lines = [door()] * 200 + [door(status=401)] * 2
    assert monitored(lines).verdict == "PASSED"
    assert monitored(lines, limits=written(tmp_path, document)).verdict == "FAILED"
