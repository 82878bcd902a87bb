"""A real browser without a window: what a page becomes, says and asks for, alone and in the frame of the KFP UI."""

import html
import json
import re
import shutil
import subprocess
from pathlib import Path
from urllib.parse import urlsplit

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


def render(page: Path, scratch: Path) -> tuple[str, list[str], set[str]]:
    """Return the DOM after scripts ran, console messages, and the addresses that the page asked for."""
    log = scratch / "net.json"
    done = subprocess.run(
        [
            str(CHROMIUM),
            *("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"),
            *("--disable-component-update", "--disable-sync", "--enable-logging=stderr", "--virtual-time-budget=4000"),
            # Time is turned forward in one process, so a sandboxed frame must not get one of its own.
            *("--disable-features=IsolateSandboxedIframes", "--disable-site-isolation-trials"),
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


# Says what is to be seen to the page around the frame: from outside nobody can look into one without allow-same-origin.
_PROBE = """<script>addEventListener("load", () => setTimeout(() => parent.postMessage(
[document.body.innerText.trim().length, document.querySelectorAll("svg").length].join(" "), "*"), 500))</script>"""
_FRAME = """<!doctype html><script>addEventListener("message", told => document.body.dataset.seen = told.data)</script>
<body><iframe title="report" sandbox="allow-scripts" width="1000" height="800" srcdoc="{}"></iframe>"""


def render_in_frame(page: Path, scratch: Path) -> tuple[tuple[int, int], list[str], set[str]]:
    """Show a page as the KFP UI does, by `srcdoc` in a sandboxed frame.

    Returns what is seen of it (letters of text, drawings), console messages, addresses asked for.
    """
    around = scratch / "around.html"
    around.write_text(_FRAME.format(html.escape(page.read_text() + _PROBE)))
    dom, console, asked = render(around, scratch)
    seen = re.search(r'data-seen="(\d+) (\d+)"', dom)
    assert seen, dom[-300:]
    return (int(seen[1]), int(seen[2])), console, asked
