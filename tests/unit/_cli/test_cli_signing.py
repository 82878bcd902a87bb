"""keygen, sign, attest, trust, policy lint: what they write is what the stages read."""

import json
import shutil
import stat
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import yaml
from releases import Release, run

from genuine_chain import RUN, Site, write_masking
from kfp_custody.components._shared.codes import CODES
from kfp_custody.components._shared.errors import EvidenceInvalid
from kfp_custody.components._shared.evidence import ATTESTATION, stamp
from kfp_custody.components._shared.kinds import KINDS
from kfp_custody.components._shared.model_signature import verify_model_signature
from kfp_custody.components._shared.trust import load_trust
from kfp_custody.components._shared.verification import read_evidence, require_subject
from kfp_custody.components.policy_gate.policy import load_policy


@pytest.fixture
def key(tmp_path: Path) -> Path:
    path = tmp_path / "own" / "key.pem"
    assert run("keygen", str(path), "--name", "mine").exit_code == 0
    return path


@pytest.fixture
def trust(tmp_path: Path, key: Path) -> Path:
    path = tmp_path / "own-trust.yaml"
    result = run("trust", "add", str(path), "--name", "mine", "--key", str(key.with_suffix(".pub")), *roles(*KINDS))
    assert result.exit_code == 0, result.output
    return path


def roles(*kinds: str) -> list[str]:
    return [part for kind in kinds for part in ("--may-sign", kind)]


# --- keygen ----------------------------------------------------------------------------------------------------------


def test_a_new_key_is_private_and_its_entry_trusts_it_with_nothing_yet(tmp_path: Path) -> None:
    result = run("keygen", str(tmp_path / "keys" / "pipeline.pem"))
    assert result.exit_code == 0, result.output
    private, public = tmp_path / "keys" / "pipeline.pem", tmp_path / "keys" / "pipeline.pub"
    assert stat.S_IMODE(private.stat().st_mode) == 0o600
    assert "PRIVATE" not in public.read_text() + result.stdout
    (entry,) = yaml.safe_load(result.stdout)
    assert entry == {"name": "pipeline", "key": public.read_text(), "may_sign": []}
    asked = subprocess.run(
        ["openssl", "ec", "-in", str(private), "-noout", "-text"], capture_output=True, text=True, check=True
    )
    assert "prime256v1" in asked.stdout


def test_a_key_is_never_overwritten(tmp_path: Path, key: Path) -> None:
    before = key.read_bytes(), key.with_suffix(".pub").read_bytes()
    assert run("keygen", str(key)).exit_code == 2
    key.with_suffix(".pub").rename(tmp_path / "away.pub")
    result = run("keygen", str(key))
    assert result.exit_code == 2
    assert "[CUS-E537]" in result.stderr
    assert not key.with_suffix(".pub").exists()
    assert (key.read_bytes(), (tmp_path / "away.pub").read_bytes()) == before


def test_a_private_key_is_not_named_as_a_public_one(tmp_path: Path) -> None:
    assert run("keygen", str(tmp_path / "key.pub")).exit_code == 2
    assert not (tmp_path / "key.pub").exists()


# --- sign ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def model(genuine: Release, tmp_path: Path) -> Path:
    return shutil.copytree(genuine.root / "signed" / "model", tmp_path / "model")


