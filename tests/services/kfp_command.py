"""Calling the commands that talk to a Kubeflow Pipelines server, and reading their refusals."""

from collections.abc import Callable
from pathlib import Path

from click.testing import Result
from typer.testing import CliRunner

from kfp_custody.components._cli.main import app

Command = Callable[..., Result]
FileMaker = Callable[..., Path]
DATA = ("--param", "data_uri=s3://bucket/2026-01", "--param", "data_current_uri=s3://bucket/2026-02")


def call(*arguments: str | Path) -> Result:
    """Run the command in this process."""
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def refused(result: Result, code: str) -> str:
    """Return what a refusal says, which must be three lines with this code."""
    assert f"[{code}]" in result.stderr, (result.stdout, result.stderr, result.exception)
    assert result.exit_code in (1, 2)
    what, evidence, remedy = result.stderr.strip().splitlines()
    assert what.startswith("REFUSED ")
    assert evidence.startswith("  evidence: ")
    assert remedy.startswith("  remedy:   ")
    return result.stderr
