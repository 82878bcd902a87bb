"""What is loaded are the bytes that were verified, whatever becomes of the files after: by the server's own classes."""

import asyncio
import json
from pathlib import Path

import numpy as np
import pytest
from mlserver.errors import MLServerError
from mlserver.settings import ModelSettings

from kfp_custody.components._shared.digests import list_tree, sha256_file
from kfp_custody.components._shared.signers.file import generate_key
from kfp_custody.components._shared.signers.loading import load_signer
from kfp_custody.components.seldon_deployment.serving.names import RUNTIME
from kfp_custody.components.seldon_deployment.serving.repository import VerifiedRepository
from kfp_custody.components.seldon_deployment.serving.runtime import SignedModelRuntime
from unit.seldon_deployment.signed_models import sign, trust_text, write_model

pytestmark = pytest.mark.services
NAME = "fraud"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A signed model in a repository, with settings that pin it."""
    generate_key(tmp_path / "key.pem")
    signer = load_signer(f"file:{tmp_path}/key.pem")
    (tmp_path / "trust.yaml").write_text(trust_text(signer))
    monkeypatch.setenv("CUSTODY_TRUST", str(tmp_path / "trust.yaml"))
    home = sign(write_model(tmp_path / "repository" / NAME / "model"), signer)
    pins = {"listing_sha256": list_tree(home / "model").sha256, "signature_sha256": sha256_file(home / "model.sig")}
    settings = {"name": NAME, "implementation": RUNTIME, "parameters": {"extra": pins}}
    (home / "model-settings.json").write_text(json.dumps(settings))
    return home


def find(home: Path) -> ModelSettings:
    (found,) = asyncio.run(VerifiedRepository(str(home.parent)).find(NAME))
    return found


def load(settings: ModelSettings) -> SignedModelRuntime:
    model = SignedModelRuntime(settings)
    assert asyncio.run(model.load())
    return model


def scores(model: SignedModelRuntime) -> list[float]:
    columns = {"amount": np.linspace(0, 1, 9), "channel": np.full(9, "pos", object), "is_foreign": np.zeros(9)}
    return list(model._scorer.score(columns))


def test_a_file_that_changes_after_it_was_verified_is_not_what_is_loaded(home: Path, tmp_path: Path) -> None:
    verified = scores(load(find(home)))
    settings = find(home)
    other = write_model(tmp_path / "other" / "model", 5)
    (home / "model" / "model.ubj").write_bytes((other / "model.ubj").read_bytes())
    assert scores(load(settings)) == verified
    with pytest.raises(MLServerError, match="not verified"):
        find(home)


def test_a_model_that_is_gone_after_it_was_verified_is_loaded_all_the_same(home: Path) -> None:
    settings = find(home)
    for path in (home / "model").iterdir():
        path.unlink()
    assert scores(load(settings))


def test_the_runtime_loads_nothing_that_did_not_come_through_the_repository(home: Path) -> None:
    settings = find(home)
    load(settings)
    with pytest.raises(MLServerError, match="cannot be loaded"):
        load(settings)  # verified once, loaded once
    forged = ModelSettings(name=NAME, implementation=RUNTIME, parameters={"uri": str(home), "extra": {"admitted": "x"}})
    with pytest.raises(MLServerError, match="cannot be loaded"):
        load(forged)
