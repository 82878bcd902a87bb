"""A dataset that is masked and attested in shards, and merged: what attacks on shards start from."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from securesystemslib.signer import Signer

from genuine_chain import RUN, Site
from kfp_custody.components.data_attestation.shard_attestation import attest_shard
from kfp_custody.components.pii_masking.masking import MaskingResult, mask_dataset
from kfp_custody.components.pii_masking.merging import merge_shards

POLICY = """\
version: 1
columns:
  id: {operator: keep}
  owner: {operator: hmac, domain: customer}
  card: {operator: mask, keep_last: 4}
  opened: {operator: generalize, to: year}
  secret: {operator: drop}
  amount: {operator: keep, type: float}
"""


def accounts(count: int) -> pa.Table:
    """Return rows with an identifier, a card number, a date, a number and some nulls."""
    days = pa.array(range(10_000, 10_000 + count), pa.int32()).cast(pa.date32())
    return pa.table(
        {
            "id": [f"T{number:06d}" for number in range(count)],
            "owner": [f"customer-{number % 7}" for number in range(count)],
            "card": [None if number % 5 == 3 else f"41111111111{number:05d}" for number in range(count)],
            "opened": days,
            "secret": [f"classified-{number}" for number in range(count)],
            "amount": [None if number % 11 == 4 else number / 3 for number in range(count)],
        }
    )


class Sharding:
    """Raw data, a policy and a masking key on a site, and the stages that work in shards."""

    def __init__(self, site: Site, rows: int = 30) -> None:
        """Write what the stages need."""
        self.site = site
        self.root = site.root / "sharding"
        self.raw = self.table("raw", accounts(rows))
        self.policy = self.root / "policy.yaml"
        self.policy.write_text(POLICY)
        self.settings = replace(site.settings, masking_key=str(self.masking_key("masking", "5eed" * 16)))

    def table(self, name: str, table: pa.Table) -> Path:
        """Write raw data: two files, with small row groups."""
        folder = self.root / name
        folder.mkdir(parents=True)
        half = table.num_rows // 2
        pq.write_table(table.slice(0, half), folder / "a.parquet", row_group_size=4)
        pq.write_table(table.slice(half), folder / "b.parquet", row_group_size=4)
        return folder

    def masking_key(self, name: str, key: str) -> Path:
        """Write a masking key."""
        path = self.root / f"{name}.key"
        path.write_text(key)
        path.chmod(0o600)
        return path

    def mask(
        self, place: Path, part: tuple[int, int] | None, run_id: str = RUN, signer: Signer | None = None, **other: Any
    ) -> Path:
        """Mask a shard, or the whole (part None), below `place`; `other`: data, policy or settings."""
        given: Mapping[str, Any] = {"data": self.raw, "policy": self.policy, "settings": self.settings} | other
        mask_dataset(
            given["data"],
            place / "masked",
            place / "evidence",
            place / "report" if part is None else None,
            run_id,
            str(given["policy"]),
            "",
            signer or self.site.signer,
            given["settings"],
            part=part,
            workers=1,
        )
        return place

    def shard(self, place: Path, part: tuple[int, int], run_id: str = RUN, **other: Any) -> Path:
        """Mask and attest a shard below `place`."""
        self.mask(place, part, run_id, **other)
        self.attest(place, run_id)
        return place

    def attest(self, place: Path, run_id: str = RUN) -> None:
        """Attest the shard below `place`."""
        attest_shard(place / "masked", place / "evidence", place / "attestation", run_id, self.settings)

    def shards(self, count: int, **other: Any) -> list[Path]:
        """Mask and attest all shards."""
        return [self.shard(self.root / f"shard-{number}", (number, count), **other) for number in range(count)]

    def merge(self, places: Sequence[Path], count: int, run_id: str = RUN) -> tuple[MaskingResult, Path]:
        """Merge the shards below some places, each list in an order of its own."""
        masked, maskings, attestations = (
            [path for path in (place / output for place in places) if path.exists()]
            for output in ("masked", "evidence", "attestation")
        )
        made = self.root / "merged"
        done = merge_shards(
            masked[::-1],
            maskings[1:] + maskings[:1],
            attestations,
            made / "masked",
            made / "evidence",
            made / "report",
            run_id,
            count,
            self.site.signer,
            self.settings,
        )
        return done, made
