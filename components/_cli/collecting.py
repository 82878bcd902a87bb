"""Collecting what an audit finds: each attempt turns a refusal into a check that failed."""

from collections.abc import Callable
from dataclasses import dataclass, field

from kfp_custody.components._shared import codes
from kfp_custody.components._shared.errors import CustodyError, from_os_error
from kfp_custody.components._shared.verification import Verified
from kfp_custody.components.policy_gate.checks import Check


class NotAcceptedError(Exception):
    """A check needs evidence that was not accepted."""


@dataclass
class Collected:
    """Checks in the order they were made, the evidence that verified by its name in the chain, and notes."""

    checks: list[Check] = field(default_factory=list)
    verified: dict[str, Verified] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def attempt(self, check: str, look: Callable[[], str]) -> None:
        """Make a check; `look` returns what was seen, or raises."""
        try:
            self.checks.append(Check(check, "PASSED", look()))
        except (CustodyError, OSError) as error:
            refusal = error if isinstance(error, CustodyError) else from_os_error(error)
            self.refuse(check, refusal.code, f"{refusal.what} {refusal.evidence}")
        except NotAcceptedError as missing:
            self.refuse(check, codes.CHECK_NOT_MADE, f"not checked: the evidence {missing} was not accepted")

    def refuse(self, check: str, code: str, detail: str) -> None:
        """Record that a check failed."""
        self.checks.append(Check(check, "FAILED", detail, code))

    def need(self, name: str) -> Verified:
        """Return evidence that verified.

        Raises:
            NotAcceptedError: it did not, or is not there.
        """
        if name not in self.verified:
            raise NotAcceptedError(name)
        return self.verified[name]
