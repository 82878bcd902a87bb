"""Last step of the final stage: take away what a task does not need.

Of the programs of the base image these stay: the shell and `mktemp`, which KFP's command line uses, Python, and
`ldconfig`, by which Python finds shared libraries. The record of the installed packages (/var/lib/dpkg) stays for
scanners.
"""

import os
import re
import shutil
import stat
import sysconfig
from pathlib import Path

FOLDERS = ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin")
KEPT = re.compile(r"sh|dash|mktemp|ldconfig(\.real)?|python3(\.\d+)?")
UNUSED = ("/usr/lib/apt", "/usr/share/doc", "/usr/share/man", "/usr/share/info", "/usr/share/perl5")


def main() -> None:
    """Remove programs, installers and set-user-id bits; name the user that a task runs as."""
    stamp = int(os.environ["SOURCE_DATE_EPOCH"])
    touched = set()
    for folder in dict.fromkeys(Path(name).resolve() for name in FOLDERS):
        for path in folder.iterdir() if folder.is_dir() else ():
            if not KEPT.fullmatch(path.name):
                path.unlink()
        touched.add(folder)
    for name in (*UNUSED, *installers()):
        shutil.rmtree(name, ignore_errors=True)
        touched.add(Path(name).parent)
    for path in Path("/usr").rglob("*"):
        mode = path.lstat().st_mode
        if stat.S_ISREG(mode) and mode & (stat.S_ISUID | stat.S_ISGID):
            path.chmod(stat.S_IMODE(mode) & 0o777)
    entries = {"passwd": "custody:x:65532:65532:kfp-custody:/tmp:/usr/sbin/nologin", "group": "custody:x:65532:"}
    for name, line in entries.items():
        with open(f"/etc/{name}", "a") as file:
            file.write(f"{line}\n")
        touched.add(Path("/etc"))
        os.utime(f"/etc/{name}", (stamp, stamp))
    for path in touched:
        if path.is_dir():
            os.utime(path, (stamp, stamp))


def installers() -> list[str]:
    """Return where pip, setuptools and their seeds lie in the base image's own Python."""
    library = sysconfig.get_path("stdlib")
    names = ("ensurepip", "idlelib", "lib2to3", "test", "site-packages", "turtledemo")
    return [f"{library}/{name}" for name in names] + ["/usr/lib/python3/dist-packages", "/usr/share/python-wheels"]


if __name__ == "__main__":
    main()
