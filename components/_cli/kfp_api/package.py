"""A compiled pipeline as a file: which one is meant, what it is called, what it says about itself."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

from kfp_custody.components._shared import codes
from kfp_custody.components._shared.digests import sha256_bytes
from kfp_custody.components._shared.errors import InputRefused, Misconfigured
from kfp_custody.components._shared.images import VERSION
from kfp_custody.components._shared.kfp_api.parameters import inputs, required

MAX_BYTES: Final = 32 * 1024 * 1024  # what the server's upload takes
_SHIPPED: Final = "kfp_custody.pipelines"


@dataclass(frozen=True)
class Package:
    """A compiled pipeline.

    `data`: the file as it was read: what was checked is what is sent. `spec`: its pipeline spec; `platform`: its
    platform spec, empty when it has none; `shipped`: it came with this package, whose version then says something.
    """

    data: bytes = field(repr=False)
    spec: Mapping[str, Any] = field(repr=False)
    platform: Mapping[str, Any] = field(repr=False)
    shipped: bool

    @property
    def name(self) -> str:
        """The pipeline's own name."""
        return str(self.spec["pipelineInfo"]["name"])

    @property
    def version(self) -> str:
        """The name of the version that these bytes are uploaded as: other bytes get another name."""
        digest = sha256_bytes(self.data)[:12]
        return f"{VERSION}-{digest}" if self.shipped else digest

    @property
    def description(self) -> str:
        """What the server should show, as Markdown: the docstring, and what the form for a run does not say."""
        said = str(self.spec["pipelineInfo"].get("description", "")).strip()
        rows = [
            f"| `{name}` | {_cell('required' if required(definition) else definition.get('defaultValue', ''))} "
            f"| {_cell(definition.get('description', ''))} |"
            for name, definition in sorted(inputs(self.spec).items())
        ]
        table = "\n".join(["| parameter | default | meaning |", "|---|---|---|", *rows]) if rows else ""
        return "\n\n".join(part for part in (said, table) if part)


def is_package(pipeline: str) -> bool:
    """Tell whether what a user calls a pipeline is one that is here, shipped or as a file."""
    return _shipped(pipeline) or Path(pipeline).exists() or pipeline.endswith((".yaml", ".yml"))


def load_package(pipeline: str) -> Package:
    """Read a compiled pipeline.

    Args:
        pipeline: The name of a shipped pipeline, or the path of a YAML file.

    Raises:
        InputRefused: there is no such pipeline, or the file holds none.
        OSError: the file cannot be read.
    """
    if _shipped(pipeline):
        return _read(Path(str(files(_SHIPPED) / pipeline.replace("-", "_") / "pipeline.yaml")), shipped=True)
    if not Path(pipeline).is_file():
        raise InputRefused(
            "There is no such pipeline here.",
            evidence=f"{pipeline} is no file and none of {', '.join(shipped_names())}",
            remedy="Name a shipped pipeline, or the YAML file that kfp.compiler wrote.",
            code=codes.PIPELINE_FILE,
        )
    return _read(Path(pipeline), shipped=False)


def shipped_names() -> list[str]:
    """Return the names of the pipelines that come with this package."""
    return sorted(entry.name for entry in files(_SHIPPED).iterdir() if (entry / "pipeline.yaml").is_file())


def _shipped(pipeline: str) -> bool:
    return bool(re.fullmatch(r"[a-z][a-z0-9_-]*", pipeline)) and pipeline.replace("-", "_") in shipped_names()


def _read(path: Path, *, shipped: bool) -> Package:
    import yaml

    with path.open("rb") as file:
        data = file.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise _no_pipeline(path, f"it has more than {MAX_BYTES} bytes")
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # ten times faster where libyaml is there
    try:
        documents = list(yaml.load_all(data, Loader=loader))  # noqa: S506  (either is a safe loader)
    except (yaml.YAMLError, UnicodeDecodeError, ValueError, TypeError, RecursionError) as error:
        raise _no_pipeline(path, f"it cannot be read as YAML ({type(error).__name__})") from error
    spec = documents[0] if documents and isinstance(documents[0], dict) else {}
    if spec.get("kind") == "Workflow":
        raise _no_pipeline(path, "it is an Argo workflow, as kfp 1 compiled it")
    info = spec.get("pipelineInfo")
    whole = isinstance(info, dict) and isinstance(info.get("name"), str) and isinstance(spec.get("root"), dict)
    if not whole or len(documents) > 2 or not all(isinstance(document, dict) for document in documents):
        raise _no_pipeline(path, "it has no pipelineInfo with a name and no root")
    return Package(data, spec, documents[1] if len(documents) == 2 else {}, shipped)


def read_description(text: str) -> str:
    """Return a description: the text itself, or what stands in the file that it names.

    Raises:
        Misconfigured: the file is no text.
        OSError: the file cannot be read.
    """
    try:
        return Path(text).read_text(encoding="utf-8") if len(text) < 256 and Path(text).is_file() else text
    except UnicodeDecodeError as error:
        raise Misconfigured(
            "The description is no text.",
            evidence=f"{text} is not UTF-8",
            remedy="Name a Markdown file.",
            code=codes.NOT_UTF8,
        ) from error


def _no_pipeline(path: Path, why: str) -> InputRefused:
    return InputRefused(
        "The file is no compiled pipeline.",
        evidence=f"{path}: {why}",
        remedy="Compile the pipeline with kfp 2 (kfp.compiler.Compiler().compile) and name the YAML that it writes.",
        code=codes.PIPELINE_FILE,
    )


def _cell(value: object) -> str:
    return " ".join(str(value).split()).replace("|", r"\|")
