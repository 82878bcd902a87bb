"""What a stage can see and do in its container, and that a container that vanishes is no success."""

import io
import json
import os
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from building import ROOT
from tracing import Tracer

from forging import payload_of
from kfp_custody.components._shared import codes
from kfp_custody.components._shared.errors import Misconfigured
from kfp_custody.components._shared.images import image
from kfp_custody.pipelines.containers import CUSTODY_USER, LABEL, Grant, containers, run_locked_down

pytestmark = pytest.mark.containers
InImage = Callable[..., tuple[int, str]]
SIGNING, MASKING = "/etc/custody/signing/key.pem", "/etc/custody/masking/key"
TRUST, SOURCES = "/etc/custody/trust/trust.yaml", "/etc/custody/trust/sources.yaml"


# --- the run that `make containers` did -------------------------------------------------------------------------------


def test_every_stage_proved_its_confinement_from_inside(summary: Mapping[str, Any]) -> None:
    assert summary["verdict"] == "PASSED"
    stages = sorted(stage["name"].removesuffix("_present") for stage in summary["stages"])
    assert sorted(one["function"] for one in summary["processes"]) == stages
    for one in summary["processes"]:
        assert one["uid"] == (os.getuid() or CUSTODY_USER), one
        assert one["root"] == "read-only", one
        assert one["capabilities"] == "none", one
        assert one["new_privileges"] == "no", one
        assert one["seccomp"] == "filter", one
        assert one["network"] == ["lo"], one


def test_no_image_is_much_larger_than_its_base_and_the_wheels_of_its_lock(summary: Mapping[str, Any]) -> None:
    assert {room: one["ratio"] for room, one in summary["images"].items() if one["ratio"] > 1.15} == {}


def test_every_stage_saw_its_own_secrets_and_no_other(summary: Mapping[str, Any]) -> None:
    seen = {one["function"]: one["secrets"] for one in summary["processes"]}
    signs = sorted([SIGNING, TRUST])
    assert seen == {
        "fetch_dataset": sorted([SIGNING, SOURCES, TRUST]),  # what may be fetched stands beside who is trusted
        "mask_pii": sorted([MASKING, SIGNING, TRUST]),
        "attest_dataset": signs,
        "train_model": signs,
        "sign_model": signs,
        "profile_dataset": signs,
        "check_drift": signs,
        "enforce_policy": signs,  # its own key, which nobody else has: the trust file believes the decision to no other
        "deploy_model": signs,
    }
    for one in summary["processes"]:
        assert not {name for name in one["environment"] if "TOKEN" in name or "PASSWORD" in name}


def test_no_secret_is_in_a_log_or_an_artifact_of_the_run(summary: Mapping[str, Any]) -> None:
    keys = Path("~/.local/share/kfp-custody/demo").expanduser()
    lines = {name: (keys / f"{name}.pem").read_bytes().splitlines()[1] for name in ("pipeline", "gate")}
    tracer = Tracer({**lines, "masking": (keys / "masking.key").read_bytes().strip()})
    planted = ROOT / "build/containers/planted"
    planted.mkdir(exist_ok=True)
    (planted / "log").write_bytes(b"key: " + lines["gate"])
    try:
        assert tracer.in_folder(planted)  # it finds what is there
    finally:
        (planted / "log").unlink()
        planted.rmdir()
    for place in ("run", "evidence", "processes"):
        assert tracer.in_folder(ROOT / "build/containers" / place) == {}


def test_the_evidence_has_the_form_of_a_run_without_containers(summary: Mapping[str, Any]) -> None:
    """The same kinds and predicates with the same fields, and the very same masked bytes.

    But for what only an image can know: the revision that it was built from, when that was a commit.
    """
    plain = json.loads((ROOT / "build/demo/summary.json").read_text())
    assert plain["verdict"] == "PASSED"
    assert [forms(stage) for stage in ordered(summary)] == [forms(stage) for stage in ordered(plain)]
    masked = [stage for one in (summary, plain) for stage in ordered(one) if stage["name"].startswith("mask_pii")]
    subjects = [json.loads(payload_of(ROOT / stage["evidence"][0]))["subject"] for stage in masked]
    assert subjects[:2] == subjects[2:]


