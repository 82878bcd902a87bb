"""The model repository of our MLServer: decides which code may run and verifies a model before it is loaded.

MLServer's own repository imports whatever class a model's `model-settings.json` names, with the model's folder first on
`sys.path`, before any runtime could verify anything. This one

- takes the settings from a fixed depth (never from inside a model) and only the fields it knows,
- accepts one runtime, by an allow-list, and no environment of the model's own,
- copies the model to a private folder and verifies the copy: the pinned listing and signature digests, then the OpenSSF
  model signature against the trust file,
- hands MLServer settings without a source path, so that no folder gets on `sys.path`.

Callers of the unauthenticated repository API learn only that a model was refused; the reason is in the log.
"""

import asyncio
import shutil
import tempfile
from pathlib import Path
from typing import Any

from mlserver.errors import MLServerError, ModelNotFound
from mlserver.logging import logger
from mlserver.repository import ModelRepository
from mlserver.settings import ModelParameters, ModelSettings

from kfp_custody.components._shared.digests import list_tree, sha256_file
from kfp_custody.components._shared.documents import DocumentFault, parse_json
from kfp_custody.components._shared.errors import CustodyError, EvidenceInvalid, PolicyRefused
from kfp_custody.components._shared.keys import is_sha256
from kfp_custody.components._shared.model_signature import verify_model_signature
from kfp_custody.components._shared.scoring import SIGNATURE, read_signature
from kfp_custody.components._shared.settings import load_settings
from kfp_custody.components._shared.trust import load_trust
from kfp_custody.components.seldon_deployment.serving.names import RUNTIME, SETTINGS

ALLOWED_RUNTIMES = frozenset({RUNTIME})
REFUSED = "model refused: it was not verified (the reason is in the server's log)"
Models = list[ModelSettings]
_DEPTHS = (f"*/{SETTINGS}", f"*/*/{SETTINGS}")  # <name>/ and <name>/<version>/, also how Seldon's agent lays them out
_OWN_ENVIRONMENT = ("environment_path", "environment_tarball")


class VerifiedRepository(ModelRepository):
    """Finds models by name, verified at the moment of loading; `MLSERVER_MODEL_REPOSITORY_IMPLEMENTATION` names it."""

    def __init__(self, root: str, **_: Any) -> None:
        """Serve the folder `root`."""
        self._root = Path(root).resolve()
        self._verified: dict[str, ModelSettings] = {}

    async def list(self) -> Models:
        """Return what this process verified. Nothing is loaded by being there: models are loaded by name."""
        return [*self._verified.values()]

    async def find(self, name: str) -> Models:
        """Verify a model and return settings that point to a private copy of it.

        Raises:
            ModelNotFound: 404: no settings have that name.
            MLServerError: 422 with no detail: the model was refused.
        """
        try:
            self._verified[name] = await asyncio.to_thread(self._admit, name)
        except (CustodyError, OSError) as error:
            logger.error("refused %.80r: %s", name, " ".join(str(error).split()))
            raise MLServerError(REFUSED, 422) from error
        return [self._verified[name]]

    def _admit(self, name: str) -> ModelSettings:
        folder, document = self._settings_of(name)
        parameters = _mapping(document.get("parameters"), "parameters")
        if document.get("implementation") not in ALLOWED_RUNTIMES:
            raise _not_allowed(f"its implementation is not one of {sorted(ALLOWED_RUNTIMES)}")
        if any(parameters.get(key) for key in _OWN_ENVIRONMENT):
            raise _not_allowed("it brings its own Python environment")
        source = (folder / str(parameters.get("uri") or ".")).resolve()
        if not source.is_relative_to(folder):
            raise _not_allowed("its uri leads out of its folder")
        pins = _mapping(parameters.get("extra"), "parameters.extra")
        copy = Path(tempfile.mkdtemp(prefix="custody-model-"))  # mode 0700; the runtime removes it after loading
        try:
            listing = _verified_copy(source, copy, pins)
        except BaseException:
            shutil.rmtree(copy, ignore_errors=True)
            raise
        logger.info("verified %r: sha256:%s", name, listing)
        return ModelSettings(
            name=name,
            implementation=RUNTIME,
            parameters=ModelParameters(
                uri=str(copy / "model"),
                version=parameters.get("version"),
                extra={"verified_copy": True, "listing_sha256": listing},
            ),
        )

    def _settings_of(self, name: str) -> tuple[Path, dict[str, Any]]:
        found = []
        for path in sorted(path for pattern in _DEPTHS for path in self._root.glob(pattern)):
            try:
                document = parse_json(path.read_bytes())
            except DocumentFault as fault:
                logger.error("ignored %s: %s", path, fault)
                continue
            if isinstance(document, dict) and document.get("name") == name:
                found.append((path.parent.resolve(), document))
        if not found:
            raise ModelNotFound(name[:80])
        if len(found) > 1 or not found[0][0].is_relative_to(self._root):
            raise _not_allowed("several settings have its name, or they lie outside the repository")
        return found[0]


def _verified_copy(source: Path, copy: Path, pins: dict[str, Any]) -> str:
    """Copy `model/` and `model.sig` from `source` and verify the copy; return its listing digest."""
    expected, signature_pin = pins.get("listing_sha256"), pins.get("signature_sha256")
    if not is_sha256(expected) or not is_sha256(signature_pin):
        raise _not_allowed("extra.listing_sha256 and extra.signature_sha256 are not both given")
    # Links stay links, so that the listing below refuses them instead of following them out of the folder.
    shutil.copytree(source / "model", copy / "model", symlinks=True)
    shutil.copyfile(source / "model.sig", copy / "model.sig", follow_symlinks=False)
    listing = list_tree(copy / "model").sha256
    signature = sha256_file(copy / "model.sig")
    if (listing, signature) != (expected, signature_pin):
        raise EvidenceInvalid(
            "The model in the repository is not the one that was admitted.",
            evidence=f"model expected sha256:{expected}, found sha256:{listing}; "
            f"signature expected sha256:{signature_pin}, found sha256:{signature}",
            remedy="Deploy the admitted model again, and find out who changed the repository.",
        )
    _require_only_model_files(copy / "model")
    verify_model_signature(copy / "model", copy / "model.sig", load_trust(load_settings().trust_file))
    return listing


def _require_only_model_files(model: Path) -> None:
    """Refuse a model with files that nothing reads: a settings file or Python module has no business in it."""
    expected = {SIGNATURE, read_signature(model).file}
    found = {path.name for path in model.iterdir()}
    if found != expected:
        raise _not_allowed(f"the model has files that are not served: {sorted(found - expected)[:5]!a}")


def _mapping(value: Any, where: str) -> dict[str, Any]:
    if value is not None and not isinstance(value, dict):
        raise _not_allowed(f"{where} is no object")
    return value or {}


def _not_allowed(why: str) -> PolicyRefused:
    return PolicyRefused(
        "The model's settings are not accepted.",
        evidence=why,
        remedy="Let deploy_model write the settings, or write them as the README of seldon_deployment shows.",
    )
