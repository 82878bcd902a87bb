"""The command line: one function a command, each in a file of its own.

Only what parses arguments is imported here; a command imports its work when it is called.
"""

import typer

from kfp_custody.components._cli import (
    attest,
    compile,
    door,
    export,
    keygen,
    policy,
    rollout,
    schedule,
    show,
    sign,
    submit,
    trust,
    upload,
    verify,
    webhook,
)

app = typer.Typer(
    name="kfp-custody",
    help="Verify, show and sign the evidence of a chain of custody; compile its pipelines; serve models. "
    "Exit status: 0 it holds, 1 refused, 2 usage.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,  # a traceback with local variables could show what must not be shown
)
app.command("verify")(verify.verify)
app.command("show")(show.show)
app.command("sign")(sign.sign)
app.command("attest")(attest.attest)
app.command("keygen")(keygen.keygen)
app.command("compile")(compile.compile_)
app.command("export")(export.export)
app.command("door")(door.door)
app.add_typer(rollout.app, name="rollout")
app.command("upload")(upload.upload)
app.command("submit")(submit.submit)
app.add_typer(schedule.app, name="schedule")
app.command("webhook")(webhook.webhook)
app.add_typer(trust.app, name="trust")
app.add_typer(policy.app, name="policy")

if __name__ == "__main__":
    app()
