"""Options that the commands share which talk to a Kubeflow Pipelines server."""

from pathlib import Path
from typing import Annotated

import typer

from kfp_custody.components._shared.settings import KfpSettings, load_kfp_settings

Pipeline = Annotated[
    str, typer.Argument(metavar="PIPELINE", help="A shipped pipeline such as fraud_detection, or a compiled YAML file.")
]
Host = Annotated[
    str | None,
    typer.Option("--host", metavar="URL", help="The server, https://kubeflow.example.org/pipeline; or set KFP_HOST."),
]
Namespace = Annotated[
    str | None, typer.Option("--namespace", metavar="NS", help="The profile's namespace; or set KFP_NAMESPACE.")
]
TokenFile = Annotated[
    Path | None,
    typer.Option("--token-file", metavar="FILE", help="A bearer token; or set CUSTODY_KFP_TOKEN_FILE. Never a value."),
]
CookiesFile = Annotated[
    Path | None,
    typer.Option(
        "--cookies-file", metavar="FILE", help="A session's cookies, name=value; ...; or set CUSTODY_KFP_COOKIES_FILE."
    ),
]
CaCert = Annotated[
    Path | None, typer.Option("--ca-cert", metavar="FILE", help="The server's CA bundle; or set SSL_CERT_FILE.")
]
Version = Annotated[str | None, typer.Option("--version", metavar="V", help="Name of an uploaded version.")]
Experiment = Annotated[str, typer.Option("--experiment", metavar="E", help="Made when it is not there yet.")]
ServiceAccount = Annotated[
    str | None, typer.Option("--service-account", metavar="SA", help="The Kubernetes service account of the run.")
]
Param = Annotated[
    list[str] | None, typer.Option("--param", metavar="NAME=VALUE", help="A parameter; wins over the file. Repeat.")
]
ParamsFile = Annotated[
    Path | None,
    typer.Option("--params-file", metavar="FILE", exists=True, dir_okay=False, help="Parameters, as YAML or JSON."),
]


def settings(
    host: str | None, namespace: str | None, token_file: Path | None, cookies_file: Path | None, ca_cert: Path | None
) -> KfpSettings:
    """Return the settings of the server; an option wins over the environment.

    Raises:
        Misconfigured: see `load_kfp_settings`.
    """
    options = {
        "KFP_HOST": host,
        "KFP_NAMESPACE": namespace,
        "CUSTODY_KFP_TOKEN_FILE": token_file,
        "CUSTODY_KFP_COOKIES_FILE": cookies_file,
        "SSL_CERT_FILE": ca_cert,
    }
    return load_kfp_settings({name: str(value) for name, value in options.items() if value})
