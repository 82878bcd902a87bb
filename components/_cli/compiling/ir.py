"""KFP's own YAML, and its parts: what the compiler writes is kept as it is where nothing was asked to be different."""

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

# Read when KFP is imported: what is compiled must not depend on it.
os.environ.pop("KFP_DISABLE_EXECUTION_CACHING_BY_DEFAULT", None)

from kfp import compiler  # noqa: E402

MARK = "# PIPELINE DEFINITION"
"""How KFP begins every file that it writes."""


@dataclass(frozen=True)
class Compiled:
    """A compiled component or pipeline: the comment above, the pipeline spec, and what a platform is asked for."""

    header: str
    spec: dict[str, Any]
    platform: dict[str, Any] | None

    def text(self) -> str:
        """Return the file, as KFP's compiler would have written it."""
        documents = [self.spec] if self.platform is None else [self.spec, self.platform]
        return self.header + yaml.dump_all(documents, sort_keys=True)


def compile_item(item: Any) -> Compiled:
    """Compile a component or pipeline."""
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder, "compiled.yaml")
        compiler.Compiler().compile(item, str(target))
        return read(target.read_text(encoding="utf-8"))


def read(text: str) -> Compiled:
    """Take a compiled file apart."""
    lines = text.splitlines(keepends=True)
    end = next(number for number, line in enumerate(lines) if not line.startswith("#"))
    spec, *platform = yaml.safe_load_all(text)
    return Compiled("".join(lines[:end]), spec, platform[0] if platform else None)
