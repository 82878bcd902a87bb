"""Artifact types that carry the order of the stages.

KFP compares schema titles when a pipeline is compiled, so "train on unmasked data" or "deploy an ungated model" is a
compile error. KFP accepts only the namespaces `system` and `google`. The types have no methods: under `kfp.local` a
consumer gets a plain Artifact. They guard the wiring; the evidence check at run time is the control.
"""

from kfp import dsl


class MaskedDataset(dsl.Artifact):
    """A directory of Parquet files that mask_pii wrote."""

    schema_title = "system.MaskedDataset"


class MaskedShard(dsl.Artifact):
    """A directory with a Parquet file that mask_shard wrote: some rows of a dataset, never a dataset."""

    schema_title = "system.MaskedShard"


class ShardAttestation(dsl.Artifact):
    """An evidence directory that attest_shard signed."""

    schema_title = "system.ShardAttestation"


class SourceAttestation(dsl.Artifact):
    """An evidence directory that fetch_dataset signed: where raw data came from, and what it is."""

    schema_title = "system.SourceAttestation"


class DatasetAttestation(dsl.Artifact):
    """An evidence directory that attest_dataset signed."""

    schema_title = "system.DatasetAttestation"


class TestResult(dsl.Artifact):
    """An evidence directory with a signed in-toto test-result: masking, drift, scans, audits, deployment."""

    __test__ = False  # not a test class, whatever pytest makes of its name
    schema_title = "system.TestResult"


class DatasetProfile(dsl.Artifact):
    """A directory with `profile.json`: the columns of a dataset without its rows."""

    schema_title = "system.DatasetProfile"


class InferenceLogs(dsl.Artifact):
    """A directory with `requests.jsonl`: the lines of request logs of a window of time. It may hold payloads."""

    schema_title = "system.InferenceLogs"


class TrainedModel(dsl.Artifact):
    """A model directory that train_model wrote; nobody has signed it yet."""

    schema_title = "system.TrainedModel"


class TrainingProvenance(dsl.Artifact):
    """An evidence directory with the signed provenance of a model."""

    schema_title = "system.TrainingProvenance"


class SignedModel(dsl.Artifact):
    """A directory with `model/` (the model) and `model.sig` (its OpenSSF model signature)."""

    schema_title = "system.SignedModel"


class Decision(dsl.Artifact):
    """An evidence directory with the gate's signed decision (SLSA verification summary), PASSED or FAILED."""

    schema_title = "system.Decision"


# Lists of artifacts. KFP finds the import of such a type only by the name of this module: write artifacts.MaskedShards.
MaskedShards = list[MaskedShard]
TestResults = list[TestResult]
ShardAttestations = list[ShardAttestation]
