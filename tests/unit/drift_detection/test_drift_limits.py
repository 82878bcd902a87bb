from pathlib import Path

import pytest
import yaml

from kfp_custody.components._shared.errors import Misconfigured
from kfp_custody.components.drift_detection import limits


@pytest.fixture
def document():
    return yaml.safe_load((Path(limits.__file__).parent / "thresholds" / "default.yaml").read_bytes())


def load(tmp_path, document):
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(document))
    return limits.load_thresholds(str(path))


def test_shipped_by_name_and_the_same_file_by_path_are_one(tmp_path, document):
    shipped = limits.load_thresholds("default")
    assert (shipped.prediction_psi.drift, shipped.drifted_share) == (0.25, 0.3)
    assert load(tmp_path, document).column == shipped.column


@pytest.mark.parametrize(
    ("path", "value", "word"),
    [
        ("colunm", {}, "unknown .colunm"),
        ("column.ks.fail", 1, "unknown .fail"),
        ("column.ks", None, "no object"),
        ("column.ks.warn", 0.9, "warns at"),
        ("column.psi.drift", float("nan"), "column.psi.drift"),
        ("column.psi.drift", "0.3", "column.psi.drift"),
        ("column.psi.drift", True, "column.psi.drift"),
        ("column.psi.drift", -1, "column.psi.drift"),
        ("dataset.drifted_share", 1.5, "drifted_share"),
        ("bins", 1, "bins"),
        ("bins", 10.0, "bins"),
        ("version", 2, "version"),
    ],
)
def test_anything_else_is_refused_by_name(tmp_path, document, path, value, word):
    *parents, last = path.split(".")
    place = document
    for parent in parents:
        place = place[parent]
    place[last] = value
    with pytest.raises(Misconfigured, match=word):
        load(tmp_path, document)


def test_a_missing_key_is_refused(tmp_path, document):
    del document["column"]["jensen_shannon"]
    with pytest.raises(Misconfigured, match="lacks jensen_shannon"):
        load(tmp_path, document)


def test_an_unknown_name_lists_what_ships():
    with pytest.raises(Misconfigured, match="shipped are: default"):
        limits.load_thresholds("strict")


def test_a_missing_or_empty_file_is_refused(tmp_path):
    (tmp_path / "empty.yaml").touch()
    for name in ("missing.yaml", "empty.yaml"):
        with pytest.raises(Misconfigured):
            limits.load_thresholds(str(tmp_path / name))
