"""`kfp-custody upload`: a compiled pipeline becomes a version on a Kubeflow Pipelines server."""

from typing import Annotated

import typer

from kfp_custody.components._cli.kfp_api import arguments as options
from kfp_custody.components._cli.refusals import printable, refusals


def upload(
    pipeline: options.Pipeline,
    name: Annotated[
        str | None, typer.Option("--name", metavar="N", help="On the server; the pipeline's own without it.")
    ] = None,
    version: Annotated[
        str | None,
        typer.Option("--version", metavar="V", help="Without it, named after the bytes (0.1.0-<12 hex digits>)."),
    ] = None,
    description: Annotated[
        str | None,
        typer.Option("--description", metavar="TEXT|FILE", help="Markdown; without it, the docstring and parameters."),
    ] = None,
    host: options.Host = None,
    namespace: options.Namespace = None,
    token_file: options.TokenFile = None,
    cookies_file: options.CookiesFile = None,
    ca_cert: options.CaCert = None,
) -> None:
    """Upload a pipeline: made on first use, a new version of it from then on.

    Uploading the same bytes again changes nothing. A version that exists with another content is refused.

        kfp-custody upload fraud_detection --namespace team-a
    """
    with refusals():
        settings = options.settings(host, namespace, token_file, cookies_file, ca_cert)
        from kfp_custody.components._cli.kfp_api.package import load_package, read_description

        package = load_package(pipeline)
        said = package.description if description is None else read_description(description)
        from kfp_custody.components._cli.kfp_api.client import connect
        from kfp_custody.components._cli.kfp_api.versions import upload_once

        called, numbered = name or package.name, version or package.version
        kfp = connect(settings)
        done = upload_once(kfp, package, called, numbered, said)
        how = "uploaded" if done.fresh else "is there already, with the same content"
        link = kfp.link(f"pipelines/details/{done.pipeline_id}/version/{done.version_id}")
        typer.echo(printable(f"{called} version {numbered} {how}\n{link}"))
