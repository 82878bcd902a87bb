"""The five kinds of refusal, and the boundary that shows them without a traceback."""

import errno
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from kfp_custody.components._shared import codes
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
def test_a_refusal_has_three_lines_and_a_code_of_its_kind(kind: type[CustodyError]) -> None:
    refusal = kind("What.", evidence="this", remedy="That.")
    assert str(refusal) == f"[{kind.default}] What.\n  evidence: this\n  remedy:   That."
    assert refusal.code == kind.default == f"CUS-E{KINDS.index(kind) + 1}00"
    assert refusal.code in codes.CODES


def test_a_document_has_the_code_of_the_refusal_that_it_ends_in() -> None:
    def code(kind: type[CustodyError]) -> str:
        return kind("What.", evidence="this", remedy="That.", code=codes.NAME_TWICE).code

    assert [code(kind) for kind in KINDS] == ["CUS-E107", "CUS-E207", "CUS-E300", "CUS-E400", "CUS-E507"]


def test_every_code_is_listed_once_under_its_kind() -> None:
    assert len(set(codes.CODES.values())) == len(codes.CODES)
    named = {value for name, value in vars(codes).items() if name.isupper() and isinstance(value, str)}
    assert named <= set(codes.CODES)
    assert all(re.fullmatch(r"CUS-E[1-5]\d\d", code) for code in codes.CODES)


def test_every_code_is_given_somewhere() -> None:
    root = Path(codes.__file__).parents[2]
    folders = ("components", "pipelines", "scripts")
    sources = "".join(path.read_text() for folder in folders for path in (root / folder).rglob("*.py"))
    names = [name for name, value in vars(codes).items() if name.isupper() and isinstance(value, str)]
    assert [name for name in names if f"codes.{name}" not in sources] == []


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
            "REFUSED EvidenceInvalid: [CUS-E200] Changed.\n  evidence: a to b\n  remedy:   Run again.\n",
        ),
        (
            "open('/nowhere/data')",
            "REFUSED InputRefused: [CUS-E116] An input is not where it should be, or is not of the expected kind.\n"
            "  evidence: No such file or directory: /nowhere/data\n"
            "  remedy:   Check that the step before it finished and that the path is right.\n",
        ),
        (
            "raise MemoryError",
            "REFUSED Misconfigured: [CUS-E524] The task ran out of memory.\n  evidence: MemoryError\n"
            "  remedy:   Give the task a higher memory limit.\n",
        ),
        (
            "raise InputRefused('caf\\udce9', evidence='e', remedy='r')",
            "REFUSED InputRefused: [CUS-E100] caf\\udce9\n  evidence: e\n  remedy:   r\n",
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
