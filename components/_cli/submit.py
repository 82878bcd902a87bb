"""`kfp-custody submit`: a run on a Kubeflow Pipelines server."""

from datetime import UTC, datetime
from typing import Annotated

import typer

from kfp_custody.components._cli.kfp_api import arguments as options
from kfp_custody.components._cli.refusals import printable, refusals


def submit(
    pipeline: options.Pipeline,
    param: options.Param = None,
    params_file: options.ParamsFile = None,
    version: options.Version = None,
    experiment: options.Experiment = "Default",
    run_name: Annotated[
        str | None, typer.Option("--run-name", metavar="R", help="Without it, the pipeline's name and the time.")
    ] = None,
    key: Annotated[
        str | None,
        typer.Option(
            "--key",
            metavar="TEXT",
            help="Start nothing when the experiment has a run of this pipeline with this key, unless it failed or was "
            "cancelled. The key becomes part of the run's name.",
        ),
    ] = None,
    service_account: options.ServiceAccount = None,
    no_cache: Annotated[
        bool, typer.Option("--no-cache", help="Compute every task anew; only without --version.")
    ] = False,
    wait: Annotated[bool, typer.Option("--wait", help="Follow the run; exit status 1 unless it succeeds.")] = False,
    timeout: Annotated[int, typer.Option("--timeout", metavar="SECONDS", min=1, help="How long --wait waits.")] = 86400,
    host: options.Host = None,
    namespace: options.Namespace = None,
    token_file: options.TokenFile = None,
    cookies_file: options.CookiesFile = None,
    ca_cert: options.CaCert = None,
) -> None:
    """Start a run: of an uploaded version with --version, else of the pipeline here, which is sent along.

    With --version, PIPELINE may also be the name of a pipeline on the server. Parameters are checked before anything
    is sent. Never put a secret into one: KFP logs and shows them all.

        kfp-custody submit fraud_detection --params-file params.yaml --wait

    --key is for schedulers that may fire twice, such as cron or Airflow: fired again with the same key, also after a
    crash or three times at once, one run is left.
    """
    if key is not None and run_name is not None:
        raise typer.BadParameter("--key names the run; give --key or --run-name")
    if no_cache and version:
        raise typer.BadParameter("what is cached stands in the uploaded version; compile and upload another one")
    with refusals():
        settings = options.settings(host, namespace, token_file, cookies_file, ca_cert)
        from kfp_custody.components._cli.kfp_api.package import load_package
        from kfp_custody.components._shared.kfp_api.parameters import check_parameters, read_parameters

        given = read_parameters(param or [], params_file)
        package = None if version else load_package(pipeline)
        if package:  # before kfp is imported, and before anything is asked
            check_parameters(given, package.spec)
        from kfp_custody.components._cli.kfp_api import runs
        from kfp_custody.components._cli.kfp_api.client import connect, require_schema
        from kfp_custody.components._cli.kfp_api.versions import find_uploaded

        if package:
            require_schema(package)
        kfp = connect(settings)
        source = package or find_uploaded(kfp, pipeline, version)
        called = str(source.spec["pipelineInfo"]["name"])
        order = runs.Order(source, check_parameters(given, source.spec), experiment, service_account, no_cache)
        if key is None:
            done = runs.submit(kfp, order, run_name or f"{called} {datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}")
        else:
            done = runs.submit_once(kfp, order, runs.keyed_name(called, key), settings.interval)
        how = "started" if done.fresh else f"has this key ({done.run.state or 'state unknown'}); nothing was started"
        typer.echo(printable(f"run {done.run.run_id} {how}\n{kfp.link(f'runs/details/{done.run.run_id}')}"))
        if wait:
            runs.follow(
                kfp,
                done.run,
                interval=settings.interval,
                timeout=timeout,
                tell=lambda line: typer.echo(printable(line)),
            )
