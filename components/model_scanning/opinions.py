"""What other scanners say, where they are installed beside this stage: opinions, and never more than a warning.

They go by lists of what is known to be bad and by file names, and end with the same code for an error as for "nothing
looked at". So their silence counts for nothing, and only a code that says "found something" is heard.
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

CLEAR, FLAGGED, NONE = "clear", "flagged", "none"
_PROGRAMS: Final = {
    "modelscan": ("scan", "--path"),
    "picklescan": ("--path",),
    "fickling": ("--check-safety",),
}
_CODES: Final = {0: CLEAR, 1: FLAGGED}
_SECONDS = 300


def opinions(root: Path, names: Iterable[str], folder: Path | None = None) -> Mapping[str, str]:
    """Ask every other scanner that is installed about the files of a model.

    Args:
        root: The private copy of the model.
        names: Its files.
        folder: Where the programs lie; beside the Python that runs when None.

    Returns:
        Name of the scanner -> `flagged` when it found something in a file, `none` when it could not read one and
        found nothing in the others, `clear` when it found nothing at all. Only of those that are installed.
    """
    place = folder or Path(sys.prefix) / "bin"
    files = [root / name for name in names] if root.is_dir() else [root]
    told = {}
    for program, arguments in _PROGRAMS.items():
        if (place / program).is_file():
            heard = {_ask([str(place / program), *arguments, str(file.absolute())]) for file in files}
            told[program] = next(word for word in (FLAGGED, NONE, CLEAR) if word in heard)
    return told


def _ask(command: list[str]) -> str:
    """Run a scanner without a setting of ours in its environment, where it may write, and return its opinion."""
    with tempfile.TemporaryDirectory() as home:
        environment = {"PATH": os.environ.get("PATH", ""), "HOME": home, "NO_COLOR": "1"}
        try:
            done = subprocess.run(  # noqa: S603  (a program of this environment, on a file of ours)
                command, env=environment, cwd=home, capture_output=True, check=False, timeout=_SECONDS
            )
        except (subprocess.TimeoutExpired, OSError):
            return NONE
    return _CODES.get(done.returncode, NONE)
