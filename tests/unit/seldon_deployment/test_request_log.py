"""The log of requests: bounded, keyed, one object a line."""

import json
from pathlib import Path

import pytest

from kfp_custody.components.seldon_deployment.serving import request_log
from kfp_custody.components.seldon_deployment.serving.request_log import RequestLog

COLUMNS: dict[str, list[float] | list[str | None]] = {"amount": [1.0, float("nan")], "channel": ["web", None]}


def lines(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_equal_inputs_are_told_within_one_server_only(tmp_path: Path) -> None:
    for name in ("one", "two"):
        log = RequestLog(tmp_path / name)
        for _ in range(2):
            log.answered("m", "v", None, COLUMNS, [0.25, 0.5], 0.01)
        log.answered("m", "v", None, COLUMNS | {"channel": ["web", "pos"]}, [0.25, 0.5], 0.01)
    (a, b, c), (d, *_) = (lines(tmp_path / name) for name in ("one", "two"))
    assert a["inputs"] == b["inputs"] != c["inputs"]
    assert a["inputs"] != d["inputs"]
    assert a["scores"] == [0.25, 0.5]


def test_a_full_file_makes_room_and_the_oldest_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(request_log, "BYTES", 2_000)
    monkeypatch.setattr(request_log, "FILES", 2)
    log = RequestLog(tmp_path / "log")
    for number in range(100):
        log.refused("m", "v", f"request-{number}", 0.0)
    files = sorted(tmp_path.iterdir())
    assert [path.name for path in files] == ["log", "log.1", "log.2"]
    assert all(path.stat().st_size <= 2_000 for path in files)
    assert lines(tmp_path / "log")[-1]["id"] == "request-99"
    assert all(line["outcome"] == "refused" for path in files for line in lines(path))


@pytest.mark.parametrize("name", ["", "a" * 65, 'a"b', "a\nb", "ä", "a b"])
def test_an_id_that_is_not_plain_is_left_out(tmp_path: Path, name: str) -> None:
    RequestLog(tmp_path / "log").refused("m", "v", name, 0.0)
    (line,) = lines(tmp_path / "log")
    assert "id" not in line


def test_many_rows_have_their_first_scores_only(tmp_path: Path) -> None:
    RequestLog(tmp_path / "log").answered("m", "v", "x", {"a": [0.0] * 500}, [0.1] * 500, 0.5)
    (line,) = lines(tmp_path / "log")
    assert line["rows"] == 500
    assert line["scores"] == [0.1] * request_log.SCORES
