"""What deploy_model does: verify again, put into service (or commit what does), say so in signed evidence."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kfp_custody.components._shared.digests import sha256_bytes
from kfp_custody.components._shared.evidence import DEPLOYMENT, resource, stamp, test_result, write_evidence
from kfp_custody.components._shared.files import write_atomic
from kfp_custody.components._shared.report import Section, page, paragraph, table
from kfp_custody.components._shared.settings import Settings
from kfp_custody.components._shared.signers.loading import load_signer
from kfp_custody.components._shared.trust import load_trust
from kfp_custody.components.seldon_deployment import local_server
from kfp_custody.components.seldon_deployment.decision import Admitted, require_admitted
from kfp_custody.components.seldon_deployment.parameters import (
    GIT,
    ROLLOUTS,
    require,
    require_name,
    require_timeout,
    require_watched,
    resolve_target,
)
from kfp_custody.components.seldon_deployment.rollout.gitops import Committed
from kfp_custody.components.seldon_deployment.rollout.open import open_repository, open_target

ROOM = "seldon_deployment"


@dataclass(frozen=True)
class Outputs:
    """Where the stage leaves its results; nothing is written there unless the model is in service, or committed."""

    evidence: Path
    report: Path
    endpoint: Path


@dataclass(frozen=True)
class Deployment:
    """A model in service; or `placed`: ready beside the stable version, with no traffic yet; or `committed` only.

    `response` is the answer to the smoke inference, None when none was sent. Of what is only committed `url` is where
    it answers once somebody has applied it.
    """

    url: str
    target: str
    model: str
    version: str
    digest: str
    checks: tuple[str, ...]
    response: Mapping[str, Any] | None
    placed: bool = False
    committed: Committed | None = None

    def metadata(self) -> dict[str, str]:
        """Return flat facts for the artifacts' metadata."""
        names = {"url": self.url, "target": self.target, "model": self.model}
        where = {"repository": self.committed.repository, "commit": self.committed.commit} if self.committed else {}
        return {**names, "version": self.version, "sha256": self.digest, **where}

    @property
    def unsent(self) -> tuple[str, ...]:
        """Checks that could not be made."""
        if self.committed is not None:
            return ("readiness", "smoke-inference")
        return () if self.response is not None else ("smoke-inference",)


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
    rollout: str = "direct",
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
        target: one of `parameters.TARGETS`; `platform` for the one that the settings name.
        timeout_seconds: how long to wait for the model to be ready, 1 to 3600.
        model_uri: in a cluster: address of the signed model in an object store.
        rollout: `direct` switches the service over; `canary` places the model beside the stable version, without
            traffic, for analyse_canary and finish_rollout. Through a Git repository there is only `direct`.

    Raises:
        EvidenceInvalid: decision, signature or bytes are not what they must be.
        PolicyRefused: the decision does not let this model be deployed.
        InputRefused: the model cannot be loaded or does not answer.
        ServiceUnreachable: the model server, the Kubernetes API or the Git server does not answer in time.
        Misconfigured: a parameter, the signer, the trust file, the port, the cluster's permissions or the repository
            are wrong.
    """
    target = resolve_target(target, settings)
    require_name(name)
    require_timeout(timeout_seconds)
    require(rollout in ROLLOUTS, "rollout", rollout, f"one of {', '.join(ROLLOUTS)}")
    if rollout == "canary":
        require_watched(target, "A canary")
    if target == "local":
        wanted = "left out for the target local, which serves the artifact itself"
        require(not model_uri, "model_uri", "(given)", wanted)
    trust, signer = load_trust(settings.trust_file), load_signer(settings.signer_uri(ROOM))
    admitted = require_admitted(signed_model, decision, trust, run_id=run_id, name=name)
    if target == "local" and rollout == "direct":
        done = _local(admitted, name, settings, timeout_seconds)
    elif target in GIT:
        done = _by_commit(admitted, name, target, model_uri, settings, timeout_seconds, run_id)
    else:
        stay = rollout == "canary"
        done = _by_rollout(admitted, name, target, model_uri, settings, timeout_seconds, run_id, stay=stay)
    report = _report(done, admitted).encode()
    statement = test_result(
        DEPLOYMENT,
        admitted.listing,
        result="WARNED" if done.unsent else "PASSED",
        run_id=run_id,
        configuration=[
            resource("decision", admitted.decision_sha256),
            resource("signature", admitted.signature_sha256),
            resource("policy", admitted.policy_sha256),
            resource("endpoint", sha256_bytes(_endpoint(done)), uri=done.url),
            resource("report", sha256_bytes(report), media_type="text/html"),
            *_resources(done.committed),
        ],
        passed=done.checks,
        warned=done.unsent,
    )
    write_evidence(outputs.evidence, statement, signer, admitted.listing)
    write_atomic(outputs.report, report)
    write_atomic(outputs.endpoint, _endpoint(done))
    return done


def _by_rollout(
    admitted: Admitted, name: str, target: str, model_uri: str, settings: Settings, timeout_seconds: int, run_id: str,
    *, stay: bool,
) -> Deployment:  # fmt: skip
    """Place a model beside the stable version, and let it stay there or take the service over at once."""
    service = open_target(target, name, settings, timeout_seconds, model_uri)
    placed = service.place(admitted, run_id)
    if not stay:
        service.promote()
    checks = ("decision", "model-signature", "readiness", *(("smoke-inference",) if placed.response else ()))
    return Deployment(
        service.url, target, placed.model, admitted.version, admitted.digest, checks, placed.response, placed=stay
    )


def _by_commit(
    admitted: Admitted, name: str, target: str, model_uri: str, settings: Settings, timeout_seconds: int, run_id: str
) -> Deployment:
    """Commit the objects that would be applied; whoever applies them does so later, and out of this stage's sight."""
    done = open_repository(target, name, settings, timeout_seconds, model_uri).commit(admitted, run_id)
    checks = ("decision", "model-signature", "commit")
    return Deployment(done.url, target, done.model, admitted.version, admitted.digest, checks, None, committed=done)


