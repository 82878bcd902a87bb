"""A real MLServer, real signed models, real evidence: what is served, and above all what is not."""

import json
import os
import shutil
import signal
import socket
import tarfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families
from securesystemslib.signer import Signer

from kfp_custody.components._shared.digests import list_tree, sha256_file
from kfp_custody.components._shared.errors import (
    CustodyError,
    EvidenceInvalid,
    InputRefused,
    Misconfigured,
    ServiceUnreachable,
)
from kfp_custody.components._shared.evidence import DEPLOYMENT
from kfp_custody.components._shared.scoring import load_scorer
from kfp_custody.components._shared.settings import Settings, load_settings
from kfp_custody.components._shared.signers.file import generate_key
from kfp_custody.components._shared.signers.loading import load_signer
from kfp_custody.components._shared.trust import load_trust
from kfp_custody.components._shared.verification import read_evidence, require_subject
from kfp_custody.components.seldon_deployment import child, process
from kfp_custody.components.seldon_deployment.decision import require_admitted
from kfp_custody.components.seldon_deployment.deployment import Deployment, Outputs, deploy
from kfp_custody.components.seldon_deployment.local_server import serve, stop
from kfp_custody.components.seldon_deployment.serving.names import RUNTIME
from kfp_custody.components.seldon_deployment.v2_client import Reply, call, score
from unit.seldon_deployment.signed_models import ROW, decide, sign, trust_text, write_model, write_skops_model

pytestmark = pytest.mark.services
NAME, RUN = "fraud-detection", "run-1"


@dataclass
class Shop:
    """A serving directory with a running server; each deployment gets folders of its own."""

    root: Path
    signer: Signer
    settings: Settings
    outputs: Outputs = field(init=False)
    used: int = 0

    def model(self, seed: int, **changes: object) -> Path:
        """A signed model that differs by its seed."""
        return sign(write_model(self.fresh("signed") / "model", seed, **changes), self.signer)

    def deploy(self, signed: Path, timeout: int = 60, settings: Settings | None = None) -> Deployment:
        decision = decide(self.fresh("decision"), signed / "model", self.signer, RUN)
        return self.deploy_on(signed, decision, timeout, settings)

    def deploy_on(
        self, signed: Path, decision: Path, timeout: int = 60, settings: Settings | None = None
    ) -> Deployment:
        out = self.fresh("out")
        self.outputs = Outputs(out / "evidence", out / "report.html", out / "endpoint.json")
        return deploy(
            signed, decision, self.outputs, settings or self.settings,
            run_id=RUN, name=NAME, target="local", timeout_seconds=timeout,
        )  # fmt: skip

    def fresh(self, kind: str) -> Path:
        """A path that was not used yet."""
        self.used += 1
        return self.root / f"{kind}-{self.used}"

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.settings.serving_port}"

    @property
    def served(self) -> dict[str, dict[str, str]]:
        return json.loads((self.settings.serving_dir / "served.json").read_text())["models"]

    def api(self, name: str, verb: str) -> Reply:
        return call("POST", f"{self.url}/v2/repository/models/{name}/{verb}")

    def answering(self) -> str:
        """The digest of the model that answers now."""
        return str(score(f"{self.url}/v2/models/{NAME}", [ROW])["version"])


def free_port() -> int:
    """A port below those that outgoing connections of this machine take while a server is away."""
    return child.free_ports(1)[0]


@pytest.fixture
def shop(open_shop: Shop) -> Shop:
    """The module's shop with its server running, in whatever order the tests come."""
    if process.running(open_shop.settings.serving_dir) is None:
        open_shop.deploy(open_shop.model(0))
    return open_shop


@pytest.fixture(scope="module")
def open_shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """One serving directory for the module."""
    root = tmp_path_factory.mktemp("shop")
    generate_key(root / "key.pem")
    signer = load_signer(f"file:{root}/key.pem")
    (root / "trust.yaml").write_text(trust_text(signer))
    settings = load_settings(
        {
            "CUSTODY_SIGNER": f"file:{root}/key.pem",
            "CUSTODY_TRUST": str(root / "trust.yaml"),
            "CUSTODY_SERVING_DIR": str(root / "serving"),
            "CUSTODY_SERVING_PORT": str(free_port()),
        }
    )
    shop = Shop(root, signer, settings)
    try:
        yield shop
    finally:
        stop(settings.serving_dir)


