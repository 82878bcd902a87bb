"""An independent implementation, sigstore-js, verifies our bundles; npm fetches it."""

import json
import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from npm import installed
from securesystemslib.signer import Signer

from forging import bundle_of, edit_bundle
from genuine_chain import write_masking, write_tree
from kfp_custody.components._shared.keys import key_hint
from kfp_custody.components._shared.model_signature import sign_model_tree
from kfp_custody.components._shared.signers.loading import load_signer, public_key
from services.private_sigstore import TRAINING, PrivateSigstore, b64

pytestmark = pytest.mark.services
PACKAGES = ("@sigstore/verify@3.1.1", "@sigstore/bundle@4.0.0", "@sigstore/protobuf-specs@0.5.2")
PROGRAM = """
const { readFileSync } = require('fs');
const { bundleFromJSON } = require('@sigstore/bundle');
const { TrustedRoot } = require('@sigstore/protobuf-specs');
const { Verifier, toSignedEntity, toTrustMaterial } = require('@sigstore/verify');
const { bundle, root, keys, identity } = JSON.parse(readFileSync(0));
for (const hint in keys) keys[hint] = { rawBytes: Buffer.from(keys[hint], 'base64') };
const empty = { certificateAuthorities: [], timestampAuthorities: [], tlogs: [], ctlogs: [] };
const material = toTrustMaterial(root ? TrustedRoot.fromJSON(root) : empty, keys);
const least = root ? 1 : 0;
const verifier = new Verifier(material, { tlogThreshold: least, ctlogThreshold: least, timestampThreshold: least });
try {
  verifier.verify(toSignedEntity(bundleFromJSON(bundle)), identity && { subjectAlternativeName: identity });
  console.log('verified');
} catch (error) {
  console.log(`refused: ${error.code || error.name}`);
}
"""


@pytest.fixture(scope="module")
def program() -> Path:
    folder = installed(*PACKAGES)
    (folder / "verify.cjs").write_text(PROGRAM)
    return folder / "verify.cjs"


def verify(program: Path, bundle: Path, **material: object) -> str:
    given = json.dumps({"bundle": json.loads(bundle.read_bytes()), **material})
    done = subprocess.run(["node", str(program)], input=given, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def key_of(signer: Signer) -> dict[str, str]:
    key = public_key(signer)
    return {key_hint(key): b64(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))}


def test_sigstore_js_verifies_our_key_signed_bundle(
    tmp_path: Path, program: Path, dataset: Path, signer: Signer
) -> None:
    bundle = bundle_of(write_masking(tmp_path / "evidence", dataset, signer))
    assert verify(program, bundle, keys=key_of(signer)) == "verified"
    edit_bundle(bundle, lambda b: b["dsseEnvelope"].update(payload=b64(b"{}")))
    assert verify(program, bundle, keys=key_of(signer)) == "refused: SIGNATURE_ERROR"


def test_sigstore_js_verifies_our_key_signed_model_signature(tmp_path: Path, program: Path, signer: Signer) -> None:
    model = write_tree(tmp_path / "model", {"model.ubj": b"weights"})
    sign_model_tree(model, tmp_path / "model.sig", signer)
    assert verify(program, tmp_path / "model.sig", keys=key_of(signer)) == "verified"


def test_sigstore_js_verifies_our_keyless_bundle(
    tmp_path: Path, program: Path, dataset: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with PrivateSigstore(tmp_path / "sigstore") as sigstore:
        (tmp_path / "token").write_text(sigstore.token())
        (tmp_path / "token").chmod(0o600)
        monkeypatch.setenv("CUSTODY_OIDC_TOKEN_FILE", str(tmp_path / "token"))
        signer = load_signer(f"sigstore:?config={sigstore.config}")
        bundle = bundle_of(write_masking(tmp_path / "evidence", dataset, signer))
    root = sigstore.trust_config()["trustedRoot"]
    assert verify(program, bundle, root=root, identity=TRAINING) == "verified"
    assert verify(program, bundle, root=root, identity=TRAINING + "x").startswith("refused")
    other = PrivateSigstore(tmp_path / "other").trust_config()["trustedRoot"]
    assert verify(program, bundle, root=other, identity=TRAINING).startswith("refused")
