"""The masking room as its component runs it, with keys that live as long as the benchmark."""

import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from kfp_custody.components._shared.settings import load_settings
from kfp_custody.components._shared.signers.file import generate_key
from kfp_custody.components._shared.signers.loading import load_signer
from kfp_custody.components.pii_masking.masking import mask_dataset


def mask(dataset: Path, place: Path, policy: str) -> pa.Table:
    """Mask a dataset in a new folder and return the masked rows."""
    place.mkdir()
    generate_key(place / "signer.pem")
    (place / "masking.key").write_text(os.urandom(32).hex())
    (place / "masking.key").chmod(0o600)
    mask_dataset(
        dataset,
        place / "masked",
        place / "evidence",
        place / "report.html",
        run_id="benchmark",
        policy=policy,
        expected_sha256="",
        signer=load_signer(f"file:{place}/signer.pem"),
        settings=load_settings({"CUSTODY_MASKING_KEY": str(place / "masking.key")}),
    )
    return pq.read_table(place / "masked" / "data.parquet")
