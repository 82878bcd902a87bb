"""What can be compiled: what ships, and what a user's own file defines."""

import importlib
import importlib.util
import pkgutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.abc import SourceLoader
from pathlib import Path
from types import ModuleType
from typing import Any

from kfp_custody.components import CATALOG
from kfp_custody.components._shared import codes
from kfp_custody.components._shared.errors import Misconfigured

# What importing somebody's file may raise.
_FAULTS = (
    *(ArithmeticError, AssertionError, AttributeError, ImportError, LookupError, NameError, OSError, RuntimeError),
    *(SyntaxError, SystemExit, TypeError, ValueError),
)
# A dataset in shards: what makes the loop, what runs in it, and what gathers its lists.
_IN_A_LOOP = ("plan_shards", "mask_shard", "attest_shard", "merge_shards")


@dataclass(frozen=True)
class Target:
    """A KFP component or pipeline. `name` is its function's; `room` is set for a component of ours."""

    name: str
    item: Any
    room: str = ""
    shipped: bool = True

    @property
    def stands_alone(self) -> bool:
        """Whether it is a component of ours that is of use outside of a loop, which only KFP's own DSL can draw."""
        return bool(self.room) and self.name not in _IN_A_LOOP

    @property
    def is_pipeline(self) -> bool:
        """Whether it is a pipeline and no component."""
        from kfp.dsl.graph_component import GraphComponent

        return isinstance(self.item, GraphComponent)


def shipped_names() -> tuple[str, ...]:
    """Return every component in the order of the catalog, then every pipeline."""
    # By name: components do not know pipelines, but whoever installs them has both.
    home = importlib.import_module("kfp_custody.pipelines")
    return (*CATALOG, *sorted(module.name for module in pkgutil.iter_modules(home.__path__) if module.ispkg))


def find(name: str, shards: int | None = None) -> Target:
    """Return what a name on the command line means: `mask_pii`, `fraud_detection`, `my.py:my_pipeline` or `my.py`.

    Args:
        name: The name.
        shards: Into how many a pipeline that can be sharded is; None leaves it whole.

    Raises:
        Misconfigured: there is nothing of this name, it cannot be sharded so, or the file cannot be used.
    """
    if shards is not None:
        return _in_shards(name, shards)
    path, _, function = name.partition(":")
    if path.endswith(".py"):
        return _of_file(Path(path), function)
    if name in CATALOG:
        from kfp_custody import components

        return Target(name, getattr(components, name), CATALOG[name])
    if name in shipped_names():
        return Target(name, getattr(importlib.import_module(f"kfp_custody.pipelines.{name}.pipeline"), name))
    raise Misconfigured(
        "There is no component or pipeline of this name.",
        evidence=f"{name!r} is none of {', '.join(shipped_names())}",
        remedy="Give one of these names, or FILE.py:function of your own.",
        code=codes.COMPILE_NAME,
    )


def _in_shards(name: str, shards: int) -> Target:
    """Return a pipeline whose module has a factory for it."""
    factory = None
    if name in shipped_names() and name not in CATALOG:
        module = importlib.import_module(f"kfp_custody.pipelines.{name}.pipeline")
        factory = getattr(module, f"{name}_in_shards", None)
    if factory is None:
        raise Misconfigured(
            "This cannot be compiled in shards.",
            evidence=f"{name!r} is no pipeline of ours that masks in shards",
            remedy="Leave --shards out, or name fraud_detection.",
            code=codes.COMPILE_NAME,
        )
    return Target(f"{name}_in_{shards}_shards" if shards else f"{name}_in_shards", factory(shards))


def _of_file(path: Path, function: str) -> Target:
    """Return the pipeline or component that a file of the user defines."""
    from kfp.dsl.base_component import BaseComponent
    from kfp.dsl.graph_component import GraphComponent

    module = _import(path)
    found = {key: value for key, value in vars(module).items() if isinstance(value, BaseComponent)}
    if function:
        if function not in found:
            known = f"it defines {', '.join(sorted(found))}" if found else "it defines none"
            raise _unusable(path, f"{function!r} is no KFP component or pipeline of it; {known}", "Correct the name.")
        return Target(function, found[function], shipped=False)
    # Without a name, what the file imports from elsewhere does not count.
    own = [
        key
        for key, value in found.items()
        if isinstance(value, GraphComponent) and value.pipeline_func.__module__ == module.__name__
    ]
    if len(own) != 1:
        listed = f"it defines {len(own)} pipelines: {', '.join(own)}" if own else "it defines no pipeline"
        raise _unusable(path, listed, f"Name the function: {path}:my_pipeline, under @dsl.pipeline or @dsl.component.")
    return Target(own[0], found[own[0]], shipped=False)


def _import(path: Path) -> ModuleType:
    """Import a file as a module, with its folder on the path as when Python runs it."""
    if not path.is_file():
        raise _unusable(path, "there is no such file", "Correct the path.")
    name = f"custody_compiles_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None  # noqa: S101  (it ends in .py)
    assert isinstance(spec.loader, SourceLoader)  # noqa: S101
    module = importlib.util.module_from_spec(spec)
    from kfp.compiler.compiler_utils import InvalidTopologyException
    from kfp.dsl.tasks_group import InvalidControlFlowException
    from kfp.dsl.types.type_utils import InconsistentTypeException  # stages in an order that is not safe

    with _on_path(path.resolve().parent):
        sys.modules[name] = module  # KFP looks up where a function is from
        try:
            # From its source: Python's cache takes a file that was edited within a second for the one before.
            exec(spec.loader.source_to_code(path.read_bytes(), str(path)), vars(module))  # noqa: S102
        except (*_FAULTS, InconsistentTypeException, InvalidControlFlowException, InvalidTopologyException) as error:
            del sys.modules[name]
            why = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
            raise _unusable(path, why, "Correct the file; running it with python shows where it fails.") from error
    return module


@contextmanager
def _on_path(folder: Path) -> Iterator[None]:
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))


def _unusable(path: Path, evidence: str, remedy: str) -> Misconfigured:
    return Misconfigured(
        "The file cannot be compiled.", evidence=f"{path}: {evidence}", remedy=remedy, code=codes.COMPILE_FILE
    )
