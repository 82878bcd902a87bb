"""Stages that are killed, run out of disk or may not write: nothing is left that a later stage accepts."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from genuine_chain import RUN, Site, write_masking, write_tree
from kfp_custody.components._shared.digests import list_tree
from kfp_custody.components._shared.errors import EvidenceInvalid
from kfp_custody.components._shared.evidence import ATTESTATION
from kfp_custody.components._shared.verification import read_evidence
from kfp_custody.components.artifact_signing.signing import sign
from kfp_custody.components.data_attestation.attestation import attest
from kfp_custody.components.policy_gate.checks import Chain

NOBODY = 65534
# A stage as KFP runs it: a process of its own, with all that it needs imported before it may lose the right to read it.
STAGE = """
import _strptime, os, sys
from pathlib import Path
import model_signing.signing, model_signing.verifying
from model_signing._signing import sign_sigstore_pb
from kfp_custody.components._shared.errors import boundary
from kfp_custody.components._shared.settings import load_settings
from kfp_custody.components.artifact_signing.signing import sign
from kfp_custody.components.data_attestation.attestation import attest
room, user, first, second, output, run = sys.argv[1:]
if int(user):
    os.setgroups([]), os.setresgid(*[int(user)] * 3), os.setresuid(*[int(user)] * 3)
with boundary():
    {"sign": sign, "attest": attest}[room](Path(first), Path(second), Path(output), run, load_settings())
"""


def command(room: str, first: Path, second: Path, output: Path, user: int = 0) -> list[str]:
    return [sys.executable, "-c", STAGE, room, str(user), str(first), str(second), str(output), RUN]


def environment(site: Site, **more: str) -> dict[str, str]:
    return {**os.environ, **site.environment, "_KFP_RUNTIME": "true", **more}


def kill_when(seen: Callable[[], bool], arguments: list[str], env: dict[str, str]) -> None:
    """Start a stage and kill it -9 at the moment something is seen."""
    with subprocess.Popen(arguments, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        until = time.monotonic() + 60
        while not seen():
            assert process.poll() is None, "the stage ended before it could be killed"
            assert time.monotonic() < until
            time.sleep(0.001)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def test_a_killed_signing_leaves_nothing_that_the_gate_accepts(site: Site) -> None:
    chain = site.chain()
    trained, output = site.root / "release" / "trained", site.root / "killed" / "signed"
    output.parent.mkdir()
    kill_when(
        lambda: any(output.parent.glob(".signed.*.partial/model/*")),
        command("sign", trained, chain.provenance, output),
        environment(site),
    )
    (left,) = output.parent.iterdir()
    assert left.name.endswith(".partial")
    for found in (output, left):
        done, _, _ = site.gate(Chain(**{**vars(chain), "model": found}))
        assert done.verdict == "FAILED"
        assert "evidence:model" in {check.id for check in done.failed}
    sign(trained, chain.provenance, output, RUN, site.settings)
    done, _, _ = site.gate(Chain(**{**vars(chain), "model": output}))
    assert done.verdict == "PASSED"


def test_a_killed_attestation_leaves_nothing_that_training_accepts(site: Site) -> None:
    dataset = write_tree(site.root / "dataset", {f"part-{n:03}": os.urandom(2000) for n in range(300)})
    masking = write_masking(site.root / "masking", dataset, site.signer)
    remote, output = site.root / "remote", site.root / "out" / "attestation"
    remote.mkdir()
    output.parent.mkdir()
    site.environment["CUSTODY_DVC_REMOTE"] = str(remote)
    arguments = command("attest", dataset, masking, output)
    scratch = site.root / "scratch"  # a process that is killed leaves its temporary files
    scratch.mkdir()
    kill_when(lambda: any(remote.iterdir()), arguments, environment(site, TMPDIR=str(scratch)))
    assert list(output.parent.iterdir()) == []
    with pytest.raises(EvidenceInvalid, match="attestation/ is no evidence directory"):
        read_evidence(output, ATTESTATION, site.trust, run_id=RUN)
    done = attest(dataset, masking, output, RUN, site.settings)
    assert done.pushed is not None
    assert read_evidence(output, ATTESTATION, site.trust, run_id=RUN).subject_sha256 == list_tree(dataset).sha256


@pytest.mark.parametrize("bytes_written", [0, 1, 100, -1])
def test_a_bundle_that_was_being_written_is_refused(site: Site, bytes_written: int) -> None:
    """What an interrupted upload leaves, which no rename protects."""
    chain = site.chain()
    bundle = chain.attestation / "attest-dataset.sigstore.json"
    bundle.write_bytes(bundle.read_bytes()[:bytes_written] if bytes_written >= 0 else bundle.read_bytes()[:-2])
    with pytest.raises(EvidenceInvalid, match="it is no JSON|it is empty"):
        read_evidence(chain.attestation, ATTESTATION, site.trust, run_id=RUN)


def refused(done: subprocess.CompletedProcess[str], said: str) -> None:
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    last = done.stderr.rstrip().splitlines()[-3:]
    assert last[0].startswith("REFUSED Misconfigured: "), done.stderr
    assert said in "\n".join(last)
    assert last[1].startswith("  evidence: ")
    assert last[2].startswith("  remedy: ")


def small_disk(at: Path, full: bool) -> list[str]:
    """Return a command prefix under which `at` is a disk of 64 KiB in a mount namespace of its own.

    Where namespaces are not allowed, a limit on the size of files stands in for the small disk.
    """
    private = ["unshare", "-m"] if os.geteuid() == 0 else ["unshare", "-r", "-m"]
    fill = f'head -c 61440 /dev/zero > "{at}/filler";' if full else ""
    mounted = f'mount -t tmpfs -o size=64k none "{at}" && {{ {fill} "$@"; code=$?; ls -A "{at}"; exit $code; }}'
    if subprocess.run([*private, "mount", "-t", "tmpfs", "none", str(at)], capture_output=True).returncode == 0:
        return [*private, "sh", "-c", mounted, "sh"]
    return ["sh", "-c", f'ulimit -f {1 if full else 64}; "$@"; code=$?; ls -A "{at}"; exit $code', "sh"]


def limited(at: Path, full: bool) -> list[str]:
    return ["sh", "-c", f'ulimit -f {1 if full else 64}; "$@"; code=$?; ls -A "{at}"; exit $code', "sh"]


@pytest.fixture
def large(site: Site) -> tuple[Path, Path]:
    """A trained model of 300 kB with its provenance."""
    site.root.joinpath("release").mkdir()
    write_tree(site.root / "release" / "trained", {"large.bin": os.urandom(300_000)})
    chain = site.chain()
    return site.root / "release" / "trained", chain.provenance


@pytest.mark.parametrize("prefix", [small_disk, limited])
def test_a_full_disk_while_signing(
    site: Site, large: tuple[Path, Path], prefix: Callable[[Path, bool], list[str]]
) -> None:
    disk = site.root / "disk"
    disk.mkdir()
    arguments = [*prefix(disk, False), *command("sign", *large, disk / "signed")]
    done = subprocess.run(arguments, env=environment(site), capture_output=True, text=True, timeout=60)
    refused(done, "disk is full")
    assert done.stdout.split() == []


@pytest.mark.parametrize("prefix", [small_disk, limited])
def test_a_full_disk_while_attesting(site: Site, prefix: Callable[[Path, bool], list[str]]) -> None:
    disk = site.root / "disk"
    disk.mkdir()
    dataset = write_tree(site.root / "dataset", {f"part-{n:03}": b"rows" for n in range(200)})
    masking = write_masking(site.root / "masking", dataset, site.signer)
    arguments = [*prefix(disk, True), *command("attest", dataset, masking, disk / "attestation")]
    done = subprocess.run(arguments, env=environment(site), capture_output=True, text=True, timeout=60)
    refused(done, "disk is full")
    assert set(done.stdout.split()) <= {"filler"}


@pytest.fixture
def open_site() -> Iterator[Site]:
    """A site below /tmp that another user can reach; pytest's own folders are private."""
    root = Path(tempfile.mkdtemp(prefix="custody-attack-"))
    root.chmod(0o755)
    yield Site(root)
    shutil.rmtree(root)


