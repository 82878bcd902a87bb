"""`kfp-custody verify` on a genuine release, and on what an attacker makes of it."""

import json
import os
import shutil
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from releases import Release, build, deploy, profile, roll_out, run

from forging import bundle_of, edit_bundle, edit_payload, edit_statement, payload_of, sign_payload
from genuine_chain import RUN, Site, trust_entry, write_masking, write_tree
from kfp_custody.components._cli.discovery import LINKS
from kfp_custody.components._shared import evidence as evidence_module
from kfp_custody.components._shared.codes import CODES
from kfp_custody.components._shared.documents import parse_yaml
from kfp_custody.components._shared.evidence import stamp
from kfp_custody.components._shared.kinds import KINDS
from kfp_custody.components._shared.model_signature import sign_model_tree
from kfp_custody.components.policy_gate import gate as gate_module
from kfp_custody.components.policy_gate.policy import load_policy

NAMES = ("source", "masking", "dataset", "training", "model", "current-source", "current-masking", "drift", "decision")
EVIDENCE = ("masking", "attestation", "provenance", "current-masking", "drift", "decision")


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[0] ^= 1
    path.write_bytes(data)


# --- what is accepted ------------------------------------------------------------------------------------------------


def test_a_genuine_release_holds(release: Release) -> None:
    answer = release.accepted("--require-bytes")
    assert [piece["name"] for piece in answer["evidence"]] == list(NAMES)
    assert all(piece["accepted"] for piece in answer["evidence"])
    assert answer["run_id"] == RUN
    assert answer["notes"] == []
    checked = {check["id"] for check in answer["checks"]}
    assert {f"evidence:{name}" for name in NAMES} < checked
    assert {"decision:verdict", "decision:inputs", "decision:policy", "bytes:model=training"} < checked


def test_the_text_names_every_link_and_ends_with_the_verdict(release: Release) -> None:
    result = release.ask()
    assert result.exit_code == 0, result.output
    for words in ("training.attestation->dataset", "drift.model->training", "signed by pipeline", RUN):
        assert words in result.stdout
    assert result.stdout.splitlines()[-1].startswith("PASSED: ")


def test_the_policy_is_evaluated_again(release: Release) -> None:
    answer = release.accepted("--policy", "baseline", "--run", RUN)
    assert {"rule:auprc-floor", "requires:train-model"} < {check["id"] for check in answer["checks"]}


def test_evidence_without_artifacts_holds_and_says_what_was_not_shown(release: Release) -> None:
    for artifact in ("dataset", "current", "trained", "signed/model"):
        shutil.rmtree(release.root / artifact)
    answer = release.accepted()
    assert answer["notes"] == [
        f"{artifact}: bytes not shown, so not verified" for artifact in ("current-dataset", "dataset", "model")
    ]
    assert not [check["id"] for check in answer["checks"] if check["id"].startswith("bytes:")]
    assert release.refusals("--require-bytes") == dict.fromkeys(
        ("bytes:current-dataset", "bytes:dataset", "bytes:model"), "CUS-E284"
    )


def as_a_run(release: Release) -> None:
    """Lay everything out as kfp.local does: one folder for each task, artifacts beside their evidence."""
    root = release.root
    for old, new in {
        "masking": "mask-pii/evidence",
        "dataset": "mask-pii/masked",
        "attestation": "attest-dataset/attestation",
        "provenance": "train-model/provenance",
        "trained": "train-model/model",
        "signed": "sign-model/signed",
        "current-masking": "mask-pii-2/evidence",
        "current": "mask-pii-2/masked",
        "drift": "check-drift/evidence",
        "decision": "enforce-policy/decision",
    }.items():
        (root / new).parent.mkdir(exist_ok=True)
        (root / old).rename(root / new)
        (root / new).parent.joinpath("executor_output.json").write_text("{}")


def test_the_folder_of_a_run_holds(release: Release) -> None:
    as_a_run(release)
    answer = release.accepted("--require-bytes")
    assert "bytes:trained-model=training" in {check["id"] for check in answer["checks"]}


def test_copies_of_evidence_hold(release: Release) -> None:
    shutil.copytree(release.root / "provenance", release.root / "mlflow" / "evidence")
    shutil.copytree(release.root / "signed", release.root / "very-served")
    answer = release.accepted()
    assert len([check for check in answer["checks"] if check["id"].startswith("copy:")]) == 2


def test_what_a_killed_stage_left_is_no_evidence(release: Release) -> None:
    shutil.copytree(release.root / "masking", release.root / ".masking.x1.partial")
    release.accepted()


