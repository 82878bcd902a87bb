"""sign_model as KFP calls it: artifacts in, artifacts out."""

import shutil
from pathlib import Path

import pytest

from genuine_chain import RUN, Site
from kfp_custody.components._shared.artifacts import SignedModel, TrainedModel, TrainingProvenance
from kfp_custody.components._shared.digests import list_tree, sha256_file
from kfp_custody.components._shared.errors import EvidenceInvalid
from kfp_custody.components._shared.model_signature import verify_model_signature
from kfp_custody.components.artifact_signing.component import sign_model


class Call:
    def __init__(self, site: Site) -> None:
        chain = site.chain()
        self.site = site
        self.model = TrainedModel(name="model", uri=str(site.root / "release" / "trained"))
        self.provenance = TrainingProvenance(name="provenance", uri=str(chain.provenance))
        self.signed = SignedModel(name="signed", uri=str(site.root / "deep" / "signed"))

    def run(self, run_id: str = RUN) -> None:
        sign_model.python_func(self.model, self.provenance, self.signed, run_id)


@pytest.fixture
def call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Call:
    site = Site(tmp_path)
    for name, value in site.environment.items():
        monkeypatch.setenv(name, value)
    return Call(site)


def test_the_model_is_signed(call: Call) -> None:
    call.run()
    folder = Path(call.signed.path)
    verified = verify_model_signature(folder / "model", folder / "model.sig", call.site.trust)
    assert verified.listing.sha256 == list_tree(Path(call.model.path)).sha256 == call.signed.metadata["sha256"]
    assert call.signed.metadata["signature_sha256"] == sha256_file(folder / "model.sig")
    assert {type(value) for value in call.signed.metadata.values()} == {str, float}


def test_another_model_is_refused(call: Call) -> None:
    shutil.copytree(call.site.chain("other").model / "model", call.model.path, dirs_exist_ok=True)
    with pytest.raises(EvidenceInvalid, match="changed 'model.ubj'"):
        call.run()
    assert not Path(call.signed.path).exists()
    assert call.signed.metadata == {}


def test_in_a_task_the_refusal_ends_the_process(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("_KFP_RUNTIME", "true")
    with pytest.raises(SystemExit, match=r"REFUSED EvidenceInvalid: .*\n  evidence: .*another-run.*\n  remedy: "):
        call.run("another-run")
