"""What custody costs: hashing, attesting, signing and verifying, beside the tools that do a part of it.

A dataset of 2 GiB (as one file, and as 10,000 files) and a model of 500 MB are written to the temporary directory and
read once, so that all contenders find them in the page cache. Ours and its peers then take turns; each figure is the
median of its turns, in CPU seconds (user and system, children included) or seconds of wall time. Everything runs in
this process after imports, but for the commands (`openssl`, `dvc`), which are started as a user starts them.

The demo's stages are measured by their custody work alone (hashing inputs, reading and writing evidence, the gate),
done again in this process on the artifacts that the last `make demo` left.
"""

import hashlib
import os
import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from time import perf_counter
from timeit import repeat

import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from _demo import custody_of_the_demo
from _table import Result, publish

from kfp_custody.components._shared.digests import list_tree, sha256_bytes
from kfp_custody.components._shared.evidence import (
    ATTESTATION,
    MASKING,
    test_result,
    write_evidence,
)
from kfp_custody.components._shared.evidence import (
    resource as described,
)
from kfp_custody.components._shared.kinds import KINDS
from kfp_custody.components._shared.model_signature import sign_model_tree, verify_model_signature
from kfp_custody.components._shared.settings import Settings, load_settings
from kfp_custody.components._shared.signers.file import generate_key
from kfp_custody.components._shared.signers.loading import load_signer
from kfp_custody.components._shared.trust import load_trust
from kfp_custody.components._shared.verification import read_evidence, require_subject
from kfp_custody.components.data_attestation.attestation import attest

DATASET = 2 * 1024**3
FILES = 10_000
MODEL = 500 * 10**6
SPACE = 6 * 1024**3
TURNS = 5
_CELL, _PIECE = 256, 64 * 1024**2
RUN = "benchmark"

PLAIN, OPENSSL, MODEL_SIGNING, DVC = "hashlib.file_digest, 1 thread", "openssl dgst", "model_signing", "dvc add"


@dataclass(frozen=True)
class Cost:
    """CPU seconds of this process and its children, and seconds of wall time."""

    cpu: float
    wall: float


def main() -> int:
    """Measure and print; 1 when a goal is missed."""
    place = Path(tempfile.gettempdir())
    free = shutil.disk_usage(place).free
    if free < SPACE:
        raise SystemExit(f"{place} has {free / 1024**3:.1f} GiB free, {SPACE / 1024**3:.0f} are needed; set TMPDIR")
    results: list[Result] = []
    with tempfile.TemporaryDirectory(prefix="custody-bench-") as scratch:
        site = Site(Path(scratch))
        results.append(_one_statement(site))
        results += _model(site)
        for label, files in (("one file", 1), (f"{FILES:,} files", FILES)):
            results += _dataset(site, label, files)
        results += custody_of_the_demo(site.root, site.key)
    return 0 if publish("custody", results) else 1


class Site:
    """A key, a trust file that trusts it, and room for what is measured."""

    def __init__(self, root: Path) -> None:
        """Make the key and the trust file."""
        self.root, self.key = root, root / "signer.pem"
        generate_key(self.key)
        self.signer = load_signer(f"file:{self.key}")
        self.pem = self.signer.public_key.keyval["public"]
        entry = {"name": "benchmark", "key": self.pem, "may_sign": list(KINDS)}
        (root / "trust.yaml").write_text(yaml.safe_dump({"version": 1, "signers": [entry]}))
        self.trust = load_trust(root / "trust.yaml")
        self._outputs = 0

    @property
    def settings(self) -> Settings:
        """What a stage finds in its environment: no DVC remote."""
        return load_settings({"CUSTODY_SIGNER": f"file:{self.key}", "CUSTODY_TRUST": str(self.root / "trust.yaml")})

    def masked(self, dataset: Path) -> Path:
        """Leave the evidence about a dataset that attesting asks for."""
        subject, directory = list_tree(dataset), self.output("masking")
        inputs = [described("input", sha256_bytes(b"raw"))]
        statement = test_result(
            MASKING, subject, result="PASSED", run_id=RUN, configuration=inputs, passed=["benchmark"]
        )
        write_evidence(directory, statement, self.signer, subject)
        return directory

    def output(self, name: str) -> Path:
        """Name a new output."""
        self._outputs += 1
        return self.root / "outputs" / f"{name}-{self._outputs}"