def test_a_deployment_belongs_to_the_chain(release: Release) -> None:
    deploy(release)
    answer = release.accepted()
    assert answer["evidence"][-1]["name"] == "deployment"


def test_a_chain_may_end_before_the_gate_when_that_is_said(release: Release) -> None:
    for later in ("decision", "drift", "current-masking", "current", "signed", "source-raw-current"):
        shutil.rmtree(release.root / later)
    assert "evidence:decision" in release.refusals()
    answer = release.accepted("--without-decision")
    assert [piece["name"] for piece in answer["evidence"]] == ["source", "masking", "dataset", "training"]
    assert "link:training.attestation->dataset" in {check["id"] for check in answer["checks"]}
    shutil.rmtree(release.root / "attestation")
    assert release.refusals("--without-decision") == {
        "link:training.attestation->dataset": "CUS-E214",
        "link:training.dataset->dataset": "CUS-E311",
    }


@pytest.mark.parametrize("zone", ["UTC", "Asia/Kathmandu", "America/St_Johns"])
def test_the_time_zone_of_the_auditor_does_not_matter(
    release: Release, monkeypatch: pytest.MonkeyPatch, zone: str
) -> None:
    monkeypatch.setenv("TZ", zone)
    release.accepted("--at", datetime.now().astimezone().isoformat())


# --- what is refused -------------------------------------------------------------------------------------------------


def test_an_empty_folder_is_refused(release: Release, tmp_path: Path) -> None:
    (tmp_path / "nothing").mkdir()
    assert Release(tmp_path / "nothing", release.site).refusals() == {"evidence:any": "CUS-E211"}


TREES: dict[str, Callable[[Path], object]] = {
    "byte": lambda tree: flip(min(path for path in tree.iterdir() if path.is_file())),
    "added": lambda tree: (tree / "zz").write_bytes(b"more"),
    "added empty": lambda tree: (tree / "zz").touch(),
    "hidden": lambda tree: (tree / ".gitignore").write_bytes(b"*"),
    "renamed": lambda tree: next(tree.glob("*.*")).rename(tree / "other"),
    "linked": lambda tree: (tree / "link").symlink_to("data"),
    "empty folder": lambda tree: (tree / "nothing").mkdir(),
}


@pytest.mark.parametrize("change", TREES)
@pytest.mark.parametrize(
    ("artifact", "checks"),
    [
        ("mask-pii/masked", {"bytes:dataset=dataset", "bytes:dataset=masking"}),
        ("mask-pii-2/masked", {"bytes:current-dataset=current-masking", "bytes:current-dataset=drift"}),
        ("sign-model/signed/model", {"evidence:model", "bytes:model=training", "link:model.files->training"}),
        ("train-model/model", {"bytes:trained-model=training"}),
    ],
)
def test_changed_bytes_in_a_run_are_refused(release: Release, artifact: str, checks: set[str], change: str) -> None:
    as_a_run(release)
    TREES[change](release.root / artifact)
    refused = release.refusals()
    assert set(refused) == checks
    assert set(refused.values()) <= {"CUS-E215", "CUS-E113", "CUS-E311"}


@pytest.mark.parametrize("artifact", ["dataset", "current"])
def test_changed_bytes_are_found_wherever_they_lie(release: Release, artifact: str) -> None:
    flip(release.root / artifact / "data.parquet")
    assert set(release.refusals().values()) == {"CUS-E215"}


def forged(release: Release, name: str, edit: Callable[..., object]) -> None:
    """Change a statement and sign it with the key that is trusted with it: only links can tell."""
    edit_statement(bundle_of(release.root / name), release.site.signer, edit)


def untrusted(release: Release, name: str) -> None:
    bundle = bundle_of(release.root / name)
    sign_payload(bundle, payload_of(bundle), release.site.key(f"stranger-{os.urandom(4).hex()}"))


