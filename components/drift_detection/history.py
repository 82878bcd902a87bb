"""Past evidence of drift checks, for the line that a report draws through them."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from kfp_custody.components._shared.errors import InputRefused
from kfp_custody.components._shared.evidence import DRIFT, PROFILE_DRIFT
from kfp_custody.components._shared.trust import Trust
from kfp_custody.components._shared.verification import Verified, read_evidence

_MOST = 1_000


@dataclass(frozen=True)
class Past:
    """A check of another run: its metrics are None where it could not take them."""

    run_id: str
    time: datetime
    result: str
    share_drifted: float | None
    prediction_psi: float | None


def read_history(root: Path | None, model_sha256: str, trust: Trust) -> tuple[Past, ...]:
    """Verify past evidence and return what it says about this model, oldest first.

    Args:
        root: A directory of evidence directories of check_drift and check_profile_drift; None for no history.
        model_sha256: Listing of the model; evidence about another one is left out.
        trust: Who is believed, now and at the time of each check.

    Raises:
        EvidenceInvalid: a piece of evidence is not genuine.
        InputRefused: something that is no evidence of a drift check lies there, or too much.
    """
    if root is None:
        return ()
    folders = sorted(path for path in root.iterdir() if not path.name.startswith("."))
    if len(folders) > _MOST:
        raise _refused(f"{len(folders)} directories, at most {_MOST} are read")
    verified = {found.bundle_sha256: found for found in (_read(folder, trust) for folder in folders)}
    about = [found for found in verified.values() if found.dependency("model") == model_sha256]
    return tuple(sorted((past for found in about if (past := _past(found))), key=lambda past: (past.time, past.run_id)))


def series(history: Sequence[Past], metric: str) -> tuple[list[float], list[float]]:
    """Return the places (1 is the oldest check) and the values of a metric, where it was taken."""
    points = [(number, getattr(past, metric)) for number, past in enumerate(history, 1)]
    known = [(float(number), float(value)) for number, value in points if value is not None]
    return [number for number, _ in known], [value for _, value in known]


def _read(folder: Path, trust: Trust) -> Verified:
    kinds = [kind for kind in (DRIFT, PROFILE_DRIFT) if (folder / f"{kind.name}.sigstore.json").is_file()]
    if len(kinds) != 1:
        raise _refused(f"{folder.name!a} holds no evidence of a drift check")
    return read_evidence(folder, kinds[0], trust, run_id=None)


def _past(found: Verified) -> Past | None:
    if found.time is None or found.run_id is None or found.result is None:  # a test result always has them
        return None
    metrics = found.metrics
    return Past(found.run_id, found.time, found.result, metrics.get("share_drifted"), metrics.get("prediction_psi"))


def _refused(why: str) -> InputRefused:
    return InputRefused(
        "The history of drift checks cannot be read.",
        evidence=f"history: {why}",
        remedy="Give a directory with nothing but evidence directories of check_drift and check_profile_drift.",
    )
