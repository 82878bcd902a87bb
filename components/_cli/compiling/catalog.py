"""A component in the layout of kubeflow/pipelines-components, to be donated there.

    components/<category>/<function>/  component.py  metadata.yaml  README.md  OWNERS  tests/test_component_unit.py

What that catalog asks for, and so differs from ours: a `component.py` imports nothing but KFP at its top, so artifacts
have KFP's own types and the order of the stages is no longer guarded by types; the body is the same and the evidence is
checked as ever. The image must be added to the catalog's list of allowed base images.
"""

import ast
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import yaml

from kfp_custody.components._cli.compiling.tables import interface_tables, kind, table
from kfp_custody.components._cli.compiling.targets import Target
from kfp_custody.components._shared.images import VERSION

_KFP = ">=2.17.0"
_KFP_TYPES = {"Artifact", "ClassificationMetrics", "Dataset", "HTML", "Markdown", "Metrics", "Model"}
_HOME = "https://github.com/kfp-custody/kfp-custody"


@dataclass(frozen=True)
class Entry:
    """What the catalog wants to know of a room and the code does not say. `services`: name -> version."""

    category: str
    tags: tuple[str, ...]
    services: tuple[tuple[str, str], ...] = ()


_ENTRIES = {
    "data_versioning": Entry("data_processing", ("supply-chain", "provenance", "dvc", "git-lfs")),
    "pii_masking": Entry("data_processing", ("privacy", "pii", "masking")),
    "data_attestation": Entry("data_processing", ("supply-chain", "in-toto", "attestation", "dvc")),
    "model_training": Entry("training", ("classification", "provenance", "slsa"), (("MLflow", ">=3.17.2"),)),
    "model_scanning": Entry("evaluation", ("supply-chain", "pickle", "malware", "in-toto")),
    "artifact_signing": Entry("training", ("supply-chain", "signing", "openssf")),
    "retraining": Entry("monitoring", ("retraining", "schedule", "in-toto")),
    "metrics_publishing": Entry("evaluation", ("monitoring", "prometheus"), (("Pushgateway", ">=1.5.1"),)),
    "inference_monitoring": Entry("evaluation", ("monitoring", "drift", "adversarial", "in-toto")),
    "poisoning_screen": Entry("evaluation", ("poisoning", "data-quality", "in-toto")),
    "drift_detection": Entry("evaluation", ("drift", "monitoring", "in-toto")),
    "drift_reporting": Entry("evaluation", ("drift", "evidently")),
    "robustness_audit": Entry("evaluation", ("adversarial", "robustness", "in-toto")),
    "policy_gate": Entry("evaluation", ("supply-chain", "policy", "slsa")),
    "seldon_deployment": Entry("deployment", ("serving", "supply-chain"), (("Seldon Core", ">=2.6.0"),)),
}


def entry_files(target: Target, image: str, owners: Sequence[str], verified: str) -> dict[str, str]:
    """Return the files of a component's entry: path -> text.

    Args:
        target: A component of ours.
        image: Its base image.
        owners: GitHub names of those who approve changes.
        verified: When it was last verified, RFC 3339 in UTC.
    """
    about = _ENTRIES[target.room]
    folder = f"components/{about.category}/{target.name}"
    metadata: dict[str, Any] = {
        "name": target.name,
        "stability": "alpha",
        "dependencies": {"kubeflow": [{"name": "Pipelines", "version": _KFP}]},
        "tags": list(about.tags),
        "links": {"documentation": _HOME, "issue_tracker": f"{_HOME}/issues"},
    }
    if about.services:
        metadata["dependencies"]["external_services"] = [
            {"name": name, "version": version} for name, version in about.services
        ]
    # Written by hand: the catalog reads a timestamp, and YAML would quote a text that looks like one.
    written = yaml.safe_dump(metadata, sort_keys=False).replace("tags:", f"lastVerified: {verified}\ntags:", 1)
    files = {
        "__init__.py": f'"""{target.name}: see component.py."""\n',
        "component.py": component_source(target, image),
        "metadata.yaml": f"---\n{written}",
        "README.md": _readme(target, about, verified, owners),
        "OWNERS": yaml.safe_dump({"approvers": list(owners)}),
        "tests/__init__.py": f'"""Tests of {target.name}."""\n',
        "tests/test_component_unit.py": _test(target),
    }
    return {f"{folder}/{name}": text for name, text in files.items()}


