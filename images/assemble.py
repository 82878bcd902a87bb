"""Last step of the build stages: leave what a task needs, the same bytes in every build.

    python3 assemble.py ENVIRONMENT EPOCH                           all libraries, in place
    python3 assemble.py ENVIRONMENT EPOCH --only NAME --out DIR     one package and the SBOM, copied to DIR

Sources in C, headers and the libraries' own tests are removed: nothing that runs reads them. Byte code is compiled that
does not look at time stamps, each package in a process of its own: what the compiler writes depends in small ways on
what it compiled before. At the end every file has the same time stamp.
"""

import argparse
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

UNREAD = (".a", ".c", ".cc", ".cpp", ".h", ".hpp", ".pxd", ".pxi", ".pyx")
# KFP for people who write and submit pipelines: it cannot even be imported without KFP's own requirements.
KFP_UNUSED = ("cli", "client", "compiler", "kubeflow_client", "local", "registry", "v2")


def main() -> None:
    """Prune, compile, stamp."""
    parser = argparse.ArgumentParser()
    parser.add_argument("environment", type=Path)
    parser.add_argument("epoch", type=int)
    parser.add_argument("--only", default="")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    root = arguments.environment
    packages = next(root.glob("lib/python3*/site-packages"))
    if arguments.only:
        compile_all([packages / arguments.only])
        for path in (*packages.glob(f"{arguments.only}*"), root / "sbom.cdx.json"):
            target = arguments.out / path.relative_to(root)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copytree(path, target) if path.is_dir() else shutil.copyfile(path, target)
        root = arguments.out
    else:
        prune(packages)
        compile_all(sorted(path for path in packages.iterdir() if path.is_dir() or path.suffix == ".py"))
    for path in (root, *root.rglob("*")):
        os.utime(path, (arguments.epoch, arguments.epoch), follow_symlinks=False)


def prune(packages: Path) -> None:
    """Remove what no running stage reads."""
    for folder in sorted((*packages.rglob("tests"), *packages.rglob("test_data"))):
        # In evidently, tests are a part of the library and no tests.
        if folder.name == "test_data" or any(folder.glob("test_*.py")):
            shutil.rmtree(folder, ignore_errors=True)
    for name in KFP_UNUSED:
        shutil.rmtree(packages / "kfp" / name)
    for path in sorted(packages.rglob("*")):
        if path.is_file() and (path.suffix in UNREAD or (packages / "kfp" in path.parents and "_test" in path.stem)):
            path.unlink()
    # Activation scripts and the commands of libraries: a task starts `python3 -m`, nothing else.
    for path in (packages.parents[2] / "bin").iterdir():
        if not path.name.startswith("python"):
            path.unlink()


def compile_all(paths: list[Path]) -> None:
    """Compile packages, as many at a time as there are processors."""

    def compile_one(path: Path) -> None:
        command = [sys.executable, "-m", "compileall", "-q", "-f", "--invalidation-mode=unchecked-hash", str(path)]
        # Some libraries ship templates and code for other versions, which do not compile: the exit code says no more.
        subprocess.run(command, check=False, stdout=subprocess.DEVNULL, env={**os.environ, "PYTHONHASHSEED": "0"})

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(compile_one, paths))


if __name__ == "__main__":
    main()
