"""What any release signed is verified for ever, as of its own time; one changed byte of it is refused for ever."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from kfp_custody.components._cli.audit import Audit, Question, audit
from kfp_custody.components._shared import codes
from kfp_custody.components._shared.digests import list_tree
from kfp_custody.components._shared.images import VERSION
from kfp_custody.components._shared.keys import key_hint
from kfp_custody.components._shared.kinds import (
    CANARY,
    COLLECTION,
    FETCHING,
    KINDS,
    MONITORING,
    POISONING,
    PROFILE,
    PROFILE_DRIFT,
    RETRAINING,
    ROBUSTNESS,
    ROLLOUT,
    SCAN,
    SHARD_ATTESTATION,
    SHARD_MASKING,
)
from kfp_custody.components._shared.trust import load_trust

EVIDENCE = ("masking", "attestation", "provenance", "current-masking", "drift", "decision")
CORPUS = Path(__file__).resolve().parents[1] / "corpus"


@dataclass(frozen=True)
class Version:
    """The evidence of a release."""

    root: Path

    @cached_property
    def manifest(self) -> dict[str, str]:
        return json.loads((self.root / "manifest.json").read_bytes())  # type: ignore[no-any-return]

    @property
    def at(self) -> datetime:
        return datetime.fromisoformat(self.manifest["at"])

    def audit(self, run: Path, at: datetime | None = None) -> Audit:
        policy = str(self.root / self.manifest["policy"])
        return audit(Question(run, self.root / "trust.yaml", policy=policy, at=at or self.at, require_bytes=True))


@dataclass(frozen=True)
class Run:
    """A run of a release, and the verdict that its gate signed."""

    version: Version
    name: str
    verdict: str

    @property
    def root(self) -> Path:
        return self.version.root / self.name


VERSIONS = [Version(path) for path in sorted(CORPUS.iterdir()) if (path / "manifest.json").is_file()]
RUNS = [Run(version, *item) for version in VERSIONS for item in version.manifest["runs"].items()]  # type: ignore[attr-defined]
each_version = pytest.mark.parametrize("version", VERSIONS, ids=lambda version: version.root.name)
each_run = pytest.mark.parametrize("run", RUNS, ids=lambda run: f"{run.version.root.name}-{run.name}")


def refusals(done: Audit) -> dict[str, str]:
    return {check.id: check.code for check in done.failed}


def kinds(done: Audit) -> set[str]:
    return {piece.kind.name for piece in done.verified.values()}


def test_this_release_left_its_evidence() -> None:
    assert VERSION in [version.root.name for version in VERSIONS]
    for version in VERSIONS:
        assert {run.verdict for run in RUNS if run.version == version} == {"PASSED", "FAILED"}


@each_version
def test_a_release_is_never_changed_and_holds_no_private_key(version: Version) -> None:
    recorded = (CORPUS / f"{version.root.name}.SHA256SUMS").read_bytes()
    assert list_tree(version.root).text == recorded
    for path in filter(Path.is_file, version.root.rglob("*")):
        assert b"PRIVATE" not in path.read_bytes()


@each_version
def test_its_public_keys_are_those_of_its_trust_file(version: Version) -> None:
    keys = {path.stem: load_pem_public_key(path.read_bytes()) for path in version.root.glob("*.pub")}
    trusted = {signer.name: hint for hint, signer in load_trust(version.root / "trust.yaml").signers.items()}
    assert keys
    assert {name: key_hint(key) for name, key in keys.items()} == {name: trusted[name] for name in keys}  # type: ignore[arg-type]


# Kinds that a chain need not have, or that came after the first corpus.
BESIDE = (
    *(SHARD_MASKING, SHARD_ATTESTATION, FETCHING, PROFILE, PROFILE_DRIFT, CANARY, ROLLOUT),
    *(COLLECTION, MONITORING, RETRAINING),
    POISONING,
    ROBUSTNESS,
    SCAN,
)


@each_version
def test_there_is_evidence_of_every_kind_that_the_version_knew(version: Version) -> None:
    known = {name for signer in load_trust(version.root / "trust.yaml").signers.values() for name in signer.may_sign}
    runs = [run for run in RUNS if run.version == version]
    assert set().union(*(kinds(version.audit(run.root)) for run in runs)) == known


@each_run
def test_a_run_verifies_as_of_its_own_time(run: Run) -> None:
    done = run.version.audit(run.root)
    if run.verdict == "PASSED":
        assert (done.verdict, refusals(done)) == ("PASSED", {})
        assert set(KINDS) - {kind.name for kind in BESIDE} <= kinds(done)
    else:
        refused = refusals(done)
        assert refused.pop("decision:verdict") == codes.GATE_FAILED
        assert refused
        assert {name.partition(":")[0] for name in refused} == {"rule"}, refused


@each_run
@pytest.mark.parametrize("days", [-30, 30])
def test_at_another_time_nobody_is_believed(run: Run, days: int) -> None:
    done = run.version.audit(run.root, run.version.at + timedelta(days=days))
    assert codes.SIGNER_PERIOD in refusals(done).values()


def flips(root: Path) -> Iterator[tuple[Path, int]]:
    """Yield one byte of every file: the first, the middle and the last one by turns."""
    files = sorted(path for path in root.rglob("*") if path.is_file())
    for number, path in enumerate(files):
        last = path.stat().st_size - 1
        yield path.relative_to(root), (0, last // 2, last)[number % 3]


@each_run
def test_one_changed_byte_is_refused_wherever_it_is(tmp_path: Path, run: Run) -> None:
    copy = shutil.copytree(run.root, tmp_path / "run")
    genuine = refusals(run.version.audit(copy))
    accepted = []
    for path, position in flips(run.root):
        data = bytearray((run.root / path).read_bytes())
        data[position] ^= 1
        (copy / path).write_bytes(data)
        if not set(refusals(run.version.audit(copy))) - set(genuine):
            accepted.append(f"{path} at {position}")
        (copy / path).write_bytes((run.root / path).read_bytes())
    assert not accepted


@each_run
def test_nothing_can_be_taken_away(tmp_path: Path, run: Run) -> None:
    genuine = refusals(run.version.audit(run.root))
    for folder in sorted(path.name for path in run.root.iterdir() if path.name != "deployment"):
        copy = shutil.copytree(run.root, tmp_path / folder)
        shutil.rmtree(copy / folder)
        assert set(refusals(run.version.audit(copy))) - set(genuine), f"without {folder}"


@each_run
def test_nothing_can_be_added(tmp_path: Path, run: Run) -> None:
    genuine = refusals(run.version.audit(run.root))
    for folder in ("dataset", "current", "signed/model", *EVIDENCE):
        copy = shutil.copytree(run.root, tmp_path / folder.replace("/", "-"))
        (copy / folder / "more").write_bytes(b"more")
        assert set(refusals(run.version.audit(copy))) - set(genuine), f"more in {folder}"
