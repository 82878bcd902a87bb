"""The limits file is read strictly."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from kfp_custody.components._shared.errors import Misconfigured
from kfp_custody.components.poisoning_screen import limits
from kfp_custody.components.poisoning_screen.limits import load_limits

SHIPPED = Path(limits.__file__).parent / "thresholds" / "default.yaml"


def changed(path: str, value: Any) -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load(SHIPPED.read_text())
    *parents, last = path.split(".")
    place = document
    for name in parents:
        place = place[name]
    if value is None:
        del place[last]
    else:
        place[last] = value
    return document


def test_what_ships_is_read_by_name_and_by_path() -> None:
    by_name, by_path = load_limits("default"), load_limits(str(SHIPPED))
    assert by_name.sha256 == by_path.sha256
    assert by_name.near_duplicates.rows == 20
    assert by_name.trusted_disagreement.alpha == 1e-6


def test_a_changed_limit_is_taken(tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text(yaml.safe_dump(changed("rules.result", "FAILED")))
    assert load_limits(str(tmp_path / "own.yaml")).rules.result == "FAILED"


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("version", 2),
        ("version", True),
        ("rows", 10),
        ("rows", 1e5),
        ("suspects", 0),
        ("must_judge", ["everything"]),
        ("must_judge", "label_errors"),
        ("label_errors.engine", "other"),
        ("label_errors.folds", 1),
        ("label_errors.confidence", 0),
        ("label_errors.share", {"warn": 0.2, "fail": 0.1}),
        ("label_errors.share", {"warn": 0.2}),
        ("trusted_disagreement.alpha", float("nan")),
        ("trusted_disagreement.result", "PASSED"),
        ("trusted_disagreement.overconfidence", -1),
        ("base_rate.z", True),
        ("near_duplicates.distance", 2),
        ("near_duplicates.columns", 0),
        ("repeated_values.lift", "much"),
        ("rules", None),
        ("rules.rows", None),
        ("rules.more", 1),
        ("more", 1),
    ],
)
def test_what_is_not_of_the_form(tmp_path: Path, path: str, value: Any) -> None:
    (tmp_path / "own.yaml").write_text(yaml.safe_dump(changed(path, value)))
    with pytest.raises(Misconfigured):
        load_limits(str(tmp_path / "own.yaml"))


@pytest.mark.parametrize("name", ["none", "", "/nowhere.yaml", "nul\0byte"])
def test_limits_that_are_not_there(name: str) -> None:
    with pytest.raises(Misconfigured):
        load_limits(name)
