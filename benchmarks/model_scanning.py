"""What scan_model lets through, refuses and costs, beside other scanners.

The files are those of its tests (tests/unit/model_scanning): inert files that must not pass (malicious, damaged, or of
a format that is not read), files that real libraries write, and a pickle of 118 MB. A file counts as let through when
a scanner does not flag it, also when it skipped it or failed on it: that is what a pipeline would see that goes by what
was flagged. A benign file counts as refused when it is flagged, and as unread when the scanner failed on it.

Peers run in an environment of their own and are asked through their Python API, all files in one process:
`BENCH_SCANNERS=/path/to/bin/python`, where modelscan, picklescan and fickling are installed. Without it only our own
figures are printed. CPU seconds are those of scanning, without the start of Python.
"""

import json
import os
import pickle
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from _table import ROOT, Result, publish

sys.path.insert(0, str(ROOT / "tests/unit/model_scanning"))
from benign_files import benign_files  # noqa: E402
from malicious_files import malicious_files  # noqa: E402

from kfp_custody.components.model_scanning.allowing import load_allowed  # noqa: E402
from kfp_custody.components.model_scanning.formats import FAILED, Scanner, format_of  # noqa: E402
from kfp_custody.components.model_scanning.scanning import mapped  # noqa: E402

PEERS = ("modelscan", "picklescan", "fickling")
ENDINGS = {"json": ".json", "ubj": ".ubj", "pickle": ".pkl", "zip": ".zip", "npy": ".npy", "tar": ".tar"}
LARGE = 118_000_000
# Reads names of files, one a line, and writes for each what the scanner said and took.
ASK = """
import json, logging, sys, time
logging.disable(logging.CRITICAL)
name, told = sys.argv[1], {}
if name == "modelscan":
    from modelscan.modelscan import ModelScan
    def ask(path):
        found = ModelScan().scan(path)
        return "flagged" if found["issues"] else "error" if found["errors"] else "clear"
elif name == "picklescan":
    from picklescan.scanner import scan_file_path
    def ask(path):
        found = scan_file_path(path)
        return "flagged" if found.issues_count else "error" if found.scan_err else "clear"
else:
    from fickling.analysis import Severity, check_safety
    from fickling.fickle import StackedPickle
    def ask(path):
        with open(path, "rb") as file:
            found = [check_safety(each).severity for each in StackedPickle.load(file)]
        is_safe = all(each == Severity.LIKELY_SAFE for each in found)
        return "error" if not found else "clear" if is_safe else "flagged"
for path in sys.stdin.read().splitlines():
    start = time.process_time()
    try:
        said = ask(path)
    except BaseException:
        said = "error"
    told[path] = said, time.process_time() - start
sys.__stdout__.write("\\n" + json.dumps(told))
"""
Told = Mapping[str, tuple[str, float]]


def main() -> int:
    """Write the files, ask everybody, publish."""
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        hostile = malicious_files(root / "marker")
        bad = _written(root / "bad", [data for files in hostile.values() for data in files])
        good = _written(root / "good", [data for n, data in benign_files().items() if not n.startswith("by hand")])
        large = root / "large.pkl"
        large.write_bytes(pickle.dumps([np.zeros(LARGE // 8), list(range(1000))], 4))
        files = [*bad, *good, str(large)]
        told = {"": _ours(files, root)} | {peer: _theirs(peer, files, root) for peer in PEERS if _python()}
        assert not (root / "marker").exists()
        print(f"{len(bad)} files that must not pass, of {len(hostile)} kinds, {len(good)} benign files")
        results = []
        for peer in list(told)[1:] or [None]:
            results += _rows(told[""], told[peer] if peer else None, peer, bad, good, str(large))
    if not _python():
        print("Other scanners were left out: BENCH_SCANNERS names no Python that has them.")
    return 0 if publish("model_scanning", results) else 1


def _rows(
    ours: Told, theirs: Told | None, peer: str | None, bad: list[str], good: list[str], large: str
) -> list[Result]:
    def count(told: Told | None, paths: list[str], *said: str) -> float | None:
        return None if told is None else float(sum(told[path][0] in said for path in paths))

    def seconds(told: Told | None, paths: list[str]) -> float | None:
        return None if told is None else sum(told[path][1] for path in paths)

    rows = (
        ("files let through that must not pass", bad, ("clear", "error"), 0.0),
        ("of these, failed on without a finding", bad, ("error",), None),
        ("benign files refused", good, ("flagged",), 0.0),
        ("benign files unread", good, ("error",), 0.0),
    )
    results = [
        Result(name, count(ours, paths, *said) or 0.0, count(theirs, paths, *said), "files", goal, True, peer)
        for name, paths, said, goal in rows
    ]
    for name, paths, goal in (("all these files", bad + good, None), ("a pickle of 118 MB", [large], 1.0)):
        results.append(Result(name, seconds(ours, paths) or 0.0, seconds(theirs, paths), "CPU s", goal, True, peer))
    return results


def _written(folder: Path, contents: list[bytes]) -> list[str]:
    """Write files under the endings that other scanners go by."""
    folder.mkdir()
    paths = []
    for number, data in enumerate(contents):
        path = folder / f"{number}{ENDINGS.get(format_of(memoryview(data)), '.joblib')}"
        path.write_bytes(data)
        paths.append(str(path))
    return paths


def _ours(paths: list[str], scratch: Path) -> Told:
    allowed, told = load_allowed("default"), {}
    for path in paths:
        start = time.process_time()
        found = list(Scanner(allowed, scratch).scan(mapped(Path(path)), "file"))
        said = "flagged" if found[0].verdict == FAILED else "clear"
        told[path] = said, time.process_time() - start
    return told


def _python() -> str:
    return os.environ.get("BENCH_SCANNERS", "")


def _theirs(peer: str, paths: list[str], folder: Path) -> Told:
    done = subprocess.run(
        [_python(), "-c", ASK, peer], input="\n".join(paths), capture_output=True, text=True, check=True, cwd=folder
    )
    return {path: tuple(said) for path, said in json.loads(done.stdout.rpartition("\n")[2]).items()}


if __name__ == "__main__":
    raise SystemExit(main())
