"""Exports for other servers: what is written, and that each entry point verifies before it loads.

BentoML runs for real in tests/exports. Triton and TorchServe do not run in any test: their entry points are executed
with a stand-in for what the server hands them.
"""

import importlib.util
import json
import re
import shutil
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import yaml
from securesystemslib.signer import Signer

from kfp_custody.components._shared.digests import list_tree, sha256_file
from kfp_custody.components._shared.errors import CustodyError, EvidenceInvalid, Misconfigured
from kfp_custody.components._shared.scoring import load_scorer
from kfp_custody.components.seldon_deployment.decision import Admitted
from kfp_custody.components.seldon_deployment.exports.bento import export_bento
from kfp_custody.components.seldon_deployment.exports.torchserve import export_torchserve
from kfp_custody.components.seldon_deployment.exports.triton import export_triton
from kfp_custody.components.seldon_deployment.serving.exported import load_exported
from kfp_custody.components.seldon_deployment.serving.inputs import InputFault
from unit.seldon_deployment.signed_models import FEATURES, POLICY, admit, sign, write_model, write_skops_model

NAME = "fraud-detection"
WRITERS = [export_bento, export_triton, export_torchserve]
ROWS = [
    {"amount": 0.1, "channel": "atm", "is_foreign": 0},
    {"amount": 0.9, "channel": "online", "is_foreign": True},
    {"amount": None, "channel": None, "is_foreign": 1.0},
    {"amount": 12.5, "channel": "by pigeon", "is_foreign": None},
]


@pytest.fixture
def admitted(tmp_path: Path, signer: Signer, monkeypatch: pytest.MonkeyPatch) -> Admitted:
    monkeypatch.setenv("CUSTODY_TRUST", str(tmp_path / "trust.yaml"))
    return admit(tmp_path, write_model(tmp_path / "signed" / "model", 1), signer)


@pytest.fixture
def folder(tmp_path: Path, admitted: Admitted) -> Path:
    """Where an export has its pins and its signed model."""
    export_bento(admitted, NAME, tmp_path / "out")
    return tmp_path / "out"


def plain(model: Path) -> list[float]:
    """What the model says without any server."""
    columns = {key: np.array([row[key] for row in ROWS], dtype=object) for key in ROWS[0]}
    return load_scorer(model).score(columns).tolist()


# --- what is written --------------------------------------------------------------------------------------------------


def test_an_export_holds_the_admitted_bytes_and_their_pins(folder: Path, admitted: Admitted) -> None:
    assert list_tree(folder / "signed" / "model").sha256 == admitted.digest
    assert sha256_file(folder / "signed" / "model.sig") == admitted.signature_sha256
    assert json.loads((folder / "custody.json").read_text()) == {
        "name": NAME,
        "listing_sha256": admitted.digest,
        "signature_sha256": admitted.signature_sha256,
        "decision_sha256": admitted.decision_sha256,
        "policy_sha256": POLICY,
    }


def test_a_bentofile_takes_exactly_what_was_exported(folder: Path) -> None:
    bentofile = yaml.safe_load((folder / "bentofile.yaml").read_text())
    assert (bentofile["name"], bentofile["service"]) == (NAME, "service:SignedModel")
    included = {path for pattern in bentofile["include"] for path in folder.glob(pattern)}
    assert included == {path for path in folder.rglob("*") if path.is_file()} - {folder / "bentofile.yaml"}


@pytest.mark.parametrize("export", WRITERS)
def test_an_existing_folder_is_left_alone(
    tmp_path: Path, admitted: Admitted, export: Callable[[Admitted, str, Path], None]
) -> None:
    (tmp_path / "out").mkdir()
    with pytest.raises(Misconfigured, match=r"CUS-E549.*exists already"):
        export(admitted, NAME, tmp_path / "out")
    assert not list((tmp_path / "out").iterdir())


@pytest.mark.parametrize("export", WRITERS)
@pytest.mark.parametrize("changed", ["model/model.ubj", "model.sig"])
def test_what_changed_since_it_was_admitted_is_not_exported(
    tmp_path: Path, admitted: Admitted, export: Callable[[Admitted, str, Path], None], changed: str
) -> None:
    flip(admitted.directory / changed)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(EvidenceInvalid, match="sha256:"):
        export(admitted, NAME, tmp_path / "out")
    assert sorted(tmp_path.iterdir()) == before, "nothing half-written"


