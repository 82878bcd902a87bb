"""Windows: their edges, and which one came before."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from kfp_custody.components._shared import codes
from kfp_custody.components._shared.errors import Misconfigured
from kfp_custody.components._shared.evidence import now, stamp
from kfp_custody.components.retraining.component import date_window
from kfp_custody.components.retraining.folder_store import FolderStore
from kfp_custody.components.retraining.windows import MAX_HOURS, Before, edge, mark, parse_time

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    "text",
    [
        "2026-01-31T12:00:00Z",
        "2026-01-31T12:00:00.999999999Z",
        "2026-01-31T13:00:00+01:00",
        "2026-01-31T04:30:00-07:30",
    ],
)
def test_a_moment_is_one_however_it_is_written(text: str) -> None:
    assert parse_time(text) == NOON


def test_an_edge_is_some_hours_before() -> None:
    assert edge("2026-01-31T12:00:00Z", 0) == "2026-01-31T12:00:00Z"
    assert edge("2026-03-01T01:00:00+01:00", 24) == "2026-02-28T00:00:00Z"
    assert date_window.python_func(scheduled_time="2026-01-31T12:00:00Z", hours_before=13) == "2026-01-30T23:00:00Z"


@pytest.mark.parametrize("hours", [-1, MAX_HOURS + 1])
def test_hours_that_are_no_windows_are_refused(hours: int) -> None:
    with pytest.raises(Misconfigured) as refusal:
        edge("2026-01-31T12:00:00Z", hours)
    assert refusal.value.code == codes.WATCH_TIME


def test_a_clock_may_be_a_little_late() -> None:
    parse_time(stamp(now() + timedelta(minutes=4)))
    with pytest.raises(Misconfigured, match="future"):
        parse_time(stamp(now() + timedelta(minutes=6)))


def test_the_newest_window_is_remembered_and_the_ones_between_are_counted(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)

    def at(hours: int, every: int = 24) -> Before:
        return mark(store, "nightly", NOON + timedelta(hours=hours), every, "a")

    assert at(0) == Before(None, 0)
    assert at(24) == Before(NOON, 0)
    assert at(97) == Before(NOON + timedelta(hours=24), 2), "three days and an hour: two are missing"
    assert at(97) == Before(NOON + timedelta(hours=24), 2)
    assert at(48) == Before(None, 0), "a late one is not behind the newest"
    assert at(121, every=0) == Before(NOON + timedelta(hours=97), 0)
    assert mark(store, "weekly", NOON, 24, "a") == Before(None, 0), "of another schedule"
