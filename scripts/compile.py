"""Write what the code says: component.yaml, pipeline.yaml and the generated parts of the READMEs.

    python scripts/compile.py            write the files that changed
    python scripts/compile.py --check    write nothing; name what is stale or left over, and exit 1

The committed YAML is golden file and release file in one: nothing in it depends on the time, the machine or the
environment, and nothing is skipped when it is compared.
"""

import argparse
import importlib
import os
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

# Read by the compiler when a pipeline is built: what is committed must not depend on it.
os.environ.pop("KFP_DISABLE_EXECUTION_CACHING_BY_DEFAULT", None)

from kfp import compiler  # noqa: E402

from kfp_custody import components  # noqa: E402
from kfp_custody.components._shared.codes import CODES  # noqa: E402
from kfp_custody.components.policy_gate.chain_drawing import draw_chain  # noqa: E402

ROOT = Path(__file__).resolve().parent.parent


def main(argv: list[str] | None = None) -> int:
    """Write or check every generated file; return the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 and name what is stale")
    check = parser.parse_args(argv).check

    wanted = generated()
    stale = sorted(path for path, text in wanted.items() if not path.is_file() or path.read_bytes() != text.encode())
    left_over = sorted(path for path in ROOT.glob("*/*/*.yaml") if path not in wanted and is_compiled(path))
    for path in left_over:
        print(f"left over: {path.relative_to(ROOT)} belongs to no component or pipeline: remove it", file=sys.stderr)
    for path in stale:
        if check:
            print(f"stale: {path.relative_to(ROOT)}: run make compile and commit", file=sys.stderr)
        else:
            path.write_bytes(wanted[path].encode())
            print(f"wrote {path.relative_to(ROOT)}")
    return 1 if left_over or (check and stale) else 0


def generated() -> dict[Path, str]:
    """Return the text of every generated file. A room's first function in the catalog is its component.yaml."""
    files: dict[Path, str] = {}
    catalogue = []
    for room in dict.fromkeys(components.CATALOG.values()):
        folder = ROOT / "components" / room
        specs: list[str] = []
        for function in (name for name, home in components.CATALOG.items() if home == room):
            component = getattr(components, function)
            files[folder / (f"{function}.yaml" if specs else "component.yaml")] = compiled(component)
            specs.append(spec_tables(function, component.component_spec))
            catalogue.append(catalogue_row(function, room, component.component_spec))
        files[folder / "README.md"] = with_block(folder / "README.md", "spec", "\n\n".join(specs))
    for source in sorted(ROOT.glob("pipelines/*/pipeline.py")):
        name = source.parent.name
        pipeline = getattr(importlib.import_module(f"kfp_custody.pipelines.{name}.pipeline"), name)
        files[source.with_name("pipeline.yaml")] = compiled(pipeline)
        readme = source.with_name("README.md")
        files[readme] = with_block(readme, "spec", spec_tables(name, pipeline.component_spec))
    files[ROOT / "pipelines/fraud_detection/chain.svg"] = draw_chain((), "PASSED", {}) + "\n"
    files[ROOT / "README.md"] = with_block(
        ROOT / "README.md", "components", table(("component", "takes", "gives", "in one line"), catalogue)
    )
    codes = ((f"`{code}`", meaning) for code, meaning in sorted(CODES.items()))
    files[ROOT / "SECURITY.md"] = with_block(ROOT / "SECURITY.md", "codes", table(("code", "refused because"), codes))
    return files


def is_compiled(path: Path) -> bool:
    """Tell a compiled file from a policy or a configuration that lies beside it."""
    return path.read_bytes().startswith(b"# PIPELINE DEFINITION")


def compiled(item: Any) -> str:
    """Return the YAML of one component or pipeline."""
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder, "compiled.yaml")
        compiler.Compiler().compile(item, str(target))
        return target.read_text(encoding="utf-8")


def with_block(path: Path, name: str, block: str) -> str:
    """Return the text of a README with the part between its two markers replaced."""
    begin, end = f"<!-- {name}:begin -->", f"<!-- {name}:end -->"
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    before, found_begin, rest = text.partition(begin)
    _, found_end, after = rest.partition(end)
    if not (found_begin and found_end):
        raise SystemExit(f"{path.relative_to(ROOT)} needs the lines {begin} and {end}")
    return f"{before}{begin}\n{block}\n{end}{after}"


def spec_tables(function: str, spec: Any) -> str:
    """Return the tables of a component's inputs and outputs, from its compiled interface."""
    inputs = [
        (f"`{name}`", kind(item.type), default(item), item.description) for name, item in (spec.inputs or {}).items()
    ]
    outputs = [(f"`{name}`", kind(item.type), item.description) for name, item in (spec.outputs or {}).items()]
    parts = [f"### `{function}`", table(("input", "type", "default", "description"), inputs)]
    parts += [table(("output", "type", "description"), outputs)] if outputs else []
    return "\n\n".join(parts)


def catalogue_row(function: str, room: str, spec: Any) -> tuple[str, str, str, str]:
    """Return one row of the component table: the artifacts on both sides and the first sentence."""
    takes, gives = (
        ", ".join(dict.fromkeys(kind(item.type) for item in (side or {}).values() if "@" in str(item.type)))
        for side in (spec.inputs, spec.outputs)
    )
    sentence, _, _ = " ".join((spec.description or "").split()).partition(". ")
    return f"[`{function}`](components/{room}/)", takes or "-", gives or "-", sentence.removesuffix(".")


def kind(type_name: Any) -> str:
    """Return the name of a type as a reader knows it: system.MaskedDataset@0.0.1 is MaskedDataset."""
    return str(type_name).rpartition("@")[0].rpartition(".")[2] or str(type_name)


def default(item: Any) -> str:
    """Return how a table shows an input's default."""
    if not item.optional:
        return "required"
    return "-" if item.default is None else f"`{item.default!r}`"


def table(header: Iterable[str], rows: Iterable[Iterable[str | None]]) -> str:
    """Return a Markdown table; cells keep to one line each."""
    lines = [tuple(header)]
    lines += [tuple(" ".join((cell or "").split()).replace("|", r"\|") for cell in row) for row in rows]
    header_line, *row_lines = (f"| {' | '.join(line)} |" for line in lines)
    return "\n".join((header_line, "|---" * len(lines[0]) + "|", *row_lines))


if __name__ == "__main__":
    sys.exit(main())