def ordered(summary: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return sorted(summary["stages"], key=lambda stage: stage["name"])


def forms(stage: Mapping[str, Any]) -> tuple[str, list[Any]]:
    found: list[Any] = []
    for path in stage["evidence"]:
        bundle = ROOT / path
        statement = json.loads(payload_of(bundle))
        definition = statement["predicate"].get("buildDefinition", {})
        if "resolvedDependencies" in definition:
            named = definition["resolvedDependencies"]
            definition["resolvedDependencies"] = [entry for entry in named if entry["name"] != "source"]
        found.append((bundle.name, fields(json.loads(bundle.read_text())), fields(statement)))
    return stage["name"], found


def fields(value: Any) -> Any:
    """Return a document's field names, without its values; a list is the set of its items' forms."""
    if isinstance(value, dict):
        return {name: fields(part) for name, part in value.items()}
    if isinstance(value, list):
        return sorted({json.dumps(fields(part), sort_keys=True) for part in value})
    return type(value).__name__


# --- containers of these tests ----------------------------------------------------------------------------------------


class Watching:
    """An engine client that keeps what `docker inspect` says of a container at its end, before it is removed."""

    def __init__(self, client: Any) -> None:
        self.client, self.inspected = client, []
        self.images, self.version, self.containers = client.images, client.version, self

    def create(self, *arguments: Any, **options: Any) -> Any:
        container = self.client.containers.create(*arguments, **options)
        remove = container.remove

        def kept(**how: Any) -> None:
            container.reload()
            self.inspected.append(container.attrs)
            remove(**how)

        container.remove = kept
        return container


def test_a_secret_is_seen_by_its_stage_alone(engine: Any, tmp_path: Path) -> None:
    """Not by another container, not in what is left of a finished one beyond the path of the mount, not in a log."""
    canary = "canary-5f0c7d1e9b3a4c6d"
    secret = tmp_path / "key"
    secret.write_text(canary)
    secret.chmod(0o444)
    watching = Watching(engine)
    look = "import pathlib; print([p.read_text()[-4:] for p in pathlib.Path('/etc/custody').rglob('*') if p.is_file()])"
    grants = {"pii_masking": Grant(read={secret: MASKING}), "data_attestation": Grant(), "model_training": Grant()}
    said = {}
    for room, grant in grants.items():
        log = io.StringIO()
        assert run_locked_down(watching, image(room), ["python3", "-c", look], {}, grant, log) == 0, log.getvalue()
        said[room] = log.getvalue().strip()
    assert said == {"pii_masking": f"['{canary[-4:]}']", "data_attestation": "[]", "model_training": "[]"}
    first, *others = (json.dumps(attributes) for attributes in watching.inspected)
    assert MASKING in first
    assert canary not in first
    for other in others:
        assert canary not in other
        assert MASKING not in other


def test_a_stage_without_a_network_reaches_nobody(in_image: InImage) -> None:
    code = "import socket; socket.create_connection(('192.0.2.1', 443), timeout=3)"
    status, said = in_image(image("data_attestation"), code)
    assert status != 0
    assert "Network is unreachable" in said


@pytest.mark.parametrize("place", ["/opt/custody/x", "/etc/x", "/x", "/var/x"])
def test_a_stage_writes_nowhere_but_its_own_temporary_folder(in_image: InImage, place: str) -> None:
    status, said = in_image(image("policy_gate"), f"open('/tmp/fine', 'w').close(); open({place!r}, 'w')")
    assert status != 0
    assert "Read-only file system" in said


def test_a_stage_cannot_use_more_memory_than_it_was_given(in_image: InImage) -> None:
    status, _ = in_image(image("policy_gate"), "x = bytearray(400_000_000)", Grant(memory="128m"))
    assert status == 137  # killed


def test_a_fork_bomb_ends_at_the_limit(in_image: InImage) -> None:
    code = (
        "import os, time\n"
        "for n in range(2000):\n"
        "    try:\n"
        "        child = os.fork()\n"
        "    except OSError as error:\n"
        "        print('stopped by', error.strerror); break\n"
        "    if not child:\n"
        "        time.sleep(30); os._exit(0)\n"
    )
    status, said = in_image(image("policy_gate"), code)
    assert (status, "stopped by Resource temporarily unavailable" in said) == (0, True), said


def test_a_container_that_vanishes_is_refused_and_no_success(engine: Any) -> None:
    """KFP's own runner takes this for exit code 0."""
    log, outcome = io.StringIO(), []

    def run() -> None:
        try:
            command = ["python3", "-c", "import time; print('up', flush=True); time.sleep(60)"]
            outcome.append(run_locked_down(engine, image("policy_gate"), command, {}, Grant(), log))
        except Misconfigured as refusal:
            outcome.append(refusal.code)

    mine = {"label": LABEL, "ancestor": image("policy_gate")}
    thread = threading.Thread(target=run)
    thread.start()
    deadline = time.monotonic() + 30
    while "up" not in log.getvalue() and time.monotonic() < deadline:
        time.sleep(0.05)
    for container in engine.containers.list(filters=mine):
        container.remove(force=True)
    thread.join(30)
    assert outcome in ([137], [codes.CONTAINER_GONE])


def test_a_grant_of_a_file_that_is_not_there_is_refused(engine: Any, tmp_path: Path) -> None:
    """The engine would make an empty folder there, and the stage would take it for the secret."""
    grant = Grant(read={tmp_path / "mistyped.pem": SIGNING})
    with pytest.raises(Misconfigured) as refused:
        run_locked_down(engine, image("policy_gate"), ["python3", "-V"], {}, grant, io.StringIO())
    assert refused.value.code == codes.GRANT
    assert not (tmp_path / "mistyped.pem").exists()


def test_a_stage_runs_as_any_user_that_a_platform_chooses(engine: Any) -> None:
    """OpenShift takes a number from a range of the namespace, and the group 0."""
    code = "import os, kfp_custody.components.model_training.training, mlflow; print(os.getuid())"
    said = engine.containers.run(
        image("model_training"),
        entrypoint=["python3", "-c", code],
        user="1000680000:0",
        read_only=True,
        tmpfs={"/tmp": "mode=1777"},
        cap_drop=["ALL"],
        network_mode="none",
        remove=True,
    )
    assert said.decode().split()[-1] == "1000680000"


def test_after_the_block_kfp_runs_what_it_ran_before(engine: Any, tmp_path: Path) -> None:
    from kfp import local
    from kfp.local import config

    local.init(local.SubprocessRunner(use_venv=False), pipeline_root=str(tmp_path / "before"))
    before = config.LocalExecutionConfig.instance
    with containers(tmp_path / "run", {}):
        assert isinstance(config.LocalExecutionConfig.instance.runner, local.DockerRunner)
    assert config.LocalExecutionConfig.instance is before
