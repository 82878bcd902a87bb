"""The four forms that a component or pipeline is given out in, and writing them."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from kfp_custody.components._cli.compiling import choices, elyra, gitops
from kfp_custody.components._cli.compiling.images import Images
from kfp_custody.components._cli.compiling.interface import container
from kfp_custody.components._cli.compiling.ir import Compiled, compile_item
from kfp_custody.components._cli.compiling.targets import Target
from kfp_custody.components._shared import codes
from kfp_custody.components._shared.errors import Misconfigured
from kfp_custody.components._shared.files import write_atomic
from kfp_custody.components._shared.images import VERIFIED

Files = dict[str, str]


@dataclass(frozen=True)
class Wishes:
    """How a site wants its copies. `owners` and `verified` are for the catalog alone."""

    images: Images = field(default_factory=Images)
    literals: bool = False
    owners: Sequence[str] = ()
    verified: str = VERIFIED


def compiled(target: Target, wishes: Wishes) -> Compiled:
    """Compile for a site.

    Raises:
        Misconfigured: a default is none of its choices, or the pins do not fit.
    """
    plain = compile_item(target.item)
    # In this order: choices are found by the images' own names.
    spec = choices.with_choices(plain.spec) if wishes.literals else plain.spec
    return Compiled(plain.header, wishes.images.in_spec(spec), plain.platform)


def as_ir(targets: Sequence[Target], wishes: Wishes) -> Files:
    """Return `<function>.yaml` for each, which KFP runs."""
    return _together((f"{target.name}.yaml", compiled(target, wishes).text()) for target in targets)


def as_elyra(targets: Sequence[Target], wishes: Wishes) -> Files:
    """Return `<function>.elyra.yaml` for each component."""
    _only(targets, "elyra", "component that stands alone", [target for target in targets if target.stands_alone])
    return _together((f"{target.name}.elyra.yaml", elyra_text(target, wishes)) for target in targets)


def elyra_text(target: Target, wishes: Wishes) -> str:
    """Return the component of version 1."""
    return elyra.v1_text(target.name, target.item.description or "", compiled(target, wishes).spec)


def as_gitops(targets: Sequence[Target], wishes: Wishes) -> Files:
    """Return the manifests of each pipeline, and a kustomization of them."""
    _only(targets, "gitops", "pipeline", [target for target in targets if target.is_pipeline])
    files = _together(
        gitops.manifest(compiled(target, wishes), target.item.description or "", shipped=target.shipped)
        for target in targets
    )
    return files | {"kustomization.yaml": gitops.kustomization(list(files))}


def as_catalog(targets: Sequence[Target], wishes: Wishes) -> Files:
    """Return the entry of each component in the Kubeflow catalog."""
    from kfp_custody.components._cli.compiling.catalog import entry_files

    _only(targets, "catalog", "component that stands alone", [target for target in targets if target.stands_alone])
    return _together(
        pair
        for target in targets
        for pair in entry_files(
            target, container(compiled(target, wishes).spec)["image"], wishes.owners, wishes.verified
        ).items()
    )


FORMATS: Mapping[str, Callable[[Sequence[Target], Wishes], Files]] = {
    "ir": as_ir,
    "elyra": as_elyra,
    "gitops": as_gitops,
    "catalog": as_catalog,
}


def write_new(folder: Path, files: Mapping[str, str]) -> list[Path]:
    """Write files that are not there yet: all of them, or none when one of them is.

    Raises:
        Misconfigured: a file exists.
        OSError: the place cannot be written.
    """
    paths = {folder / name: text for name, text in files.items()}
    existing = sorted(str(path) for path in paths if path.exists() or path.is_symlink())
    if existing:
        raise _clash(f"{existing[0]} exists, with {len(existing) - 1} others", "Remove it, or give another --out.")
    for path, text in paths.items():
        write_atomic(path, text.encode())
    return list(paths)


def _together(pairs: Iterable[tuple[str, str]]) -> Files:
    files: Files = {}
    for name, text in pairs:
        if name in files:
            raise _clash(f"{name} would be written twice", "Compile them one by one, each to its own --out.")
        files[name] = text
    return files


def _clash(evidence: str, remedy: str) -> Misconfigured:
    return Misconfigured(
        "Nothing was written: a file would be replaced.", evidence=evidence, remedy=remedy, code=codes.COMPILE_OUTPUT
    )


def _only(targets: Sequence[Target], form: str, kind: str, fitting: Sequence[Target]) -> None:
    """Refuse what this form does not have."""
    other = [target.name for target in targets if target not in fitting]
    if other:
        raise Misconfigured(
            f"The format {form} is not for everything.",
            evidence=f"{other[0]} is no {kind}",
            remedy="Leave it out, or give --format ir.",
            code=codes.COMPILE_NAME,
        )
