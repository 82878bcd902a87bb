"""Deploying by a commit: real bare repositories, and the real `git http-backend` behind a token (git_server.py).

No Argo CD and no Flux has run: `kubectl kustomize` renders what they would apply, and the objects are held against what
the stages apply through the Kubernetes API.
"""

import json
import shutil
import subprocess
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from git_server import READ_ONLY, TOKEN, GitServer, bare, files_at, git, hook, push, read, serving, tip
from securesystemslib.signer import Signer
from test_cluster_rollouts import IMAGE, KINDS, NAME, NAMESPACE, ONE, OURS, THREE, TWO, api, objects, open_target

from kfp_custody.components._shared import codes
from kfp_custody.components._shared.digests import sha256_bytes
from kfp_custody.components._shared.errors import (
    CustodyError,
    EvidenceInvalid,
    Misconfigured,
    PolicyRefused,
    ServiceUnreachable,
)
from kfp_custody.components._shared.evidence import DEPLOYMENT
from kfp_custody.components._shared.settings import Gitops, Settings, load_settings
from kfp_custody.components._shared.trust import load_trust
from kfp_custody.components._shared.verification import descriptors, read_evidence
from kfp_custody.components.seldon_deployment.decision import Admitted
from kfp_custody.components.seldon_deployment.deployment import Deployment, Outputs, deploy
from kfp_custody.components.seldon_deployment.rollout import git_branch, gitops, stages
from kfp_custody.components.seldon_deployment.rollout.gitops import Committed
from kfp_custody.components.seldon_deployment.rollout.open import open_repository
from kfp_custody.components.seldon_deployment.rollout.open import open_target as open_any
from kfp_custody.components.seldon_deployment.rollout.state import ANNOTATION
from kube_api import FakeApi
from kube_api.certificates import certified
from unit.seldon_deployment.signed_models import decide, sign, trust_text, write_model

pytestmark = pytest.mark.services
PATH = "clusters/prod"
FOLDER = f"{PATH}/{NAME}"
URI = f"s3://custody-models/{NAME}/1"
OF_SERVER = ("uid", "resourceVersion", "generation", "managedFields", "creationTimestamp")
GIT = ("git-seldon-v2", "git-seldon-v1", "git-kserve")
HEAD = "# Written by kfp-custody, and written over: changes of your own belong in an overlay that names this folder.\n"


cluster = api  # the fixture of the stages that apply


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gitops, "PAUSE", 0.01)


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    return bare(tmp_path)


@pytest.fixture
def server(repository: Path) -> Iterator[GitServer]:
    with serving(repository.parent) as served:
        yield served


def settings_for(address: str, **changes: Any) -> Settings:
    there = Gitops(address, path=PATH)
    return replace(load_settings({}), namespace=NAMESPACE, serving_image=IMAGE, gitops=replace(there, **changes))


@pytest.fixture
def on_disk(repository: Path) -> Settings:
    return settings_for(str(repository))


@pytest.fixture
def token_file(tmp_path: Path) -> Path:
    path = tmp_path / "token"
    path.write_text(TOKEN + "\n")
    path.chmod(0o600)
    return path


@pytest.fixture
def served(server: GitServer, token_file: Path) -> Settings:
    return settings_for(f"{server.url}/models.git", token_file=token_file)


def commit(
    settings: Settings, admitted: Admitted = ONE, run: str = "run-1", *, target: str = "git-kserve", name: str = NAME,
    timeout: float = 30.0, uri: str = URI,
) -> Committed:  # fmt: skip
    return open_repository(target, name, settings, timeout, uri).commit(admitted, run)


def refused(settings: Settings, *code: str, **options: Any) -> CustodyError:
    """A refusal, in which the token stands nowhere: not in what is shown, and not in what it was raised from."""
    with pytest.raises(CustodyError) as caught:
        commit(settings, **options)
    text = "".join(traceback.format_exception(caught.value))
    assert caught.value.code in code, text
    assert TOKEN not in text
    assert READ_ONLY not in text
    return caught.value


def committed(repository: Path, folder: str = FOLDER) -> dict[str, dict[str, Any]]:
    """The objects of a folder at the branch's tip, by kind and name."""
    found = {}
    for path in files_at(repository):
        if path.startswith(f"{folder}/") and not path.endswith("kustomization.yaml"):
            document = yaml.safe_load(read(repository, path))
            found[f"{document['kind']} {document['metadata']['name']}"] = document
    return found