def component_source(target: Target, image: str) -> str:
    """Return a component.py that imports KFP alone, with the one function in it."""
    path = Path(str(import_module(f"kfp_custody.components.{target.room}.component").__file__))
    source = path.read_text(encoding="utf-8")
    function = next(
        node for node in ast.parse(source).body if isinstance(node, ast.FunctionDef) and node.name == target.name
    )
    lines = source.splitlines()
    first_of_body = function.body[0].lineno - 1
    head = "\n".join(lines[function.decorator_list[0].lineno - 1 : first_of_body])
    body = "\n".join(lines[first_of_body : function.end_lineno])
    head = re.sub(r'image\("[a-z_]+"\)', f'"{image}"', head)
    names = set(re.findall(r"(?:Input|Output)\[(\w+)\]", head))
    for name in sorted(names - _KFP_TYPES):
        head = re.sub(rf"\[{name}\]", "[Artifact]", head)
    used = sorted({"Artifact", *names, "Input", "Output"} & {*re.findall(r"\w+", head)}, key=_isort)
    types = f"from kfp.dsl import {', '.join(used)}\n" if used else ""
    return (
        "# ruff: noqa: D417  (KFP reads the descriptions of outputs under Returns, and nowhere else)\n"
        f'"""{target.name}, from kfp-custody {VERSION}: {_HOME}."""\n\n'
        f"from kfp import dsl\n{types}\n\n{head}\n{body}\n"
    )


def _isort(name: str) -> tuple[bool, str]:
    """Sort as their linter does: constants (HTML) before classes."""
    return not name.isupper(), name


def _shown(item: Any) -> str:
    """Return the type of an artifact as component.py has it, or of a parameter."""
    name = kind(item)
    return "Artifact" if "@" in str(item.type) and name not in _KFP_TYPES else name


def _readme(target: Target, about: Entry, verified: str, owners: Sequence[str]) -> str:
    """Return a README like those that the catalog generates; what follows its marker survives that."""
    spec = target.item.component_spec
    facts = [
        ("stability", "alpha"),
        ("Kubeflow Pipelines", _KFP),
        *about.services,
        ("tags", ", ".join(about.tags)),
        ("last verified", verified),
        ("approvers", ", ".join(owners)),
    ]
    return "\n\n".join(
        (
            f"# {target.name}",
            "## Overview",
            (spec.description or "").strip(),
            "## Inputs and outputs",
            interface_tables(spec, _shown),
            "## Metadata",
            table(("what", "value"), facts),
            "<!-- custom-content -->",
            "## Chain of custody",
            f"This is one stage of [kfp-custody]({_HOME}). In this catalog artifacts have KFP's own types, so KFP does "
            "not see when stages are wired in an unsafe order; the stages find out when they run. Import the component "
            "from `kfp_custody.components` to have it refused when the pipeline is compiled.\n",
        )
    )


def _test(target: Target) -> str:
    """Return a unit test in the catalog's manner: what the component promises, without running it."""
    spec = target.item.component_spec
    return f'''"""What {target.name} promises to those who wire it."""

from kfp import compiler

from ..component import {target.name}


def test_inputs_and_outputs():
    """They are the published ones."""
    spec = {target.name}.component_spec
    assert sorted(spec.inputs) == {_listed(spec.inputs)}
    assert sorted(spec.outputs or {{}}) == {_listed(spec.outputs)}


def test_it_compiles(tmp_path):
    """It needs nothing but KFP to do so."""
    target = tmp_path / "component.yaml"
    compiler.Compiler().compile({target.name}, str(target))
    assert target.read_text().startswith("# PIPELINE DEFINITION")
'''


def _listed(names: Iterable[str] | None) -> str:
    """Return a list as ruff formats it."""
    return "[" + "".join(f'\n        "{name}",' for name in sorted(names or ())) + "\n    ]" if names else "[]"
