"""What deploy_model does: verify again, put into service, say so in signed evidence."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kfp_custody.components._shared.digests import sha256_bytes
from kfp_custody.components._shared.errors import Misconfigured
from kfp_custody.components._shared.evidence import DEPLOYMENT, resource, stamp, test_result, write_evidence
from kfp_custody.components._shared.files import write_atomic
from kfp_custody.components._shared.report import Section, page, paragraph, table
from kfp_custody.components._shared.settings import Settings
from kfp_custody.components._shared.signers.loading import load_signer
from kfp_custody.components._shared.trust import load_trust
from kfp_custody.components.seldon_deployment import local_server, seldon_v2
from kfp_custody.components.seldon_deployment.decision import Admitted, require_admitted

ROOM = "seldon_deployment"
PLATFORM = "platform"
TARGETS = ("local", "seldon-v2", PLATFORM)
_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,52}[a-z0-9])?")  # a DNS label that leaves room for -<8 digits>
_MAX_TIMEOUT = 3600


@dataclass(frozen=True)
class Outputs:
    """Where the stage leaves its results; nothing is written there unless the model is in service."""

    evidence: Path
    report: Path
    endpoint: Path


@dataclass(frozen=True)
class Deployment:
    """A model in service. `response` is the answer to the smoke inference, None when none was sent."""

    url: str
    target: str
    model: str
    version: str
    digest: str
    checks: tuple[str, ...]
    response: Mapping[str, Any] | None

    def metadata(self) -> dict[str, str]:
        """Return flat facts for the artifacts' metadata."""
        names = {"url": self.url, "target": self.target, "model": self.model}
        return {**names, "version": self.version, "sha256": self.digest}


def deploy(
    signed_model: Path,
    decision: Path,
    outputs: Outputs,
    settings: Settings,
    *,
    run_id: str,
    name: str,
    target: str,
    timeout_seconds: int,
    model_uri: str = "",
) -> Deployment:
    """Deploy a signed model that the gate let pass.

    Everything is verified before anything is touched: parameters, trust, the signer of this stage's own evidence, the
    decision, the bytes, the model's signature.

    Args:
        signed_model: directory with `model/` and `model.sig`.
        decision: evidence directory with the gate's decision.
        outputs: where to leave evidence, report and endpoint.
        settings: trust, signer, serving directory and port, namespace.
        run_id: the run that the decision must belong to.
        name: name of the service, a DNS label of at most 54 characters.
        target: `local`, `seldon-v2`, or `platform` for the one that the settings name.
        timeout_seconds: how long to wait for the model to be ready, 1 to 3600.
        model_uri: for `seldon-v2`: address of the signed model in an object store.

    Raises:
        EvidenceInvalid: decision, signature or bytes are not what they must be.
        PolicyRefused: the decision does not let this model be deployed.
        InputRefused: the model cannot be loaded or does not answer.
        ServiceUnreachable: the model server or the Kubernetes API does not answer in time.
        Misconfigured: a parameter, the signer, the trust file, the port or the cluster's permissions are wrong.
    """
    target = _configured(settings) if target == PLATFORM else target
    _require_parameters(name, target, timeout_seconds, model_uri)
    trust, signer = load_trust(settings.trust_file), load_signer(settings.signer_uri(ROOM))
    admitted = require_admitted(signed_model, decision, trust, run_id=run_id, name=name)
    if target == "local":
        done = _local(admitted, name, settings, timeout_seconds)
    else:
        done = _seldon_v2(admitted, name, model_uri, settings, timeout_seconds)
    report = _report(done, admitted).encode()
    unsent = [] if done.response is not None else ["smoke-inference"]
    statement = test_result(
        DEPLOYMENT,
        admitted.listing,
        result="WARNED" if unsent else "PASSED",
        run_id=run_id,
        configuration=[
            resource("decision", admitted.decision_sha256),
            resource("signature", admitted.signature_sha256),
            resource("policy", admitted.policy_sha256),
            resource("endpoint", sha256_bytes(_endpoint(done)), uri=done.url),
            resource("report", sha256_bytes(report), media_type="text/html"),
        ],
        passed=done.checks,
        warned=unsent,
    )
    write_evidence(outputs.evidence, statement, signer, admitted.listing)
    write_atomic(outputs.report, report)
    write_atomic(outputs.endpoint, _endpoint(done))
    return done


