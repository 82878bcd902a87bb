"""The five kinds of refusal, and the boundary that shows them without a traceback."""

import errno
import os
import subprocess
import sys

import pytest

from kfp_custody.components._shared.errors import (
    CustodyError,
    EvidenceInvalid,
    InputRefused,
    Misconfigured,
    PolicyRefused,
    ServiceUnreachable,
    boundary,
    from_os_error,
)

KINDS = [InputRefused, EvidenceInvalid, PolicyRefused, ServiceUnreachable, Misconfigured]


@pytest.mark.parametrize("kind", KINDS)
def test_a_refusal_has_three_lines(kind: type[CustodyError]) -> None:
    assert str(kind("What.", evidence="this", remedy="That.")) == "What.\n  evidence: this\n  remedy:   That."


@pytest.mark.parametrize(
    ("code", "kind", "said"),
    [
        (errno.ENOSPC, Misconfigured, "disk is full"),
        (errno.EDQUOT, Misconfigured, "disk is full"),
        (errno.EFBIG, Misconfigured, "disk is full, or a limit"),
        (errno.EACCES, Misconfigured, "may not be read or written"),
        (errno.EPERM, Misconfigured, "may not be read or written"),
        (errno.EROFS, Misconfigured, "may not be read or written"),
        (errno.ENOENT, InputRefused, "not where it should be"),
        (errno.ENOTDIR, InputRefused, "not where it should be"),
        (errno.EISDIR, InputRefused, "not where it should be"),
        (errno.ECONNREFUSED, ServiceUnreachable, "did not answer"),
        (errno.ETIMEDOUT, ServiceUnreachable, "did not answer"),
        (errno.EIO, Misconfigured, "refused an operation"),
    ],
)
def test_system_errors_go_to_who_can_act(code: int, kind: type[CustodyError], said: str) -> None:
    refusal = from_os_error(OSError(code, os.strerror(code), "/data/part"))
    assert type(refusal) is kind
    assert said in refusal.what
    assert refusal.evidence == f"{os.strerror(code)}: /data/part"


def test_a_system_error_without_number_or_path_is_told_too() -> None:
    assert from_os_error(TimeoutError()).evidence == "TimeoutError: (no path given by the system)"


def test_outside_of_a_task_a_refusal_is_raised_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("_KFP_RUNTIME", raising=False)
    given = PolicyRefused("No.", evidence="x", remedy="y")
    with pytest.raises(PolicyRefused) as refusal, boundary():
        raise given
    assert refusal.value is given
    with pytest.raises(InputRefused) as refused, boundary():
        open("/nowhere/data").close()
    assert isinstance(refused.value.__cause__, OSError)


def test_a_bug_is_no_refusal() -> None:
    with pytest.raises(ZeroDivisionError), boundary():
        print(1 / 0)


def task(body: str) -> subprocess.CompletedProcess[str]:
    code = f"from kfp_custody.components._shared.errors import *\nwith boundary():\n    {body}\nprint('went on')"
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ, "_KFP_RUNTIME": "true"}
    )


@pytest.mark.parametrize(
    ("body", "last"),
    [
        (
            "raise EvidenceInvalid('Changed.', evidence='a to b', remedy='Run again.')",
            "REFUSED EvidenceInvalid: Changed.\n  evidence: a to b\n  remedy:   Run again.\n",
        ),
        (
            "open('/nowhere/data')",
            "REFUSED InputRefused: An input is not where it should be, or is not of the expected kind.\n"
            "  evidence: No such file or directory: /nowhere/data\n"
            "  remedy:   Check that the step before it finished and that the path is right.\n",
        ),
        (
            "raise MemoryError",
            "REFUSED Misconfigured: The task ran out of memory.\n  evidence: MemoryError\n"
            "  remedy:   Give the task a higher memory limit.\n",
        ),
        (
            "raise InputRefused('caf\\udce9', evidence='e', remedy='r')",
            "REFUSED InputRefused: caf\\udce9\n  evidence: e\n  remedy:   r\n",
        ),
    ],
)
def test_a_task_ends_with_the_refusal_and_no_traceback(body: str, last: str) -> None:
    done = task(body)
    assert (done.returncode, done.stdout, done.stderr) == (1, "", f"\n{last}")


def test_a_task_with_a_bug_shows_its_traceback() -> None:
    done = task("1 / 0")
    assert done.returncode == 1
    assert "Traceback" in done.stderr


def test_a_task_that_is_well_goes_on() -> None:
    assert task("pass").stdout == "went on\n"
