"""What a check found."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from kfp_custody.components.poisoning_screen.limits import UNKNOWN


def nobody() -> NDArray[np.int64]:
    """Return no row."""
    return np.empty(0, dtype=np.int64)


@dataclass(frozen=True)
class Check:
    """A check: its verdict, the reason in words, numbers for rules, and rows to look at, the most suspect first.

    `suspects` are places in the sample; no value of a row is here. `failed` says that the check could not be made where
    it had to be.
    """

    name: str
    verdict: str
    reason: str
    metrics: Mapping[str, float] = field(default_factory=dict)
    suspects: NDArray[np.int64] = field(default_factory=nobody)
    failed: bool = False


def unknown(name: str, why: str) -> Check:
    """Return a check that the data tells nothing about."""
    return Check(name, UNKNOWN, why)
