"""collect_logs and monitor_inference as KFP calls them: logs in a folder, evidence, and a profile of another run."""

import gzip
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kfp import dsl
from securesystemslib.signer import Signer

from kfp_custody.components._shared import codes
from kfp_custody.components._shared.artifacts import DatasetProfile, InferenceLogs, TestResult
from kfp_custody.components._shared.digests import list_tree
from kfp_custody.components._shared.errors import (
    CustodyError,
    EvidenceInvalid,
    InputRefused,
    Misconfigured,
    PolicyRefused,
)
from kfp_custody.components._shared.evidence import COLLECTION, MONITORING, PROFILE, now, provenance, write_evidence
from kfp_custody.components._shared.profiles import Profile, ScoresProfile, profile_numbers
from kfp_custody.components._shared.settings import Settings
from kfp_custody.components._shared.trust import Trust
from kfp_custody.components._shared.verification import read_evidence, require_subject
from kfp_custody.components.data_versioning.component import collect_logs
from kfp_custody.components.inference_monitoring.component import monitor_inference

RUN, TRAINING = "fraud-detection-test-run", "the-run-that-trained"
START, END = "2026-11-01T00:00:00Z", "2026-11-02T00:00:00Z"
SECRETS = ("spiffe://bank.example/scoring", "4929123456789012", "10.9.8.7", "gambling")


def pair(number: int, day: int = 1, **more: Any) -> dict[str, Any]:
    """A line with a payload, of a client with a name."""
    rng = np.random.default_rng(number)
    request = {
        "inputs": [
            {"name": "amount", "datatype": "FP64", "shape": [1], "data": [float(rng.normal())]},
            {"name": "shop", "datatype": "BYTES", "shape": [1], "data": [SECRETS[3]]},
            {"name": "card", "datatype": "BYTES", "shape": [1], "data": [SECRETS[1]]},
        ]
    }
    score = float(rng.random())
    outputs = [{"name": "probability", "datatype": "FP64", "shape": [1], "data": [score]}]
    return {
        "time": f"2026-11-{day:02}T{number % 24:02}:00:00Z",
        "client": f"{SECRETS[0]}/{number % 3}",
        "seconds": 0.01,
        "status": 200,
        "address": SECRETS[2],
        "request": request,
        "response": {"model_name": "fraud", "outputs": outputs},
    } | more


def text(*lines: dict[str, Any]) -> bytes:
    return b"".join(json.dumps(line).encode() + b"\n" for line in lines)


@dataclass
class Run:
    """Calls both components with artifacts below a folder."""

    root: Path

    @property
    def source(self) -> Path:
        return self.root / "source"

    def artifact(self, kind: Any, name: str) -> Any:
        return kind(name=name, uri=str(self.root / "out" / name))

    def collect(self, uri: str = "", start: str = START, end: str = END) -> InferenceLogs:
        logs = self.artifact(InferenceLogs, "logs")
        evidence = self.artifact(TestResult, "logs_evidence")
        collect_logs.python_func(logs, evidence, RUN, uri or str(self.source), start, end)
        return logs  # type: ignore[no-any-return]

    def monitor(self, profile: bool = False, **more: Any) -> str:
        given = {}
        if profile:
            given = {
                "profile": self.artifact(DatasetProfile, "profile"),
                "profile_evidence": self.artifact(TestResult, "profile_evidence"),
                "training_run_id": TRAINING,
            }
        verdict = monitor_inference.python_func(
            self.artifact(InferenceLogs, "logs"),
            self.artifact(TestResult, "logs_evidence"),
            self.artifact(TestResult, "evidence"),
            self.artifact(dsl.HTML, "report"),
            self.artifact(dsl.Metrics, "metrics"),
            **({"run_id": RUN, "model_name": "fraud"} | given | more),
        )
        return str(verdict)


@pytest.fixture
def run(tmp_path: Path, settings: Settings) -> Run:
    (tmp_path / "source").mkdir()
    (tmp_path / "sources.yaml").write_text(
        f"version: 1\nsources:\n  - prefix: {tmp_path}/source/\n    engine: local\n    max_bytes: 8_000_000\n"
    )
    return Run(tmp_path)


@pytest.fixture
def collected(run: Run) -> Run:
    (run.source / "a.jsonl").write_bytes(text(*map(pair, range(60))))
    run.collect()
    return run


