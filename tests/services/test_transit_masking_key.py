"""A masking key that never leaves OpenBao's transit engine: sub-keys, versions, rotation, and what the role may do."""

import json
import secrets
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from openbao import Bao, running, use
from securesystemslib.signer import Signer

from kfp_custody.components._shared import codes
from kfp_custody.components._shared.errors import CustodyError, Misconfigured, ServiceUnreachable
from kfp_custody.components._shared.settings import Settings
from kfp_custody.components.pii_masking.masking import mask_dataset
from kfp_custody.components.pii_masking.pseudonyms import read_masking_key


@pytest.fixture(scope="module")
def bao(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bao]:
    with running(tmp_path_factory.mktemp("transit") / "state") as server:
        yield server


@pytest.fixture
def key(bao: Bao, monkeypatch: pytest.MonkeyPatch) -> str:
    """`MOUNT/KEY`; the login may derive from it and do nothing else."""
    path = bao.key(f"masking-{secrets.token_hex(4)}", "aes256-gcm96")
    mount, name = path.split("/")
    use(monkeypatch, bao, TOKEN=bao.token({f"{mount}/keys/{name}": ["read"], f"{mount}/hmac/{name}": ["update"]}))
    return path


def test_pseudonyms_join_by_domain_and_differ_by_key(bao: Bao, key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    one, again = (read_masking_key(f"vault-hmac:{key}") for _ in range(2))
    assert one.tokens("card", ["4111", "4112"]) == again.tokens("card", ["4111", "4112"])
    assert one.tokens("card", ["4111"]) != one.tokens("account", ["4111"])
    assert again.decrypt("card", one.encrypt("card", ["4111"])) == ["4111"]
    assert (one.version, len(one.key_id)) == ("1", 16)
    other = bao.key(f"other-{secrets.token_hex(4)}", "aes256-gcm96")
    use(monkeypatch, bao, TOKEN=bao.root)
    assert read_masking_key(f"vault-hmac:{other}").tokens("card", ["4111"]) != one.tokens("card", ["4111"])


def test_a_rotation_changes_pseudonyms_only_where_no_version_is_named(bao: Bao, key: str) -> None:
    before = read_masking_key(f"vault-hmac:{key}")
    first = before.tokens("card", ["4111"])
    mount, name = key.split("/")
    bao.client.secrets.transit.rotate_key(name, mount_point=mount)
    assert before.tokens("iban", ["DE89"]) == read_masking_key(f"vault-hmac:{key}?version=1").tokens("iban", ["DE89"])
    after = read_masking_key(f"vault-hmac:{key}")
    assert after.version == "2"
    assert after.tokens("card", ["4111"]) != first
    assert read_masking_key(f"vault-hmac:{key}?version=1").tokens("card", ["4111"]) == first


def test_a_dataset_is_masked_and_its_evidence_names_the_version(
    key: str, tmp_path: Path, settings: Settings, signer: Signer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(0)
    (tmp_path / "policy.yaml").write_text("version: 1\ncolumns: {card: {operator: hmac}, day: {operator: keep}}")
    (tmp_path / "raw").mkdir()
    pq.write_table(pa.table({"card": ["4111111111111111"], "day": [1]}), tmp_path / "raw" / "r.parquet")
    mask_dataset(
        tmp_path / "raw",
        tmp_path / "masked",
        tmp_path / "evidence",
        tmp_path / "report.html",
        "run",
        str(tmp_path / "policy.yaml"),
        "",
        signer,
        replace(settings, masking_key=f"vault-hmac:{key}"),
    )
    used = read_masking_key(f"vault-hmac:{key}")
    assert pq.read_table(tmp_path / "masked")["card"].to_pylist() == used.tokens("card", ["4111111111111111"])
    report = json.loads((tmp_path / "evidence" / "report.json").read_bytes())
    assert (report["key_id"], report["key_version"]) == (used.key_id, "1")
    assert f"{used.key_id} version 1" in (tmp_path / "report.html").read_text()
    subkey = used.subkey("hmac", "card")
    assert subkey.hex() not in caplog.text
    assert repr(subkey) not in caplog.text
    assert "4111111111111111" not in caplog.text


def refused(place: str) -> CustodyError:
    with pytest.raises(CustodyError) as caught:
        read_masking_key(place).tokens("card", ["4111"])
    return caught.value


def test_what_cannot_be_used_is_refused(bao: Bao, key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert refused(f"vault-hmac:{key}?version=7").code == codes.KEY_VERSION
    assert refused("vault-hmac:").code == codes.SIGNER_URI
    mount, name = key.split("/")
    use(monkeypatch, bao, TOKEN=bao.token({f"{mount}/keys/{name}": ["read"]}))
    assert isinstance(refused(f"vault-hmac:{key}"), Misconfigured)
    pair = bao.key(f"pair-{secrets.token_hex(4)}")
    use(monkeypatch, bao, TOKEN=bao.root)
    assert refused(f"vault-hmac:{pair}").code == codes.KEY_TYPE
    assert isinstance(refused("vault-hmac:transit/none"), Misconfigured)


def test_a_server_that_stopped_is_unreachable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with running(tmp_path / "bao") as doomed:
        key = doomed.key("masking", "aes256-gcm96")
        use(monkeypatch, doomed, TOKEN=doomed.root)
        used = read_masking_key(f"vault-hmac:{key}")
        doomed.stop()
        with pytest.raises(ServiceUnreachable):
            used.tokens("card", ["4111"])
