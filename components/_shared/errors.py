"""The five kinds of refusal, by who has to act, and the one boundary that shows them to a person.

Every message has three lines: what happened, the evidence (names, digests, value against threshold), the remedy.
No message may hold a value of the data or a secret: messages end up in logs that many people read.
"""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager


class CustodyError(Exception):
    """A refusal with what, evidence and remedy; catch one of the five kinds below instead."""

    def __init__(self, what: str, *, evidence: str, remedy: str) -> None:
        """Keep the three parts; `str(error)` joins them, one a line."""
        super().__init__(what)
        self.what = what
        self.evidence = evidence
        self.remedy = remedy

    def __str__(self) -> str:
        """Return the three lines."""
        return f"{self.what}\n  evidence: {self.evidence}\n  remedy:   {self.remedy}"


class InputRefused(CustodyError):
    """The data or the model as given is not acceptable: the data scientist acts."""


class EvidenceInvalid(CustodyError):
    """Evidence is missing, forged or unlinked, or bytes changed: the security engineer acts."""


class PolicyRefused(CustodyError):
    """Everything is genuine and the policy says no: the owner of the model or of the policy acts."""


class ServiceUnreachable(CustodyError):
    """A server did not answer, or answered with an error: the operator acts."""


class Misconfigured(CustodyError):
    """A parameter, key, policy file or environment is wrong: whoever configured it acts."""


def from_os_error(error: OSError) -> CustodyError:
    """Turn an operating system error into the kind of the person who can act on it."""
    where = str(error.filename) if error.filename else "(no path given by the system)"
    reason = os.strerror(error.errno) if error.errno else type(error).__name__
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return Misconfigured(
            "The disk is full, or a limit on file sizes was reached; nothing was kept of this step.",
            evidence=f"{reason}: {where}",
            remedy="Give the task more ephemeral storage (or free space) and run it again.",
        )
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return Misconfigured(
            "A file or folder may not be read or written by this task.",
            evidence=f"{reason}: {where}",
            remedy="Correct the permissions or the mount, for the user that the task runs as.",
        )
    if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.EISDIR):
        return InputRefused(
            "An input is not where it should be, or is not of the expected kind.",
            evidence=f"{reason}: {where}",
            remedy="Check that the step before it finished and that the path is right.",
        )
    if isinstance(error, ConnectionError | TimeoutError):
        return ServiceUnreachable(
            "A service did not answer.", evidence=f"{reason}: {where}", remedy="Check that it runs and is reachable."
        )
    return Misconfigured("The system refused an operation.", evidence=f"{reason}: {where}", remedy="See the evidence.")


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
            ) from error
        except MemoryError as error:
            raise Misconfigured(
                "The task ran out of memory.", evidence="MemoryError", remedy="Give the task a higher memory limit."
            ) from error
    except CustodyError as refusal:
        if os.environ.get("_KFP_RUNTIME") != "true":
            raise
        raise SystemExit(f"\nREFUSED {type(refusal).__name__}: {refusal}") from refusal