def give_keys(site: Site, user: int) -> None:
    for path in (site.root / "keys", *(site.root / "keys").iterdir()):
        os.chown(path, user, user)


def test_no_permission_to_write(open_site: Site) -> None:
    user = NOBODY if os.geteuid() == 0 else 0
    chain = open_site.chain()
    if user:
        give_keys(open_site, user)
    forbidden = open_site.root / "forbidden"
    forbidden.mkdir(mode=0o555)
    arguments = command("sign", open_site.root / "release/trained", chain.provenance, forbidden / "signed", user)
    done = subprocess.run(arguments, env=environment(open_site), capture_output=True, text=True, timeout=60)
    refused(done, f"Permission denied: {forbidden}")
    assert list(forbidden.iterdir()) == []


def test_no_permission_to_read_the_key(open_site: Site) -> None:
    user = NOBODY if os.geteuid() == 0 else 0
    chain = open_site.chain()
    key = open_site.root / "keys" / "pipeline.pem"
    if not user:
        key.chmod(0)
    arguments = command("sign", open_site.root / "release/trained", chain.provenance, open_site.root / "signed", user)
    done = subprocess.run(arguments, env=environment(open_site), capture_output=True, text=True, timeout=60)
    refused(done, "The signing key cannot be read")
    assert "Permission denied" in done.stderr


def test_no_permission_to_read_the_model(open_site: Site) -> None:
    user = NOBODY if os.geteuid() == 0 else 0
    chain = open_site.chain()
    if user:
        give_keys(open_site, user)
    (open_site.root / "release/trained/model.ubj").chmod(0)
    arguments = command("sign", open_site.root / "release/trained", chain.provenance, open_site.root / "signed", user)
    done = subprocess.run(arguments, env=environment(open_site), capture_output=True, text=True, timeout=60)
    refused(done, "Permission denied")
    assert not (open_site.root / "signed").exists()