def commits(repository: Path) -> list[str]:
    return git(repository, "rev-list", "--first-parent", "main").split()


# --- what is committed ------------------------------------------------------------------------------------------------


def applied(api: FakeApi) -> dict[str, dict[str, Any]]:
    """What is in the cluster, without what the server adds.

    The first Model keeps the state of the service until there is an Experiment, and afterwards for nobody.
    """
    found = {}
    for kind in OURS:
        for name, document in objects(api, kind).items():
            document.pop("status", None)
            metadata = {key: value for key, value in document["metadata"].items() if key not in OF_SERVER}
            if kind.kind == "Model":
                metadata.pop("annotations", None)
            found[f"{kind.kind} {name}"] = {**document, "metadata": metadata}
    return found


@pytest.mark.parametrize(("kind", "mode"), KINDS)
def test_what_is_committed_is_what_would_be_applied(
    cluster: FakeApi, repository: Path, on_disk: Settings, kind: str, mode: str
) -> None:
    """Over four deployments: the first, the second, the same again, and a third that makes an old one go."""
    settings = replace(on_disk, kserve_mode=mode)
    for number, admitted in enumerate((ONE, TWO, TWO, THREE), 1):
        target = open_target(cluster, kind, mode)
        target.place(admitted, f"run-{number}")
        target.promote()
        commit(settings, admitted, f"run-{number}", target=f"git-{kind}")
        there = applied(cluster)
        assert there
        assert committed(repository) == there, number


def test_a_commit_adds_to_the_branch_and_touches_nothing_of_others(repository: Path, on_disk: Settings) -> None:
    before, first = files_at(repository), tip(repository)
    push(repository, {f"{FOLDER}/NOTES.md": "ours\n", f"{FOLDER}/deeper/model-x.yaml": "a: [\n", "zz": "last\n"})
    others = files_at(repository)
    for admitted in (ONE, TWO):
        commit(on_disk, admitted, target="git-seldon-v2")
    after = files_at(repository)
    assert {path: after.get(path) for path in others} == others
    assert before.items() <= after.items()
    assert {path for path in set(after) - set(others)} == {
        f"{FOLDER}/{name}.yaml"
        for name in ("kustomization", f"experiment-{NAME}", *(f"model-{NAME}-{each.version}" for each in (ONE, TWO)))
    }
    assert commits(repository)[-1] == first
    git(repository, "fsck", "--strict")


def test_a_commit_says_what_and_on_whose_word(repository: Path, on_disk: Settings) -> None:
    done = commit(on_disk, ONE, "run-7\nRun: forged", target="git-seldon-v2")
    assert done.commit == tip(repository)
    assert git(repository, "log", "-1", "--format=%an|%ae|%cn|%ce|%s") == (
        f"kfp-custody|kfp-custody@localhost|kfp-custody|kfp-custody@localhost|Deploy {NAME}-{ONE.version} as {NAME}\n"
    )
    trailers = git(repository, "log", "-1", "--format=%(trailers:only)").strip().splitlines()
    assert trailers == [
        f"Model: sha256:{ONE.digest}",
        f"Signature: sha256:{ONE.signature_sha256}",
        f"Decision: sha256:{ONE.decision_sha256}",
        "Run: run-7\\nRun: forged",
    ]
    for path, digest in done.files.items():
        assert sha256_bytes(read(repository, path).encode()) == digest
    assert set(done.files) == {path for path in files_at(repository) if path.startswith(FOLDER)}


@pytest.mark.parametrize("target", GIT)
def test_the_same_deployment_again_commits_nothing(repository: Path, on_disk: Settings, target: str) -> None:
    first = commit(on_disk, ONE, target=target)
    assert first.made
    for run in ("run-1", "run-2"):  # of another run, with another decision: as through the API, nothing changes
        again = commit(on_disk, replace(ONE, decision_sha256="77" * 32), run, target=target)
        assert again == replace(first, made=False)
    assert len(commits(repository)) == 2


def test_the_bytes_depend_on_nothing_else(tmp_path: Path, on_disk: Settings) -> None:
    (tmp_path / "other").mkdir()
    elsewhere = bare(tmp_path / "other")
    one, two = commit(on_disk), commit(settings_for(str(elsewhere)))
    assert one.files == two.files


