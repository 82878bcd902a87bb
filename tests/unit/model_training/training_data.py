"""What the tests of model_training share: a small learnable dataset, its real evidence, and the way to train on it."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from securesystemslib.signer import Signer

from kfp_custody.components._shared.digests import list_tree
from kfp_custody.components._shared.evidence import ATTESTATION, now, provenance, resource, write_evidence
from kfp_custody.components._shared.settings import Settings
from kfp_custody.components.model_training.training import Outputs, Parameters, Trained, train

CHANNELS = ("atm", "online", "phone", "pos")


def transactions(rows: int = 2000, *, seed: int = 1, fraud: float = 0.1) -> pa.Table:
    """Return transactions with fraud that can be learned, in random time order, as masking leaves them."""
    random = np.random.default_rng(seed)
    label = (random.random(rows) < fraud).astype(np.int64)
    amount = np.exp(random.normal(3 + 1.2 * label, 1, rows))
    start = datetime(2026, 1, 1)
    seconds = random.permutation(rows) * 60
    channel = np.where(random.random(rows) < 0.5 + 0.3 * label, "online", random.choice(CHANNELS, rows))
    distance = random.exponential(5 + 20 * label)
    return pa.table(
        {
            "transaction_id": [f"t{number:08d}" for number in range(rows)],
            "timestamp": pa.array([start + timedelta(seconds=int(s)) for s in seconds], pa.timestamp("us", "UTC")),
            "customer_id": [f"{value:032x}" for value in random.integers(0, 2**60, rows)],
            "email": ["<REDACTED>"] * rows,
            "channel": pa.array(channel.tolist()).dictionary_encode(),
            "amount": amount,
            "hour": random.integers(0, 24, rows),
            "distance": pa.array(distance, mask=random.random(rows) < 0.1),
            "is_foreign": random.random(rows) < 0.1 + 0.4 * label,
            "memo": [None] * rows,
            "is_fraud": label,
        }
    )


def write_dataset(directory: Path, table: pa.Table, files: int = 1) -> Path:
    """Write a table as Parquet files `part-<n>.parquet` into a new directory."""
    directory.mkdir(parents=True)
    size = -(-table.num_rows // files) or 1
    for number in range(files):
        pq.write_table(table.slice(number * size, size), directory / f"part-{number}.parquet")
    return directory


def attest(dataset: Path, directory: Path, signer: Signer, run_id: str) -> Path:
    """Leave the evidence that attest_dataset would leave for a dataset."""
    subject = list_tree(dataset)
    made_from = [resource("masking", "0" * 64)]
    statement = provenance(
        ATTESTATION,
        subject,
        run_id=run_id,
        started=now(),
        parameters={},
        internal={},
        dependencies=made_from,
        byproducts=[],
    )
    write_evidence(directory, statement, signer, subject)
    return directory


@dataclass(frozen=True)
class Room:
    """A place to train in: inputs are made here, outputs appear in `out`."""

    root: Path
    settings: Settings
    signer: Signer
    run_id: str

    @property
    def outputs(self) -> Outputs:
        out = self.root / "out"
        return Outputs(out / "model", out / "provenance", out / "tensorboard", out / "report.html")

    def give(self, table: pa.Table, files: int = 1) -> Path:
        """Write and attest a dataset; the evidence lies in `attestation` beside it."""
        dataset = write_dataset(self.root / "given" / "dataset", table, files)
        attest(dataset, self.root / "given" / "attestation", self.signer, self.run_id)
        return dataset

    def train(self, **parameters: Any) -> Trained:
        """Train on what was given."""
        given = self.root / "given"
        return train(
            given / "dataset", given / "attestation", self.outputs, Parameters(**parameters), self.run_id, self.settings
        )

    def left(self) -> list[str]:
        """Names of everything below `out`, temporary siblings included."""
        out = self.root / "out"
        return sorted(path.name for path in out.rglob("*")) if out.exists() else []
