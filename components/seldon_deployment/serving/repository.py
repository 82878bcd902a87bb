"""The model repository of our MLServer: decides which code may run and verifies a model before it is loaded.

MLServer's own repository imports whatever class a model's `model-settings.json` names, with the model's folder first on
`sys.path`, before any runtime could verify anything. This one

- takes the settings from a fixed depth (never from inside a model) and only the fields it knows,
- accepts one runtime, by an allow-list, and no environment of the model's own,
- reads the model into memory, once, and verifies these very bytes: the pinned listing and signature digests, then the
  OpenSSF model signature against the trust file; what is loaded are they, and no file,
- hands MLServer settings without a source path, so that no folder gets on `sys.path`.

Callers of the unauthenticated repository API learn only that a model was refused; the reason is in the log.
"""

import asyncio
from pathlib import Path
from typing import Any

from mlserver.errors import MLServerError, ModelNotFound
from mlserver.logging import logger
from mlserver.repository import ModelRepository
from mlserver.settings import ModelParameters, ModelSettings

from kfp_custody.components._shared.documents import DocumentFault, parse_json
from kfp_custody.components._shared.errors import CustodyError
from kfp_custody.components.seldon_deployment.serving.admitted import hand_over
from kfp_custody.components.seldon_deployment.serving.names import RUNTIME, SETTINGS
from kfp_custody.components.seldon_deployment.serving.pinned import pinned_model
from kfp_custody.components.seldon_deployment.serving.telemetry import model_refused
from kfp_custody.components.seldon_deployment.serving.verified import not_allowed, verified_files

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
        self._pinned = pinned_model()

    async def list(self) -> Models:
        """Return what this process verified. Nothing is loaded by being there: models are loaded by name."""
        return [*self._verified.values()]

    async def find(self, name: str) -> Models:
        """Verify a model and return settings by which the runtime takes the verified bytes.

        Raises:
            ModelNotFound: 404: no settings have that name.
            MLServerError: 422 with no detail: the model was refused.
        """
        try:
            self._verified[name] = await asyncio.to_thread(self._admit, name)
        except (CustodyError, OSError) as error:
            model_refused()
            logger.error("refused %.80r: %s", name, " ".join(str(error).split()))
            raise MLServerError(REFUSED, 422) from error
        return [self._verified[name]]

    def _admit(self, name: str) -> ModelSettings:
        folder, document = self._settings_of(name)
        parameters = _mapping(document.get("parameters"), "parameters")
        if document.get("implementation") not in ALLOWED_RUNTIMES:
            raise not_allowed(f"its implementation is not one of {sorted(ALLOWED_RUNTIMES)}")
        if any(parameters.get(key) for key in _OWN_ENVIRONMENT):
            raise not_allowed("it brings its own Python environment")
        source = (folder / str(parameters.get("uri") or ".")).resolve()
        if not source.is_relative_to(folder):
            raise not_allowed("its uri leads out of its folder")
        pins = _mapping(parameters.get("extra"), "parameters.extra")
        listing, files = verified_files(source, pins)
        logger.info("verified %r: sha256:%s", name, listing)
        extra = {"admitted": hand_over(name, files), "listing_sha256": listing}
        return ModelSettings(
            name=name,
            implementation=RUNTIME,
            parameters=ModelParameters(version=parameters.get("version"), extra=extra),
        )

    def _settings_of(self, name: str) -> tuple[Path, dict[str, Any]]:
        if self._pinned is not None:
            own, pins = self._pinned
            if name != own:
                raise ModelNotFound(name[:80])
            return self._root, {"implementation": RUNTIME, "parameters": {"uri": ".", "extra": pins}}
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
            raise not_allowed("several settings have its name, or they lie outside the repository")
        return found[0]


def _mapping(value: Any, where: str) -> dict[str, Any]:
    if value is not None and not isinstance(value, dict):
        raise not_allowed(f"{where} is no object")
    return value or {}