@pytest.fixture
def before(shop: Shop) -> Iterator[str]:
    """The digest that answers before a test; it must answer after it too, and be what served.json says."""
    digest = shop.answering()
    record = shop.served
    yield digest
    assert shop.answering() == digest
    assert shop.served == record


# --- a model that may be served ---------------------------------------------------------------------------------------


def test_a_good_model_is_served_with_evidence(shop: Shop) -> None:
    signed = shop.model(1)
    done = shop.deploy(signed)
    listing = list_tree(signed / "model")
    assert done.digest == listing.sha256 == shop.answering()
    assert shop.served[NAME] | {"decision": "", "signature": ""} == {
        "name": NAME, "version": done.version, "digest": done.digest, "url": done.url, "decision": "", "signature": "",
    }  # fmt: skip
    verified = read_evidence(shop.outputs.evidence, DEPLOYMENT, load_trust(shop.settings.trust_file), run_id=RUN)
    require_subject(verified, signed / "model", "model")
    assert verified.result == "PASSED"
    assert verified.dependency("signature") == sha256_file(signed / "model.sig")
    assert verified.dependency("report") == sha256_file(shop.outputs.report)
    endpoint = json.loads(shop.outputs.endpoint.read_text())
    assert {output["name"] for output in endpoint["response"]["outputs"]} == {"probability", "label"}
    assert endpoint["url"] == done.url


def test_a_real_row_is_scored_and_other_columns_are_not_sent(shop: Shop) -> None:
    answer = score(f"{shop.url}/v2/models/{NAME}", [ROW, ROW | {"amount": None, "channel": "by pigeon"}])
    assert len(answer["probability"]) == len(answer["label"]) == 2
    assert answer["label"] == [int(p >= 0.5) for p in answer["probability"]]


def test_a_scikit_learn_pipeline_is_served_from_skops(shop: Shop) -> None:
    signed = sign(write_skops_model(shop.fresh("signed") / "model"), shop.signer)
    done = shop.deploy(signed)
    rows = [ROW, {"amount": None, "channel": None, "is_foreign": True}]
    answer = score(done.url, rows)
    assert answer["version"] == done.digest
    names = ("amount", "channel", "is_foreign")
    columns = {name: np.array([row[name] for row in rows], dtype=object) for name in names}
    assert answer["probability"] == load_scorer(signed / "model").score(columns).tolist()


def test_a_second_version_replaces_the_first_and_its_trial_is_gone(shop: Shop) -> None:
    first, second = shop.deploy(shop.model(2)), shop.deploy(shop.model(3))
    assert first.digest != second.digest == shop.answering()
    assert first.url == second.url, "the address of a service does not change with its version"
    home = shop.settings.serving_dir / "repository" / NAME
    folders = [path for path in home.iterdir() if path.is_dir()]
    assert len(folders) == 1
    assert call("GET", f"{shop.url}/v2/models/{NAME}-{folders[0].name}/ready").status == 404
    assert not list((shop.settings.serving_dir / "process" / "tmp").iterdir()), "private copies are removed"


def test_nobody_sees_an_error_while_versions_change(shop: Shop) -> None:
    failures: list[str] = []
    done = threading.Event()

    def ask() -> None:
        while not done.is_set():
            try:
                shop.answering()
            except CustodyError as error:
                failures.append(str(error))

    client = threading.Thread(target=ask)
    client.start()
    try:
        shop.deploy(shop.model(4))
    finally:
        done.set()
        client.join()
    assert failures == []


