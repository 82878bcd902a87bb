"""Signing: only the model that genuine provenance of this run speaks of."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from forging import bundle_of, edit_statement
from genuine_chain import RUN, Site, trust_entry
from kfp_custody.components._shared.digests import list_tree, sha256_file
from kfp_custody.components._shared.errors import EvidenceInvalid, InputRefused, Misconfigured
from kfp_custody.components._shared.kinds import KINDS
from kfp_custody.components._shared.model_signature import verify_model_signature
from kfp_custody.components.artifact_signing.signing import sign


class Trained:
    """A trained model with its provenance, to be signed."""

    def __init__(self, root: Path) -> None:
        self.site = Site(root)
        chain = self.site.chain()
        self.model, self.provenance, self.attestation = root / "release/trained", chain.provenance, chain.attestation
        self.output = root / "signed"

    def sign(self, **changes: object) -> object:
        settings = replace(self.site.settings, **changes)  # type: ignore[arg-type]
        return sign(self.model, self.provenance, self.output, RUN, settings)


@pytest.fixture
def trained(tmp_path: Path) -> Trained:
    return Trained(tmp_path)


def test_the_signed_model_is_the_trained_one(trained: Trained) -> None:
    done = sign(trained.model, trained.provenance, trained.output, RUN, trained.site.settings)
    assert sorted(path.name for path in trained.output.iterdir()) == ["model", "model.sig"]
    assert list_tree(trained.output / "model") == list_tree(trained.model) == done.listing
    verified = verify_model_signature(trained.output / "model", trained.output / "model.sig", trained.site.trust)
    assert done.metadata() == {
        "sha256": list_tree(trained.model).sha256,
        "signature_sha256": sha256_file(trained.output / "model.sig"),
        "signer": verified.signer,
        "bytes": float(done.listing.size),
    }


def test_the_copy_is_readable_whatever_the_modes_were(trained: Trained) -> None:
    """A model server runs as another user; and no set-user-ID bit travels with a model."""
    (trained.model / "model.ubj").chmod(0o4700)
    trained.sign()
    assert (trained.output / "model" / "model.ubj").stat().st_mode & 0o7777 == 0o644


def byte_flipped(trained: Trained) -> None:
    (trained.model / "signature.json").write_bytes(b"[]")


def file_added(trained: Trained) -> None:
    (trained.model / ".gitignore").write_bytes(b"")


def file_removed(trained: Trained) -> None:
    (trained.model / "signature.json").unlink()


def file_renamed(trained: Trained) -> None:
    (trained.model / "model.ubj").rename(trained.model / "model.pkl")


def link_added(trained: Trained) -> None:
    (trained.model / "link").symlink_to("/etc/passwd")


def file_became_a_link(trained: Trained) -> None:
    shutil.move(trained.model / "model.ubj", trained.output.parent / "elsewhere")
    (trained.model / "model.ubj").symlink_to(trained.output.parent / "elsewhere")


def other_run(trained: Trained) -> None:
    edit_statement(
        bundle_of(trained.provenance),
        trained.site.signer,
        lambda s: s["predicate"]["runDetails"]["metadata"].update(invocationId="yesterday"),
    )


def other_kind(trained: Trained) -> None:
    trained.provenance = trained.attestation


def nothing_there(trained: Trained) -> None:
    shutil.rmtree(trained.model)


def emptied(trained: Trained) -> None:
    for path in trained.model.iterdir():
        path.unlink()


@pytest.mark.parametrize(
    ("spoil", "kind", "said"),
    [
        (byte_flipped, EvidenceInvalid, r"changed 'signature.json' \(expected [0-9a-f]{64}, found [0-9a-f]{64}\)"),
        (file_added, EvidenceInvalid, "unexpected '.gitignore'"),
        (file_removed, EvidenceInvalid, "missing 'signature.json'"),
        (file_renamed, EvidenceInvalid, "missing 'model.ubj'; unexpected 'model.pkl'"),
        (link_added, InputRefused, "'link' is not a regular file"),
        (file_became_a_link, InputRefused, "'model.ubj' is not a regular file"),
        (other_run, EvidenceInvalid, f"belongs to run 'yesterday', this is run '{RUN}'"),
        (other_kind, EvidenceInvalid, "expected train-model.sigstore.json"),
        (nothing_there, InputRefused, "'trained' does not exist"),
        (emptied, InputRefused, "trained/: 0 files"),
    ],
)
def test_anything_else_is_refused_and_leaves_nothing(
    tmp_path: Path, trained: Trained, spoil: Callable[[Trained], None], kind: type[Exception], said: str
) -> None:
    spoil(trained)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(kind, match=said):
        trained.sign()
    assert sorted(tmp_path.iterdir()) == before


def test_a_signer_that_is_not_trusted_with_models_publishes_nothing(trained: Trained) -> None:
    kinds = sorted(set(KINDS) - {"sign-model"})
    entries = [trust_entry("pipeline", trained.site.signer, kinds)]
    trained.site.trust_path.write_text(yaml.safe_dump({"version": 1, "signers": entries}))
    with pytest.raises(EvidenceInvalid, match="not sign-model"):
        trained.sign()
    assert not trained.output.exists()


def test_a_signer_nobody_knows_publishes_nothing(trained: Trained) -> None:
    trained.site.key("stranger")
    with pytest.raises(EvidenceInvalid, match="which the trust file does not know"):
        trained.sign(signers={"CUSTODY_SIGNER_ARTIFACT_SIGNING": f"file:{trained.site.root}/keys/stranger.pem"})
    assert not trained.output.exists()


def test_without_a_signer_nothing_is_signed(trained: Trained) -> None:
    with pytest.raises(Misconfigured, match="CUSTODY_SIGNER_ARTIFACT_SIGNING"):
        trained.sign(signers={})
