"""A whole genuine chain of custody without masking or training: what attacks start from and the gate lets pass.

The statements of mask_pii, train_model and check_drift are made with the shared API and realistic numbers; attesting
and signing are the real stages.
"""

import io
import shutil
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from securesystemslib.signer import Signer

from kfp_custody.components._shared.digests import list_tree, sha256_bytes, sha256_file
from kfp_custody.components._shared.documents import canonical_json
from kfp_custody.components._shared.evidence import (
    ATTESTATION,
    DRIFT,
    FETCHING,
    LISTING_NAME,
    MASKING,
    TRAINING,
    now,
    provenance,
    resource,
    test_result,
    write_evidence,
)
from kfp_custody.components._shared.keys import public_pem
from kfp_custody.components._shared.kinds import KINDS
from kfp_custody.components._shared.settings import Settings, load_settings
from kfp_custody.components._shared.signers.file import generate_key
from kfp_custody.components._shared.signers.loading import load_signer, public_key
from kfp_custody.components._shared.trust import Trust, load_trust
from kfp_custody.components.artifact_signing.signing import sign
from kfp_custody.components.data_attestation.attestation import attest
from kfp_custody.components.policy_gate.checks import Chain
from kfp_custody.components.policy_gate.gate import GateDecision, enforce
from kfp_custody.components.policy_gate.policy import load_policy

RUN = "fraud-detection-test-run"
COVERAGE = {"checked": 28, "skipped": 0, "errors": 0}
MASKED = ["every-column-declared", "input-unchanged", "no-identifier-left-in-row", "no-pattern-left"]
TRAINED = {"average_precision": 0.83, "roc_auc": 0.98, "rows_train": 80_000.0, "positives_test": 130.0}
DRIFTED = {"columns_drifted": 0.0, "share_drifted": 0.0, "max_psi": 0.08, "prediction_psi": 0.03}


def trust_entry(name: str, signer: Signer, may_sign: Collection[str] = tuple(KINDS), **more: object) -> dict[str, Any]:
    """Return a signer's entry of a trust file."""
    return {"name": name, "key": public_pem(public_key(signer)).decode(), "may_sign": list(may_sign), **more}


def write_tree(root: Path, files: Mapping[str, bytes]) -> Path:
    """Write files below a new directory."""
    for name, data in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    return root


def parquet(tag: str, rows: int = 50_000) -> bytes:
    """Return a small Parquet file of so many equal rows, other bytes for another tag."""
    file = io.BytesIO()
    pq.write_table(pa.table({"amount": pa.array([1.0] * rows), "tag": pa.array([tag] * rows)}), file)
    return file.getvalue()


def write_source(directory: Path, raw: Path, signer: Signer, run_id: str = RUN) -> Path:
    """Write the evidence that fetch_dataset leaves about raw data."""
    listing, record = list_tree(raw), canonical_json({"version": 1, "files": []})
    statement = provenance(
        FETCHING,
        listing,
        run_id=run_id,
        started=now(),
        parameters={"uri": f"git+https://git.example/data.git//{raw.name}", "revision": "v1"},
        internal={"engine": "dvc", "files": 1, "bytes": listing.size},
        dependencies=[
            resource("source", uri="git+https://git.example/data.git", git_commit="12" * 20),
            resource("sources", sha256_bytes(b"sources file")),
        ],
        byproducts=[resource("fetch-manifest", sha256_bytes(record), media_type="application/json")],
    )
    write_evidence(directory, statement, signer, listing, attachments={"fetch-manifest.json": record})
    return directory