def test_the_server_listens_on_loopback_only_and_knows_no_key_of_ours(shop: Shop) -> None:
    server = process.running(shop.settings.serving_dir)
    assert server is not None
    environment = Path(f"/proc/{server.pid}/environ").read_bytes().decode()
    assert "CUSTODY_SIGNER" not in environment
    assert f"CUSTODY_TRUST={shop.settings.trust_file}" in environment
    ports = {server.http_port, server.grpc_port, server.metrics_port}
    sockets = [line.split() for name in ("tcp", "tcp6") for line in Path(f"/proc/net/{name}").read_text().splitlines()]
    listening = [local.split(":") for _, local, _, state, *_ in sockets if state == "0A"]
    addresses = {int(port, 16): address for address, port in listening if int(port, 16) in ports}
    loopback = {"0100007F", "0000000000000000FFFF00000100007F"}  # 127.0.0.1, the second as gRPC's IPv6 socket sees it
    assert addresses.keys() == ports
    assert set(addresses.values()) <= loopback


# --- requests that do not fit -----------------------------------------------------------------------------------------


def tensors(**changes: dict[str, object] | None) -> dict[str, object]:
    plain: dict[str, dict[str, object]] = {
        "amount": {"datatype": "FP64", "shape": [1, 1], "data": [12.5]},
        "channel": {"datatype": "BYTES", "shape": [1, 1], "data": ["pos"]},
        "is_foreign": {"datatype": "BOOL", "shape": [1, 1], "data": [True]},
    }
    wanted = {name: changes.get(name, value) for name, value in (plain | changes).items()}
    return {"inputs": [{"name": name, **value} for name, value in wanted.items() if value is not None]}


def test_a_matrix_in_the_order_of_the_features_answers_like_named_inputs(shop: Shop) -> None:
    url = f"{shop.url}/v2/models/{NAME}/infer"
    matrix = {"inputs": [{"name": "matrix", "datatype": "FP64", "shape": [1, 3], "data": [[12.5, 2, 1]]}]}
    named, coded = call("POST", url, tensors()), call("POST", url, matrix)
    assert named.status == coded.status == 200
    assert named.document["outputs"] == coded.document["outputs"]


@pytest.mark.parametrize(
    "body",
    [
        tensors(channel=None),
        tensors(surplus={"datatype": "FP64", "shape": [1], "data": [1]}),
        tensors(amount={"datatype": "FP64", "shape": [1, 1], "data": ["12.5"]}),
        tensors(amount={"datatype": "BYTES", "shape": [1, 1], "data": ["12.5"]}),
        tensors(amount={"datatype": "FP64", "shape": [2, 1], "data": [1.0]}),
        tensors(amount={"datatype": "FP64", "shape": [1, 1], "data": [1e300]}),
        tensors(channel={"datatype": "FP64", "shape": [1, 1], "data": [1]}),
        {"inputs": [{"name": "matrix", "datatype": "FP64", "shape": [1, 2], "data": [[1, 1]]}]},
        {"inputs": []},
    ],
    ids=["missing", "surplus", "text", "bytes", "shape", "too-big", "code", "width", "none"],
)
def test_a_request_that_does_not_fit_is_the_clients_mistake(shop: Shop, before: str, body: dict[str, object]) -> None:
    reply = call("POST", f"{shop.url}/v2/models/{NAME}/infer", body)
    assert reply.status == 400, reply
    assert "12.5" not in reply.reason, "a message must not repeat data"


# --- what it says to Prometheus ---------------------------------------------------------------------------------------


def series(shop: Shop) -> dict[str, float]:
    """Everything that is exported, by name with its labels."""
    server = process.running(shop.settings.serving_dir)
    assert server is not None
    with urllib.request.urlopen(f"http://127.0.0.1:{server.metrics_port}/metrics", timeout=10) as answer:
        families = text_string_to_metric_families(answer.read().decode())
    return {
        f"{one.name}{json.dumps(dict(sorted(one.labels.items())))}": one.value
        for family in families
        for one in family.samples
    }


def added(before: dict[str, float], after: dict[str, float]) -> dict[str, float]:
    ours = {name: value - before.get(name, 0.0) for name, value in after.items() if name.startswith("custody_")}
    return {name: value for name, value in ours.items() if value and "_created" not in name}


