"""Packages of npm that tests need, fetched once into build/npm.

Where npm or its registry is not there, what needs them is skipped and says so; CI takes no skipped test.
"""

import fcntl
import shutil
import subprocess
from pathlib import Path

import pytest

_FOLDER = Path(__file__).resolve().parents[2] / "build" / "npm"


def installed(*packages: str) -> Path:
    """Return a folder with packages (`name@version`); two processes of tests may want it at once."""
    if shutil.which("npm") is None or shutil.which("node") is None:
        pytest.skip(f"npm and node are not installed: no {packages[0]}")
    folder = _FOLDER / "+".join(package.replace("/", "-") for package in packages)
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "done").exists():
            (folder / "package.json").write_text("{}")
            command = ["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", "--save-exact", *packages]
            done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300, check=False)
            if done.returncode != 0:
                pytest.skip(f"npm could not fetch {packages[0]}: {done.stderr.strip().splitlines()[-1:]}")
            (folder / "done").touch()
    return folder