def write_masking(
    directory: Path, dataset: Path, signer: Signer, run_id: str = RUN, source: Path | None = None, **changes: Any
) -> Path:
    """Write the evidence that mask_pii leaves about a dataset; `source`: that of fetch_dataset about the raw data."""
    listing = list_tree(dataset)
    origin = []
    if source:
        bundle = source / f"{FETCHING.name}.sigstore.json"
        origin = [resource("source", sha256_file(bundle), annotations={"commit": "12" * 20})]
    report = canonical_json({"columns": 28})
    told = {
        "result": "PASSED",
        "passed": MASKED,
        "coverage": COVERAGE,
        "metrics": {"rows": _rows(dataset), "columns_masked": 12},
    }
    statement = test_result(
        MASKING,
        listing,
        run_id=run_id,
        configuration=[
            resource(
                "input",
                sha256_file(source / LISTING_NAME) if source else sha256_bytes(b"raw " + dataset.name.encode()),
            ),
            resource("report", sha256_bytes(report), media_type="application/json"),
            *origin,
            resource("policy", sha256_bytes(b"masking policy"), annotations={"name": "card-transactions"}),
            resource("masking-key", annotations={"id": "e7134987b9ef3f82"}),
        ],
        **(told | changes),
    )
    write_evidence(directory, statement, signer, listing, report)
    return directory


def _rows(dataset: Path) -> int:
    """Count the rows of a dataset of Parquet files; one of other files is said to have 100,000."""
    return sum(pq.read_metadata(path).num_rows for path in dataset.rglob("*.parquet")) or 100_000