def test_answers_and_mistakes_are_counted_under_the_version_that_is_served(shop: Shop, before: str) -> None:
    url, start = f"{shop.url}/v2/models/{NAME}/infer", series(shop)
    replies = [call("POST", url, tensors()) for _ in range(3)]
    assert (
        call("POST", url, tensors(channel={"datatype": "BYTES", "shape": [1, 1], "data": ["unheard-of"]})).status == 200
    )
    assert call("POST", url, tensors(amount=None)).status == 400
    counted = added(start, series(shop))
    labels = f'"model": "{NAME}"', f'"version": "{before}"'
    assert {name for name in counted if not all(label in name for label in labels)} == set()
    totals = {name.partition("{")[0]: 0.0 for name in counted}
    for name, value in counted.items():
        totals[name.partition("{")[0]] += value
    assert totals["custody_inference_requests_total"] == 5
    assert totals["custody_inference_rows_total"] == 4
    assert totals["custody_inference_seconds_count"] == 5
    assert totals["custody_inference_score_count"] == totals["custody_inference_confidence_count"] == 4
    assert totals["custody_input_gaps_total"] == 1
    score = replies[0].document["outputs"][0]["data"][0]
    least = next(tenth / 10 for tenth in range(1, 11) if score <= tenth / 10)
    bucket = next(value for name, value in counted.items() if "score_bucket" in name and f'"le": "{least}"' in name)
    assert bucket >= 3


def test_a_client_cannot_make_series(shop: Shop, before: str) -> None:
    start = series(shop)
    for number in range(20):
        name = f"stranger-{number}"
        assert call("POST", f"{shop.url}/v2/models/{name}/infer", tensors()).status == 404
        assert call("POST", f"{shop.url}/v2/models/{NAME}/versions/{name}/infer", tensors()).status == 404
        assert call("GET", f"{shop.url}/{name}").status == 404
    after = series(shop)
    assert {name for name in after if "stranger" in name} == set()
    assert added(start, after) == {}
    assert set(after) == set(start)


def test_requests_are_logged_without_what_was_asked(shop: Shop, before: str) -> None:
    path = process.request_log(shop.settings.serving_dir)
    start = len(path.read_text().splitlines())
    url = f"{shop.url}/v2/models/{NAME}/infer"
    for body in (tensors(), tensors(), tensors(channel={"datatype": "BYTES", "shape": [1, 1], "data": ["web"]})):
        assert call("POST", url, body | {"id": "order-7"}).status == 200
    assert call("POST", url, tensors(amount=None) | {"id": "a b\n{}"}).status == 400
    same, again, other, refused = (json.loads(line) for line in path.read_text().splitlines()[start:])
    assert same["inputs"] == again["inputs"] != other["inputs"]
    assert (same["model"], same["version"], same["id"], same["rows"]) == (NAME, before, "order-7", 1)
    assert same["scores"] == again["scores"]
    assert refused["outcome"] == "refused"
    assert "id" not in refused
    assert {"12.5", "pos", "web", "amount", "channel"} & set(path.read_text().replace('"', " ").split()) == set()
    assert path.stat().st_mode & 0o077 == 0


def test_the_series_of_a_replaced_version_end(shop: Shop) -> None:
    old = shop.answering()
    shop.deploy(shop.model(41))
    new = shop.answering()
    names = {name for name in series(shop) if name.startswith("custody_")}
    assert old != new
    assert any(new in name for name in names)
    assert not any(old in name for name in names)


# --- models that the deployer refuses ---------------------------------------------------------------------------------


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


TAMPERS: dict[str, Callable[[Path], object]] = {
    "flipped": lambda signed: flip(signed / "model" / "model.ubj"),
    "added": lambda signed: (signed / "model" / "extra.txt").write_text("x"),
    "removed": lambda signed: (signed / "model" / "signature.json").unlink(),
    "renamed": lambda signed: (signed / "model" / "model.ubj").rename(signed / "model" / "model2.ubj"),
    "beside": lambda signed: (signed / "model-settings.json").write_text('{"implementation": "evil.Evil"}'),
}


@pytest.mark.parametrize("tamper", TAMPERS)
def test_changed_bytes_are_refused_and_the_old_version_stays(shop: Shop, before: str, tamper: str) -> None:
    signed = shop.model(10)
    decision = decide(shop.fresh("decision"), signed / "model", shop.signer, RUN)
    TAMPERS[tamper](signed)
    with pytest.raises(EvidenceInvalid):
        shop.deploy_on(signed, decision)
    assert not shop.outputs.evidence.exists()
    assert not shop.outputs.endpoint.exists()


