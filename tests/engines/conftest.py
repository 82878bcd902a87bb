"""A month of transactions, and what mask_pii makes of it."""

from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from engine_rows import KEY, POLICY, ROWS, by_id

from kfp_custody.components._shared.settings import Settings, load_settings
from kfp_custody.components._shared.signers.file import generate_key
from kfp_custody.components._shared.signers.loading import load_signer
from kfp_custody.components.pii_masking.masking import mask_dataset
from kfp_custody.pipelines.fraud_detection.sample_data import write_month


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("engines")
    (root / "masking.key").write_text(KEY)
    (root / "masking.key").chmod(0o600)
    return root


@pytest.fixture(scope="session")
def engine_settings(place: Path) -> Settings:
    return replace(load_settings({}), masking_key=str(place / "masking.key"))


@pytest.fixture(scope="session")
def raw(place: Path) -> Path:
    return write_month(place / "month", rows=ROWS).dataset


@pytest.fixture(scope="session")
def masked(place: Path, raw: Path, engine_settings: Settings) -> pa.Table:
    generate_key(place / "signer.pem")
    mask_dataset(
        raw,
        place / "masked",
        place / "evidence",
        None,
        "engines",
        POLICY,
        "",
        load_signer(f"file:{place}/signer.pem"),
        engine_settings,
    )
    return by_id(pq.read_table(place / "masked" / "data.parquet"))


@pytest.fixture(scope="session")
def leaking(place: Path, raw: Path) -> Path:
    """The same rows with each customer's card number in a column that the policy keeps."""
    table = pq.read_table(raw)
    at = table.schema.get_field_index("merchant")
    (place / "leaking").mkdir()
    pq.write_table(table.set_column(at, "merchant", table["card_number"]), place / "leaking" / "rows.parquet")
    return place / "leaking"
