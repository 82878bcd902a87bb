"""Writing so that nothing half-written is ever found: to a temporary sibling, then one rename."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def atomic_directory(target: Path) -> Iterator[Path]:
    """Yield a temporary sibling of `target` that becomes `target` when the block ends well.

    A block that raises leaves nothing. A process that is killed leaves only a sibling named `.<name>.*.partial`,
    which no stage reads.

    Raises:
        OSError: the place cannot be written, or `target` exists and is not an empty directory.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".partial", dir=target.parent))
    try:
        yield partial
        partial.chmod(0o755)
        if target.is_dir():
            target.rmdir()  # kfp.local may have made it; a non-empty one is somebody else's
        os.replace(partial, target)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def write_atomic(target: Path, data: bytes, mode: int = 0o644) -> None:
    """Write a file through a temporary sibling and one rename.

    Raises:
        OSError: the place cannot be written.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{target.name}.", suffix=".partial", dir=target.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            os.fchmod(file.fileno(), mode)
        os.replace(name, target)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def path_of(artifact: Any) -> Path | None:
    """Return where a KFP artifact lies that a stage can do without; None when it was not given."""
    return Path(artifact.path) if artifact else None
