"""A real Prometheus on 127.0.0.1 that scrapes a few servers of a test."""

import json
import shutil
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any


class PrometheusServer:
    """Runs from `start` to `stop`, and keeps what it counted in between."""

    def __init__(self, root: Path, port: int, targets: Sequence[str], interval: str) -> None:
        """Prepare a server.

        Args:
            root: folder of its own, made here.
            port: where it answers.
            targets: `host:port` of what it scrapes.
            interval: between two scrapes, such as `1s`; a scrape may take as long.
        """
        program = shutil.which("prometheus")
        assert program, "Prometheus is part of the tools of CI: apt-get install prometheus"
        root.mkdir(parents=True, exist_ok=True)
        settings = {
            "global": {"scrape_interval": interval, "scrape_timeout": interval},
            "scrape_configs": [{"job_name": "models", "static_configs": [{"targets": list(targets)}]}],
        }
        (root / "prometheus.yml").write_text(json.dumps(settings))
        self.url, self._root = f"http://127.0.0.1:{port}", root
        self._command = [program, f"--config.file={root}/prometheus.yml", f"--storage.tsdb.path={root}/data",
                         f"--web.listen-address=127.0.0.1:{port}"]  # fmt: skip
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and return when every target was scraped."""
        began = time.time()
        with (self._root / "log").open("ab") as log:
            self._process = subprocess.Popen(self._command, stdout=log, stderr=log)
        self.wait_scraped(began)

    def stop(self) -> None:
        """End it."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(20)
            self._process = None

    def wait_scraped(self, since: float, seconds: float = 30.0) -> None:
        """Return when every target was scraped, in full, at a moment after `since` (seconds as of `time.time`)."""
        deadline = time.monotonic() + seconds
        while not self._scraped(since):
            assert time.monotonic() < deadline, self.trouble()
            time.sleep(0.1)

    def values(self, query: str, label: str = "") -> dict[str, float]:
        """Return the values of a query by a label."""
        found = self.ask("query", query=query)["result"]
        return {each["metric"].get(label, ""): float(each["value"][1]) for each in found}

    def ask(self, path: str, **parameters: str) -> Any:
        """Return what the API says."""
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(f"{self.url}/api/v1/{path}?{urllib.parse.urlencode(parameters)}", timeout=10) as answer:
            return json.loads(answer.read())["data"]

    def trouble(self) -> str:
        """Return how the last scrape of each target went, to be shown when a test fails."""
        try:
            targets = self.ask("targets")["activeTargets"]
        except OSError as error:
            return f"Prometheus does not answer: {error}; its log: {(self._root / 'log').read_text()[-2000:]}"
        kept = ("scrapeUrl", "health", "lastError", "lastScrape", "lastScrapeDuration")
        return "; ".join(str({key: each[key] for key in kept}) for each in targets)

    def _scraped(self, since: float) -> bool:
        try:
            targets = len(self.ask("targets")["activeTargets"])
            up = self.ask("query", query=f"timestamp(up) > {since} and up == 1")["result"]
        except OSError:
            return False  # it starts
        return 0 < targets == len(up)
