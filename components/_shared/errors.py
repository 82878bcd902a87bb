"""The five kinds of refusal, by who has to act, and the one boundary that shows them to a person.

Every message has three lines: what happened, the evidence (names, digests, value against threshold), the remedy; the
first one starts with the refusal's code (`codes.py`).
No message may hold a value of the data or a secret: messages end up in logs that many people read.
"""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import ClassVar

from kfp_custody.components._shared import codes


class CustodyError(Exception):
    """A refusal with code, what, evidence and remedy; catch one of the five kinds below instead."""

    default: ClassVar[str] = ""

    def __init__(self, what: str, *, evidence: str, remedy: str, code: str = "") -> None:
        """Keep the parts; `str(error)` joins them, one a line.

        Args:
            what: What happened; `self.what` is this with the code before it, wherever it is shown.
            evidence: Names, digests, value against threshold.
            remedy: What to do.
            code: One of `codes.CODES`; the kind's own when left out. A document's code (`DocumentFault.code`) becomes
                that of this kind of refusal.
        """
        self.code = codes.in_series(code or self.default, int(self.default[5:6] or 2))
        self.what = f"[{self.code}] {what}"
        super().__init__(self.what)
        self.evidence = evidence
        self.remedy = remedy

    def __str__(self) -> str:
        """Return the three lines."""
        return f"{self.what}\n  evidence: {self.evidence}\n  remedy:   {self.remedy}"


class InputRefused(CustodyError):
    """The data or the model as given is not acceptable: the data scientist acts."""

    default = codes.INPUT


class EvidenceInvalid(CustodyError):
    """Evidence is missing, forged or unlinked, or bytes changed: the security engineer acts."""

    default = codes.EVIDENCE


class PolicyRefused(CustodyError):
    """Everything is genuine and the policy says no: the owner of the model or of the policy acts."""

    default = codes.POLICY


class ServiceUnreachable(CustodyError):
    """A server did not answer, or answered with an error: the operator acts."""

    default = codes.SERVICE


class Misconfigured(CustodyError):
    """A parameter, key, policy file or environment is wrong: whoever configured it acts."""

    default = codes.SETTINGS


def from_os_error(error: OSError) -> CustodyError:
    """Turn an operating system error into the kind of the person who can act on it."""
    where = str(error.filename) if error.filename else "(no path given by the system)"
    reason = os.strerror(error.errno) if error.errno else type(error).__name__
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return Misconfigured(
            "The disk is full, or a limit on file sizes was reached; nothing was kept of this step.",
            evidence=f"{reason}: {where}",
            remedy="Give the task more ephemeral storage (or free space) and run it again.",
            code=codes.DISK_FULL,
        )
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return Misconfigured(
            "A file or folder may not be read or written by this task.",
            evidence=f"{reason}: {where}",
            remedy="Correct the permissions or the mount, for the user that the task runs as.",
            code=codes.NO_PERMISSION,
        )
    if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.EISDIR):
        return InputRefused(
            "An input is not where it should be, or is not of the expected kind.",
            evidence=f"{reason}: {where}",
            remedy="Check that the step before it finished and that the path is right.",
            code=codes.INPUT_MISSING,
        )
    if isinstance(error, ConnectionError | TimeoutError):
        return ServiceUnreachable(
            "A service did not answer.", evidence=f"{reason}: {where}", remedy="Check that it runs and is reachable."
        )
    return Misconfigured(
        "The system refused an operation.",
        evidence=f"{reason}: {where}",
        remedy="See the evidence.",
        code=codes.SYSTEM,
    )


@contextmanager
def boundary() -> Iterator[None]:
    """Show a refusal as its three lines and end the task, without a traceback in what the user sees last.

    Inside a KFP task (`_KFP_RUNTIME=true`) a refusal ends the process with status 1 after printing
    `Kind: what / evidence / remedy`; KFP then uploads none of the task's outputs. Called from Python (tests,
    notebooks) the refusal is raised as it is. A bug (any other exception) keeps its traceback.

    Raises:
        CustodyError: outside a KFP task.
        SystemExit: inside a KFP task.
    """
    try:
        try:
            yield
        except OSError as error:
            raise from_os_error(error) from error
        except ModuleNotFoundError as error:
            raise Misconfigured(
                "A library that this stage needs is not installed.",
                evidence=str(error),
                remedy="Run the stage in its own image, or install its extra: pip install 'kfp-custody[local]'.",
                code=codes.NO_LIBRARY,
            ) from error
        except MemoryError as error:
            raise Misconfigured(
                "The task ran out of memory.",
                evidence="MemoryError",
                remedy="Give the task a higher memory limit.",
                code=codes.NO_MEMORY,
            ) from error
    except CustodyError as refusal:
        if os.environ.get("_KFP_RUNTIME") != "true":
            raise
        raise SystemExit(f"\nREFUSED {type(refusal).__name__}: {refusal}") from refusal