def test_a_model_signed_with_another_key_is_refused(shop: Shop, before: str) -> None:
    generate_key(shop.root / "other.pem")
    signed = sign(write_model(shop.fresh("signed") / "model", 11), load_signer(f"file:{shop.root}/other.pem"))
    with pytest.raises(EvidenceInvalid, match="sign-model"):
        shop.deploy(signed)


def test_a_signed_model_that_brings_its_own_code_is_refused_by_the_server(shop: Shop, before: str) -> None:
    """Everything is genuine here: decided and signed with the files in it. No byte of it may run all the same."""
    model = write_model(shop.fresh("signed") / "model", 12)
    proof = shop.root / "ran"
    (model / "model-settings.json").write_text('{"name": "fraud-detection", "implementation": "evil.Evil"}')
    (model / "evil.py").write_text(f"open({str(proof)!r}, 'w')\nclass Evil: pass\n")
    with pytest.raises(EvidenceInvalid, match="refused the model") as refusal:
        shop.deploy(sign(model, shop.signer))
    assert "evil.py" in refusal.value.evidence
    assert not proof.exists()


def test_a_signed_model_that_cannot_be_loaded_is_refused_with_the_reason(shop: Shop, before: str) -> None:
    features = [{"name": f"f{n}", "type": "number"} for n in range(5)]
    start = series(shop)
    with pytest.raises(InputRefused, match="refused the model") as refusal:
        shop.deploy(shop.model(13, features=features))
    assert "features" in refusal.value.evidence, "the reason from the server's log"
    assert added(start, series(shop))["custody_models_refused_total{}"] >= 1


# --- attacks on the server's own folder: the deployer is not there to help --------------------------------------------


@pytest.fixture
def planted(shop: Shop) -> Iterator[Path]:
    """A good model in a folder of its own in the repository, with settings like the deployer's, under `planted`."""
    signed, home = shop.model(20), shop.settings.serving_dir / "repository" / "planted"
    signed.rename(home)
    write_settings(home)
    yield home
    shop.api("planted", "unload")
    home.rename(shop.fresh("spent"))


def write_settings(home: Path, implementation: str = RUNTIME, **parameters: object) -> None:
    pins = {"listing_sha256": list_tree(home / "model").sha256, "signature_sha256": sha256_file(home / "model.sig")}
    settings = {"name": "planted", "implementation": implementation, "parameters": {"extra": pins, **parameters}}
    (home / "model-settings.json").write_text(json.dumps(settings))


def test_the_planted_model_is_loaded_when_nothing_is_wrong(shop: Shop, planted: Path) -> None:
    """Also the layout of Seldon's agent: settings and model in one folder."""
    assert shop.api("planted", "load").status == 200
    assert call("GET", f"{shop.url}/v2/models/planted/ready").status == 200


def evil(home: Path) -> None:
    """A Python module beside the settings, under the name of our runtime's package and one of its own."""
    proof = f"open({str(home / 'ran')!r}, 'w')\n"
    (home / "evil.py").write_text(proof + "class Evil: pass\n")
    (home / "kfp_custody.py").write_text(proof)


def older(home: Path, signer: Signer) -> None:
    """An older model, as genuinely signed, in the place of the admitted one: only the pins tell them apart."""
    shutil.rmtree(home / "model")
    (home / "model.sig").unlink()
    sign(write_model(home / "model", 1), signer)


def folder_elsewhere(home: Path) -> None:
    """The same bytes by way of a link: what is behind it belongs to somebody else."""
    (home / "model").rename(home / "elsewhere")
    (home / "model").symlink_to("elsewhere")


def archive(home: Path) -> None:
    """An archive that would write outside of its folder, were it ever unpacked."""
    with tarfile.open(home / "model" / "model.tar.gz", "w:gz") as file:
        file.add(home / "model" / "signature.json", arcname="../../ran")
    write_settings(home)


