"""`kfp-custody policy lint`: is a policy fit to be pinned?"""

from typing import Annotated

import typer

from kfp_custody.components._cli.refusals import refusals

app = typer.Typer(help="Policies of the gate.", no_args_is_help=True)


@app.callback()
def _policy() -> None:
    """Policies of the gate."""


@app.command("lint")
def lint(
    policy: Annotated[str, typer.Argument(metavar="FILE", help="A policy file, or the name of a shipped policy.")],
) -> None:
    """Find what is wrong with a policy: unknown fields, rules that do not compile, that deny all or nothing.

    Exit status 1 for an error; a warning may be meant. A policy without errors is printed as a trust file pins it.
    """
    with refusals():
        from kfp_custody.components._cli.refusals import printable
        from kfp_custody.components._shared import codes
        from kfp_custody.components._shared.errors import PolicyRefused
        from kfp_custody.components.policy_gate.lint import ERROR, lint_policy
        from kfp_custody.components.policy_gate.policy import load_policy

        findings = lint_policy(policy)
        for finding in findings:
            typer.echo(printable(finding))
        errors = [finding for finding in findings if finding.level == ERROR]
        if errors:
            raise PolicyRefused(
                "The policy is not fit to be pinned.",
                evidence=f"{policy}: {len(errors)} errors; first, {errors[0]}",
                remedy="Correct the rules that are named above.",
                code=codes.POLICY,
            )
        accepted = load_policy(policy)
        typer.echo(f"policies:\n  - name: {accepted.name}\n    sha256: {accepted.sha256}")
