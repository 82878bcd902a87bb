"""Launcher of MLServer with our repository: `python -I -m kfp_custody.components.seldon_deployment.serving.server`.

`mlserver start` puts its folder and the working directory on `sys.path` and reads a `settings.json` from the folder; a
file dropped there would run or reconfigure the server. Here the configuration is the environment (`MLSERVER_*`) alone,
and models come only through the repository API, which verifies; or it is the one that the environment pins.

MLServer's own metrics take whatever name or path a client asks for as a label, so that strangers could fill the memory
of the server and of Prometheus. They are switched off; `telemetry.py` says what is exported on the metrics port.
"""

import asyncio
import os
import sys
from typing import Any


async def _serve() -> None:
    from mlserver import MLServer
    from mlserver.errors import MLServerError
    from mlserver.settings import Settings
    from prometheus_client import start_http_server

    from kfp_custody.components.seldon_deployment.serving import telemetry
    from kfp_custody.components.seldon_deployment.serving.pinned import pinned_model
    from kfp_custody.components.seldon_deployment.serving.repository import VerifiedRepository
    from kfp_custody.components.seldon_deployment.serving.runtime import request_log

    settings = Settings(_env_file=None)
    if settings.model_repository_implementation is not VerifiedRepository or settings.parallel_workers:
        # Worker processes would load models by another path, and crash with newer event loops.
        sys.exit("refused to start: only VerifiedRepository and parallel_workers 0 are accepted")
    settings.metrics_endpoint = None
    request_log()  # a file that cannot be written is told now, and not at the first request

    class KnownModels(MLServer):
        """Tells an unknown name before anything is counted under it."""

        def _create_servers(self) -> None:
            infer = self._data_plane.infer

            async def of_known(payload: Any, name: str, version: str | None = None) -> Any:
                await self._model_registry.get_model(name, version)
                return await infer(payload, name, version)

            self._data_plane.infer = of_known
            super()._create_servers()

    models = []
    if pinned := pinned_model():
        try:
            models = await VerifiedRepository(settings.model_repository_root).find(pinned[0])
        except MLServerError as error:
            sys.exit(f"refused to start: {error}")
    start_http_server(settings.metrics_port, settings.host, telemetry.REGISTRY)
    await KnownModels(settings).start(models)


def main() -> None:
    """Serve until SIGTERM."""
    os.umask(0o077)
    asyncio.run(_serve())


if __name__ == "__main__":
    main()
