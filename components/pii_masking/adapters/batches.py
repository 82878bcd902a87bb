"""Masking batch by batch for engines that share the rows out themselves.

Each batch goes through the same operators and the same residual check as in `mask_pii`, so the rows are the same. What
an engine writes carries no evidence, and the gate takes none of it: inside a chain of custody mask with `mask_pii` or
`mask_shard`.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import pyarrow as pa

from kfp_custody.components._shared.errors import InputRefused, Misconfigured
from kfp_custody.components._shared.settings import Settings
from kfp_custody.components.pii_masking.chunks import ChunkMasker
from kfp_custody.components.pii_masking.detection import Detector
from kfp_custody.components.pii_masking.masking import masked_schema
from kfp_custody.components.pii_masking.policy import Policy, load_policy
from kfp_custody.components.pii_masking.pseudonyms import read_masking_key
from kfp_custody.components.pii_masking.tables import plain_schema

# A process masks many parts of a table, one after the other: the language model is loaded and the key read once.
_prepared: dict[tuple[str, ...], ChunkMasker] = {}


@dataclass(frozen=True)
class BatchMasker:
    """Masks the batches of one table; it is sent to the workers of an engine.

    It holds the place of the masking key and not the key: each worker reads it, with the environment of its own.
    """

    rules: Policy
    given: pa.Schema
    schema: pa.Schema
    key_place: str

    def __call__(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Yield the masked rows in their order, without dropped columns.

        Raises:
            InputRefused: an identifier of a row is in another column of the result, or a text cannot be examined.
            Misconfigured: the key or the detector are unusable.
        """
        masker = self._masker()
        for batch in batches:
            if batch.num_rows:
                yield from masker.mask(self._plain(batch)).cast(self.schema).to_batches()

    def _plain(self, batch: pa.RecordBatch) -> pa.Table:
        return pa.Table.from_batches([batch]).replace_schema_metadata(None).cast(self.given)

    def _masker(self) -> ChunkMasker:
        names = self.rules.sha256, self.key_place, *self.given.names
        if names not in _prepared:
            key = read_masking_key(self.key_place) if self.rules.keyed else None
            # The engine has the processors: no pool beside it.
            _prepared[names] = ChunkMasker(self.rules, key, Detector(self.rules, workers=1))
        return _prepared[names]


def batch_masker(given: pa.Schema, policy: str, settings: Settings) -> BatchMasker:
    """Prepare the masking of a table.

    Args:
        given: The columns of the raw table.
        policy: Name of a shipped masking policy, or path of a YAML file; read here, the workers need no copy.
        settings: Names the masking key.

    Raises:
        InputRefused: The columns do not fit the policy, or are nested or binary.
        Misconfigured: There is no such policy, or it demands k-anonymity.
    """
    plain, nested = plain_schema(given)
    if nested or not plain.names:
        raise InputRefused(
            "The table has columns that cannot be masked.",
            evidence=f"no text, number, boolean, date or timestamp: {', '.join(map(repr, nested)) or 'no column'}",
            remedy="Take nested and binary columns apart, or leave them out, before masking.",
        )
    rules = load_policy(policy).for_columns(plain.names, "the table")
    if rules.anonymity:
        raise Misconfigured(
            "k-anonymity is of a whole table, and no worker of an engine sees that.",
            evidence=f"policy {rules.name!r} demands k = {rules.anonymity.k}",
            remedy="Mask with mask_pii or mask_shard, or leave quasi_identifiers and k out of the policy.",
        )
    return BatchMasker(rules, plain, masked_schema(rules, plain), settings.masking_key)


def not_installed(engine: str, error: ImportError) -> Misconfigured:
    """Return the refusal for an engine that is not there."""
    return Misconfigured(
        f"{engine} is not installed.",
        evidence=f"{error.name} is missing",
        remedy="Run this in the image of your cluster, with kfp-custody[pii-masking] added to it.",
    )