class Site:
    """A platform with its keys, trust file and settings, on which runs leave chains."""

    def __init__(self, root: Path) -> None:
        """Make a platform whose one signer is trusted for everything, and whose trust file pins the policy baseline."""
        self.root = root
        self.signer = self.key("pipeline")
        self.trust_path = root / "trust.yaml"
        self.pin({"baseline": load_policy("baseline").sha256})
        self.environment = {
            "CUSTODY_SIGNER": f"file:{root}/keys/pipeline.pem",
            "CUSTODY_TRUST": str(self.trust_path),
        }
        self._gates = 0

    def key(self, name: str) -> Signer:
        """Make a key that nobody trusts yet."""
        generate_key(self.root / "keys" / f"{name}.pem")
        return load_signer(f"file:{self.root}/keys/{name}.pem")

    def pin(self, policies: Mapping[str, str], entries: Collection[Mapping[str, Any]] = ()) -> None:
        """Write the trust file: the pipeline's signer unless other entries are given, and these policies."""
        document = {
            "version": 1,
            "signers": list(entries) or [trust_entry("pipeline", self.signer)],
            "policies": [{"name": name, "sha256": digest} for name, digest in policies.items()],
        }
        self.trust_path.write_text(yaml.safe_dump(document))

    @property
    def settings(self) -> Settings:
        """The environment of a stage."""
        return load_settings(self.environment)

    @property
    def trust(self) -> Trust:
        """The trust file, read."""
        return load_trust(self.trust_path)

    def chain(
        self,
        name: str = "release",
        run_id: str = RUN,
        merged: Path | None = None,
        fetched: bool = True,
        **numbers: Mapping[str, float],
    ) -> Chain:
        """Leave a whole chain below `<root>/<name>`; its bytes depend on the name.

        Args:
            name: Name of the release.
            run_id: The run that all of it belongs to.
            fetched: Whether fetch_dataset brought the raw data; not for `merged`.
            merged: Where merge_shards left `masked` and `evidence`, to be used as the dataset and its masking.
            numbers: `training` and `drift`: metrics instead of the usual ones; `coverage` of both maskings.
        """
        root, tag, settings = self.root / name, name.encode(), self.settings
        coverage = numbers.get("coverage", COVERAGE)
        sources: list[Path | None] = [None, None]
        for number, month in enumerate(("raw", "raw-current")):
            if fetched and not merged:
                raw = write_tree(root / month, {"rows.csv": month.encode() + tag})
                sources[number] = write_source(root / f"source-{month}", raw, self.signer, run_id)
        if merged:
            dataset = shutil.copytree(merged / "masked", root / "dataset")
            masking = shutil.copytree(merged / "evidence", root / "masking")
        else:
            files = {"data.parquet": parquet(name), "part/more.parquet": parquet(f"more {name}")}
            dataset = write_tree(root / "dataset", files)
            masking = write_masking(root / "masking", dataset, self.signer, run_id, sources[0], coverage=coverage)
        current = write_tree(root / "current", {"data.parquet": parquet(f"next month {name}", 100_000)})
        attest(dataset, masking, root / "attestation", run_id, settings)
        trained = write_tree(root / "trained", {"model.ubj": b"weights " + tag, "signature.json": b"{}"})
        attestation_sha256 = sha256_file(root / "attestation" / f"{ATTESTATION.name}.sigstore.json")
        self._train(root, dataset, attestation_sha256, run_id, numbers.get("training", TRAINED))
        sign(trained, root / "provenance", root / "signed", run_id, settings)
        current_masking = write_masking(
            root / "current-masking", current, self.signer, run_id, sources[1], coverage=coverage
        )
        chain = Chain(
            dataset=dataset,
            masking=masking,
            attestation=root / "attestation",
            provenance=root / "provenance",
            model=root / "signed",
            current=current,
            current_masking=current_masking,
            drift=root / "drift",
            source=sources[0],
            current_source=sources[1],
        )
        self._compare(chain, attestation_sha256, run_id, numbers.get("drift", DRIFTED))
        return chain

    def gate(
        self, chain: Chain, policy: str = "baseline", run_id: str = RUN, model_name: str = "fraud-detection"
    ) -> tuple[GateDecision, Path, str]:
        """Ask the gate; returns its decision, the evidence directory and the HTML report."""
        self._gates += 1
        evidence, report = self.root / f"decision-{self._gates}", self.root / f"report-{self._gates}.html"
        done = enforce(
            chain, evidence, report, run_id=run_id, policy=policy, model_name=model_name, settings=self.settings
        )
        return done, evidence, report.read_text()

    def _train(self, root: Path, dataset: Path, attestation: str, run_id: str, metrics: Mapping[str, float]) -> None:
        report, settings = canonical_json({"metrics": dict(metrics)}), self.settings
        revision = settings.source_revision
        statement = provenance(
            TRAINING,
            list_tree(root / "trained"),
            run_id=run_id,
            started=now(),
            parameters={"algorithm": "xgboost", "seed": 7},
            internal={"mlflow": {"run_id": "ab12"}},
            dependencies=[
                resource("dataset", list_tree(dataset).sha256),
                resource("attestation", attestation),
                *([resource("image", settings.image_digest.removeprefix("sha256:"))] if settings.image_digest else []),
                *([resource("source", annotations={"revision": revision})] if revision else []),
            ],
            byproducts=[
                resource("metrics", sha256_bytes(report), annotations=metrics),
                resource("report", sha256_bytes(report), media_type="application/json"),
            ],
        )
        write_evidence(root / "provenance", statement, self.signer, list_tree(root / "trained"), report)

    def _compare(self, chain: Chain, attestation: str, run_id: str, metrics: Mapping[str, float]) -> None:
        report = canonical_json({"metrics": dict(metrics)})
        current = list_tree(chain.current)
        statement = test_result(
            DRIFT,
            current,
            result="PASSED",
            run_id=run_id,
            configuration=[
                resource("reference", list_tree(chain.dataset).sha256),
                resource("attestation", attestation),
                resource("current_masking", sha256_file(chain.current_masking / f"{MASKING.name}.sigstore.json")),
                resource("provenance", sha256_file(chain.provenance / f"{TRAINING.name}.sigstore.json")),
                resource("model", list_tree(chain.model / "model").sha256),
                resource("report", sha256_bytes(report), media_type="application/json"),
            ],
            passed=["prediction"],
            metrics=metrics,
            coverage={"checked": 12, "skipped": 0, "errors": 0},
        )
        write_evidence(chain.drift, statement, self.signer, current, report)
