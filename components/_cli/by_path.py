"""A stage by plain paths and values, for tools that know nothing of KFP's executor: Elyra, a shell.

    python3 -m kfp_custody.components._cli.by_path mask_pii --data raw/ --masked out/masked --run_id r1 ...

Interface and code are read from the component's own compiled file, and KFP's executor runs it: the very same function
as in a pipeline. What KFP would keep as an artifact's metadata (metrics, say) is written as JSON to the artifact's
path, where the stage leaves no file itself.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from kfp_custody.components import CATALOG
from kfp_custody.components._cli.compiling.interface import container, definitions, interface, read_spec
from kfp_custody.components._shared.errors import CustodyError, Misconfigured, boundary

# No contract has another type of parameter.
_READ: dict[str, Callable[[str], Any]] = {"STRING": str, "NUMBER_INTEGER": int, "NUMBER_DOUBLE": float}


def main(argv: Sequence[str] | None = None) -> int:
    """Run a stage; returns its exit status."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    first = argparse.ArgumentParser(prog="by_path")
    first.add_argument("function", choices=list(CATALOG))
    function = first.parse_args(arguments[:1]).function
    spec = read_spec(function)
    component = interface(spec)
    given = vars(_parser(function, component).parse_args(arguments[1:]))
    try:
        with boundary():
            _require_run(given)
            return _execute(function, container(spec)["command"][-1], component, given)
    except CustodyError as refusal:
        print(f"REFUSED {type(refusal).__name__}: {refusal}", file=sys.stderr)
        return 1


def _parser(function: str, component: dict[str, Any]) -> argparse.ArgumentParser:
    """Make an option of every input and output."""
    parser = argparse.ArgumentParser(prog=f"by_path {function}", allow_abbrev=False)
    for side in ("input", "output"):
        for name, definition in definitions(component, side, "artifacts").items():
            needed = not definition.get("isOptional")
            parser.add_argument(*_flags(name), dest=name, metavar="PATH", required=needed)
    for name, definition in definitions(component, "input", "parameters").items():
        kind = _READ[definition["parameterType"]]
        parser.add_argument(
            *_flags(name),
            dest=name,
            type=kind,
            required=not definition.get("isOptional"),
            default=kind(definition["defaultValue"]) if "defaultValue" in definition else None,
        )
    for name in definitions(component, "output", "parameters"):
        parser.add_argument(*_flags(name), dest=name, metavar="PATH")
    return parser


def _flags(name: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys((f"--{name}", f"--{name.replace('_', '-')}")))


def _require_run(given: dict[str, Any]) -> None:
    """Refuse a run id that nobody filled in: it would be the same in every run.

    Raises:
        Misconfigured: it is a placeholder still.
    """
    if "{{" in given["run_id"]:
        raise Misconfigured(
            "The id of the run was not filled in.",
            evidence=f"run_id is {given['run_id'][:80]!r}",
            remedy="Let KFP fill it in (as a task's own value, not as a default), or give the id of the run.",
        )


def _execute(function: str, source: str, component: dict[str, Any], given: dict[str, Any]) -> int:
    """Write down what KFP's executor expects, run it, and put what it returns where the caller wants it."""
    values = definitions(component, "output", "parameters")
    made = definitions(component, "output", "artifacts")
    with tempfile.TemporaryDirectory(prefix="custody-") as scratch:
        module, result = Path(scratch, "component.py"), Path(scratch, "result.json")
        module.write_text(source, encoding="utf-8")
        executor_input = {
            "inputs": {
                "parameterValues": {name: given[name] for name in definitions(component, "input", "parameters")},
                "artifacts": _artifacts(definitions(component, "input", "artifacts"), given),
            },
            "outputs": {
                "parameters": {name: {"outputFile": str(Path(scratch, name))} for name in values},
                "artifacts": _artifacts(made, given),
                "outputFile": str(result),
            },
        }
        done = subprocess.run(  # noqa: S603 - this interpreter, and the stage's own code
            [
                *(sys.executable, "-m", "kfp.dsl.executor_main", "--component_module_path", str(module)),
                *("--executor_input", json.dumps(executor_input), "--function_to_execute", function),
            ],
            env={**os.environ, "_KFP_RUNTIME": "true"},
            check=False,
        )
        if done.returncode:
            return done.returncode
        returned = json.loads(result.read_text(encoding="utf-8")) if result.is_file() else {}
    for name in values:
        if given[name]:
            _write(given[name], str(returned["parameterValues"][name]))
    for name in made:
        if not os.path.exists(given[name]):
            (artifact,) = returned["artifacts"][name]["artifacts"]
            _write(given[name], json.dumps(artifact.get("metadata", {}), sort_keys=True))
    return 0


def _artifacts(defined: dict[str, dict[str, Any]], given: dict[str, Any]) -> dict[str, Any]:
    return {
        name: {"artifacts": [{"name": name, "type": definition["artifactType"], "uri": os.path.abspath(given[name])}]}
        for name, definition in defined.items()
        if given[name]
    }


def _write(path: str, text: str) -> None:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
