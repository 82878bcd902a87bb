"""Attesting a masked dataset."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kfp_custody.components._shared import codes
from kfp_custody.components._shared.digests import Listing, sha256_bytes
from kfp_custody.components._shared.errors import EvidenceInvalid, PolicyRefused
from kfp_custody.components._shared.evidence import (
    ATTESTATION,
    BUNDLE_TYPE,
    MASKING,
    descriptors,
    now,
    provenance,
    resource,
    write_evidence,
)
from kfp_custody.components._shared.settings import Settings
from kfp_custody.components._shared.signers.loading import load_signer
from kfp_custody.components._shared.trust import load_trust
from kfp_custody.components._shared.verification import Verified, read_evidence, require_subject
from kfp_custody.components.data_attestation.dvc_identity import DvcIdentity, dvc_identity
from kfp_custody.components.data_attestation.dvc_remote import push
from kfp_custody.components.data_attestation.table_facts import TableFacts, WatchedTables

POINTER_NAME = "dataset.dvc"
SCHEMA_NAME = "schema.json"


@dataclass(frozen=True)
class AttestedDataset:
    """What was attested: the listing, DVC's name for it, and how many objects its remote took (None: no remote).

    `table` is there when the dataset is of Parquet files.
    """

    listing: Listing
    dvc: DvcIdentity
    pushed: int | None
    table: TableFacts | None

    def metadata(self) -> dict[str, str | float]:
        """Return what the KFP UI shows."""
        return {
            "sha256": self.listing.sha256,
            "dvc_md5": self.dvc.md5,
            "files": float(len(self.listing.entries)),
            "bytes": float(self.listing.size),
            **({"rows": float(self.table.rows), "schema_sha256": self.table.schema_sha256} if self.table else {}),
        }


def attest(dataset: Path, masking: Path, output: Path, run_id: str, settings: Settings) -> AttestedDataset:
    """Verify the masking evidence, hash the dataset again and sign what it is.

    Args:
        dataset: The masked dataset, a directory.
        masking: The evidence directory of mask_pii.
        output: The evidence directory to write.
        run_id: The pipeline run.
        settings: Trust, signer and DVC remote.

    Raises:
        EvidenceInvalid: the evidence is not genuine, of another run, or speaks of other bytes.
        PolicyRefused: the masking evidence says FAILED.
        InputRefused: the dataset's tree cannot be listed, or a Parquet file of it cannot be read.
        Misconfigured: trust file or signer.
        ServiceUnreachable: the DVC remote.
    """
    started = now()
    signer = load_signer(settings.signer_uri("data_attestation"))
    masked = read_evidence(masking, MASKING, load_trust(settings.trust_file), run_id=run_id)
    if masked.result == "FAILED":
        raise PolicyRefused(
            "The masking of this dataset failed, so it is not attested.",
            evidence=f"mask-pii result FAILED in bundle sha256:{masked.bundle_sha256}",
            remedy="See the masking report; correct the data or the masking policy.",
        )
    tables = WatchedTables(dataset)
    listing = require_subject(masked, dataset, "dataset", md5=True)
    table = tables.facts()
    _require_rows(masked, table)
    dvc = dvc_identity(dataset, listing)
    pushed = push(dataset, settings.dvc_remote, dvc.md5) if settings.dvc_remote else None
    pointer = dvc.pointer("dataset")
    statement = provenance(
        ATTESTATION,
        listing,
        run_id=run_id,
        started=started,
        parameters={},
        internal={
            "files": len(listing.entries),
            "bytes": listing.size,
            "dvc_pushed": pushed is not None,
            **({"rows": table.rows, "columns": len(table.columns)} if table else {}),
        },
        dependencies=[
            resource("input", masked.dependency("input")),
            resource("masking", masked.bundle_sha256, media_type=BUNDLE_TYPE),
            *_of_masking(masked),
        ],
        byproducts=[
            *([resource("schema", table.schema_sha256, media_type="application/json")] if table else []),
            resource("dataset", sha256_bytes(pointer), media_type="application/yaml"),
            resource("dvc", md5=dvc.md5.removesuffix(".dir"), annotations={"dvc_md5": dvc.md5, "size": dvc.size}),
        ],
    )
    attachments = {POINTER_NAME: pointer, **({SCHEMA_NAME: table.schema} if table else {})}
    write_evidence(output, statement, signer, listing, attachments=attachments)
    return AttestedDataset(listing, dvc, pushed, table)


def _of_masking(masked: Verified) -> list[dict[str, Any]]:
    """Return what the attestation takes over from the masking evidence: its report, and where the raw data is from."""
    named = {entry["name"]: entry for entry in descriptors(masked.statement)}
    found = []
    if "report" in named:  # a masker of somebody else may leave none
        found.append(resource("masking-report", masked.dependency("report"), media_type="application/json"))
    if "source" in named:
        found.append(dict(named["source"]))
    return found


def _require_rows(masked: Verified, table: TableFacts | None) -> None:
    """Refuse a dataset that has another number of rows than its masker counted."""
    counted = masked.metrics.get("rows")
    if table is not None and counted is not None and counted != table.rows:
        raise EvidenceInvalid(
            "The dataset does not have the rows that its masking evidence counts.",
            evidence=f"expected {counted:.0f} rows, found {table.rows}; bundle sha256:{masked.bundle_sha256}",
            remedy="Do not use this dataset. Run the masking stage again.",
            code=codes.ROWS,
        )
