"""`kfp-custody schedule`: recurring runs on a Kubeflow Pipelines server."""

from datetime import datetime
from typing import Annotated

import typer

from kfp_custody.components._cli.arguments import moment
from kfp_custody.components._cli.kfp_api import arguments as options
from kfp_custody.components._cli.refusals import printable, refusals

app = typer.Typer(help="Run a pipeline on a schedule: set, pause, resume, list.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(metavar="NAME", help="The schedule's name.")]


@app.command("set")
def set_(
    pipeline: options.Pipeline,
    name: Annotated[str, typer.Option("--name", metavar="N", help="The schedule's name: one of it is ever enabled.")],
    cron: Annotated[
        str,
        typer.Option(
            "--cron", metavar="'S M H D M W'", help="Six fields, seconds first: '0 0 2 * * *'. UTC by default."
        ),
    ],
    param: options.Param = None,
    params_file: options.ParamsFile = None,
    version: options.Version = None,
    experiment: options.Experiment = "Default",
    service_account: options.ServiceAccount = None,
    start: Annotated[
        datetime | None,
        typer.Option("--start", metavar="TIME", parser=moment, help="Not before, 2026-01-31T12:00:00Z."),
    ] = None,
    end: Annotated[datetime | None, typer.Option("--end", metavar="TIME", parser=moment, help="Not after.")] = None,
    host: options.Host = None,
    namespace: options.Namespace = None,
    token_file: options.TokenFile = None,
    cookies_file: options.CookiesFile = None,
    ca_cert: options.CaCert = None,
) -> None:
    """Have one schedule of this name, as said here. Saying the same again changes nothing.

    It runs an uploaded version and never "the latest": --version, or the one with exactly the bytes of PIPELINE, which
    `kfp-custody upload` brought there. One run at a time; what was missed while paused is not caught up. A schedule
    of the name that differs is replaced: the new one is made first, the old one is disabled then.

    Text parameters may hold [[ScheduledTime]], [[CurrentTime]], [[RunUUID]], also with a layout as in
    [[ScheduledTime.2006-01-02]]. KFP may fire the same time twice: each run then is a chain of custody of its own.

        kfp-custody schedule set fraud_detection --name n --cron '0 0 2 * * *'
    """
    with refusals():
        settings = options.settings(host, namespace, token_file, cookies_file, ca_cert)
        from kfp_custody.components._cli.kfp_api.cron import require_cron
        from kfp_custody.components._shared.kfp_api.parameters import check_parameters, read_parameters

        when = require_cron(cron)
        if start and end and start >= end:
            raise typer.BadParameter("--end is not after --start")
        given = read_parameters(param or [], params_file)
        from kfp_custody.components._cli.kfp_api.client import Trigger, connect
        from kfp_custody.components._cli.kfp_api.schedules import set_schedule
        from kfp_custody.components._cli.kfp_api.versions import find_uploaded
        from kfp_custody.components._shared.kfp_api import names

        names.require_name("schedule", name, names.DISPLAY)
        names.require_name("experiment", experiment, names.EXPERIMENT)
        kfp = connect(settings)
        pinned = find_uploaded(kfp, pipeline, version)
        parameters = check_parameters(given, pinned.spec, macros=True)
        trigger = Trigger(pinned, kfp.experiment(experiment), when, parameters, service_account, start, end)
        done = set_schedule(kfp, name, trigger)
        lines = [
            f"schedule {name} {done.how}: {pinned.pipeline} version {pinned.name}, cron {when}",
            *(f"disabled {schedule_id}" for schedule_id in done.replaced),
            kfp.link(f"recurringrun/details/{done.schedule_id}"),
        ]
        typer.echo(printable("\n".join(lines)))


@app.command("pause")
def pause(
    name: Name,
    host: options.Host = None,
    namespace: options.Namespace = None,
    token_file: options.TokenFile = None,
    cookies_file: options.CookiesFile = None,
    ca_cert: options.CaCert = None,
) -> None:
    """Keep a schedule from firing."""
    with refusals():
        settings = options.settings(host, namespace, token_file, cookies_file, ca_cert)
        from kfp_custody.components._cli.kfp_api.client import connect
        from kfp_custody.components._cli.kfp_api.schedules import pause_schedule

        paused = pause_schedule(connect(settings), name)
        typer.echo(printable(f"schedule {name} {'paused' if paused else 'was paused already'}"))


@app.command("resume")
def resume(
    name: Name,
    host: options.Host = None,
    namespace: options.Namespace = None,
    token_file: options.TokenFile = None,
    cookies_file: options.CookiesFile = None,
    ca_cert: options.CaCert = None,
) -> None:
    """Let a paused schedule fire again, as it was set last."""
    with refusals():
        settings = options.settings(host, namespace, token_file, cookies_file, ca_cert)
        from kfp_custody.components._cli.kfp_api.client import connect
        from kfp_custody.components._cli.kfp_api.schedules import resume_schedule

        done = resume_schedule(connect(settings), name)
        typer.echo(printable(f"schedule {name} {done.how}"))


@app.command("list")
def list_(
    host: options.Host = None,
    namespace: options.Namespace = None,
    token_file: options.TokenFile = None,
    cookies_file: options.CookiesFile = None,
    ca_cert: options.CaCert = None,
) -> None:
    """Print the schedules of the namespace, oldest first: name, state, cron, what it runs, id."""
    with refusals():
        settings = options.settings(host, namespace, token_file, cookies_file, ca_cert)
        from kfp_custody.components._cli.kfp_api.client import connect

        for entry in connect(settings).schedules():
            state = "enabled" if entry.enabled else "paused"
            what = entry.description.partition("; custody:")[0]
            typer.echo("\t".join(map(printable, (entry.name, state, entry.cron, what, entry.schedule_id))))