def write_profile(run: Run, signer: Signer, rows: int = 5000) -> None:
    rng = np.random.default_rng(9)
    scores = ScoresProfile(profile_numbers(rng.random(rows)), 0.5, 0)
    found = Profile(rows, {"amount": profile_numbers(rng.normal(size=rows))}, scores)
    folder = run.root / "out" / "profile"
    folder.mkdir(parents=True)
    (folder / "profile.json").write_bytes(found.json())
    subject = list_tree(folder)
    statement = provenance(
        PROFILE,
        subject,
        run_id=TRAINING,
        started=now(),
        parameters={},
        internal={},
        dependencies=[],
        byproducts=[],
    )
    write_evidence(run.root / "out" / "profile_evidence", statement, signer, subject)


def test_the_lines_of_the_window_are_kept_and_all_others_counted(run: Run, trust: Trust) -> None:
    (run.source / "today.jsonl").write_bytes(
        text(pair(1), pair(2, day=2), pair(3), pair(4, time=START), pair(5, time=END))
        + b'{"time": "2026-11-01T05:00:00+00:00"}\nno json\n\n{"time": "2026-11-01T05'
    )
    (run.source / "older.gz").write_bytes(gzip.compress(text(pair(6), pair(7, day=3)) + b"garbage of another day\n"))
    (run.source / "cut.jsonl").write_bytes(gzip.compress(text(*map(pair, range(50))))[:-200])
    (run.source / "long.jsonl").write_bytes(b'{"time": "' + b"x" * 4_400_000 + b'"}\n' + text(pair(8)))
    logs = run.collect()
    verified = read_evidence(run.root / "out" / "logs_evidence", COLLECTION, trust, run_id=RUN)
    assert require_subject(verified, Path(logs.path), "logs") == list_tree(Path(logs.path))
    manifest = json.loads((run.root / "out" / "logs_evidence" / "collect-manifest.json").read_bytes())
    found = {
        file["path"]: tuple(file[name] for name in ("kept", "left", "unreadable", "unfinished"))
        for file in manifest["files"]
    }
    assert found.pop("cut.jsonl")[2] == 1, "what breaks off is not passed over"
    assert found == {"today.jsonl": (4, 2, 1, 1), "older.gz": (1, 2, 0, 0), "long.jsonl": (1, 0, 1, 0)}
    kept = (Path(logs.path) / "requests.jsonl").read_bytes()
    assert kept.count(b"\n") == verified.metrics["lines_kept"] == logs.metadata["lines_kept"]
    given = {"uri": str(run.source), "start": START, "end": END}
    assert verified.predicate["buildDefinition"]["externalParameters"] == given


WINDOWS = [
    (END, START),
    (START, START),
    ("2026-11-01", END),
    (START, "2026-11-01T24:00:00Z"),
    ("", ""),
    (START, "9999"),
]


@pytest.mark.parametrize(("start", "end"), [*WINDOWS, (START, "2999-01-01T00:00:00Z"), (START + "\n", END)])
def test_a_window_that_is_none_or_not_over(run: Run, start: str, end: str) -> None:
    with pytest.raises(InputRefused) as caught:
        run.collect(start=start, end=end)
    assert caught.value.code == codes.WINDOW
    assert not (run.root / "out").exists()