ATTACKS: dict[str, Callable[[Path], object]] = {
    "folder-elsewhere": folder_elsewhere,
    "archive": archive,
    "flipped": lambda home: flip(home / "model" / "model.ubj"),
    "flipped-and-pinned": lambda home: (flip(home / "model" / "model.ubj"), write_settings(home)),
    "added-and-pinned": lambda home: ((home / "model" / "x.py").write_text("x"), write_settings(home)),
    "symlink": lambda home: (home / "model" / "link").symlink_to("/etc/passwd"),
    "no-signature": lambda home: (home / "model.sig").unlink(),
    "own-implementation": lambda home: (evil(home), write_settings(home, "evil.Evil")),
    "own-environment": lambda home: write_settings(home, environment_tarball="env.tar.gz"),
    "uri-outside": lambda home: write_settings(home, uri="../fraud-detection"),
    "no-pins": lambda home: write_settings(home, extra={}),
    "settings-no-object": lambda home: write_settings(home, extra=[1]),
}  # fmt: skip


@pytest.mark.parametrize("attack", ATTACKS)
def test_the_server_refuses_what_is_changed_in_its_repository(
    shop: Shop, before: str, planted: Path, attack: str
) -> None:
    ATTACKS[attack](planted)
    start = series(shop)
    reply = shop.api("planted", "load")
    assert added(start, series(shop)) == {"custody_models_refused_total{}": 1.0}, "counted, and under no name"
    assert (reply.status, reply.document) == (422, {"error": reply.document["error"]})
    assert reply.document["error"].startswith("model refused: it was not verified"), "no detail for the caller"
    assert call("GET", f"{shop.url}/v2/models/planted/ready").status == 404
    assert not (planted / "ran").exists()


def test_an_older_model_is_refused_though_it_is_genuinely_signed(shop: Shop, before: str, planted: Path) -> None:
    assert shop.api("planted", "load").status == 200
    admitted = score(f"{shop.url}/v2/models/planted", [ROW])["version"]
    older(planted, shop.signer)
    assert shop.api("planted", "load").status == 422
    assert score(f"{shop.url}/v2/models/planted", [ROW])["version"] == admitted
    write_settings(planted)  # whoever may pin it may go back to it: then it is one like any other
    assert shop.api("planted", "load").status == 200


def test_a_key_that_is_not_trusted_is_refused_by_the_server_too(shop: Shop, before: str, planted: Path) -> None:
    generate_key(planted / "other.pem")
    (planted / "model.sig").unlink()
    sign(planted / "model", load_signer(f"file:{planted}/other.pem"))
    write_settings(planted)
    assert shop.api("planted", "load").status == 422
    assert "sign-model was not accepted" in (shop.settings.serving_dir / "server.log").read_text().splitlines()[-1]


def test_a_module_beside_the_settings_never_replaces_the_runtime(shop: Shop, before: str, planted: Path) -> None:
    """MLServer's own repository would import it: the model's folder comes first on its path."""
    evil(planted)
    assert shop.api("planted", "load").status == 200
    assert not (planted / "ran").exists()


def test_a_replaced_model_is_refused_at_reload_and_the_loaded_one_stays(shop: Shop, planted: Path) -> None:
    assert shop.api("planted", "load").status == 200
    flip(planted / "model" / "model.ubj")
    assert shop.api("planted", "load").status == 422
    answer = score(f"{shop.url}/v2/models/planted", [ROW])
    assert (
        answer["version"]
        == json.loads((planted / "model-settings.json").read_text())["parameters"]["extra"]["listing_sha256"]
    )


def test_a_name_with_a_path_is_not_found(shop: Shop, before: str) -> None:
    assert shop.api("..%2Fserving", "load").status == 404


# --- the process ------------------------------------------------------------------------------------------------------


def test_a_port_of_somebody_else_is_refused(shop: Shop, before: str) -> None:
    with socket.socket() as foreign:
        foreign.bind(("127.0.0.1", 0))
        foreign.listen()
        other = replace(shop.settings, serving_dir=shop.root / "elsewhere", serving_port=int(foreign.getsockname()[1]))
        with pytest.raises(Misconfigured, match="port"):
            shop.deploy(shop.model(14), settings=other)
    assert process.running(other.serving_dir) is None