ENVELOPES: dict[str, tuple[Callable[[Release, str], object], str]] = {
    "payload edited": (lambda r, n: edit_payload(bundle_of(r.root / n), b'"_type"', b'"_typo"'), "CUS-E226"),
    "unknown key": (untrusted, "CUS-E225"),
    "second signature": (
        lambda r, n: edit_bundle(
            bundle_of(r.root / n), lambda b: b["dsseEnvelope"]["signatures"].append({"sig": "AA==", "keyid": ""})
        ),
        "CUS-E222",
    ),
    "unsigned": (
        lambda r, n: edit_bundle(bundle_of(r.root / n), lambda b: b["dsseEnvelope"].update(signatures=[])),
        "CUS-E222",
    ),
    "truncated": (lambda r, n: os.truncate(bundle_of(r.root / n), 300), "CUS-E204"),
    "emptied": (lambda r, n: os.truncate(bundle_of(r.root / n), 0), "CUS-E205"),
    "no JSON object": (lambda r, n: bundle_of(r.root / n).write_text("[]"), "CUS-E209"),
    "deep": (lambda r, n: bundle_of(r.root / n).write_text("[" * 5000 + "]" * 5000), "CUS-E203"),
    "linked": (
        lambda r, n: bundle_of(r.root / n).rename(r.root / "x") and (r.root / n / f"{_kind(n)}").symlink_to("../x"),
        "CUS-E201",
    ),
    "other run": (lambda r, n: forged(r, n, _other_run), "CUS-E239"),
    "future": (lambda r, n: forged(r, n, _in_an_hour), "CUS-E238"),
    "listing edited": (lambda r, n: flip(r.root / n / "SHA256SUMS"), "CUS-E214"),
    "attachment": (lambda r, n: (r.root / n / "note.txt").write_text("all is well"), "CUS-E212"),
}


def _kind(name: str) -> str:
    kinds = {"masking": "mask-pii", "current-masking": "mask-pii", "attestation": "attest-dataset"}
    kinds |= {"provenance": "train-model", "drift": "check-drift", "decision": "enforce-policy"}
    return f"{kinds[name]}.sigstore.json"


def _other_run(statement: dict) -> None:  # type: ignore[type-arg]
    predicate = statement["predicate"]
    if "runDetails" in predicate:
        predicate["runDetails"]["metadata"]["invocationId"] = "another-run"
    else:
        predicate["custody_runId"] = "another-run"


def _in_an_hour(statement: dict) -> None:  # type: ignore[type-arg]
    later = stamp(datetime.now(UTC) + timedelta(hours=1))
    predicate = statement["predicate"]
    for holder in (predicate, predicate.get("runDetails", {}).get("metadata", {})):
        holder.update({name: later for name in ("finishedOn", "timeVerified", "custody_finishedOn") if name in holder})


LINK_OF = {"attestation": "dataset", "provenance": "training"}


@pytest.mark.parametrize("attack", ENVELOPES)
@pytest.mark.parametrize("name", EVIDENCE)
def test_forged_evidence_is_refused(release: Release, name: str, attack: str) -> None:
    forge, code = ENVELOPES[attack]
    forge(release, name)
    refused = release.refusals("--run", RUN)
    assert refused[f"evidence:{LINK_OF.get(name, name)}"] == code
    assert code in CODES


@pytest.mark.parametrize("kind", sorted({kind.name for kind in LINKS.values()}))
def test_a_signer_without_the_role_is_refused(release: Release, tmp_path: Path, kind: str) -> None:
    if kind == "deploy-model":
        deploy(release)
    if kind in ("analyse-canary", "finish-rollout"):
        roll_out(release)
    if kind in ("profile-dataset", "check-profile-drift"):
        profile(release)
    site = release.site
    entry = trust_entry("pipeline", site.signer, [name for name in KINDS if name != kind])
    (tmp_path / "trust.yaml").write_text(json.dumps({"version": 1, "signers": [entry]}))
    result = run("verify", str(release.root), "--trust", str(tmp_path / "trust.yaml"), "--json")
    assert result.exit_code == 1
    assert "CUS-E227" in {check["code"] for check in json.loads(result.stdout)["checks"]}


def test_a_rollout_by_canary_is_part_of_the_chain(release: Release) -> None:
    roll_out(release)
    answer = release.accepted("--run", RUN)
    assert [piece["name"] for piece in answer["evidence"]][-2:] == ["analysis", "rollout"]


@pytest.mark.parametrize(
    ("changes", "check"),
    [
        ({"analysis": {"decision": "ab" * 32}}, "link:analysis.decision->decision"),
        ({"rollout": {"decision": "ab" * 32}}, "link:rollout.decision->decision"),
        ({"rollout": {"analysis": "ab" * 32}}, "link:rollout.analysis->analysis"),
    ],
)
def test_a_rollout_on_something_else_is_refused(
    release: Release, changes: dict[str, dict[str, str]], check: str
) -> None:
    roll_out(release, **changes)
    assert check in release.refusals("--run", RUN)


