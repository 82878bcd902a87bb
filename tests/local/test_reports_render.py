"""Every HTML report in a real browser: it renders, writes no console error, and asks no network for anything.

Needs Debian's chromium; `.ci/run` installs it.
"""

import json
import shutil
import subprocess
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from local_runs import LocalRun

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
REPORTS = {
    "mask-pii": ["report"],
    "train-model": ["report"],
    "check-drift": ["report"],
    "enforce-policy": ["report"],
    "deploy-model": ["report"],
}

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed (apt-get install chromium)")


def render(page: Path, scratch: Path) -> tuple[str, list[str], set[str]]:
    """Return the DOM after scripts ran, console messages, and the addresses that the page asked for."""
    log = scratch / "net.json"
    done = subprocess.run(
        [
            str(CHROMIUM),
            *("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"),
            *("--disable-component-update", "--disable-sync", "--enable-logging=stderr", "--virtual-time-budget=4000"),
            *(f"--user-data-dir={scratch / 'profile'}", f"--log-net-log={log}", "--dump-dom", page.as_uri()),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    console = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    urls = {
        event["params"]["url"] for event in json.loads(log.read_text())["events"] if "url" in event.get("params", {})
    }
    # The browser itself looks for updates and the time; a page of ours names no host of its maker.
    asked = {url for url in urls if not (urlsplit(url).hostname or "").endswith((".google.com", ".googleapis.com"))}
    return done.stdout, console, asked


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
    if report == "report":
        assert page.stat().st_size <= 300_000