def test_a_server_that_is_not_ready_in_time_is_ended_and_its_log_shown(shop: Shop, before: str) -> None:
    other = replace(shop.settings, serving_dir=shop.root / "hasty", serving_port=free_port())
    signed = shop.model(15)
    decision = decide(shop.fresh("decision"), signed / "model", shop.signer, RUN)
    admitted = require_admitted(signed, decision, load_trust(shop.settings.trust_file), run_id=RUN, name=NAME)
    with pytest.raises(ServiceUnreachable, match="not ready in time"):
        serve(admitted, NAME, other, 0.2)  # no interpreter starts that fast
    assert process.running(other.serving_dir) is None
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", other.serving_port)) != 0


def test_another_port_or_trust_file_needs_a_stop_first(shop: Shop, before: str) -> None:
    with pytest.raises(Misconfigured, match="another port"):
        shop.deploy(shop.model(16), settings=replace(shop.settings, serving_port=free_port()))


def test_two_deployments_at_once_end_with_one_of_them_in_service(shop: Shop) -> None:
    models, done = [shop.model(17), shop.model(18)], []
    decisions = [decide(shop.fresh("decision"), model / "model", shop.signer, RUN) for model in models]
    outs = [Outputs(shop.root / f"both{n}", shop.root / f"both{n}.html", shop.root / f"both{n}.json") for n in (0, 1)]

    def one(number: int) -> None:
        done.append(
            deploy(
                models[number], decisions[number], outs[number], shop.settings,
                run_id=RUN, name=NAME, target="local", timeout_seconds=60,
            )
        )  # fmt: skip

    threads = [threading.Thread(target=one, args=(number,)) for number in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(done) == 2
    assert shop.answering() == shop.served[NAME]["digest"]
    assert shop.answering() in {deployment.digest for deployment in done}


def test_a_server_that_hangs_is_left_alone_and_said_so(shop: Shop, before: str) -> None:
    server = process.running(shop.settings.serving_dir)
    assert server is not None
    os.kill(server.pid, signal.SIGSTOP)
    try:
        with pytest.raises(ServiceUnreachable, match="did not answer"):
            shop.deploy(shop.model(21), timeout=1)
        assert child.is_alive(server)
    finally:
        os.kill(server.pid, signal.SIGCONT)


def test_when_the_server_dies_of_a_new_model_the_old_one_is_brought_back(shop: Shop, before: str) -> None:
    server = process.running(shop.settings.serving_dir)
    assert server is not None
    os.kill(server.pid, signal.SIGSTOP)  # so that it dies while it is asked to load

    def kill_when_staged() -> None:
        repository = shop.settings.serving_dir / "repository"
        while not list(repository.glob(f"{NAME}/*/model-settings.json")):
            time.sleep(0.01)
        os.kill(server.pid, signal.SIGKILL)

    killer = threading.Thread(target=kill_when_staged)
    killer.start()
    with pytest.raises(ServiceUnreachable, match="did not answer"):
        shop.deploy(shop.model(22))
    killer.join()
    assert process.running(shop.settings.serving_dir) not in (None, server)


def test_a_killed_server_is_started_again_with_what_it_served_even_when_the_new_model_is_refused(shop: Shop) -> None:
    digest, server = shop.answering(), process.running(shop.settings.serving_dir)
    assert server is not None
    os.kill(server.pid, signal.SIGKILL)
    while child.is_alive(server):
        time.sleep(0.01)
    with pytest.raises(InputRefused):
        shop.deploy(shop.model(19, features=[{"name": "only", "type": "number"}]))
    assert shop.answering() == shop.served[NAME]["digest"] == digest


def test_stop_ends_our_server_and_no_other(shop: Shop) -> None:
    directory, server = shop.settings.serving_dir, process.running(shop.settings.serving_dir)
    assert server is not None
    record = directory / "server.json"
    truth = json.loads(record.read_text())
    record.write_text(json.dumps(truth | {"pid": os.getpid()}))  # as if the number had gone to another process
    assert stop(directory) is False
    assert child.is_alive(server)
    record.write_text(json.dumps(truth))
    assert stop(directory) is True
    assert not child.is_alive(server)
    assert shop.served == {}
    assert stop(directory) is False
