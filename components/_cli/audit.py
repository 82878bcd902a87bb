"""The audit of a folder: all that the gate verified, and the gate's own decision, however long after the run."""

import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from kfp_custody.components._cli.chain import check_copies, check_links
from kfp_custody.components._cli.collecting import Collected
from kfp_custody.components._cli.decided import (
    check_decision,
    check_deployment,
    check_policy,
    check_profile,
    check_rollout,
)
from kfp_custody.components._cli.discovery import LINKS, NOT_SHOWN, Piece, find
from kfp_custody.components._cli.sharded import check_shards
from kfp_custody.components._shared import codes
from kfp_custody.components._shared.errors import CustodyError, EvidenceInvalid, PolicyRefused
from kfp_custody.components._shared.evidence import now
from kfp_custody.components._shared.trust import Trust, load_trust
from kfp_custody.components._shared.verification import Verified, read_evidence
from kfp_custody.components.policy_gate.checks import Check
from kfp_custody.components.policy_gate.policy import load_policy

_BESIDE = ("decision", *NOT_SHOWN)


@dataclass(frozen=True)
class Question:
    """What is asked: the folder, whom to trust, and how strictly.

    `policy`: path or shipped name of the policy that counts. `at`: the moment to judge signers by, now when None.
    `run_id`: the run that all of it must belong to. `require_bytes`: artifacts that are not there refuse.
    `partial`: the chain may end before the gate.
    """

    root: Path
    trust: Path
    policy: str | None = None
    at: datetime | None = None
    run_id: str | None = None
    require_bytes: bool = False
    partial: bool = False


@dataclass(frozen=True)
class Audit:
    """What was found.

    `places` and `shown`: name in the chain (of a shard: masking.mask-shard-0) -> its bundle, and the SHA-256 of it as
    it lies there; `verified`: those that were accepted. `notes`: what a reader must know and is no refusal.
    """

    root: Path
    run_id: str | None
    at: datetime
    trust: Trust
    checks: tuple[Check, ...]
    verified: Mapping[str, Verified]
    places: Mapping[str, Path]
    shown: Mapping[str, str]
    notes: tuple[str, ...]

    @property
    def failed(self) -> tuple[Check, ...]:
        """The checks that refuse."""
        return tuple(check for check in self.checks if check.verdict != "PASSED")

    @property
    def verdict(self) -> str:
        """PASSED when everything holds, else REFUSED."""
        return "PASSED" if self.checks and not self.failed else "REFUSED"


def audit(question: Question) -> Audit:
    """Verify everything below a folder; whatever is wrong becomes a check that failed.

    Raises:
        Misconfigured: the trust file or the policy is not acceptable.
        OSError: a folder cannot be read.
    """
    root, trust, moment = question.root, load_trust(question.trust), question.at or now()
    policy = load_policy(question.policy) if question.policy else None
    found, done = find(root), Collected()
    run_id = question.run_id or found.run_id
    shown = {name: copies[0].sha256 for name, copies in found.links.items()}
    shards: dict[str, Piece] = {}
    if not found.links and not found.extra:
        done.refuse("evidence:any", codes.NO_EVIDENCE, f"neither {root} nor a folder below it holds evidence")
    else:
        absent = check_links(done, root, found, trust, run_id or "", moment, partial=question.partial)
        check_copies(done, root, found, trust, run_id or "", moment)
        shards, not_shown = check_shards(done, root, found, trust, run_id or "", moment)
        for name in _BESIDE:
            if name in found.links:
                directory = found.links[name][0].path.parent
                look = functools.partial(_read, done, name, directory, trust, run_id or "", moment)
                done.attempt(f"evidence:{name}", look)
        if "decision" in shown:
            check_decision(done, {name: shown[name] for name in shown if name not in _BESIDE}, trust, policy)
        elif not question.partial:
            done.refuse("evidence:decision", codes.NO_EVIDENCE, "the gate's decision is not here")
        if "deployment" in shown:
            check_deployment(done, shown)
        check_rollout(done, shown)
        check_profile(done, shown)
        if policy is not None:
            check_policy(done, policy, trust, moment)
        _tell_absent(done, sorted(absent | not_shown), question.require_bytes)
    done.notes += _revocations(trust, done.verified, moment)
    places = {name: copies[0].path for name, copies in found.links.items()}
    places |= {name: piece.path for name, piece in shards.items()}
    shown |= {name: piece.sha256 for name, piece in shards.items()}
    return Audit(root, run_id, moment, trust, tuple(done.checks), dict(done.verified), places, shown, tuple(done.notes))


def require_held(done: Audit) -> None:
    """Raise what refuses, if anything does.

    Raises:
        PolicyRefused: the evidence is genuine, and the decision or the policy says no.
        EvidenceInvalid: anything else.
    """
    if done.verdict == "PASSED":
        return
    # The cause, and not what could not be checked because of it.
    first = next((check for check in done.failed if check.code != codes.CHECK_NOT_MADE), done.failed[0])
    kind: type[CustodyError] = PolicyRefused if first.code.startswith("CUS-E3") else EvidenceInvalid
    raise kind(
        f"The chain of custody does not hold: {len(done.failed)} of {len(done.checks)} checks refuse.",
        evidence=f"{first.id}: {first.detail}",
        remedy="Do not rely on what this evidence speaks for. Every check that refuses is named above.",
        code=first.code,
    )


def _read(done: Collected, name: str, directory: Path, trust: Trust, run_id: str, moment: datetime) -> str:
    done.verified[name] = verified = read_evidence(directory, LINKS[name], trust, run_id=run_id, at=moment)
    return f"signed by {verified.signer}, bundle sha256:{verified.bundle_sha256}"


def _tell_absent(done: Collected, absent: list[str], refuse: bool) -> None:
    for artifact in absent:
        if refuse:
            done.refuse(f"bytes:{artifact}", codes.BYTES_ABSENT, "bytes not shown")
        else:
            done.notes.append(f"{artifact}: bytes not shown, so not verified")


def _revocations(trust: Trust, verified: Mapping[str, Verified], moment: datetime) -> Iterator[str]:
    """Name signers that were revoked since: what they signed is believed only as of the moment that was asked for."""
    believed = {piece.signer for piece in verified.values()}
    for signer in trust.signers.values():
        if signer.name in believed and signer.revoked:
            yield (
                f"signer {signer.name} is revoked from {signer.revoked.isoformat()}; its evidence is believed as of "
                f"{moment.isoformat()}, and a revoked key can claim any time"
            )
