"""Honest work that looks unusual, and is accepted: strictness that refuses these would be switched off."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import yaml
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat
from securesystemslib.signer import Signer

from forging import bundle_of, edit_statement, payload_of, sign_payload
from genuine_chain import RUN, Site, parquet, trust_entry, write_masking, write_tree
from kfp_custody.components._shared.digests import Entry, Listing, list_tree, read_listing, sha256_bytes
from kfp_custody.components._shared.evidence import (
    MASKING,
    TRAINING,
    now,
    provenance,
    resource,
    test_result,
    write_evidence,
)
from kfp_custody.components._shared.keys import public_pem
from kfp_custody.components._shared.kinds import KINDS
from kfp_custody.components._shared.model_signature import sign_model_tree, verify_model_signature
from kfp_custody.components._shared.signers.loading import load_signer
from kfp_custody.components._shared.trust import Trust, load_trust
from kfp_custody.components._shared.verification import read_evidence, require_subject
from kfp_custody.components.policy_gate.policy import load_policy

# --- trees -----------------------------------------------------------------------------------------------------------


def named(*names: str) -> Callable[[Path], None]:
    return lambda root: write_tree(root, {name: name.encode() for name in names}) and None


def empty_file(root: Path) -> None:
    write_tree(root, {"empty": b"", "part/empty": b""})


def executable(root: Path) -> None:
    write_tree(root, {"run.sh": b"#!/bin/sh\n"})
    (root / "run.sh").chmod(0o755)


def read_only(root: Path) -> None:
    write_tree(root, {"rows": b"rows"})
    (root / "rows").chmod(0o444)


def same_bytes_under_two_names(root: Path) -> None:
    write_tree(root, {"a": b"same", "b": b"same"})


def hard_link(root: Path) -> None:
    write_tree(root, {"a": b"same"})
    os.link(root / "a", root / "b")


def sparse(root: Path) -> None:
    write_tree(root, {"rows": b""})
    os.truncate(root / "rows", 50_000_000)


TREES: dict[str, Callable[[Path], None]] = {
    "one_file": named("data.csv"),
    "deep_folders": named("/".join(["d"] * 200) + "/rows"),
    "long_names": named("n" * 255, "é" * 127, "d" * 200 + "/" + "f" * 255),
    "unicode_names": named("été.csv", "日本/データ.csv", "😀", "Ω", "नमस्ते", "ё"),
    "names_with_spaces_and_marks": named(" a", "a ", "a  b", "-x", "$HOME", "'q\"", "a:b", "*", "?", "#", "%41", "~"),
    "names_of_git": named(".git/HEAD", ".gitignore", ".github/x", ".gitattributes"),
    "names_with_dots": named("...", "..a", "a..", ".hidden/.x"),
    "names_that_sort_unlike_paths": named("a-b", "a.b", "a/b", "a0"),
    "same_name_in_other_folders": named("a/rows", "b/rows", "rows"),
    "same_name_in_another_case_elsewhere": named("a/ROWS", "b/rows"),
    "empty_file": empty_file,
    "executable": executable,
    "read_only": read_only,
    "same_bytes_under_two_names": same_bytes_under_two_names,
    "hard_link": hard_link,
    "sparse": sparse,
}


@pytest.mark.parametrize("build", TREES.values(), ids=TREES)
def test_an_unusual_tree(tmp_path: Path, signer: Signer, trust: Trust, build: Callable[[Path], None]) -> None:
    build(tmp_path / "dataset")
    verified = read_evidence(
        write_masking(tmp_path / "evidence", tmp_path / "dataset", signer), MASKING, trust, run_id=RUN
    )
    assert require_subject(verified, tmp_path / "dataset", "dataset").sha256 == verified.subject_sha256


def test_a_dataset_that_is_one_file_and_no_folder(tmp_path: Path, signer: Signer, trust: Trust) -> None:
    (tmp_path / "month.parquet").write_bytes(parquet("rows"))
    evidence = write_masking(tmp_path / "evidence", tmp_path / "month.parquet", signer)
    verified = read_evidence(evidence, MASKING, trust, run_id=RUN)
    assert require_subject(verified, tmp_path / "month.parquet", "dataset").entries[0].name == "month.parquet"


@pytest.mark.parametrize("name", ["unicode_names", "names_of_git", "executable", "empty_file"])
def test_an_unusual_model(tmp_path: Path, signer: Signer, trust: Trust, name: str) -> None:
    TREES[name](tmp_path / "model")
    sign_model_tree(tmp_path / "model", tmp_path / "model.sig", signer)
    listing = verify_model_signature(tmp_path / "model", tmp_path / "model.sig", trust).listing
    assert listing is not None
    assert listing.sha256 == list_tree(tmp_path / "model").sha256


def test_a_listing_of_ten_thousand_files() -> None:
    entries = tuple(Entry(f"part-{n // 100:03}/rows-{n:05}.parquet", sha256_bytes(b"%d" % n)) for n in range(10_000))
    assert read_listing(Listing(entries).text, "SHA256SUMS").entries == entries


# --- keys and trust --------------------------------------------------------------------------------------------------


def trusting(path: Path, *entries: object) -> Trust:
    path.write_text(yaml.safe_dump({"version": 1, "signers": list(entries)}))
    return load_trust(path)


def test_a_key_that_was_rotated_while_both_were_valid(
    tmp_path: Path, dataset: Path, make_signer: Callable[[str], Signer]
) -> None:
    old, new = make_signer("old"), make_signer("new")
    change = now() + timedelta(days=1)
    trust = trusting(
        tmp_path / "t.yaml",
        trust_entry("old", old, not_after=change + timedelta(days=7)),
        trust_entry("new", new, not_before=change - timedelta(days=7)),
    )
    for name, key in (("old", old), ("new", new)):
        evidence = write_masking(tmp_path / name, dataset, key)
        assert read_evidence(evidence, MASKING, trust, run_id=RUN).signer == name


def test_many_keys_of_many_roles(tmp_path: Path, dataset: Path, make_signer: Callable[[str], Signer]) -> None:
    keys = {kind: make_signer(kind) for kind in KINDS}
    trust = trusting(tmp_path / "t.yaml", *(trust_entry(kind, key, [kind]) for kind, key in keys.items()))
    evidence = write_masking(tmp_path / "evidence", dataset, keys["mask-pii"])
    assert read_evidence(evidence, MASKING, trust, run_id=RUN).signer == "mask-pii"


def test_a_key_with_a_password(tmp_path: Path, dataset: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    for name, data in (
        ("key.pem", key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"correct horse"))),
        ("password", b"correct horse"),
    ):
        (tmp_path / name).write_bytes(data)
        (tmp_path / name).chmod(0o600)
    monkeypatch.setenv("CUSTODY_SIGNER_PASSWORD_FILE", str(tmp_path / "password"))
    signer = load_signer(f"file:{tmp_path}/key.pem")
    trust = trusting(tmp_path / "t.yaml", trust_entry("p", signer))
    evidence = write_masking(tmp_path / "evidence", dataset, signer)
    assert read_evidence(evidence, MASKING, trust, run_id=RUN).signer == "p"


def test_a_key_in_an_older_private_format(tmp_path: Path, dataset: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    from cryptography.hazmat.primitives.serialization import NoEncryption

    path = tmp_path / "key.pem"
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption()))
    path.chmod(0o600)
    signer = load_signer(f"file:{path}")
    trust = trusting(tmp_path / "t.yaml", trust_entry("p", signer))
    assert read_evidence(write_masking(tmp_path / "e", dataset, signer), MASKING, trust, run_id=RUN).signer == "p"


def test_a_trust_file_written_in_other_styles(tmp_path: Path, dataset: Path, signer: Signer) -> None:
    entry = trust_entry("Größe und 日本", signer)
    flow = json.dumps({"version": 1, "signers": [entry], "policies": []})
    with_comments = "# ours\n" + yaml.safe_dump({"signers": [entry], "version": 1}, default_style='"').replace(
        '!!int "1"', "1"
    )
    windows = yaml.safe_dump({"version": 1, "signers": [entry]}).replace("\n", "\r\n")
    for number, text in enumerate((flow, with_comments, windows, "\ufeff" + flow)):
        (tmp_path / "t.yaml").write_bytes(text.encode())
        evidence = write_masking(tmp_path / f"e{number}", dataset, signer)
        verified = read_evidence(evidence, MASKING, load_trust(tmp_path / "t.yaml"), run_id=RUN)
        assert verified.signer == "Größe und 日本"


def test_evidence_read_a_year_later(tmp_path: Path, dataset: Path, signer: Signer, trust: Trust) -> None:
    evidence = write_masking(tmp_path / "evidence", dataset, signer)
    later = now() + timedelta(days=366)
    assert read_evidence(evidence, MASKING, trust, run_id=RUN, at=later).signer == "pipeline"


def test_evidence_of_a_key_that_has_expired_since_judged_at_its_own_time(
    tmp_path: Path, dataset: Path, signer: Signer
) -> None:
    """What an auditor asks: was it good then?"""
    evidence = write_masking(tmp_path / "evidence", dataset, signer)
    edit_statement(
        bundle_of(evidence), signer, lambda s: s["predicate"].update(custody_finishedOn="2020-06-01T00:00:00Z")
    )
    trust = trusting(tmp_path / "t.yaml", trust_entry("p", signer, not_after=datetime(2021, 1, 1, tzinfo=UTC)))
    at = datetime(2020, 6, 2, tzinfo=UTC)
    assert read_evidence(evidence, MASKING, trust, run_id=RUN, at=at).signer == "p"


def test_a_clock_that_is_two_minutes_ahead(tmp_path: Path, dataset: Path, signer: Signer, trust: Trust) -> None:
    evidence = write_masking(tmp_path / "evidence", dataset, signer)
    earlier = now() - timedelta(minutes=2)
    assert read_evidence(evidence, MASKING, trust, run_id=RUN, at=earlier).signer == "pipeline"


# --- statements ------------------------------------------------------------------------------------------------------

NUMBERS = [0.0, -0.0, 1e-300, 1.7e308, 2**53, -(2**53), 5e-324, 0.1 + 0.2, 123456789012345.678]


@pytest.mark.parametrize("number", NUMBERS)
def test_an_unusual_number(tmp_path: Path, dataset: Path, signer: Signer, trust: Trust, number: float) -> None:
    evidence = write_masking(tmp_path / "evidence", dataset, signer, metrics={"n": number})
    assert read_evidence(evidence, MASKING, trust, run_id=RUN).metrics == {"n": float(number)}


@pytest.mark.parametrize("run", ["Größe ☃ run", "a" * 500, '"; DROP TABLE runs; --', "../../run", "{{workflow.uid}}"])
def test_an_unusual_run(tmp_path: Path, dataset: Path, signer: Signer, trust: Trust, run: str) -> None:
    evidence = write_masking(tmp_path / "evidence", dataset, signer, run)
    assert read_evidence(evidence, MASKING, trust, run_id=run).run_id == run


def test_a_statement_with_other_spacing_and_escapes(
    tmp_path: Path, dataset: Path, signer: Signer, trust: Trust
) -> None:
    """JSON is read, not compared: a signer in another language may write it differently."""
    evidence = write_masking(tmp_path / "evidence", dataset, signer, "größe 😀")
    statement = json.loads(payload_of(bundle_of(evidence)))
    sign_payload(bundle_of(evidence), json.dumps(statement, indent=3, ensure_ascii=True).encode(), signer)
    assert read_evidence(evidence, MASKING, trust, run_id="größe 😀").run_id == "größe 😀"


def test_a_test_that_warned(tmp_path: Path, dataset: Path, signer: Signer, trust: Trust) -> None:
    evidence = write_masking(tmp_path / "evidence", dataset, signer, result="WARNED", warned=["a column is new"])
    assert read_evidence(evidence, MASKING, trust, run_id=RUN).result == "WARNED"


def test_a_test_without_numbers(tmp_path: Path, dataset: Path, signer: Signer, trust: Trust) -> None:
    statement = test_result(MASKING, list_tree(dataset), result="PASSED", run_id=RUN, configuration=[], passed=[])
    write_evidence(tmp_path / "evidence", statement, signer, list_tree(dataset))
    assert read_evidence(tmp_path / "evidence", MASKING, trust, run_id=RUN).metrics == {}


def test_training_that_does_not_know_its_image(tmp_path: Path, dataset: Path, signer: Signer, trust: Trust) -> None:
    """Outside of an image there is no digest; the provenance then claims none."""
    statement = provenance(
        TRAINING,
        list_tree(dataset),
        run_id=RUN,
        started=now(),
        parameters={"seed": 7, "nested": {"deep": [1, 2.5, None, True, "x"]}},
        internal={},
        dependencies=[resource("dataset", "ab" * 32)],
        byproducts=[],
    )
    write_evidence(tmp_path / "evidence", statement, signer, list_tree(dataset))
    assert read_evidence(tmp_path / "evidence", TRAINING, trust, run_id=RUN).dependency("dataset") == "ab" * 32


def test_evidence_that_was_copied_with_other_modes_and_times(
    tmp_path: Path, dataset: Path, signer: Signer, trust: Trust
) -> None:
    """An object store keeps neither."""
    evidence = write_masking(tmp_path / "evidence", dataset, signer)
    for path in (*evidence.iterdir(), *dataset.rglob("*.csv")):
        path.chmod(0o777)
        os.utime(path, (0, 0))
    require_subject(read_evidence(evidence, MASKING, trust, run_id=RUN), dataset, "dataset")


# --- whole chains ----------------------------------------------------------------------------------------------------

READ = """
import sys
from pathlib import Path
from kfp_custody.components._shared.evidence import MASKING
from kfp_custody.components._shared.trust import load_trust
from kfp_custody.components._shared.verification import read_evidence, require_subject
evidence, dataset, trust, run = sys.argv[1:]
verified = read_evidence(Path(evidence), MASKING, load_trust(Path(trust)), run_id=run)
require_subject(verified, Path(dataset), "dataset")
print(ascii(verified.signer))
"""
ENVIRONMENTS = [
    {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": "ascii"},
    {"LC_ALL": "POSIX"},
    {"LC_ALL": "tr_TR.UTF-8", "LANG": "tr_TR.UTF-8"},
    {"TZ": "Pacific/Kiritimati"},
    {"TZ": "America/St_Johns"},
    {"TZ": "Asia/Kathmandu", "LC_ALL": "C.UTF-8"},
    {"PYTHONHASHSEED": "1"},
    {"PYTHONOPTIMIZE": "2"},
]


@pytest.mark.parametrize("more", ENVIRONMENTS, ids=str)
def test_another_environment(tmp_path: Path, signer: Signer, trust_file: Path, more: dict[str, str]) -> None:
    dataset = write_tree(tmp_path / "dataset", {"data.parquet": parquet("rows"), "part/I-i.csv": b"x"})
    evidence = write_masking(tmp_path / "evidence", dataset, signer)
    done = subprocess.run(
        [sys.executable, "-c", READ, str(evidence), str(dataset), str(trust_file), RUN],
        env={name: value for name, value in os.environ.items() if not name.startswith(("LC_", "LANG", "TZ"))} | more,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout) == (0, "'pipeline'\n"), done.stderr


def test_a_chain_in_a_folder_with_an_unusual_name(tmp_path: Path) -> None:
    site = Site(tmp_path / "größe & 日本 ' \" $x")
    done, _, _ = site.gate(site.chain("a release"))
    assert (done.verdict, done.failed) == ("PASSED", ())


def test_a_chain_whose_stages_have_a_key_each(tmp_path: Path) -> None:
    """All evidence but the decision by one key, the decision by another: the trust file says who may what."""
    site = Site(tmp_path)
    chain = site.chain()
    gate = site.key("gate")
    kinds = sorted(set(KINDS) - {"enforce-policy"})
    site.pin(
        {"baseline": load_policy("baseline").sha256},
        [trust_entry("pipeline", site.signer, kinds), trust_entry("gate", gate, ["enforce-policy"])],
    )
    site.environment["CUSTODY_SIGNER_POLICY_GATE"] = f"file:{tmp_path}/keys/gate.pem"
    done, evidence, _ = site.gate(chain)
    assert done.verdict == "PASSED"
    assert read_evidence(evidence, KINDS["enforce-policy"], site.trust, run_id=RUN).signer == "gate"


def test_two_releases_beside_each_other(tmp_path: Path) -> None:
    site = Site(tmp_path)
    chains = [site.chain("one"), site.chain("two")]
    assert [site.gate(chain)[0].verdict for chain in chains] == ["PASSED", "PASSED"]


def test_a_public_key_with_other_line_ends(tmp_path: Path, dataset: Path, signer: Signer) -> None:
    from kfp_custody.components._shared.signers.loading import public_key

    entry = trust_entry("p", signer) | {"key": public_pem(public_key(signer)).decode().replace("\n", "\r\n")}
    trust = trusting(tmp_path / "t.yaml", entry)
    assert read_evidence(write_masking(tmp_path / "e", dataset, signer), MASKING, trust, run_id=RUN).signer == "p"