@pytest.mark.parametrize("target", ["git-seldon-v1", "git-kserve"])
def test_what_was_edited_by_hand_does_not_stay_under_our_word(repository: Path, on_disk: Settings, target: str) -> None:
    first = commit(on_disk, target=target)
    (path,) = (each for each in first.files if not each.endswith("kustomization.yaml"))
    push(repository, {path: read(repository, path).replace(f'value: "{ONE.digest}"', f'value: "{TWO.digest}"')})
    assert ONE.digest not in json.dumps(committed(repository)[next(iter(committed(repository)))]["spec"])
    again = commit(on_disk, target=target)
    assert again.made
    assert again.files == first.files


def test_a_forged_state_with_our_eight_digits_is_written_over(repository: Path, on_disk: Settings) -> None:
    first = commit(on_disk)
    (path,) = (each for each in first.files if "inferenceservice" in each)
    forged = ONE.digest[:8] + "f" * 56
    push(repository, {path: read(repository, path).replace(ONE.digest, forged)})
    assert commit(on_disk).files == first.files


def test_a_model_that_was_edited_is_refused(repository: Path, on_disk: Settings) -> None:
    commit(on_disk, target="git-seldon-v2")
    path = f"{FOLDER}/model-{NAME}-{ONE.version}.yaml"
    push(repository, {path: read(repository, path).replace(URI, "s3://elsewhere/1")})
    there = tip(repository)
    with pytest.raises(Misconfigured, match="versions are never edited") as refusal:
        commit(on_disk, target="git-seldon-v2")
    assert path in str(refusal.value)
    assert tip(repository) == there