def test_a_rollout_without_its_analysis_is_refused(release: Release) -> None:
    roll_out(release)
    shutil.rmtree(release.root / "analysis")
    assert "link:rollout.analysis->analysis" in release.refusals("--run", RUN)


def test_a_profile_and_what_was_compared_with_it_are_part_of_the_chain(release: Release) -> None:
    profile(release)
    answer = release.accepted("--run", RUN)
    assert [piece["name"] for piece in answer["evidence"]][-2:] == ["profile", "profile-drift"]
    checks = {check["id"] for check in answer["checks"]}
    assert {"link:profile.model->training", "link:profile-drift.profile->profile"} <= checks


def test_a_profile_without_a_model_is_part_of_the_chain(release: Release) -> None:
    profile(release, made={"model": "", "provenance": ""})
    answer = release.accepted("--run", RUN)
    assert "link:profile.model->training" not in {check["id"] for check in answer["checks"]}


@pytest.mark.parametrize(
    ("changes", "check"),
    [
        ({"made": {"dataset": "ab" * 32}}, "link:profile.dataset->dataset"),
        ({"made": {"attestation": "ab" * 32}}, "link:profile.attestation->dataset"),
        ({"made": {"model": "ab" * 32}}, "link:profile.model->training"),
        ({"made": {"provenance": "ab" * 32}}, "link:profile.provenance->training"),
        ({"compared": {"current_masking": "ab" * 32}}, "link:profile-drift.current_masking->current-masking"),
        ({"compared": {"profile": "ab" * 32}}, "link:profile-drift.profile->profile"),
        ({"compared": {"profile_evidence": "ab" * 32}}, "link:profile-drift.profile_evidence->profile"),
        ({"compared": {"provenance": "ab" * 32}}, "link:profile-drift.provenance->training"),
        ({"compared": {"model": "ab" * 32}}, "link:profile-drift.model->training"),
    ],
)
def test_a_profile_of_something_else_is_refused(
    release: Release, changes: dict[str, dict[str, str]], check: str
) -> None:
    profile(release, **changes)
    assert check in release.refusals("--run", RUN)


def test_a_check_without_its_profile_is_refused(release: Release) -> None:
    profile(release)
    shutil.rmtree(release.root / "profile-evidence")
    assert "link:profile-drift.profile_evidence->profile" in release.refusals("--run", RUN)


def test_a_watch_of_an_earlier_model_holds_and_names_the_run_to_verify(release: Release) -> None:
    """What a scheduled run leaves: masked data, and its check against the profile of another run."""
    profile(release, run_then="the-training-run")
    for folder in (
        "source-raw",
        "masking",
        "attestation",
        "provenance",
        "signed",
        "drift",
        "decision",
        "profile-evidence",
    ):
        shutil.rmtree(release.root / folder)
    answer = release.accepted("--run", RUN, "--without-decision")
    assert "'the-training-run'" in " ".join(answer["notes"])
    assert {piece["name"] for piece in answer["evidence"]} == {"current-source", "current-masking", "profile-drift"}


@pytest.mark.parametrize("name", [*EVIDENCE, "signed/model.sig"])
def test_missing_evidence_is_refused(release: Release, name: str) -> None:
    path = release.root / name
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    refused = release.refusals()
    link = {"signed/model.sig": "model"}.get(name, LINK_OF.get(name, name))
    assert f"evidence:{link}" in refused
    assert name == "decision" or refused["decision:inputs"] == "CUS-E282"


def test_a_model_signed_again_by_a_trusted_key_is_not_the_one_decided_about(release: Release) -> None:
    (release.root / "signed" / "model.sig").unlink()
    sign_model_tree(release.root / "signed/model", release.root / "signed/model.sig", release.site.signer)
    assert release.refusals() == {"decision:inputs": "CUS-E282"}


def test_another_model_with_its_own_signature_is_refused(release: Release) -> None:
    flip(release.root / "signed" / "model" / "model.ubj")
    (release.root / "signed" / "model.sig").unlink()
    sign_model_tree(release.root / "signed/model", release.root / "signed/model.sig", release.site.signer)
    refused = release.refusals()
    assert refused["link:model.files->training"] == "CUS-E214"
    shutil.rmtree(release.root / "signed" / "model")
    assert release.refusals()["link:model.files->training"] == "CUS-E214"


def test_extra_evidence_is_refused(release: Release) -> None:
    other = write_tree(release.root / "other", {"rows.csv": b"a,b\n"})
    write_masking(release.root / "other-masking", other, release.site.signer)
    assert release.refusals() == {"extra:other-masking/mask-pii.sigstore.json": "CUS-E281"}


