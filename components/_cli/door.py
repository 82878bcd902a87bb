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
) -> None:
    """Print the objects: a closed namespace with its limits, and the door itself.

    The same file makes the local Envoy in front of canaries on this machine (CUSTODY_DOOR). The file holds no secret;
    neither do the objects. Read them before you apply them: no cluster has run them in our tests.
    """
    with refusals():
        import yaml

        from kfp_custody.components.seldon_deployment.door import gateway_api, istio, kong
        from kfp_custody.components.seldon_deployment.door.objects import Place, surroundings
        from kfp_custody.components.seldon_deployment.door.spec import load_door

        render = {Kind.ISTIO: istio.render, Kind.GATEWAY_API: gateway_api.render, Kind.KONG: kong.render}[form]
        spec, place = load_door(file), Place(namespace=namespace, host=host, port=port, suffix=suffix)
        objects = [*surroundings(spec, place), *render(spec, place)]
        typer.echo(yaml.safe_dump_all(objects, sort_keys=False, width=120), nl=False)
