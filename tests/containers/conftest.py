"""What the tests of images share: a running engine, and the images that `make containers` built."""

import io
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from building import ROOT

from kfp_custody.components import CATALOG
from kfp_custody.components._shared.images import image
from kfp_custody.pipelines.containers import Grant, connect, run_locked_down

ROOMS = [*dict.fromkeys(CATALOG.values()), "serving"]
InImage = Callable[..., tuple[int, str]]


@pytest.fixture(scope="session")
def engine() -> Iterator[Any]:
    """A client of the running engine; without one these tests fail."""
    client = connect()
    yield client
    client.close()


@pytest.fixture(scope="session")
def in_image(engine: Any) -> InImage:
    """Run Python code in an image, locked down as a stage is: returns exit code and log."""

    def run(name: str, code: str, grant: Grant | None = None) -> tuple[int, str]:
        log = io.StringIO()
        status = run_locked_down(engine, name, ["python3", "-c", code], {}, grant or Grant(), log)
        return status, log.getvalue()

    return run


@pytest.fixture(scope="session")
def summary() -> dict[str, Any]:
    """The summary of the run in containers that `make containers` did before it came to these tests."""
    return json.loads((ROOT / "build/containers/summary.json").read_text())


@pytest.fixture(params=ROOMS)
def name(request: pytest.FixtureRequest) -> str:
    """Each image, by name."""
    return image(request.param)