def test_a_newer_image_of_the_model_server_is_a_commit(repository: Path, on_disk: Settings) -> None:
    commit(on_disk)
    newer = IMAGE.replace("ab", "cd")
    assert commit(replace(on_disk, serving_image=newer)).made
    assert newer in read(repository, f"{FOLDER}/inferenceservice-{NAME}.yaml")


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not here to render the folder")
@pytest.mark.parametrize("name", [NAME, "1e5", "0x1f", "on"])
def test_kustomize_renders_the_folder(tmp_path: Path, repository: Path, on_disk: Settings, name: str) -> None:
    for target in GIT:
        commit(on_disk, target=target, name=name)
    git(tmp_path, "clone", "--quiet", str(repository), "checkout")
    folder = tmp_path / "checkout" / PATH / name
    done = subprocess.run(["kubectl", "kustomize", str(folder)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    rendered = {f"{each['kind']} {each['metadata']['name']}": each for each in yaml.safe_load_all(done.stdout)}
    assert rendered == committed(repository, f"{PATH}/{name}")
    assert {each["metadata"]["labels"]["app.kubernetes.io/part-of"] for each in rendered.values()} == {name}


# --- the stage --------------------------------------------------------------------------------------------------------


@dataclass
class Stage:
    """A signed model with a decision, and what deploys it."""

    root: Path
    settings: Settings
    signer: Signer

    def __call__(self, *, passed: bool = True, **parameters: Any) -> Deployment:
        folder = self.root / "stage"
        if not folder.exists():
            sign(write_model(folder / "signed" / "model"), self.signer)
        shutil.rmtree(folder / "decision", ignore_errors=True)
        decide(folder / "decision", folder / "signed" / "model", self.signer, "run-1", passed=passed)
        asked = {"run_id": "run-1", "name": NAME, "target": "git-kserve", "timeout_seconds": 30, "model_uri": URI}
        return deploy(folder / "signed", folder / "decision", self.outputs, self.settings, **(asked | parameters))  # type: ignore[arg-type]

    @property
    def outputs(self) -> Outputs:
        out = self.root / "out"
        return Outputs(out / "evidence", out / "report.html", out / "endpoint.json")


@pytest.fixture
def stage(tmp_path: Path, settings: Settings, trust_file: Path, signer: Signer, served: Settings) -> Stage:
    trust_file.write_text(trust_text(signer))
    there = {"namespace": NAMESPACE, "serving_image": IMAGE, "gitops": served.gitops}
    return Stage(tmp_path, replace(settings, **there), signer)


@pytest.mark.parametrize("chosen", [*GIT, "platform"])
def test_a_deployment_leaves_evidence_of_the_commit_and_claims_no_more(
    repository: Path, stage: Stage, trust_file: Path, chosen: str
) -> None:
    stage.settings = replace(stage.settings, deploy_target="git-seldon-v1")
    done = stage(target=chosen)
    assert done.target == ("git-seldon-v1" if chosen == "platform" else chosen)
    evidence = read_evidence(stage.outputs.evidence, DEPLOYMENT, load_trust(trust_file), run_id="run-1")
    predicate = evidence.predicate
    assert predicate["result"] == "WARNED"
    assert predicate["passedTests"] == ["decision", "model-signature", "commit"]
    assert predicate["warnedTests"] == ["readiness", "smoke-inference"]
    known = {each["name"]: each for each in predicate["configuration"]}
    assert known["repository"] == {
        "name": "repository",
        "uri": f"git+{stage.settings.gitops.repository}@refs/heads/main",
        "digest": {"gitCommit": tip(repository)},
    }
    files = {path for path in files_at(repository) if path.startswith(FOLDER)}
    assert len(files) >= 2
    for path in files:
        assert known[path]["digest"] == {"sha256": sha256_bytes(read(repository, path).encode())}
    endpoint = json.loads(stage.outputs.endpoint.read_text())
    assert endpoint["response"] is None
    assert endpoint["committed"]["commit"] == tip(repository)
    assert set(endpoint["committed"]["files"]) == files
    report = stage.outputs.report.read_text()
    assert "Committed, not yet applied" in report
    assert "In service" not in report
    for text in (tip(repository), *files, stage.settings.gitops.repository or ""):
        assert text in report
    everything = [each.read_text() for each in (stage.root / "out").rglob("*") if each.is_file()]
    assert not [text for text in everything if TOKEN in text]
    assert done.metadata()["commit"] == tip(repository)
    assert len(descriptors({"predicate": predicate})) == len(known)


def test_a_decision_that_says_no_reaches_no_repository(repository: Path, stage: Stage, server: GitServer) -> None:
    before = tip(repository)
    with pytest.raises(PolicyRefused):
        stage(passed=False)
    assert (server.seen, tip(repository)) == ([], before)
    assert not (stage.root / "out").exists()


def test_changed_bytes_reach_no_repository(stage: Stage, server: GitServer) -> None:
    stage()
    server.seen.clear()
    model = stage.root / "stage" / "signed" / "model" / "signature.json"
    model.write_text(model.read_text() + " ")
    with pytest.raises(EvidenceInvalid):
        deploy(
            stage.root / "stage/signed", stage.root / "stage/decision", stage.outputs, stage.settings, run_id="run-1",
            name=NAME, target="git-kserve", timeout_seconds=30, model_uri=URI,
        )  # fmt: skip
    assert server.seen == []


def test_an_address_of_the_model_is_needed(stage: Stage, repository: Path) -> None:
    before = tip(repository)
    with pytest.raises(Misconfigured, match="needs the address of the signed model"):
        stage(model_uri="")
    assert tip(repository) == before


@pytest.mark.parametrize("target", [*GIT, "platform"])
def test_there_is_no_canary_through_a_repository(stage: Stage, server: GitServer, target: str) -> None:
    stage.settings = replace(stage.settings, deploy_target="git-kserve")
    with pytest.raises(Misconfigured, match="nobody can watch or shift traffic"):
        stage(target=target, rollout="canary")
    with pytest.raises(Misconfigured, match="nobody can watch or shift traffic"):
        open_any(target, NAME, stage.settings, 5)
    done = stages.close(stage.settings, run_id="run-1", name=NAME, target=target, timeout_seconds=5)
    assert done == stages.NOTHING
    assert server.seen == []


# --- others who push --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("moment", ["before_refs", "before_push"])
def test_a_push_in_between_is_read_and_kept(repository: Path, server: GitServer, served: Settings, moment: str) -> None:
    """Before the server tells where the branch is, which is then seen here; and after that, which the server sees."""
    more = iter(["one.txt", "two.txt"])

    def somebody() -> None:
        name = next(more, None)
        if name:
            push(repository, {name: "theirs\n"})

    setattr(server, moment, somebody)
    done = commit(served)
    assert {"one.txt", "two.txt", *done.files} <= set(files_at(repository))
    assert done.commit == tip(repository)
    assert len(commits(repository)) == 4


def test_a_branch_that_moves_every_time_is_given_up_after_five_attempts(
    repository: Path, server: GitServer, served: Settings
) -> None:
    numbers = iter(range(100))
    server.before_push = lambda: push(repository, {f"{next(numbers)}.txt": "theirs\n"})
    refusal = refused(served, codes.GIT_MOVED)
    assert isinstance(refusal, ServiceUnreachable)
    assert "5 attempts" in refusal.evidence
    assert next(numbers) == 5
    assert not [path for path in files_at(repository) if path.startswith(FOLDER)]


@pytest.mark.parametrize("count", [2, 5])
@pytest.mark.parametrize("where", ["served", "on_disk"])
def test_deployers_at_once_all_land(
    request: pytest.FixtureRequest, repository: Path, server: GitServer, count: int, where: str
) -> None:
    """All begin with the same commit: whoever pushes first makes the others read again."""
    settings = request.getfixturevalue(where)
    together = threading.Barrier(count)
    first = set[int]()

    def meet() -> None:
        if threading.get_ident() not in first and len(first) < count:
            first.add(threading.get_ident())
            together.wait(20)

    server.before_push = meet
    with ThreadPoolExecutor(count) as pool:
        names = [f"service-{number}" for number in range(count)]
        done = list(pool.map(lambda name: commit(settings, name=name), names))
    assert all(each.made for each in done)
    assert len(commits(repository)) == 1 + count
    assert {path for each in done for path in each.files} <= set(files_at(repository))
    git(repository, "fsck", "--strict")


def test_an_answer_that_is_lost_makes_no_second_commit(repository: Path, server: GitServer, served: Settings) -> None:
    lost = iter([True])
    server.after_push = lambda: next(lost, False)
    done = commit(served)
    assert done.commit == tip(repository)
    assert len(commits(repository)) == 2
    assert not done.made, "found on the second attempt"


# --- servers and rights -----------------------------------------------------------------------------------------------


def test_a_server_that_is_not_there_is_said_so(server: GitServer, served: Settings, token_file: Path) -> None:
    nowhere = settings_for("http://127.0.0.1:9/models.git", token_file=token_file)
    assert isinstance(refused(nowhere, codes.GIT_SILENT), ServiceUnreachable)


@pytest.mark.parametrize("part", ["info/refs", "git-upload-pack", "git-receive-pack"])
@pytest.mark.parametrize("status", [500, 503])
def test_a_server_that_fails_is_asked_five_times(
    repository: Path, server: GitServer, served: Settings, part: str, status: int
) -> None:
    before = tip(repository)
    server.status = {part: status}
    assert "5 attempts" in refused(served, codes.GIT_SILENT).evidence
    assert tip(repository) == before
    server.status = {}
    assert commit(served).made


def test_a_server_that_drips_is_waited_for_until_the_deadline(server: GitServer, served: Settings) -> None:
    server.drip = 0.05
    began = time.monotonic()
    refused(served, codes.GIT_SILENT, timeout=1.0)
    assert time.monotonic() - began < 5


ERROR = b"ERR you sent " + TOKEN.encode()


@pytest.mark.parametrize(
    "body",
    [
        ("text/html", b"<html>Please log in</html>"),
        ("text/html", b""),
        ("application/x-git-upload-pack-advertisement", b"%04x%s" % (len(ERROR) + 4, ERROR)),
        ("application/x-git-upload-pack-advertisement", b"zzzz"),
        ("application/x-git-upload-pack-advertisement", b"0000"),
        ("application/x-git-upload-pack-advertisement", b""),
    ],
    ids=["login-page", "empty-page", "error-with-the-token", "no-protocol", "flush", "nothing"],
)
def test_what_is_no_git_server_is_refused(server: GitServer, served: Settings, body: tuple[str, bytes]) -> None:
    server.body = body
    refused(served, codes.GIT_SILENT, codes.GIT_SETTINGS)


def test_a_server_that_sends_elsewhere_gets_no_token_there(server: GitServer, served: Settings, tmp_path: Path) -> None:
    with serving(tmp_path) as other:
        server.redirect = other.url
        refused(served, codes.SENT_ELSEWHERE)
        assert other.seen == []


@pytest.mark.parametrize(("token", "what"), [("wrong-canary", "401"), (READ_ONLY, "403"), (None, "401")])
def test_a_token_that_may_not_is_refused_and_not_shown(
    repository: Path, served: Settings, token_file: Path, token: str | None, what: str
) -> None:
    before = tip(repository)
    if token:
        token_file.write_text(token)
    there = served if token else replace(served, gitops=replace(served.gitops, token_file=None))
    refusal = refused(there, codes.GIT_DENIED)
    assert what in refusal.evidence
    assert "wrong-canary" not in "".join(traceback.format_exception(refusal))
    assert tip(repository) == before


@pytest.mark.parametrize(("echo", "shown"), [(False, "pre-receive hook declined"), (True, "words that are not")])
def test_a_branch_that_is_protected_is_said_so_once(
    repository: Path, server: GitServer, served: Settings, echo: bool, shown: str
) -> None:
    before = tip(repository)
    if echo:
        server.rewrite = lambda body: body.replace(b"pre-receive hook declined", TOKEN.ljust(25).encode())
    hook(repository, f"not for {TOKEN}")
    refusal = refused(served, codes.GIT_DENIED)
    assert shown in refusal.evidence
    assert tip(repository) == before
    assert len([each for each in server.seen if each.startswith("POST") and "receive-pack" in each]) == 1


def test_a_report_about_another_branch_is_no_success(repository: Path, server: GitServer, served: Settings) -> None:
    before = tip(repository)
    hook(repository, "no")
    server.rewrite = lambda body: body.replace(b"ng refs/heads/main", b"ng refs/heads/mine")
    assert "does not say" in refused(served, codes.GIT_SILENT).evidence
    assert tip(repository) == before


@pytest.mark.parametrize("where", ["served", "on_disk"])
def test_a_repository_that_is_too_large_is_refused(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    monkeypatch.setattr(git_branch, "MAX_PACK", 50)
    assert "more than 50 bytes" in refused(request.getfixturevalue(where), codes.GIT_CONTENT).evidence


def test_a_server_with_a_certificate_is_asked_and_one_that_nobody_trusts_is_not(
    repository: Path, token_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority, context = certified(tmp_path)
    with serving(repository.parent, context) as server:
        settings = settings_for(f"{server.url}/models.git", token_file=token_file)
        assert "SSL" in refused(settings, codes.GIT_SILENT).evidence
        assert server.seen == []
        monkeypatch.setenv("SSL_CERT_FILE", str(authority))
        done = commit(settings)
        assert done.commit == tip(repository)
        assert done.repository.startswith("https://")


@pytest.mark.parametrize("where", ["served", "on_disk"])
def test_a_branch_or_repository_that_is_missing_is_not_made(
    request: pytest.FixtureRequest, repository: Path, where: str
) -> None:
    settings = request.getfixturevalue(where)
    no_branch = replace(settings, gitops=replace(settings.gitops, branch="production"))
    assert "no branch 'production'" in refused(no_branch, codes.GIT_SETTINGS).evidence
    elsewhere = str(settings.gitops.repository).replace("models.git", "others.git")
    refused(replace(settings, gitops=replace(settings.gitops, repository=elsewhere)), codes.GIT_SETTINGS)
    assert git(repository, "for-each-ref").count("\n") == 1


def test_another_branch_than_the_default_one_is_moved_alone(repository: Path, served: Settings) -> None:
    push(repository, {"x": "y\n"}, "live/eu")
    before = tip(repository)
    done = commit(replace(served, gitops=replace(served.gitops, branch="live/eu")))
    assert (done.commit, tip(repository)) == (tip(repository, "live/eu"), before)


def test_a_repository_with_a_work_tree_is_refused(tmp_path: Path, repository: Path) -> None:
    git(tmp_path, "clone", "--quiet", str(repository), "checkout")
    assert "work tree" in refused(settings_for(str(tmp_path / "checkout")), codes.GIT_SETTINGS).evidence


# --- what is in the way -----------------------------------------------------------------------------------------------


def others(name: str, text: str) -> Callable[[Path], None]:
    return lambda repository: push(repository, {f"{FOLDER}/{name}": text})


def link(name: str, target: str) -> Callable[[Path], None]:
    return lambda repository: push(repository, {"keep": ""}, links={name: target})


def submodule(repository: Path) -> None:
    work = repository.parent / "work-submodule"
    git(repository.parent, "clone", "--quiet", str(repository), str(work))
    git(work, "update-index", "--add", "--cacheinfo", f"160000,{tip(repository)},{FOLDER}")
    git(work, "commit", "--quiet", "--message", "submodule")
    git(work, "push", "--quiet")


SERVICE = f"inferenceservice-{NAME}.yaml"
FOREIGN = {"apiVersion": "serving.kserve.io/v1beta1", "kind": "InferenceService", "spec": {}}


@pytest.mark.parametrize(
    ("obstacle", "words"),
    [
        (link("clusters/prod", "../elsewhere") , "a symbolic link"),
        (link(FOLDER, "../../other"), "a symbolic link"),
        (link(f"{FOLDER}/{SERVICE}", "/etc/passwd"), "a symbolic link"),
        (link(f"{FOLDER}/anything", "../other"), "a symbolic link"),
        (submodule, "a submodule"),
        (lambda repository: push(repository, {FOLDER: "a file\n"}), "a file"),
        (others(f"{SERVICE}/deeper", "x"), "a folder"),
        (others("kustomization.yaml", "resources: []\n"), "did not write it"),
        (others("Kustomization", HEAD), "not both"),
        (others(SERVICE, "a: [\n"), "no YAML"),
        (others(SERVICE, yaml.safe_dump({**FOREIGN, "metadata": {"name": NAME, "namespace": NAMESPACE}})), "no such"),
        (others(SERVICE, yaml.safe_dump({**FOREIGN, "metadata": {"name": "x", "namespace": NAMESPACE, "labels": {
            "app.kubernetes.io/managed-by": "kfp-custody"}}})), "no such"),
    ],
    ids=["link-on-the-way", "link-is-folder", "link-is-file", "link-beside", "submodule", "file-is-folder",
         "folder-is-file", "kustomization", "two-kustomizations", "no-yaml", "not-ours", "other-name"],
)  # fmt: skip
def test_what_is_in_the_way_is_refused_and_left(
    repository: Path, served: Settings, obstacle: Callable[[Path], None], words: str
) -> None:
    obstacle(repository)
    before = tip(repository)
    refusal = refused(served, codes.GIT_CONTENT)
    assert words in refusal.evidence
    assert tip(repository) == before


def test_an_object_without_a_state_of_ours_is_left_alone(repository: Path, on_disk: Settings) -> None:
    labels = {"app.kubernetes.io/managed-by": "kfp-custody", "app.kubernetes.io/part-of": NAME}
    document = {**FOREIGN, "metadata": {"name": NAME, "namespace": NAMESPACE, "labels": labels}}
    push(repository, {f"{FOLDER}/{SERVICE}": yaml.safe_dump(document)})
    with pytest.raises(Misconfigured, match="no rollout of ours made"):
        commit(on_disk)
    document["metadata"]["annotations"] = {ANNOTATION: "{}"}  # type: ignore[index]
    push(repository, {f"{FOLDER}/{SERVICE}": yaml.safe_dump(document)})
    with pytest.raises(EvidenceInvalid, match="changed by somebody else"):
        commit(on_disk)


def test_another_namespace_has_its_own_folder(on_disk: Settings) -> None:
    commit(on_disk)
    refused(replace(on_disk, namespace="staging"), codes.GIT_CONTENT)
    elsewhere = replace(on_disk, namespace="staging", gitops=replace(on_disk.gitops, path="clusters/staging"))
    assert commit(elsewhere).made


def test_an_object_that_the_server_left_out_is_said_so(tmp_path: Path, repository: Path, on_disk: Settings) -> None:
    commit(on_disk)
    name = files_at(repository)[f"{FOLDER}/{SERVICE}"]
    git(repository, "repack", "-adq")
    for pack in (repository / "objects/pack").glob("*.pack"):
        moved = tmp_path / pack.name
        shutil.move(pack, moved)
        pack.with_suffix(".idx").unlink()
        with moved.open("rb") as data:
            subprocess.run(["git", "unpack-objects", "-q"], cwd=repository, stdin=data, check=True)
    (repository / "objects" / name[:2] / name[2:]).unlink()
    refused(on_disk, codes.GIT_OBJECT, codes.GIT_SILENT)
