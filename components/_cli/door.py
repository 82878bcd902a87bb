"""`kfp-custody door`: the objects of a cluster that one door file stands for."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from kfp_custody.components._cli.refusals import refusals


class Kind(StrEnum):
    """Whose objects are written."""

    ISTIO = "istio"
    GATEWAY_API = "gateway-api"
    KONG = "kong"


def door(
    file: Annotated[Path, typer.Argument(metavar="DOOR", exists=True, dir_okay=False, help="The door file.")],
    form: Annotated[
        Kind,
        typer.Option(
            "--for",
            help="istio: the whole door; gateway-api and kong: what these have, and an annotation that says what not.",
        ),
    ],
    namespace: Annotated[
        str, typer.Option("--namespace", metavar="NAME", help="Of the model servers.")
    ] = "custody-serving",
    host: Annotated[
        str, typer.Option("--host", metavar="NAME", help="The Service in front of the model servers.")
    ] = "seldon-mesh",
    port: Annotated[int, typer.Option("--port", min=1, max=65535, help="Its port.")] = 80,
    suffix: Annotated[
        str, typer.Option("--suffix", metavar="TEXT", help="What a model's name ends with in the header seldon-model.")
    ] = ".experiment",
    gateway_namespace: Annotated[
        str | None,
        typer.Option("--gateway-namespace", metavar="NAME", help="Of the gateway's pods: istio-system, or kong."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", metavar="DIR", file_okay=False, help="Write a kustomize component there; no file is replaced."
        ),
    ] = None,
) -> None:
    """Print the objects: a closed namespace with its limits, and the door itself.

    The same file makes the local Envoy in front of canaries on this machine (CUSTODY_DOOR). The file holds no secret;
    neither do the objects. Read them before you apply them: no cluster has run them in our tests. With --out they are
    written as a component, to list beside an overlay of manifests/ that serves models in the same namespace.
    """
    with refusals():
        from kfp_custody.components.seldon_deployment.door.objects import Place
        from kfp_custody.components.seldon_deployment.door.rendering import GATEWAYS, as_component, as_text
        from kfp_custody.components.seldon_deployment.door.spec import load_door

        spec, gateway = load_door(file), gateway_namespace or GATEWAYS[form]
        place = Place(namespace=namespace, host=host, port=port, suffix=suffix, gateway_namespace=gateway)
        if out is None:
            typer.echo(as_text(spec, place, form.value), nl=False)
            return
        from kfp_custody.components._cli.compiling.formats import write_new

        for path in write_new(out, as_component(spec, place, form.value)):
            typer.echo(path)
