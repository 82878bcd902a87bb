"""`kfp-custody rollout`: what a service serves, and the way back by hand."""

from typing import Annotated

import typer

from kfp_custody.components._cli.refusals import refusals

app = typer.Typer(no_args_is_help=True, help="What a service serves, and the way back by hand.")
Name = Annotated[str, typer.Argument(metavar="NAME", help="The service.")]
Target = Annotated[
    str, typer.Option("--target", metavar="TARGET", help="local, seldon-v2, seldon-v1, kserve, or platform.")
]
Seconds = Annotated[int, typer.Option("--timeout", min=1, max=3600, help="For the change, in seconds.")]


@app.command()
def status(name: Name, target: Target = "local") -> None:
    """Show the stable version, and the canary with its share of the traffic."""
    with refusals():
        from kfp_custody.components._shared.settings import load_settings
        from kfp_custody.components.seldon_deployment.rollout.open import open_target

        now = open_target(target, name, load_settings(), 60).state()
        for what, version in (("stable", now.stable), ("canary", now.canary)):
            typer.echo(f"{what}  {f'sha256:{version.digest}' if version else 'none'}")
        if now.canary:
            typer.echo(f"weight  {now.weight} % of run {now.run_id}")


@app.command()
def back(name: Name, target: Target = "local", timeout: Seconds = 120) -> None:
    """Send everything to the stable version and remove the canary, whichever run it is of."""
    with refusals():
        from kfp_custody.components._shared.settings import load_settings
        from kfp_custody.components.seldon_deployment.rollout.open import open_target

        service = open_target(target, name, load_settings(), timeout)
        had = service.state().canary
        service.roll_back()
        typer.echo(f"rolled back sha256:{had.digest}" if had else "there was no canary")


@app.command()
def stop(name: Name, timeout: Seconds = 120) -> None:
    """End door and servers of a service on this machine; the next change starts them again."""
    with refusals():
        from kfp_custody.components._shared.settings import load_settings
        from kfp_custody.components.seldon_deployment.parameters import require_name
        from kfp_custody.components.seldon_deployment.rollout.local import LocalTarget

        require_name(name)
        LocalTarget(name, load_settings(), timeout).stop()