@pytest.mark.parametrize("export", WRITERS)
def test_a_failure_leaves_nothing(
    tmp_path: Path, admitted: Admitted, export: Callable[[Admitted, str, Path], None]
) -> None:
    (tmp_path / "store").write_text("a file where a folder should be")
    with pytest.raises(OSError, match="store"):
        export(admitted, NAME, tmp_path / "store" / "out")
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("name", ["", "..", "a/b", "A", "-a", "a" * 64])
def test_a_name_is_a_dns_label(tmp_path: Path, admitted: Admitted, name: str) -> None:
    with pytest.raises(Misconfigured, match="CUS-E562"):
        export_triton(admitted, name, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_model_with_files_that_nothing_reads_is_not_exported(tmp_path: Path, signer: Signer) -> None:
    model = write_model(tmp_path / "signed" / "model")
    (model / "sitecustomize.py").write_text("")
    with pytest.raises(CustodyError, match="not served"):
        export_torchserve(admit(tmp_path, model, signer), NAME, tmp_path / "out")


# --- verified, then loaded from memory --------------------------------------------------------------------------------


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def test_an_exported_model_answers_like_the_model(folder: Path, admitted: Admitted) -> None:
    exported = load_exported(folder)
    flip(folder / "signed" / "model" / "model.ubj")  # the loaded bytes are those that were verified
    answer = exported.answer_rows({"rows": ROWS})
    assert answer["probability"] == plain(admitted.directory / "model")
    assert answer["label"] == [int(p >= 0.5) for p in answer["probability"]]
    assert (answer["model"], answer["version"]) == (NAME, admitted.digest)
    assert exported.answer_rows(json.dumps({"rows": ROWS})) == exported.answer_rows(json.dumps({"rows": ROWS}).encode())


def test_a_scikit_learn_model_answers_like_the_model(
    tmp_path: Path, signer: Signer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUSTODY_TRUST", str(tmp_path / "trust.yaml"))
    model = write_skops_model(tmp_path / "signed" / "model")
    export_bento(admit(tmp_path, model, signer), NAME, tmp_path / "out")
    assert load_exported(tmp_path / "out").answer_rows({"rows": ROWS})["probability"] == plain(model)


def older(folder: Path, signer: Signer) -> None:
    """Another model, signed by the same trusted signer, in the place of the pinned one."""
    shutil.rmtree(folder / "signed")
    sign(write_model(folder / "signed" / "model", 2), signer)


def unpinned(folder: Path, signer: Signer) -> None:
    pins = json.loads((folder / "custody.json").read_text())
    (folder / "custody.json").write_text(json.dumps({key: pins[key] for key in pins if key != "listing_sha256"}))


TAMPERED: dict[str, Callable[[Path, Signer], object]] = {
    "flipped byte": lambda folder, _: flip(folder / "signed" / "model" / "model.ubj"),
    "older signed model": older,
    "no signature": lambda folder, _: (folder / "signed" / "model.sig").unlink(),
    "other signature": lambda folder, _: flip(folder / "signed" / "model.sig"),
    "added file": lambda folder, _: (folder / "signed" / "model" / "more").write_text("x"),
    "no pins": lambda folder, _: (folder / "custody.json").unlink(),
    "a pin less": unpinned,
    "pins twice": lambda folder, _: (folder / "custody.json").write_text('{"name": "a", "name": "a"}'),
}


@pytest.mark.parametrize("tamper", TAMPERED.values(), ids=TAMPERED)
def test_a_tampered_export_is_not_loaded(
    folder: Path, signer: Signer, tamper: Callable[[Path, Signer], object]
) -> None:
    tamper(folder, signer)
    with pytest.raises(EvidenceInvalid):
        load_exported(folder)


def test_a_model_without_its_signature_is_said_to_be_unsigned(folder: Path) -> None:
    (folder / "signed" / "model.sig").unlink()
    with pytest.raises(EvidenceInvalid, match="CUS-E271.*not signed"):
        load_exported(folder)


def test_pins_do_not_replace_trust(
    folder: Path, tmp_path: Path, make_signer: Callable[[str], Signer], signer: Signer
) -> None:
    """Whoever can sign and pin, but is not trusted on the server's machine, gets nothing loaded."""
    (tmp_path / "other").mkdir()
    stranger = make_signer("stranger")
    theirs = admit(tmp_path / "other", write_model(tmp_path / "other" / "signed" / "model"), stranger)
    export_bento(theirs, NAME, tmp_path / "theirs")
    with pytest.raises(EvidenceInvalid, match="CUS-E225"):
        load_exported(tmp_path / "theirs")


SECRET = "4929123456789012"
FAULTS: dict[str, Any] = {
    "no json": f'{{"rows": {SECRET}'.encode(),
    "no utf-8": b"\xff" + SECRET.encode(),
    "half a surrogate": f"{SECRET}\ud800",
    "a name twice": f'{{"rows": [], "rows": ["{SECRET}"]}}',
    "no rows": {},
    "nothing": None,
    "no list": {"rows": SECRET},
    "more": {"rows": ROWS, SECRET: 1},
    "empty": {"rows": []},
    "too many": {"rows": [ROWS[0]] * 10_001},
    "no row": {"rows": [SECRET]},
    "missing": {"rows": [{"amount": 1, "channel": SECRET}]},
    "unknown": {"rows": [ROWS[0] | {SECRET: 1}]},
    "one unknown": {"rows": [{SECRET: 1}]},
    "no columns": {"rows": [{}]},
    "ragged": {"rows": [ROWS[0], {"amount": SECRET}]},
    "text": {"rows": [ROWS[0] | {"amount": SECRET}]},
    "number": {"rows": [ROWS[0] | {"channel": int(SECRET)}]},
    "list": {"rows": [ROWS[0] | {"amount": [SECRET]}]},
    "too big": {"rows": [ROWS[0] | {"amount": 1e300}]},
    "infinite": f'{{"rows": [{{"amount": Infinity, "channel": "{SECRET}", "is_foreign": 0}}]}}',
}


@pytest.mark.parametrize("body", FAULTS.values(), ids=FAULTS)
def test_rows_that_do_not_fit_are_refused_without_a_value(folder: Path, body: Any) -> None:
    with pytest.raises(InputFault) as fault:
        load_exported(folder).answer_rows(body)
    assert SECRET not in str(fault.value)


# --- Triton: a stand-in for its server --------------------------------------------------------------------------------


def from_file(path: Path) -> ModuleType:
    """Import a file as a server does, under a name that is no other module's."""
    spec = importlib.util.spec_from_file_location("exported_entry_point", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Tensor:
    """Stand-in for pb_utils.Tensor."""

    def __init__(self, name: str, array: np.ndarray[Any, Any]) -> None:
        self._name, self._array = name, array

    def name(self) -> str:
        return self._name

    def as_numpy(self) -> np.ndarray[Any, Any]:
        return self._array


class TritonError:
    """Stand-in for pb_utils.TritonError."""

    INVALID_ARG = "invalid argument"

    def __init__(self, message: str, code: str) -> None:
        self.message, self.code = message, code


@pytest.fixture
def repository(tmp_path: Path, admitted: Admitted, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The model's folder in a repository, with a stand-in for the module that Triton's stub process provides."""
    stand_in = ModuleType("triton_python_backend_utils")
    stand_in.__dict__.update(Tensor=Tensor, TritonError=TritonError, InferenceResponse=SimpleNamespace)
    monkeypatch.setitem(sys.modules, "triton_python_backend_utils", stand_in)
    export_triton(admitted, NAME, tmp_path / "repository")
    return tmp_path / "repository" / NAME


def triton(repository: Path) -> Any:
    model = from_file(repository / "1" / "model.py").TritonPythonModel()
    model.initialize({"model_repository": str(repository), "model_version": "1", "model_name": NAME})
    return model


def asked(**changes: Any) -> SimpleNamespace:
    arrays = {
        "amount": np.array([row["amount"] for row in ROWS], dtype=np.float64),
        "channel": np.array([str(row["channel"] or "").encode() for row in ROWS], dtype=np.object_),
        "is_foreign": np.array([row["is_foreign"] for row in ROWS], dtype=np.float64),
    } | changes
    return SimpleNamespace(inputs=lambda: [Tensor(name, array) for name, array in arrays.items()])


def test_a_triton_configuration_names_the_models_tensors(repository: Path) -> None:
    """Checked against Triton's published schema in tests/exports."""
    text = (repository / "config.pbtxt").read_text()
    tensors = re.findall(r'(\w+) \{ name: "(\w+)" data_type: (\w+) dims: \[ (-1) \] \}', text)
    kinds = {"number": "TYPE_FP64", "category": "TYPE_STRING"}
    assert tensors == [
        *(("input", feature["name"], kinds[str(feature["type"])], "-1") for feature in FEATURES),
        ("output", "probability", "TYPE_FP64", "-1"),
        ("output", "label", "TYPE_INT64", "-1"),
        ("output", "version", "TYPE_STRING", "-1"),
    ]
    assert text.splitlines()[:3] == [f'name: "{NAME}"', 'backend: "python"', "max_batch_size: 0"]


def test_a_feature_name_cannot_write_configuration(tmp_path: Path, signer: Signer) -> None:
    name = 'a" } backend: "x\n\\ü'
    model = write_model(tmp_path / "signed" / "model", features=[{"name": name, "type": "number"}])
    export_triton(admit(tmp_path, model, signer), NAME, tmp_path / "out")
    text = (tmp_path / "out" / NAME / "config.pbtxt").read_text()
    assert r'input { name: "a\042 } backend: \042x\012\134\303\274" data_type: TYPE_FP64' in text


def test_the_triton_model_answers_each_request_by_itself(repository: Path, admitted: Admitted) -> None:
    good, bad = triton(repository).execute([asked(), asked(amount=np.array([SECRET.encode()] * 4, dtype=np.object_))])
    tensors = {tensor.name(): tensor.as_numpy() for tensor in good.output_tensors}
    assert tensors["probability"].tolist() == plain(admitted.directory / "model")
    assert (tensors["probability"].dtype, tensors["label"].dtype) == (np.float64, np.int64)
    assert tensors["version"].tolist() == [admitted.digest.encode()]
    assert bad.output_tensors == []
    assert bad.error.code == TritonError.INVALID_ARG
    assert SECRET not in bad.error.message


@pytest.mark.parametrize("tamper", TAMPERED.values(), ids=TAMPERED)
def test_the_triton_model_is_not_initialized_with_what_was_tampered_with(
    repository: Path, signer: Signer, tamper: Callable[[Path, Signer], object]
) -> None:
    tamper(repository / "1", signer)
    with pytest.raises(EvidenceInvalid):
        triton(repository)


# --- TorchServe: a stand-in for its server ----------------------------------------------------------------------------


@pytest.fixture
def unpacked(tmp_path: Path, admitted: Admitted) -> Path:
    """The folder that TorchServe unpacks an archive into."""
    export_torchserve(admitted, NAME, tmp_path / "store")
    with zipfile.ZipFile(tmp_path / "store" / f"{NAME}.mar") as archive:
        archive.extractall(tmp_path / "unpacked")
    return tmp_path / "unpacked"


def torchserve(unpacked: Path) -> tuple[Any, Any, list[Any]]:
    """The handler as TorchServe finds it, with a stand-in for its context."""
    statuses: list[Any] = []
    context = SimpleNamespace(
        system_properties={"model_dir": str(unpacked)},
        set_response_status=lambda code, phrase, idx: statuses.append((idx, code, phrase)),
    )
    manifest = json.loads((unpacked / "MAR-INF" / "MANIFEST.json").read_text())
    module = from_file(unpacked / manifest["model"]["handler"])
    assert not hasattr(module, "handle"), "TorchServe would take it for the entry point"
    (handler,) = [
        value for value in vars(module).values() if isinstance(value, type) and value.__module__ == module.__name__
    ]
    instance = handler()
    instance.initialize(context)
    return instance, context, statuses


def test_an_archive_is_the_same_whenever_it_is_exported_on_the_same_decision(
    tmp_path: Path, admitted: Admitted
) -> None:
    for store in ("a", "b"):
        export_torchserve(admitted, NAME, tmp_path / store)
    first, second = (tmp_path / store / f"{NAME}.mar" for store in ("a", "b"))
    assert first.read_bytes() == second.read_bytes()
    with zipfile.ZipFile(first) as archive:
        assert archive.testzip() is None
        assert {info.date_time for info in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
        assert archive.namelist() == sorted(archive.namelist())
        manifest = json.loads(archive.read("MAR-INF/MANIFEST.json"))
    assert manifest["model"] == {"modelName": NAME, "handler": "handler.py", "modelVersion": admitted.version}
    assert manifest["createdOn"] == f"{admitted.decided:%d/%m/%Y %H:%M:%S}"


def test_the_handler_answers_each_request_by_itself(unpacked: Path, admitted: Admitted) -> None:
    handler, context, statuses = torchserve(unpacked)
    requests = [
        {"body": {"rows": ROWS}},  # TorchServe parses application/json itself
        {"data": bytearray(json.dumps({"rows": ROWS}).encode())},
        {"body": {"rows": [ROWS[0] | {"amount": SECRET}]}},
        {},
    ]
    first, second, third, fourth = handler.handle(requests, context)
    assert first == second
    assert first["probability"] == plain(admitted.directory / "model")
    assert first["version"] == admitted.digest
    assert third.keys() == fourth.keys() == {"error"}
    assert SECRET not in third["error"]
    assert statuses == [(2, 400, "Bad Request"), (3, 400, "Bad Request")]


@pytest.mark.parametrize("tamper", TAMPERED.values(), ids=TAMPERED)
def test_the_handler_is_not_initialized_with_what_was_tampered_with(
    unpacked: Path, signer: Signer, tamper: Callable[[Path, Signer], object]
) -> None:
    tamper(unpacked, signer)
    with pytest.raises(EvidenceInvalid):
        torchserve(unpacked)
