"""Make base images where no registry can be reached: for tests only. Users build on the official python image.

    python tests/containers/local_base.py debian NAME      Debian's own Python, in /usr/bin
    python tests/containers/local_base.py official NAME    this Python in /usr/local, as the official image has it

Needs root, mmdebstrap, a Debian mirror, and a running engine.
"""

import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

SUITE = "bookworm"
COMMON = "ca-certificates"
# What a Python that was built from source links to.
LIBRARIES = "libbz2-1.0,libexpat1,libffi8,liblzma5,libncursesw6,libreadline8,libsqlite3-0,libssl3,libuuid1,zlib1g"
LEFT_OUT = ("site-packages", "test", "__pycache__", "idlelib")


def main(layout: str, name: str) -> None:
    """Make a root filesystem and import it under a name."""
    packages = {"debian": f"python3,python3-venv,{COMMON}", "official": f"{LIBRARIES},{COMMON}"}[layout]
    with tempfile.TemporaryDirectory() as folder:
        archive = Path(folder, "root.tar")
        bootstrap = ["mmdebstrap", "--quiet", "--variant=minbase", f"--include={packages}", SUITE, str(archive)]
        subprocess.run(bootstrap, check=True)
        if layout == "official":
            add_python(archive)
        subprocess.run(["docker", "import", str(archive), name], check=True, stdout=subprocess.DEVNULL)


def add_python(archive: Path) -> None:
    """Add this machine's Python to a root filesystem, in /usr/local."""
    prefix = Path(sys.base_prefix)
    if prefix == Path("/usr"):
        raise SystemExit("this machine's Python is Debian's own: there is no second layout to show")
    version = f"python3.{sys.version_info.minor}"

    def wanted(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
        member.uid = member.gid = 0
        parts = Path(member.name).parts
        return None if set(parts) & set(LEFT_OUT) or any(part.startswith("config-3") for part in parts) else member

    with tarfile.open(archive, "a") as tar:
        tar.add(prefix / "bin" / version, f"./usr/local/bin/{version}", filter=wanted)
        tar.add(prefix / "lib" / version, f"./usr/local/lib/{version}", filter=wanted)
        for library in prefix.glob("lib/libpython3*.so*"):  # where the linker looks without a cache
            tar.add(library, f"./usr/lib/{library.name}", filter=wanted)
        for link in ("python3", "python"):
            member = tarfile.TarInfo(f"./usr/local/bin/{link}")
            member.type, member.linkname = tarfile.SYMTYPE, version
            tar.addfile(member)


if __name__ == "__main__":
    if shutil.which("mmdebstrap") is None:
        sys.exit("mmdebstrap is needed: apt-get install mmdebstrap")
    main(*sys.argv[1:])