def _dataset(site: Site, label: str, files: int) -> Iterator[Result]:
    with _written(site.root / "repo" / "dataset", DATASET, files) as dataset:
        masking = site.masked(dataset)
        size = list_tree(dataset).size
        attestation = site.output("attestation")
        before = _bytes_read()
        attest(dataset, masking, attestation, RUN, site.settings)
        read = _bytes_read() - before
        costs = _in_turns(
            {
                PLAIN: lambda: _plain(dataset),
                MODEL_SIGNING: lambda: _model_signing_hash(dataset),
                **({OPENSSL: lambda: _openssl(dataset)} if shutil.which("openssl") else {}),
                "list": lambda: list_tree(dataset),
                "attest": lambda: attest(dataset, masking, site.output("attestation"), RUN, site.settings),
                "verify": lambda: require_subject(
                    read_evidence(attestation, ATTESTATION, site.trust, run_id=RUN), dataset, "dataset"
                ),
            }
        )
        costs[DVC] = _dvc_add(dataset)  # last and once: it moves the files to its cache and knows them from then on
    many = files > 1
    cores = os.cpu_count() or 1
    goals = {
        ("list", PLAIN, "cpu"): 1.1,
        ("list", PLAIN, "wall"): 1 / 1.6 if many and cores > 1 else None,
        ("list", MODEL_SIGNING, "cpu"): 0.6 if many else None,
    }
    for ours, peers in (
        ("list", (PLAIN, MODEL_SIGNING, OPENSSL)),
        ("attest", (DVC, OPENSSL)),
        ("verify", (MODEL_SIGNING, OPENSSL)),
    ):
        for peer in peers:
            if peer in costs:
                yield from _compared(f"{ours}, 2 GiB in {label}", costs[ours], costs[peer], peer, goals, (ours, peer))
    yield Result(
        f"attest (SHA-256 and MD5), 2 GiB in {label}: read",
        read,
        size,
        "bytes",
        goal=1.01,
        most=True,
        relative=True,
        peer_name="the dataset",
    )


def _model(site: Site) -> Iterator[Result]:
    from model_signing import signing, verifying

    public = site.root / "signer.pub"
    public.write_text(site.pem)
    ours, theirs = site.root / "ours.sig", site.root / "theirs.sig"
    with _written(site.root / "model", MODEL, 5) as model:
        costs = _in_turns(
            {
                f"{MODEL_SIGNING} sign": lambda: (
                    signing.Config().use_elliptic_key_signer(private_key=site.key).sign(model, theirs)
                ),
                f"{MODEL_SIGNING} verify": lambda: (
                    verifying.Config().use_elliptic_key_verifier(public_key=public).verify(model, theirs)
                ),
                "sign": lambda: sign_model_tree(model, ours, site.signer),
                "verify": lambda: verify_model_signature(model, ours, site.trust),
                **({OPENSSL: lambda: _openssl(model)} if shutil.which("openssl") else {}),
            }
        )
    for act in ("sign", "verify"):
        for peer in (f"{MODEL_SIGNING} {act}", OPENSSL):
            if peer in costs:
                yield from _compared(f"{act} a model of 500 MB", costs[act], costs[peer], peer)


def _one_statement(site: Site) -> Result:
    small = site.root / "small"
    small.mkdir()
    pq.write_table(pa.table({"row": range(1000)}), small / "data.parquet")
    attestation = site.output("attestation")
    attest(small, site.masked(small), attestation, RUN, site.settings)
    batch = 100
    batches = repeat(
        lambda: read_evidence(attestation, ATTESTATION, site.trust, run_id=RUN), number=batch, repeat=1000 // batch
    )
    return Result("verify one statement", min(batches) / batch * 1000, None, "ms wall", goal=1.0, most=True)


