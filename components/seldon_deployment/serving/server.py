"""Launcher of MLServer with our repository: `python -I -m kfp_custody.components.seldon_deployment.serving.server`.

`mlserver start` puts its folder and the working directory on `sys.path` and reads a `settings.json` from the folder; a
file dropped there would run or reconfigure the server. Here the configuration is the environment (`MLSERVER_*`) alone,
and models come only through the repository API, which verifies.
"""

import asyncio
import os
import sys


async def _serve() -> None:
    from mlserver import MLServer
    from mlserver.settings import Settings

    from kfp_custody.components.seldon_deployment.serving.repository import VerifiedRepository

    settings = Settings(_env_file=None)
    if settings.model_repository_implementation is not VerifiedRepository or settings.parallel_workers:
        # Worker processes would load models by another path, and crash with newer event loops.
        sys.exit("refused to start: only VerifiedRepository and parallel_workers 0 are accepted")
    await MLServer(settings).start([])


def main() -> None:
    """Serve until SIGTERM."""
    os.umask(0o077)
    asyncio.run(_serve())


if __name__ == "__main__":
    main()