def _require_parameters(name: str, target: str, timeout_seconds: int, model_uri: str) -> None:
    if target not in TARGETS:
        raise _wrong("target", target, f"one of {', '.join(TARGETS)}")
    if not _NAME.fullmatch(name):
        raise _wrong("name", name, "a DNS label (lower-case letters, digits, hyphens inside) of at most 54 characters")
    if not 1 <= timeout_seconds <= _MAX_TIMEOUT:
        raise _wrong("timeout_seconds", timeout_seconds, f"1 to {_MAX_TIMEOUT}")
    if target == "local" and model_uri:
        raise _wrong("model_uri", "(given)", "left out for the target local, which serves the artifact itself")


def _configured(settings: Settings) -> str:
    """Return the target that the platform's owner chose, where whoever starts a run is not to choose."""
    chosen = settings.deploy_target
    if chosen is None or chosen == PLATFORM or chosen not in TARGETS:
        raise Misconfigured(
            "The platform does not say where models are deployed to; nothing was deployed.",
            evidence=f"CUSTODY_DEPLOY_TARGET is {repr(chosen[:80]) if chosen else 'not set'}",
            remedy="Set it to local or seldon-v2 in the ConfigMap custody-settings, or in the environment.",
        )
    return chosen


def _local(admitted: Admitted, name: str, settings: Settings, timeout_seconds: int) -> Deployment:
    served = local_server.serve(admitted, name, settings, timeout_seconds)
    checks = ("decision", "model-signature", "readiness", "smoke-inference")
    return Deployment(served.url, "local", name, admitted.version, admitted.digest, checks, served.response)


def _seldon_v2(admitted: Admitted, name: str, model_uri: str, settings: Settings, timeout_seconds: int) -> Deployment:
    applied = seldon_v2.apply(admitted, name, model_uri, settings.namespace, timeout_seconds)
    checks = ("decision", "model-signature", "readiness")
    return Deployment(applied.url, "seldon-v2", applied.model, admitted.version, admitted.digest, checks, None)


def _endpoint(done: Deployment) -> bytes:
    """Return the endpoint file: where the model answers, which model that is, what it answered."""
    fields = {"url": done.url, "model": done.model, "version": done.version, "digest": done.digest}
    return json.dumps({**fields, "response": done.response}, indent=2).encode()


def _report(done: Deployment, admitted: Admitted) -> str:
    facts = [
        ("endpoint", done.url),
        ("target", done.target),
        ("model", done.model),
        ("version", done.version),
        ("model listing", f"sha256:{done.digest}"),
        ("model signature", f"sha256:{admitted.signature_sha256}, by {admitted.signed_by}"),
        ("decision", f"sha256:{admitted.decision_sha256}, by {admitted.decided_by}, {stamp(admitted.decided)}"),
        ("policy", f"sha256:{admitted.policy_sha256}"),
    ]
    checks = [(check, "PASSED") for check in done.checks]
    sections = [
        Section("In service", table(("what", "value"), facts)),
        Section("Checks", table(("check", "result"), checks)),
    ]
    if done.response is None:
        why = "Not sent: this target is reached through the service mesh."
        sections.append(Section("Smoke inference", paragraph(why)))
        return page(f"Deployment of {done.model}", "WARNED", sections)
    answer = [(output["name"], output["datatype"], output["data"][0]) for output in done.response["outputs"]]
    sections.append(Section("Answer to the smoke inference", table(("output", "type", "value"), answer)))
    return page(f"Deployment of {done.model}", "PASSED", sections)


def _wrong(parameter: str, value: object, wanted: str) -> Misconfigured:
    return Misconfigured(
        f"The parameter {parameter} is wrong; nothing was deployed.",
        evidence=f"{parameter} = {str(value)[:80]!r}",
        remedy=f"Give {wanted}.",
    )
