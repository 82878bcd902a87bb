"""Inputs and outputs as Markdown tables."""

from collections.abc import Callable, Iterable
from typing import Any


def interface_tables(spec: Any, types: Callable[[Any], str] | None = None) -> str:
    """Return the tables of a component's inputs and outputs, from the interface that KFP knows.

    `types` says how a type is shown, as a reader knows it (`kind`) when left out.
    """
    show = types or kind
    inputs = [(f"`{name}`", show(item), default(item), item.description) for name, item in (spec.inputs or {}).items()]
    outputs = [(f"`{name}`", show(item), item.description) for name, item in (spec.outputs or {}).items()]
    parts = [table(("input", "type", "default", "description"), inputs)]
    parts += [table(("output", "type", "description"), outputs)] if outputs else []
    return "\n\n".join(parts)


def kind(item: Any) -> str:
    """Return the type of an input or output as a reader knows it: system.MaskedDataset@0.0.1 is MaskedDataset."""
    name = str(item.type).rpartition("@")[0].rpartition(".")[2] or str(item.type)
    return f"list of {name}" if item.is_artifact_list else name


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