def test_a_bundle_of_no_known_kind_is_refused(release: Release) -> None:
    (release.root / "notes").mkdir()
    (release.root / "notes" / "review.sigstore.json").write_text("{}")
    assert release.refusals() == {"extra:notes/review.sigstore.json": "CUS-E281"}


def test_two_runs_below_one_folder_are_refused(release: Release) -> None:
    root = build(release.site, f"second-{os.urandom(4).hex()}", "another-run")
    shutil.copytree(root, release.root / "second")
    refused = release.refusals("--run", RUN)
    assert {"CUS-E281"} <= set(refused.values())


def test_the_wrong_run_is_refused(release: Release) -> None:
    assert "CUS-E239" in release.refusals("--run", "another-run").values()


def test_evidence_swapped_for_genuine_evidence_of_another_release_is_refused(release: Release) -> None:
    root = build(release.site, f"other-{os.urandom(4).hex()}")
    shutil.rmtree(release.root / "attestation")
    shutil.copytree(root / "attestation", release.root / "attestation")
    refused = release.refusals()
    assert refused["link:training.attestation->dataset"] == "CUS-E214"
    assert refused["decision:inputs"] == "CUS-E282"


def test_a_decision_that_saw_less_is_refused(release: Release) -> None:
    forged(release, "decision", lambda statement: statement["predicate"]["inputAttestations"].pop())
    assert release.refusals() == {"decision:inputs": "CUS-E282"}


@pytest.mark.parametrize("inputs", [None, {}, [1], [{"uri": "drift"}], [{"uri": "drift", "digest": {"sha256": "AB"}}]])
def test_a_decision_with_malformed_inputs_is_refused(release: Release, inputs: object) -> None:
    forged(release, "decision", lambda statement: statement["predicate"].update(inputAttestations=inputs))
    refused = release.refusals()
    assert set(refused) & {"decision:inputs", "evidence:decision"}


def test_a_decision_that_is_older_than_its_evidence_is_refused(release: Release) -> None:
    before = stamp(datetime.now(UTC) - timedelta(days=2))
    forged(release, "decision", lambda statement: statement["predicate"].update(timeVerified=before))
    assert release.refusals() == {"decision:time": "CUS-E283"}


def test_a_decision_about_another_model_is_refused(release: Release) -> None:
    other = "ab" * 32
    forged(release, "decision", lambda statement: statement["subject"][0]["digest"].update(sha256=other))
    (release.root / "decision" / "SHA256SUMS").unlink()
    assert release.refusals() == {"decision:model": "CUS-E214"}


def test_a_decision_on_another_policy_is_refused(release: Release) -> None:
    digest = {"sha256": "ab" * 32}
    forged(release, "decision", lambda statement: statement["predicate"]["policy"].update(digest=digest))
    assert release.refusals() == {"decision:policy": "CUS-E312"}
    assert release.refusals("--policy", "baseline") == {"decision:policy": "CUS-E382"}


def test_a_failed_decision_is_refused_though_it_is_genuine(genuine: Release) -> None:
    root = build(genuine.site, f"weak-{os.urandom(4).hex()}", training={"average_precision": 0.2, "roc_auc": 0.6})
    release = Release(root, genuine.site)
    result = release.ask()
    assert result.exit_code == 1
    assert "REFUSED PolicyRefused: [CUS-E301]" in result.stderr
    assert release.refusals() == {"decision:verdict": "CUS-E301"}
    refused = release.refusals("--policy", "baseline")
    assert refused["rule:auprc-floor"] == "CUS-E314"


def test_a_policy_given_by_the_auditor_counts(release: Release, tmp_path: Path) -> None:
    policy = tmp_path / "strict.yaml"
    shipped = Path(load_policy.__code__.co_filename).parent / "policies" / "baseline.yaml"
    policy.write_text(shipped.read_text().replace(">= 0.5", ">= 0.95"))
    assert release.refusals("--policy", str(policy)) == {"decision:policy": "CUS-E382", "rule:auprc-floor": "CUS-E314"}


@pytest.mark.parametrize(
    ("resource", "check"), [("decision", "decision"), ("signature", "model"), ("policy", "decision")]
)
def test_a_deployment_under_something_else_is_refused(release: Release, resource: str, check: str) -> None:
    deploy(release, **{resource: "ab" * 32})
    assert release.refusals() == {f"link:deployment.{resource}->{check}": "CUS-E214"}


