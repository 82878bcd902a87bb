"""The OpenSSF model signature: made by and readable for the stock `model_signing` tool, verified more strictly.

`model_signing` 1.1.1 accepts files it ignores (`.git*`), empty folders, signatures with duplicate names in their JSON
or with a second signature, keys without a hint, an older predicate, and certificates that expired or were made for
another use. So a signature, by a key or keyless, is first read like all our evidence (which takes no certificate
chain), its resources are compared with our own listing of the tree (nothing ignored), and only then the library
verifies it as well.
Format: https://github.com/ossf/model-signing-spec
"""

from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kfp_custody.components._shared import codes
from kfp_custody.components._shared.digests import Entry, Listing, list_tree, require_same
from kfp_custody.components._shared.documents import DocumentFault, require_keys
from kfp_custody.components._shared.errors import EvidenceInvalid
from kfp_custody.components._shared.evidence import sign_payload
from kfp_custody.components._shared.keyless import trust_config
from kfp_custody.components._shared.keys import is_sha256, public_pem
from kfp_custody.components._shared.kinds import MODEL_SIGNATURE
from kfp_custody.components._shared.signers.keyless import KeylessSigner
from kfp_custody.components._shared.signers.loading import public_key
from kfp_custody.components._shared.trust import Credential, Identity, SharedKey, Trust
from kfp_custody.components._shared.verification import Verified, verify_bundle

if TYPE_CHECKING:
    from securesystemslib.signer import Signer

MODEL_FOLDER = "model"
SIGNATURE_FILE = "model.sig"


# What the stock tool leaves out unless told otherwise, and says so in its signature. Accepting the remark loosens
# nothing: the files of the model must be exactly those that were signed, so a model that holds one of these is refused.
_STOCK_IGNORED = (".git", ".gitattributes", ".github", ".gitignore")


def sign_model_tree(model: Path, signature: Path, signer: "Signer | KeylessSigner") -> None:
    """Sign a model directory in the OpenSSF format.

    Args:
        model: The directory; every file in it is signed.
        signature: Where to write the signature, outside of `model`.
        signer: Any signer with an EC P-256 key, or a keyless one.

    Raises:
        InputRefused: the tree cannot be listed.
        Misconfigured: the signer has no public key (HMAC), or not one on P-256.
        OSError: a file cannot be read or written.
    """
    from model_signing import hashing, signing

    if not isinstance(signer, KeylessSigner):
        public_key(signer)  # refuses a signer that has none: anybody must be able to verify this format
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
            code=codes.MODEL_UNSIGNED,
        )
    verified = read_model_signature(signature, trust, at=at)
    assert verified.listing is not None  # noqa: S101  (it always has one)
    require_same(verified.listing, list_tree(model), f"model ({model.name}/)")
    _verify_with_library(model, signature, trust, verified)
    return verified


def read_model_signature(signature: Path, trust: Trust, *, at: datetime | None = None) -> Verified:
    """Verify a signature without the model: who signed which files. It says nothing about the bytes of any model.

    Returns:
        The verified signature statement; its `listing` is what was signed.

    Raises:
        EvidenceInvalid: the signature is not as it must be.
    """
    verified = verify_bundle(signature, MODEL_SIGNATURE, trust, run_id=None, at=at)
    try:
        if isinstance(_credential(trust, verified), SharedKey):
            raise DocumentFault("it is an HMAC, which only its maker could verify", codes.MODEL_SCOPE)
        signed = _signed_listing(verified.predicate)
    except DocumentFault as fault:
        raise EvidenceInvalid(
            "The model signature was not accepted.",
            evidence=f"{signature.name}: {fault}",
            remedy="Sign the model with sign_model.",
            code=fault.code,
        ) from fault
    return replace(verified, listing=signed)


def _credential(trust: Trust, verified: Verified) -> Credential:
    return next(entry.credential for entry in trust.signers.values() if entry.name == verified.signer)


def _signed_listing(predicate: Any) -> Listing:
    """Return the listing that a signature speaks for."""
    serialization = require_keys(
        predicate["serialization"], "serialization", ("method", "hash_type"), ("allow_symlinks", "ignore_paths")
    )
    if (serialization["method"], serialization["hash_type"]) != ("files", "sha256"):
        raise DocumentFault("it was not made file by file with sha256", codes.MODEL_SCOPE)
    ignored = serialization.get("ignore_paths", [])
    if (
        serialization.get("allow_symlinks", False) is not False
        or not isinstance(ignored, list)
        or any(name not in _STOCK_IGNORED for name in ignored)
    ):
        raise DocumentFault("it follows links or ignores files", codes.MODEL_SCOPE)
    if not isinstance(predicate["resources"], list):
        raise DocumentFault("its resources are no list", codes.MODEL_FILES)
    entries = []
    for resource in predicate["resources"]:
        require_keys(resource, "a resource", ("name", "digest", "algorithm"))
        if resource["algorithm"] != "sha256" or not is_sha256(resource["digest"]):
            raise DocumentFault(f"{resource['name']!r} has no sha256 digest", codes.MODEL_FILES)
        if not isinstance(resource["name"], str):
            raise DocumentFault("a resource has no proper name", codes.MODEL_FILES)
        entries.append(Entry(resource["name"], resource["digest"]))
    names = [entry.name for entry in entries]
    if len(set(names)) != len(names):
        raise DocumentFault("it names a file twice", codes.MODEL_FILES)
    return Listing(tuple(sorted(entries, key=lambda entry: entry.name.encode())))


def _verify_with_library(model: Path, signature: Path, trust: Trust, verified: Verified) -> None:
    import tempfile

    from cryptography.exceptions import InvalidSignature
    from model_signing import hashing, verifying
    from sigstore.errors import Error

    credential = _credential(trust, verified)
    with tempfile.NamedTemporaryFile() as file:
        # A configuration for this one model: the library's own would carry what one model ignores over to the next.
        if isinstance(credential, Identity):
            assert verified.time is not None  # noqa: S101  (a keyless signature always has one)
            file.write(trust_config(trust, verified.time).encode())
            file.flush()
            config = verifying.Config().use_sigstore_verifier(
                identity=credential.identity, oidc_issuer=credential.issuer, trust_config=Path(file.name)
            )
        else:
            assert not isinstance(credential, SharedKey)  # noqa: S101  (refused with the signature)
            file.write(public_pem(credential))
            file.flush()
            config = verifying.Config().use_elliptic_key_verifier(public_key=file.name)
        config.set_hashing_config(
            hashing.Config().use_file_serialization().set_ignored_paths(paths=[], ignore_git_paths=False)
        )
        try:
            config.verify(model, signature)
        except (Error, ValueError, TypeError, KeyError, IndexError, InvalidSignature) as error:
            raise EvidenceInvalid(
                "The model does not match its OpenSSF signature.",
                evidence=f"model_signing: {type(error).__name__}",
                remedy="Do not use this model. Train and sign it again.",
                code=codes.MODEL_LIBRARY,
            ) from error


def _library_signer(signer: "Signer | KeylessSigner") -> Any:
    """Adapt a signer to the library's own signer class."""
    from google.protobuf import json_format
    from model_signing._signing import sign_sigstore_pb as pb
    from sigstore_models.bundle.v1 import Bundle

    class Adapter(pb.Signer):
        def sign(self, payload: Any) -> Any:
            statement = json_format.MessageToJson(payload.statement.pb).encode()
            return pb.Signature(Bundle.from_dict(sign_payload(statement, signer)))

    return Adapter()
