"""Write what the code says: compiled YAML, manifests and the generated parts of the READMEs.

    python scripts/compile.py            write the files that changed
    python scripts/compile.py --check    write nothing; name what is stale or left over, and exit 1

The committed YAML is golden file and release file in one: nothing in it depends on the time, the machine or the
environment, and nothing is skipped when it is compared.
"""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from monitoring import monitoring

from kfp_custody.components import CATALOG
from kfp_custody.components._cli.compiling import elyra, gitops, ir
from kfp_custody.components._cli.compiling.formats import Wishes, as_gitops, compiled, elyra_text
from kfp_custody.components._cli.compiling.tables import interface_tables, kind, table
from kfp_custody.components._cli.compiling.targets import find
from kfp_custody.components._shared.codes import CODES
from kfp_custody.components.policy_gate.chain_drawing import draw_chain
from kfp_custody.components.seldon_deployment.door import rendering
from kfp_custody.components.seldon_deployment.door.objects import Place
from kfp_custody.components.seldon_deployment.door.spec import load_door

ROOT = Path(__file__).resolve().parent.parent


def main(argv: list[str] | None = None) -> int:
    """Write or check every generated file; return the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 and name what is stale")
    check = parser.parse_args(argv).check

    wanted = generated()
    stale = sorted(path for path, text in wanted.items() if not path.is_file() or path.read_bytes() != text.encode())
    left_over = sorted(path for path in yaml_files() if path not in wanted and is_compiled(path))
    for path in left_over:
        print(f"left over: {path.relative_to(ROOT)} is written by nothing any more: remove it", file=sys.stderr)
    for path in stale:
        if check:
            print(f"stale: {path.relative_to(ROOT)}: run make compile and commit", file=sys.stderr)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(wanted[path].encode())
            print(f"wrote {path.relative_to(ROOT)}")
    return 1 if left_over or (check and stale) else 0


def generated() -> dict[Path, str]:
    """Return the text of every generated file. A room's first function in the catalog is its component.yaml."""
    files: dict[Path, str] = {}
    catalogue = []
    for room in dict.fromkeys(CATALOG.values()):
        folder = ROOT / "components" / room
        specs: list[str] = []
        for function in (name for name, home in CATALOG.items() if home == room):
            target = find(function)
            files[folder / (f"{function}.yaml" if specs else "component.yaml")] = compiled(target, Wishes()).text()
            if target.stands_alone:
                files[folder / (f"{function}.elyra.yaml" if specs else "elyra.yaml")] = elyra_text(target, Wishes())
            specs.append(spec_tables(function, target.item.component_spec))
            catalogue.append(catalogue_row(function, room, target.item.component_spec))
        files[folder / "README.md"] = with_block(folder / "README.md", "spec", "\n\n".join(specs))
    pipelines = [find(source.parent.name) for source in sorted(ROOT.glob("pipelines/*/pipeline.py"))]
    for target in pipelines:
        folder = ROOT / "pipelines" / target.name
        files[folder / "pipeline.yaml"] = compiled(target, Wishes()).text()
        tables = spec_tables(target.name, target.item.component_spec)
        files[folder / "README.md"] = with_block(folder / "README.md", "spec", tables)
    manifests = as_gitops(pipelines, Wishes())
    files |= {ROOT / "manifests" / "pipelines" / name: text for name, text in manifests.items()}
    door = load_door(ROOT / "manifests/door/door.yaml")
    for form, gateway in rendering.GATEWAYS.items():
        place = Place(namespace="custody-production", gateway_namespace=gateway)
        made = rendering.as_component(door, place, form)
        files |= {ROOT / "manifests/components" / f"door-{form}" / name: text for name, text in made.items()}
    files |= monitoring(ROOT / "manifests/components/monitoring")
    files[ROOT / "pipelines/fraud_detection/chain.svg"] = draw_chain((), "PASSED", {}) + "\n"
    files[ROOT / "README.md"] = with_block(
        ROOT / "README.md", "components", table(("component", "takes", "gives", "in one line"), catalogue)
    )
    codes = ((f"`{code}`", meaning) for code, meaning in sorted(CODES.items()))
    files[ROOT / "SECURITY.md"] = with_block(ROOT / "SECURITY.md", "codes", table(("code", "refused because"), codes))
    return files


def yaml_files() -> Iterator[Path]:
    """Yield every YAML file, at any depth, of the folders that generated files lie in."""
    for folder in ("components", "pipelines", "manifests"):
        yield from (ROOT / folder).rglob("*.yaml")


def is_compiled(path: Path) -> bool:
    """Tell a compiled file from a policy or a configuration that lies beside it."""
    return path.read_text(encoding="utf-8").startswith((ir.MARK, elyra.MARK, gitops.MARK, rendering.MARK))


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
    """Return the part of a README that says what goes in and comes out."""
    return f"### `{function}`\n\n{interface_tables(spec)}"


def catalogue_row(function: str, room: str, spec: Any) -> tuple[str, str, str, str]:
    """Return one row of the component table: the artifacts on both sides and the first sentence."""
    takes, gives = (
        ", ".join(dict.fromkeys(kind(item) for item in (side or {}).values() if "@" in str(item.type)))
        for side in (spec.inputs, spec.outputs)
    )
    sentence, _, _ = " ".join((spec.description or "").split()).partition(". ")
    return f"[`{function}`](components/{room}/)", takes or "-", gives or "-", sentence.removesuffix(".")


if __name__ == "__main__":
    sys.exit(main())
