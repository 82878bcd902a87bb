"""Fixtures that several rungs of tests share: real keys, a real trust file, small real trees."""

from collections.abc import Callable
from pathlib import Path

import pytest
from securesystemslib.signer import Signer

from kfp_custody.components._shared.keys import public_pem
from kfp_custody.components._shared.kinds import KINDS
from kfp_custody.components._shared.settings import Settings, load_settings
from kfp_custody.components._shared.signers.file import generate_key
from kfp_custody.components._shared.signers.loading import load_signer, public_key
from kfp_custody.components._shared.trust import Trust, load_trust

RUN = "fraud-detection-test-run"


def trust_text(signers: dict[str, tuple[Signer, list[str]]], extra: str = "") -> str:
    """Write a trust file for some signers: name -> (signer, kinds it may sign)."""
    lines = ["version: 1", "signers:"]
    for name, (signer, kinds) in signers.items():
        lines += [f"  - name: {name}", "    key: |"]
        lines += [f"      {line}" for line in public_pem(public_key(signer)).decode().splitlines()]
        lines += [f"    may_sign: [{', '.join(kinds)}]"]
    return "\n".join(lines) + "\n" + extra


@pytest.fixture
def make_signer(tmp_path: Path) -> Callable[[str], Signer]:
    """Make a named signer with a new key file; its URI is file:<tmp_path>/keys/<name>.pem."""

    def make(name: str) -> Signer:
        path = tmp_path / "keys" / f"{name}.pem"
        generate_key(path)
        return load_signer(f"file:{path}")

    return make


@pytest.fixture
def signer(make_signer: Callable[[str], Signer]) -> Signer:
    """A signer that the trust file trusts for everything."""
    return make_signer("pipeline")


@pytest.fixture
def trust_file(tmp_path: Path, signer: Signer) -> Path:
    """A trust file that trusts `signer` for every kind of evidence."""
    path = tmp_path / "trust.yaml"
    path.write_text(trust_text({"pipeline": (signer, list(KINDS))}))
    return path


@pytest.fixture
def trust(trust_file: Path) -> Trust:
    """The trust file, read."""
    return load_trust(trust_file)


@pytest.fixture
def masking_key(tmp_path: Path) -> Path:
    """A key file for pseudonyms."""
    path = tmp_path / "keys" / "masking.key"
    path.parent.mkdir(exist_ok=True)
    path.write_text("0123456789abcdef" * 4)
    path.chmod(0o600)
    return path


@pytest.fixture
def settings(
    tmp_path: Path, signer: Signer, trust_file: Path, masking_key: Path, monkeypatch: pytest.MonkeyPatch
) -> Settings:
    """Settings that point to the fixtures; the environment says the same, for components."""
    environment = {
        "CUSTODY_SIGNER": f"file:{tmp_path}/keys/pipeline.pem",
        "CUSTODY_TRUST": str(trust_file),
        "CUSTODY_MASKING_KEY": str(masking_key),
        "CUSTODY_SERVING_DIR": str(tmp_path / "serving"),
    }
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    return load_settings(environment)


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """A small directory of files."""
    root = tmp_path / "dataset"
    (root / "part").mkdir(parents=True)
    (root / "data.csv").write_text("a,b\n1,2\n")
    (root / "part" / "more.csv").write_text("a,b\n3,4\n")
    return root


@pytest.fixture
def run_id() -> str:
    """The run that all evidence of a test belongs to."""
    return RUN
