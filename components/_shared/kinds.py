"""The kinds of evidence: what a stage may say, and how its statement is recognised.

| kind | predicate | told apart by |
|---|---|---|
| fetch-dataset, attest-dataset, attest-shard, train-model | https://slsa.dev/provenance/v1 | its buildType |
| profile-dataset | https://slsa.dev/provenance/v1 | its buildType |
| mask-pii, mask-shard, check-drift, deploy-model | https://in-toto.io/attestation/test-result/v0.1 | custody_test |
| check-profile-drift, analyse-canary, finish-rollout | https://in-toto.io/attestation/test-result/v0.1 | custody_test |
| collect-logs | https://slsa.dev/provenance/v1 | its buildType |
| monitor-inference, start-retraining | https://in-toto.io/attestation/test-result/v0.1 | custody_test |
| screen-poisoning | https://in-toto.io/attestation/test-result/v0.1 | custody_test |
| audit-robustness | https://in-toto.io/attestation/test-result/v0.1 | custody_test |
| scan-model | https://in-toto.io/attestation/test-result/v0.1 | custody_test |
| sign-model | https://model_signing/signature/v1.0 | the predicate |
| enforce-policy | https://slsa.dev/verification_summary/v1 | the predicate |
"""

from dataclasses import dataclass

PROVENANCE = "https://slsa.dev/provenance/v1"
TEST_RESULT = "https://in-toto.io/attestation/test-result/v0.1"
VERIFICATION_SUMMARY = "https://slsa.dev/verification_summary/v1"
OPENSSF_MODEL = "https://model_signing/signature/v1.0"

SPEC = "https://kfp-custody.github.io/spec"


@dataclass(frozen=True)
class Kind:
    """A kind of evidence: its name in trust files and policies, its predicate, its own type URI."""

    name: str
    predicate_type: str

    @property
    def type_uri(self) -> str:
        """The buildType or custody_test of statements of this kind, and the id of the stage that makes them."""
        return f"{SPEC}/{self.name}/v1"


FETCHING = Kind("fetch-dataset", PROVENANCE)
COLLECTION = Kind("collect-logs", PROVENANCE)
MASKING = Kind("mask-pii", TEST_RESULT)
ATTESTATION = Kind("attest-dataset", PROVENANCE)
# Of a part of a dataset: kinds of their own, so that they never stand for the whole.
SHARD_MASKING = Kind("mask-shard", TEST_RESULT)
SHARD_ATTESTATION = Kind("attest-shard", PROVENANCE)
TRAINING = Kind("train-model", PROVENANCE)
MODEL_SIGNATURE = Kind("sign-model", OPENSSF_MODEL)
SCAN = Kind("scan-model", TEST_RESULT)
DRIFT = Kind("check-drift", TEST_RESULT)
PROFILE_DRIFT = Kind("check-profile-drift", TEST_RESULT)
MONITORING = Kind("monitor-inference", TEST_RESULT)
POISONING = Kind("screen-poisoning", TEST_RESULT)
PROFILE = Kind("profile-dataset", PROVENANCE)
DEPLOYMENT = Kind("deploy-model", TEST_RESULT)
CANARY = Kind("analyse-canary", TEST_RESULT)
ROLLOUT = Kind("finish-rollout", TEST_RESULT)
RETRAINING = Kind("start-retraining", TEST_RESULT)
ROBUSTNESS = Kind("audit-robustness", TEST_RESULT)
DECISION = Kind("enforce-policy", VERIFICATION_SUMMARY)

KINDS = {
    kind.name: kind
    for kind in (
        *(FETCHING, MASKING, SHARD_MASKING, ATTESTATION, SHARD_ATTESTATION),
        *(TRAINING, MODEL_SIGNATURE, DRIFT, PROFILE, DECISION, DEPLOYMENT),
        *(CANARY, ROLLOUT, PROFILE_DRIFT),
        *(COLLECTION, MONITORING, RETRAINING),
        POISONING,
        ROBUSTNESS,
        SCAN,
    )
}