def _resources(committed: Committed | None) -> list[dict[str, Any]]:
    """Describe for the evidence where the objects are: the repository at its commit, and each file."""
    if committed is None:
        return []
    uri = f"git+{committed.repository}@refs/heads/{committed.branch}"
    files = [resource(path, sha256, media_type="application/yaml") for path, sha256 in committed.files.items()]
    return [resource("repository", uri=uri, git_commit=committed.commit), *files]


def _local(admitted: Admitted, name: str, settings: Settings, timeout_seconds: int) -> Deployment:
    served = local_server.serve(admitted, name, settings, timeout_seconds)
    checks = ("decision", "model-signature", "readiness", "smoke-inference")
    return Deployment(served.url, "local", name, admitted.version, admitted.digest, checks, served.response)


def _endpoint(done: Deployment) -> bytes:
    """Return the endpoint file: where the model answers, which model that is, what it answered."""
    fields: dict[str, Any] = {"url": done.url, "model": done.model, "version": done.version, "digest": done.digest}
    if done.committed is not None:
        where = done.committed
        fields["committed"] = {
            "repository": where.repository,
            "branch": where.branch,
            "commit": where.commit,
            "files": dict(where.files),
        }
    return json.dumps({**fields, "response": done.response}, indent=2).encode()


def _report(done: Deployment, admitted: Admitted) -> str:
    facts = [
        ("endpoint, once applied" if done.committed else "endpoint", done.url),
        ("target", done.target),
        ("model", done.model),
        ("version", done.version),
        ("model listing", f"sha256:{done.digest}"),
        ("model signature", f"sha256:{admitted.signature_sha256}, by {admitted.signed_by}"),
        ("decision", f"sha256:{admitted.decision_sha256}, by {admitted.decided_by}, {stamp(admitted.decided)}"),
        ("policy", f"sha256:{admitted.policy_sha256}"),
    ]
    checks = [*((check, "PASSED") for check in done.checks), *((check, "not made") for check in done.unsent)]
    sections = [
        Section(_status(done), table(("what", "value"), facts)),
        Section("Checks", table(("check", "result"), checks)),
    ]
    if done.committed is not None:
        sections += _committed(done.committed)
        return page(f"Deployment of {done.model}", "WARNED", sections)
    if done.response is None:
        why = "Not sent: this target is reached through the service mesh."
        sections.append(Section("Smoke inference", paragraph(why)))
        return page(f"Deployment of {done.model}", "WARNED", sections)
    answer = [(output["name"], output["datatype"], output["data"][0]) for output in done.response["outputs"]]
    sections.append(Section("Answer to the smoke inference", table(("output", "type", "value"), answer)))
    return page(f"Deployment of {done.model}", "PASSED", sections)


def _status(done: Deployment) -> str:
    if done.committed is not None:
        return "Committed, not yet applied" if done.committed.made else "In the branch already, unchanged"
    return "Placed, without traffic" if done.placed else "In service"


def _committed(where: Committed) -> list[Section]:
    facts = [("repository", where.repository), ("branch", where.branch), ("commit", where.commit)]
    why = (
        "This stage has seen the model neither ready nor answering: the objects take effect when Argo CD, Flux or a "
        "person applies this commit or a later one."
    )
    return [
        Section("Repository", table(("what", "value"), facts) + paragraph(why)),
        Section("Files", table(("path", "SHA-256"), list(where.files.items()))),
    ]
