"""What we write for servers that do not run here, read by what their own makers publish."""

import json
import re
import subprocess
import zipfile
from pathlib import Path

import pytest
from securesystemslib.signer import Signer

from kfp_custody.components.seldon_deployment.exports.torchserve import export_torchserve
from kfp_custody.components.seldon_deployment.exports.triton import export_triton
from unit.seldon_deployment.signed_models import FEATURES, admit, write_model

pytestmark = pytest.mark.exports
BIN = Path(__file__).resolve().parents[2] / ".exports" / "bin"
NAME = "fraud-detection"
READ = """
import sys
from google.protobuf import json_format, text_format
from tritonclient.grpc.model_config_pb2 import ModelConfig
print(json_format.MessageToJson(text_format.Parse(open(sys.argv[1]).read(), ModelConfig())))
"""


def test_tritons_schema_reads_the_configuration(tmp_path: Path, signer: Signer) -> None:
    features = [*FEATURES, {"name": 'a "quoted" \\ näme\n', "type": "number"}]
    model = write_model(tmp_path / "signed" / "model", features=features)
    export_triton(admit(tmp_path, model, signer), NAME, tmp_path / "repository")
    path = tmp_path / "repository" / NAME / "config.pbtxt"
    done = subprocess.run([BIN / "python", "-c", READ, path], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    kinds = {"number": "TYPE_FP64", "category": "TYPE_STRING"}
    assert json.loads(done.stdout) == {
        "name": NAME,
        "backend": "python",
        "input": [{"name": f["name"], "dataType": kinds[str(f["type"])], "dims": ["-1"]} for f in features],
        "output": [
            {"name": "probability", "dataType": "TYPE_FP64", "dims": ["-1"]},
            {"name": "label", "dataType": "TYPE_INT64", "dims": ["-1"]},
            {"name": "version", "dataType": "TYPE_STRING", "dims": ["-1"]},
        ],
        "instanceGroup": [{"kind": "KIND_CPU", "count": 1}],
    }


def test_the_model_archiver_writes_the_same_manifest_and_names(tmp_path: Path, signer: Signer) -> None:
    admitted = admit(tmp_path, write_model(tmp_path / "signed" / "model"), signer)
    export_torchserve(admitted, NAME, tmp_path / "store")
    with zipfile.ZipFile(tmp_path / "store" / f"{NAME}.mar") as archive:
        ours, names = json.loads(archive.read("MAR-INF/MANIFEST.json")), set(archive.namelist())
        archive.extractall(tmp_path / "unpacked")
    (tmp_path / "theirs").mkdir()
    unpacked = tmp_path / "unpacked"
    command = [
        BIN / "torch-model-archiver", "--model-name", NAME, "--version", admitted.version, "--handler",
        unpacked / "handler.py", "--extra-files", f"{unpacked / 'custody.json'},{unpacked}/signed",
        "--export-path", tmp_path / "theirs",
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    with zipfile.ZipFile(tmp_path / "theirs" / f"{NAME}.mar") as archive:
        theirs, other = json.loads(archive.read("MAR-INF/MANIFEST.json")), set(archive.namelist())
    for manifest in (ours, theirs):  # theirs from a clock, ours from the decision
        assert re.fullmatch(r"\d\d/\d\d/\d{4} \d\d:\d\d:\d\d", manifest.pop("createdOn"))
    assert ours == theirs
    assert {name for name in names if "/" not in name} <= other
