"""`kfp-custody compile`: YAML of components and pipelines, for KFP, Elyra, GitOps and the Kubeflow catalog."""

from dataclasses import replace
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from kfp_custody.components._cli.arguments import moment
from kfp_custody.components._cli.refusals import refusals


class Format(StrEnum):
    """What is written."""

    IR = "ir"
    ELYRA = "elyra"
    GITOPS = "gitops"
    CATALOG = "catalog"


def compile_(
    out: Annotated[Path, typer.Option("--out", metavar="DIR", file_okay=False, help="Where; no file is replaced.")],
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="NAME|FILE.py:FUNCTION",
            help="Shipped components and pipelines, or your own; everything shipped that the format has, if left out.",
        ),
    ] = None,
    form: Annotated[
        Format,
        typer.Option(
            "--format",
            help="ir: what KFP runs; elyra: components for Elyra; gitops: Pipeline and PipelineVersion objects; "
            "catalog: entries for kubeflow/pipelines-components.",
        ),
    ] = Format.IR,
    shards: Annotated[
        int | None,
        typer.Option(
            "--shards",
            metavar="N",
            help="Mask the training month in N shards side by side (fraud_detection alone); "
            "0: as many as the data needs, one for each million rows.",
        ),
    ] = None,
    literals: Annotated[
        bool,
        typer.Option(
            "--literals",
            help="Say which values a parameter may take: KFP 2.16 checks them and 2.17 offers them as a list; "
            "older servers refuse such a file.",
        ),
    ] = False,
    image_prefix: Annotated[
        str | None,
        typer.Option("--image-prefix", metavar="REGISTRY/PATH", help="Where you keep copies of our images."),
    ] = None,
    pins: Annotated[
        Path | None,
        typer.Option(
            "--pins", metavar="FILE", exists=True, dir_okay=False, help="JSON, image to digest: name images by digest."
        ),
    ] = None,
    owner: Annotated[
        list[str] | None, typer.Option("--owner", metavar="NAME", help="catalog: who approves changes; repeatable.")
    ] = None,
    verified: Annotated[
        datetime | None,
        typer.Option(
            "--verified", metavar="TIME", parser=moment, help="catalog: when it was last verified; of the release."
        ),
    ] = None,
) -> None:
    """Write the YAML of components and pipelines: those that ship, or your own.

    The same names and options give the same bytes, on any machine.
    """
    if form is Format.CATALOG and not owner:
        raise typer.BadParameter("the catalog needs an owner", param_hint="--owner")
    if form is not Format.CATALOG and (owner or verified):
        raise typer.BadParameter("it is for --format catalog", param_hint="--owner" if owner else "--verified")
    if shards is not None and not names:
        raise typer.BadParameter("name the pipeline that it is for", param_hint="--shards")
    if literals and form not in (Format.IR, Format.GITOPS):
        raise typer.BadParameter(f"the format {form} has no literals", param_hint="--literals")
    with refusals():
        from kfp_custody.components._cli.compiling.formats import FORMATS, Wishes, write_new
        from kfp_custody.components._cli.compiling.images import site_images
        from kfp_custody.components._cli.compiling.targets import find, shipped_names
        from kfp_custody.components._shared.evidence import stamp

        wishes = Wishes(images=site_images(image_prefix, pins), literals=literals, owners=tuple(owner or ()))
        if verified:
            wishes = replace(wishes, verified=stamp(verified))
        targets = [find(name, shards) for name in names or shipped_names()]
        if not names and form is not Format.IR:
            targets = [
                target for target in targets if (target.is_pipeline if form is Format.GITOPS else target.stands_alone)
            ]
        for path in write_new(out, FORMATS[form.value](targets, wishes)):
            typer.echo(path)