def test_rules_about_the_gate_see_who_decided_and_about_what(release: Release, tmp_path: Path) -> None:
    policy = tmp_path / "gate.yaml"
    policy.write_text(
        "version: 1\nname: gate\ndescription: about the gate\nmax_age_hours: 24\n"
        "requires: [{kind: train-model}]\nrules:\n"
        "  - {id: who, message: m, expr: 'gate.signer in gate.deciders'}\n"
        "  - {id: what, message: m, expr: 'gate.model_name == \"fraud-detection\"'}\n"
    )
    assert release.refusals("--policy", str(policy)) == {"decision:policy": "CUS-E382"}
    shutil.rmtree(release.root / "decision")
    assert {"rule:who", "rule:what"} <= set(release.refusals("--policy", str(policy)))


def test_changed_bytes_in_a_copy_are_refused(release: Release) -> None:
    shutil.copytree(release.root / "signed", release.root / "very-served")
    flip(release.root / "very-served" / "model" / "model.ubj")
    shutil.copytree(release.root / "masking", release.root / "masking-copy")
    (release.root / "masking-copy" / "report.json").write_text("{}")
    assert release.refusals() == {
        "copy:very-served/model.sig": "CUS-E215",
        "copy:masking-copy/mask-pii.sigstore.json": "CUS-E212",
    }


def test_every_copy_of_the_trained_model_is_looked_at(release: Release) -> None:
    for place in ("first", "second"):
        shutil.copytree(release.root / "provenance", release.root / place / "evidence")
        shutil.copytree(release.root / "trained", release.root / place / "model")
    release.accepted()
    flip(release.root / "second" / "model" / "model.ubj")
    assert release.refusals() == {"bytes:trained-model-2=training": "CUS-E215"}


def test_an_empty_trust_file_trusts_nobody(release: Release, tmp_path: Path) -> None:
    (tmp_path / "trust.yaml").write_text("version: 1\nsigners: []\n")
    result = run("verify", str(release.root), "--trust", str(tmp_path / "trust.yaml"))
    assert result.exit_code == 1
    assert "[CUS-E225]" in result.stdout


def test_control_characters_in_evidence_are_shown_and_not_obeyed(release: Release) -> None:
    forged(release, "decision", lambda statement: statement["predicate"].update(custody_runId="\x1b[2Jrun\u202e\n1"))
    for command in ("verify", "show"):
        result = release.ask(command=command)
        assert result.exit_code == 1
        assert "\x1b" not in result.output
        assert "\u202e" not in result.output
        assert "\\x1b[2Jrun" in result.output


# --- a year later ----------------------------------------------------------------------------------------------------


@pytest.fixture
def old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Release, datetime]:
    """A release of 400 days ago, by a signer that has since expired and been replaced."""
    then = datetime.now(UTC).replace(microsecond=0) - timedelta(days=400)
    with monkeypatch.context() as clock:
        for module in (evidence_module, gate_module):
            clock.setattr(module, "now", lambda: then)
        site = Site(tmp_path / "site")
        site_root = build(site)
    entries = [
        trust_entry("pipeline", site.signer, not_before=then - timedelta(days=30), not_after=then + timedelta(days=30)),
        trust_entry("successor", site.key("successor"), not_before=then + timedelta(days=29)),
    ]
    site.pin({"baseline": load_policy("baseline").sha256}, entries)
    return Release(site_root, site), then


def test_a_year_old_run_verifies_as_of_its_time(old: tuple[Release, datetime]) -> None:
    release, then = old
    assert "CUS-E229" in release.refusals().values()
    answer = release.accepted("--at", (then + timedelta(hours=1)).isoformat(), "--policy", "baseline")
    assert answer["judged_at"] == stamp(then + timedelta(hours=1))


def test_a_time_before_the_run_is_refused(old: tuple[Release, datetime]) -> None:
    release, then = old
    assert "CUS-E238" in release.refusals("--at", (then - timedelta(hours=1)).isoformat()).values()


def test_a_signer_revoked_since_is_believed_only_as_of_then_and_named(old: tuple[Release, datetime]) -> None:
    release, then = old
    document = parse_yaml(release.site.trust_path.read_bytes())
    document["signers"][0]["revoked"] = then + timedelta(days=3)
    release.site.pin({"baseline": load_policy("baseline").sha256}, document["signers"])
    answer = release.accepted("--at", stamp(then + timedelta(days=1)))
    assert any("signer pipeline is revoked" in note for note in answer["notes"])
    assert "CUS-E228" in release.refusals("--at", stamp(then + timedelta(days=4))).values()
