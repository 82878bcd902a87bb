"""What a forger does to evidence: with a genuine signature where the forgery needs one."""

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from securesystemslib.signer import Signer

from kfp_custody.components._shared.evidence import BUNDLE_TYPE, PAYLOAD_TYPE, pae
from kfp_custody.components._shared.keys import key_hint
from kfp_custody.components._shared.signers.loading import public_key


def bundle_of(directory: Path) -> Path:
    """Return the one bundle of an evidence directory."""
    (bundle,) = directory.glob("*.sigstore.json")
    return bundle


def payload_of(bundle: Path) -> bytes:
    """Return what a bundle signs."""
    return base64.b64decode(json.loads(bundle.read_bytes())["dsseEnvelope"]["payload"])


def statement_of(bundle: Path) -> dict[str, Any]:
    """Return the statement of a bundle."""
    statement: dict[str, Any] = json.loads(payload_of(bundle))
    return statement


def sign_payload(bundle: Path, payload: bytes, signer: Signer) -> None:
    """Replace a bundle by one with a genuine signature over any bytes."""
    signature = base64.b64encode(bytes.fromhex(signer.sign(pae(payload)).signature)).decode()
    document = {
        "mediaType": BUNDLE_TYPE,
        "verificationMaterial": {"publicKey": {"hint": key_hint(public_key(signer))}, "tlogEntries": []},
        "dsseEnvelope": {
            "payload": base64.b64encode(payload).decode(),
            "payloadType": PAYLOAD_TYPE,
            "signatures": [{"sig": signature, "keyid": ""}],
        },
    }
    bundle.write_text(json.dumps(document))


def edit_statement(bundle: Path, signer: Signer, edit: Callable[[dict[str, Any]], object]) -> None:
    """Change the statement of a bundle and sign it again, genuinely."""
    statement = statement_of(bundle)
    edit(statement)
    sign_payload(bundle, json.dumps(statement).encode(), signer)


def edit_bundle(bundle: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    """Change a bundle and sign nothing."""
    document = json.loads(bundle.read_bytes())
    edit(document)
    bundle.write_text(json.dumps(document))


def edit_payload(bundle: Path, old: bytes, new: bytes) -> None:
    """Change bytes of the payload under the old signature."""
    payload = payload_of(bundle)
    assert payload.count(old) >= 1
    changed = base64.b64encode(payload.replace(old, new)).decode()
    edit_bundle(bundle, lambda document: document["dsseEnvelope"].update(payload=changed))