def test_a_signed_model_verifies_here_and_with_the_stock_tool(
    model: Path, tmp_path: Path, key: Path, trust: Path
) -> None:
    out = tmp_path / "model.sig"
    result = run("sign", str(model), "--signer", f"file:{key}", "--out", str(out))
    assert result.exit_code == 0, result.output
    assert verify_model_signature(model, out, load_trust(trust)).signer == "mine"
    stock = [str(Path(sys.executable).with_name("model_signing")), "verify", "key", "--signature", str(out)]
    public = str(key.with_suffix(".pub"))
    done = subprocess.run([*stock, "--public_key", public, str(model)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (model / "more").write_bytes(b"x")
    with pytest.raises(EvidenceInvalid):
        verify_model_signature(model, out, load_trust(trust))


def test_a_signature_is_not_written_into_the_model_nor_over_another(model: Path, tmp_path: Path, key: Path) -> None:
    for out in (model / "model.sig", model / "sub" / "model.sig", key):
        assert run("sign", str(model), "--signer", f"file:{key}", "--out", str(out)).exit_code == 2
    (tmp_path / "alias").symlink_to(model)
    assert (
        run("sign", str(model), "--signer", f"file:{key}", "--out", str(tmp_path / "alias" / "model.sig")).exit_code
        == 2
    )
    assert not list(model.rglob("*.sig"))


def test_a_model_that_no_listing_can_bind_is_refused(model: Path, tmp_path: Path, key: Path) -> None:
    (model / "link").symlink_to("model.ubj")
    result = run("sign", str(model), "--signer", f"file:{key}", "--out", str(tmp_path / "model.sig"))
    assert result.exit_code == 1
    assert result.stderr.startswith("REFUSED InputRefused: [CUS-E113]")
    assert not (tmp_path / "model.sig").exists()


@pytest.mark.parametrize("uri", ["file:/nowhere/key.pem", "nonsense", "s3cret-that-was-pasted", ""])
def test_a_signer_that_is_none_is_a_usage_error(model: Path, tmp_path: Path, uri: str) -> None:
    result = run("sign", str(model), "--signer", uri, "--out", str(tmp_path / "model.sig"))
    assert result.exit_code == 2
    assert "s3cret" not in result.output


# --- attest ----------------------------------------------------------------------------------------------------------


def test_an_attestation_by_hand_says_which_bytes_and_claims_nothing_else(
    dataset: Path, tmp_path: Path, key: Path, trust: Path
) -> None:
    out = tmp_path / "attestation"
    result = run("attest", str(dataset), "--signer", f"file:{key}", "--out", str(out), "--run", "r-1")
    assert result.exit_code == 0, result.output
    verified = read_evidence(out, ATTESTATION, load_trust(trust), run_id="r-1")
    require_subject(verified, dataset, "dataset")
    assert verified.predicate["buildDefinition"]["resolvedDependencies"] == []
    for claim in ("input", "masking"):
        with pytest.raises(EvidenceInvalid):
            verified.dependency(claim)


def test_the_gate_does_not_let_it_pass_for_a_masked_dataset(release: Release) -> None:
    shutil.rmtree(release.root / "attestation")
    uri = f"file:{release.site.root}/keys/pipeline.pem"
    out = str(release.root / "attestation")
    assert run("attest", str(release.root / "dataset"), "--signer", uri, "--out", out, "--run", RUN).exit_code == 0
    refused = release.refusals()
    assert refused["link:dataset.masking->masking"] == "CUS-E216"
    assert refused["link:dataset.input->masking.input"] == "CUS-E216"


def test_with_its_masking_evidence_it_is_attest_dataset_by_hand(dataset: Path, tmp_path: Path) -> None:
    site = Site(tmp_path / "site")
    masking = write_masking(tmp_path / "site" / "masking", dataset, site.signer)
    options = ["--signer", f"file:{site.root}/keys/pipeline.pem", "--run", RUN]
    options += ["--masking", str(masking), "--trust", str(site.trust_path)]
    out = site.root / "attestation"
    result = run("attest", str(dataset), "--out", str(out), *options)
    assert result.exit_code == 0, result.output
    verified = read_evidence(out, ATTESTATION, site.trust, run_id=RUN)
    assert verified.dependency("masking")
    (dataset / "data.csv").write_text("other")
    result = run("attest", str(dataset), "--out", str(tmp_path / "second"), *options)
    assert result.exit_code == 1
    assert result.stderr.startswith("REFUSED EvidenceInvalid: [CUS-E215]")
    assert not (tmp_path / "second").exists()


def test_attest_refuses_places_and_halves(dataset: Path, tmp_path: Path, key: Path, trust: Path) -> None:
    signed = ["attest", str(dataset), "--signer", f"file:{key}"]
    assert run(*signed, "--run", "r", "--out", str(dataset / "evidence")).exit_code == 2
    assert run(*signed, "--run", "r", "--out", str(tmp_path)).exit_code == 2
    assert run(*signed, "--run", " ", "--out", str(tmp_path / "e")).exit_code == 2
    assert run(*signed, "--run", "r", "--out", str(tmp_path / "e"), "--trust", str(trust)).exit_code == 2
    assert not (tmp_path / "e").exists()


# --- trust -----------------------------------------------------------------------------------------------------------


def test_an_added_signer_is_trusted_for_its_roles_and_dates(tmp_path: Path, key: Path) -> None:
    path = tmp_path / "trust.yaml"
    options = ["--key", str(key.with_suffix(".pub")), *roles("train-model", "sign-model")]
    options += ["--not-before", "2026-01-01T00:00:00Z", "--not-after", "2027-01-01T02:00:00+02:00"]
    result = run("trust", "add", str(path), "--name", "training", *options)
    assert result.exit_code == 0, result.output
    (signer,) = load_trust(path).signers.values()
    assert (signer.name, signer.may_sign) == ("training", frozenset({"train-model", "sign-model"}))
    assert (signer.not_before, signer.not_after) == (datetime(2026, 1, 1, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC))


def test_a_keyless_signer_is_added_by_identity(trust: Path) -> None:
    options = ["--issuer", "https://issuer.example", "--identity", "https://ci.example/workflow"]
    result = run("trust", "add", str(trust), "--name", "ci", *options, *roles("train-model"))
    assert result.exit_code == 0, result.output
    assert {signer.name for signer in load_trust(trust).signers.values()} == {"mine", "ci"}


def test_adding_keeps_what_was_there(trust: Path, tmp_path: Path) -> None:
    trust.write_text(trust.read_text() + f"policies:\n  - name: baseline\n    sha256: {'ab' * 32}\n")
    trust.chmod(0o640)
    run("keygen", str(tmp_path / "other.pem"))
    result = run(
        "trust", "add", str(trust), "--name", "other", "--key", str(tmp_path / "other.pub"), *roles("mask-pii")
    )
    assert result.exit_code == 0, result.output
    read = load_trust(trust)
    assert [signer.name for signer in read.signers.values()] == ["mine", "other"]
    assert read.policies == {"baseline": "ab" * 32}
    assert stat.S_IMODE(trust.stat().st_mode) == 0o640


def test_what_no_trust_file_may_say_is_not_written(trust: Path, key: Path, tmp_path: Path) -> None:
    before = trust.read_bytes()
    add = ["trust", "add", str(trust), "--name"]
    public = str(key.with_suffix(".pub"))
    run("keygen", str(tmp_path / "other.pem"))
    other = ["--key", str(tmp_path / "other.pub")]
    for arguments in (
        [*add, "mine", *other, *roles("mask-pii")],
        [*add, "twin", "--key", public, *roles("mask-pii")],
        [*add, "new", *other, *roles("everything")],
        [*add, "new", *other],
        [*add, "new", *roles("mask-pii")],
        [*add, "new", *other, "--issuer", "https://a.example", "--identity", "b", *roles("mask-pii")],
        [*add, "new", "--issuer", "https://a.example", *roles("mask-pii")],
        [*add, "new", "--key", str(trust), *roles("mask-pii")],
        ["trust", "revoke", str(trust), "nobody"],
        ["trust", "revoke", str(tmp_path / "nowhere.yaml"), "mine"],
    ):
        result = run(*arguments)
        assert result.exit_code in (1, 2), result.output
        assert "Traceback" not in result.output
    assert trust.read_bytes() == before


def test_a_private_key_never_gets_into_a_trust_file(tmp_path: Path, key: Path) -> None:
    path = tmp_path / "trust.yaml"
    result = run("trust", "add", str(path), "--name", "x", "--key", str(key), *roles("mask-pii"))
    assert result.exit_code == 2
    assert not path.exists()
    assert key.read_text().splitlines()[1] not in result.output


def test_a_file_that_is_no_trust_file_is_left_as_it_is(tmp_path: Path, key: Path) -> None:
    path = tmp_path / "trust.yaml"
    for data in (b"signers: [", b"\xff\xfe", b"version: 2\nsigners: []\n"):
        path.write_bytes(data)
        options = ["--key", str(key.with_suffix(".pub")), *roles("mask-pii")]
        result = run("trust", "add", str(path), "--name", "x", *options)
        assert result.exit_code == 2, (data, result.output)
        assert path.read_bytes() == data


def test_a_revoked_signer_is_refused_from_then_on(release: Release, tmp_path: Path) -> None:
    path = tmp_path / "trust.yaml"
    shutil.copy(release.site.trust_path, path)
    ask = ["verify", str(release.root), "--trust", str(path)]
    assert run(*ask).exit_code == 0
    since = datetime.now(UTC) + timedelta(hours=1)
    assert run("trust", "revoke", str(path), "pipeline", "--at", stamp(since)).exit_code == 0
    assert run(*ask).exit_code == 0
    result = run(*ask, "--at", stamp(since))
    assert result.exit_code == 1
    assert "[CUS-E228]" in result.stdout
    assert run("trust", "revoke", str(path), "pipeline").exit_code == 0
    assert run(*ask).exit_code == 1


# --- policy lint -----------------------------------------------------------------------------------------------------

SHIPPED = Path(load_policy.__code__.co_filename).parent / "policies"


@pytest.mark.parametrize("name", sorted(path.stem for path in SHIPPED.glob("*.yaml")))
def test_a_shipped_policy_is_clean_and_its_pin_is_printed(name: str) -> None:
    result = run("policy", "lint", name)
    assert result.exit_code == 0, result.output
    (pin,) = yaml.safe_load(result.stdout)["policies"]
    assert pin == {"name": name, "sha256": load_policy(name).sha256}


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("training.metrics.roc_auc >= 0.9", "training.metrics.roc_auc >="),
        ("training.metrics.roc_auc >= 0.9", "trainer.metrics.roc_auc >= 0.9"),
        ("training.metrics.roc_auc >= 0.9", "training.metrics.roc_auc"),
        ("max_age_hours: 24", "max_age_hours: 24\nmax_age: 24"),
        ("version: 1", "version: 2"),
    ],
)
def test_a_bad_policy_is_refused(tmp_path: Path, old: str, new: str) -> None:
    path = tmp_path / "policy.yaml"
    text = (SHIPPED / "baseline.yaml").read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    result = run("policy", "lint", str(path))
    assert result.exit_code == 1, result.output
    assert result.stdout.startswith("error: ")
    assert "sha256" not in result.stdout
    assert result.stderr.startswith("REFUSED PolicyRefused: [CUS-E300]")


def test_every_code_that_the_command_gives_is_listed() -> None:
    assert {"CUS-E281", "CUS-E282", "CUS-E283", "CUS-E284", "CUS-E382"} <= set(CODES)
    assert json.dumps(CODES)