def _compared(
    name: str,
    ours: Cost,
    theirs: Cost,
    peer: str,
    goals: Mapping[tuple[str, str, str], float | None] | None = None,
    key: tuple[str, ...] = (),
) -> Iterator[Result]:
    for measure, mine, other in (("cpu", ours.cpu, theirs.cpu), ("wall", ours.wall, theirs.wall)):
        goal = (goals or {}).get((*key, measure))  # type: ignore[arg-type]
        yield Result(name, mine, other, f"s {measure}", goal, most=True, relative=True, peer_name=peer)


def _in_turns(contenders: Mapping[str, Callable[[], object]]) -> dict[str, Cost]:
    """Let all take turns, so that a busy moment of the machine hits all alike; the first turn warms up."""
    costs: dict[str, list[Cost]] = {name: [] for name in contenders}
    for turn in range(TURNS + 1):
        for name, work in contenders.items():
            cost = _cost(work)
            if turn:
                costs[name].append(cost)
    return {
        name: Cost(median(cost.cpu for cost in turns), median(cost.wall for cost in turns))
        for name, turns in costs.items()
    }


def _cost(work: Callable[[], object]) -> Cost:
    started, cpu = perf_counter(), _cpu()
    work()
    return Cost(_cpu() - cpu, perf_counter() - started)


def _cpu() -> float:
    used = [resource.getrusage(whose) for whose in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in used)


def _bytes_read() -> int:
    """Return how many bytes this process has read so far, from the page cache or not."""
    fields = dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())
    return int(fields["rchar"])


@contextmanager
def _written(root: Path, size: int, files: int) -> Iterator[Path]:
    """Write a tree of equally large tables, whose data does not compress and is not sparse; remove it afterwards."""
    column = pa.field("row", pa.binary(_CELL))
    for number in range(files):
        path = root / f"{number // 100:03d}" / f"part-{number:05d}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        left = size * (number + 1) // files - size * number // files
        with pq.ParquetWriter(path, pa.schema([column]), compression="none", use_dictionary=False) as writer:
            while left > 0:
                rows = max(min(left, _PIECE) // _CELL, 1)
                cells = pa.FixedSizeBinaryArray.from_buffers(
                    column.type, rows, [None, pa.py_buffer(os.urandom(rows * _CELL))]
                )
                writer.write_table(pa.table([cells], schema=pa.schema([column])))
                left -= rows * _CELL
    try:
        yield root
    finally:
        shutil.rmtree(root)


def _paths(root: Path) -> Iterable[str]:
    return (os.path.join(folder, name) for folder, _, names in os.walk(root) for name in names)


def _plain(root: Path) -> None:
    for path in _paths(root):
        with open(path, "rb") as file:
            hashlib.file_digest(file, "sha256").hexdigest()


def _model_signing_hash(root: Path) -> None:
    from model_signing import hashing

    hashing.Config().use_file_serialization(hashing_algorithm="sha256").hash(root)


def _openssl(root: Path) -> None:
    command = ["openssl", "dgst", "-sha256", *_paths(root)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)  # noqa: S607


def _dvc_add(dataset: Path) -> Cost:
    """Add a dataset in a new repository with a copying cache of its own, as `dvc init && dvc add` does."""
    repo = dataset.parent
    environment = {
        **os.environ,
        "DVC_NO_ANALYTICS": "1",
        "DVC_SITE_CACHE_DIR": str(repo / "site"),
        "DVC_GLOBAL_CONFIG_DIR": str(repo / "config"),
    }
    dvc = partial(subprocess.run, cwd=repo, env=environment, check=True, capture_output=True)
    dvc([sys.executable, "-m", "dvc", "init", "--no-scm", "--quiet"])
    try:
        return _cost(lambda: dvc([sys.executable, "-m", "dvc", "add", "--quiet", dataset.name]))
    finally:
        for left in (".dvc", "site", "config"):
            shutil.rmtree(repo / left, ignore_errors=True)
        for name in ("dataset.dvc", ".gitignore", ".dvcignore"):
            (repo / name).unlink(missing_ok=True)


if __name__ == "__main__":
    raise SystemExit(main())