def test_logs_from_elsewhere_or_from_git_are_not_collected(run: Run, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    with pytest.raises(PolicyRefused) as caught:
        run.collect(str(tmp_path / "other"))
    assert caught.value.code == codes.SOURCE_NOT_ALLOWED
    (tmp_path / "sources.yaml").write_text(
        "version: 1\nsources:\n  - {prefix: git+https://git.example/, engine: dvc, remote: s3://bucket}\n"
    )
    with pytest.raises(InputRefused) as refused:
        run.collect("git+https://git.example/logs.git//logs")
    assert refused.value.code == codes.SOURCE_URI


def test_a_file_that_expands_without_end_is_refused(run: Run) -> None:
    (run.source / "bomb").write_bytes(gzip.compress(text(*[pair(1)] * 30_000)))
    with pytest.raises(InputRefused) as caught:
        run.collect()
    assert caught.value.code == codes.SOURCE_SIZE
    assert not list((run.root / "out").iterdir()), "nothing half-written is left"


def test_a_window_without_a_line_is_no_refusal_and_no_pass(run: Run, trust: Trust) -> None:
    (run.source / "a.jsonl").write_bytes(text(pair(1, day=9)))
    assert Path(run.collect().path, "requests.jsonl").read_bytes() == b""
    assert run.monitor() == "WARNED"
    verified = read_evidence(run.root / "out" / "evidence", MONITORING, trust, run_id=RUN)
    assert verified.predicate["warnedTests"] == ["requests"]
    assert verified.metrics == {"requests": 0, "clients": 0, "lines_unreadable": 0}


def test_logs_are_judged_and_signed_for(collected: Run, trust: Trust, signer: Signer) -> None:
    write_profile(collected, signer)
    assert collected.monitor(profile=True) == "PASSED"
    verified = read_evidence(collected.root / "out" / "evidence", MONITORING, trust, run_id=RUN)
    assert verified.subject_sha256 == list_tree(collected.root / "out" / "logs").sha256
    names = {entry["name"] for entry in verified.predicate["configuration"]}
    assert names == {"logs_evidence", "limits", "model", "window", "report", "profile", "profile_evidence"}
    assert verified.predicate["custody_coverage"] == {"checked": 60, "skipped": 0, "errors": 0}
    assert {"requests", "latency", "errors", "budget"} <= set(verified.predicate["passedTests"])
    expected = {
        "requests": 60,
        "rows": 60,
        "clients": 3,
        "error_ratio": 0,
        "refused_ratio": 0,
        "clients_over_budget": 0,
    }
    assert {name: verified.metrics[name] for name in expected} == expected
    assert {"latency_p50", "latency_p90", "latency_p99", "confidence_p10", "confidence_p50"} <= set(verified.metrics)
    assert verified.metrics["prediction_psi"] < 0.5
    assert verified.metrics["latency_p99"] == pytest.approx(0.01, rel=0.003)


def test_nothing_of_a_line_leaves_but_counts(collected: Run, signer: Signer, capfd: pytest.CaptureFixture[str]) -> None:
    write_profile(collected, signer)
    collected.monitor(profile=True)
    out = collected.root / "out"
    written = b"".join(path.read_bytes() for path in (out / "evidence").iterdir()) + (out / "report").read_bytes()
    told = capfd.readouterr()
    for secret in SECRETS:
        assert secret.encode() in (out / "logs" / "requests.jsonl").read_bytes(), "or the test would show nothing"
        assert secret.encode() not in written
        assert secret not in told.out + told.err
    assert (out / "report").stat().st_size < 300_000
    assert sorted(path.name for path in out.iterdir() if path.name.startswith(".")) == [], "rows do not stay"


def test_what_could_not_be_read_at_the_source_counts(run: Run) -> None:
    (run.source / "a.jsonl").write_bytes(text(*map(pair, range(60))) + b"garbage\n" * 2)
    run.collect()
    assert run.monitor() == "FAILED"
    report = json.loads((run.root / "out" / "evidence" / "report.json").read_bytes())
    assert report["coverage"] == {"checked": 60, "skipped": 0, "errors": 2}
    assert "cannot be judged" in (run.root / "out" / "report").read_text()


def test_other_bytes_than_those_collected(collected: Run) -> None:
    with open(collected.root / "out" / "logs" / "requests.jsonl", "ab") as file:
        file.write(text(pair(99)))
    with pytest.raises(EvidenceInvalid) as caught:
        collected.monitor()
    assert caught.value.code == codes.BYTES
    assert not (collected.root / "out" / "evidence").exists()


REFUSED: list[tuple[dict[str, Any], type[CustodyError], str]] = [
    ({"run_id": "another"}, EvidenceInvalid, codes.OTHER_RUN),
    ({"profile": True, "training_run_id": RUN}, EvidenceInvalid, codes.OTHER_RUN),
    ({"profile": True, "training_run_id": ""}, Misconfigured, codes.SETTINGS),
    ({"profile": True, "profile_evidence": None}, Misconfigured, codes.SETTINGS),
    ({"run_id": ""}, Misconfigured, codes.SETTINGS),
    ({"model_name": ""}, Misconfigured, codes.SETTINGS),
    ({"limits": "none"}, Misconfigured, codes.SETTINGS),
]


@pytest.mark.parametrize(("more", "kind", "code"), REFUSED, ids=str)
def test_what_is_refused(collected: Run, signer: Signer, more: dict[str, Any], kind: type, code: str) -> None:
    write_profile(collected, signer)
    with pytest.raises(kind) as caught:
        collected.monitor(**more)
    assert caught.value.code == code
    assert not (collected.root / "out" / "evidence").exists()


def test_a_profile_that_was_changed_or_is_none(collected: Run, signer: Signer) -> None:
    write_profile(collected, signer)
    path = collected.root / "out" / "profile" / "profile.json"
    path.write_bytes(path.read_bytes().replace(b'"missing":0', b'"missing":1', 1))
    with pytest.raises(EvidenceInvalid) as caught:
        collected.monitor(profile=True)
    assert caught.value.code == codes.BYTES
