"""The OpenSSF model signature: made by and readable for the stock `model_signing` tool, verified more strictly.

`model_signing` 1.1.1 accepts files it ignores (`.git*`), signatures with duplicate names in their JSON or with a second
signature, and keys without a hint. So a signature is first read like all our evidence, its resources are compared with
our own listing of the tree (nothing ignored), and only then the library verifies it as well.
Format: https://github.com/ossf/model-signing-spec
"""

import base64
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kfp_custody.components._shared.digests import Entry, Listing, list_tree, require_same
from kfp_custody.components._shared.documents import DocumentFault, require_keys
from kfp_custody.components._shared.errors import EvidenceInvalid
from kfp_custody.components._shared.evidence import BUNDLE_TYPE, PAYLOAD_TYPE
from kfp_custody.components._shared.keys import is_sha256, key_hint, public_pem
from kfp_custody.components._shared.kinds import MODEL_SIGNATURE
from kfp_custody.components._shared.signers import public_key
from kfp_custody.components._shared.trust import Trust
from kfp_custody.components._shared.verification import Verified, verify_bundle

if TYPE_CHECKING:
    from securesystemslib.signer import Signer

MODEL_FOLDER = "model"
SIGNATURE_FILE = "model.sig"


def sign_model_tree(model: Path, signature: Path, signer: "Signer") -> None:
    """Sign a model directory in the OpenSSF format.

    Args:
        model: The directory; every file in it is signed.
        signature: Where to write the signature, outside of `model`.
        signer: Any signer with an EC P-256 key.

    Raises:
        InputRefused: the tree cannot be listed.
        OSError: a file cannot be read or written.
    """
    from model_signing import hashing, signing

    list_tree(model)  # refuses what the library would pass over in silence
    config = signing.Config()
    config.set_hashing_config(
        hashing.Config().use_file_serialization().set_ignored_paths(paths=[], ignore_git_paths=False)
    )
    config._signer = _library_signer(signer)  # the library has no public way to bring a signer
    config.sign(model, signature)


def verify_model_signature(model: Path, signature: Path, trust: Trust, *, at: datetime | None = None) -> Verified:
    """Verify a model directory against its signature.

    Returns:
        The verified signature statement; its `signer` is the trusted signer's name, its `listing` what was signed.

    Raises:
        EvidenceInvalid: the signature or the model is not as it must be.
        InputRefused: the model's tree cannot be listed.
    """
    if not signature.is_file() or signature.is_symlink():
        raise EvidenceInvalid(
            "The model is not signed.",
            evidence=f"{signature.name} is missing beside the model",
            remedy="Pass the output of sign_model.",
        )
    verified = verify_bundle(signature, MODEL_SIGNATURE, trust, run_id=None, at=at)
    try:
        signed = _signed_listing(verified.predicate)
    except DocumentFault as fault:
        raise EvidenceInvalid(
            "The model signature was not accepted.",
            evidence=f"{signature.name}: {fault}",
            remedy="Sign the model with sign_model.",
        ) from fault
    require_same(signed, list_tree(model), f"model ({model.name}/)")
    _verify_with_library(model, signature, trust, verified.signer)
    return replace(verified, listing=signed)


def _signed_listing(predicate: Any) -> Listing:
    """Return the listing that a signature speaks for."""
    serialization = require_keys(
        predicate["serialization"], "serialization", ("method", "hash_type"), ("allow_symlinks", "ignore_paths")
    )
    if (serialization["method"], serialization["hash_type"]) != ("files", "sha256"):
        raise DocumentFault("it was not made file by file with sha256")
    if serialization.get("allow_symlinks") or serialization.get("ignore_paths"):
        raise DocumentFault("it follows links or ignores files")
    if not isinstance(predicate["resources"], list):
        raise DocumentFault("its resources are no list")
    entries = []
    for resource in predicate["resources"]:
        require_keys(resource, "a resource", ("name", "digest", "algorithm"))
        if resource["algorithm"] != "sha256" or not is_sha256(resource["digest"]):
            raise DocumentFault(f"{resource['name']!r} has no sha256 digest")
        if not isinstance(resource["name"], str):
            raise DocumentFault("a resource has no proper name")
        entries.append(Entry(resource["name"], resource["digest"]))
    names = [entry.name for entry in entries]
    if len(set(names)) != len(names):
        raise DocumentFault("it names a file twice")
    return Listing(tuple(sorted(entries, key=lambda entry: entry.name.encode())))


def _verify_with_library(model: Path, signature: Path, trust: Trust, signer: str) -> None:
    import tempfile

    from cryptography.exceptions import InvalidSignature
    from model_signing import hashing, verifying

    key = next(entry.key for entry in trust.signers.values() if entry.name == signer)
    with tempfile.NamedTemporaryFile(suffix=".pem") as pem:
        pem.write(public_pem(key))
        pem.flush()
        config = verifying.Config().use_elliptic_key_verifier(public_key=pem.name)
        config.set_hashing_config(
            hashing.Config().use_file_serialization().set_ignored_paths(paths=[], ignore_git_paths=False)
        )
        try:
            config.verify(model, signature)
        except (ValueError, TypeError, KeyError, IndexError, InvalidSignature) as error:
            raise EvidenceInvalid(
                "The model does not match its OpenSSF signature.",
                evidence=f"model_signing: {type(error).__name__}",
                remedy="Do not use this model. Train and sign it again.",
            ) from error


def _library_signer(signer: "Signer") -> Any:
    """Adapt a securesystemslib signer to the library's own signer class."""
    from model_signing._signing import sign_sigstore_pb as pb
    from sigstore_models import intoto
    from sigstore_models.bundle import v1 as bundle_pb
    from sigstore_models.common import v1 as common_pb

    class Adapter(pb.Signer):
        def sign(self, payload: Any) -> Any:
            from google.protobuf import json_format

            raw = json_format.MessageToJson(payload.statement.pb).encode()
            envelope = intoto.Envelope(
                payload=base64.b64encode(raw),
                payload_type=PAYLOAD_TYPE,
                signatures=[
                    intoto.Signature(sig=base64.b64encode(bytes.fromhex(signer.sign(pb.pae(raw)).signature)), keyid="")
                ],
            )
            return pb.Signature(
                bundle_pb.Bundle(
                    media_type=BUNDLE_TYPE,
                    verification_material=bundle_pb.VerificationMaterial(
                        public_key=common_pb.PublicKeyIdentifier(hint=key_hint(public_key(signer))), tlog_entries=[]
                    ),
                    dsse_envelope=envelope,
                )
            )

    return Adapter()
