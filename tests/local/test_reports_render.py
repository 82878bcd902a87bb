"""Every HTML report in a real browser: it renders, writes no console error, and asks no network for anything.

Needs Debian's chromium; `.ci/run` installs it.
"""

import shutil
from pathlib import Path

import pytest
from browser import CHROMIUM, render, render_in_frame
from local_runs import LocalRun

REPORTS = {
    "mask-pii": ["report"],
    "train-model": ["report"],
    "check-drift": ["report"],
    "enforce-policy": ["report"],
    "deploy-model": ["report"],
}

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed (apt-get install chromium)")


def test_the_method_sees_what_it_must_see(tmp_path: Path) -> None:
    page = tmp_path / "bad.html"
    page.write_text('<script>console.error("boom")</script><img src="http://127.0.0.1:9/pixel.png">')
    _, console, asked = render(page, tmp_path)
    assert any("boom" in line for line in console)
    assert asked == {"http://127.0.0.1:9/pixel.png"}


@pytest.mark.parametrize(("task", "report"), [(task, name) for task, names in REPORTS.items() for name in names])
def test_report_renders_alone(admitted: LocalRun, task: str, report: str, tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    shutil.copy(admitted.tasks[task] / report, page)
    dom, console, asked = render(page, tmp_path)
    assert len(dom) > 1000
    assert console == []
    assert asked == set()
    assert page.stat().st_size <= 300_000
    (text, _), console, asked = render_in_frame(page, tmp_path)
    assert text > 300
    assert (console, asked) == ([], set())


def test_the_frame_shows_what_is_in_it_and_lets_it_do_nothing_else(tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    page.write_text("<h1>four</h1><svg></svg><script>parent.document.title</script>")
    (text, drawings), console, _ = render_in_frame(page, tmp_path)
    assert (text, drawings) == (4, 1)
    assert any("Blocked a frame" in line or "SecurityError" in line for line in console)
