"""A fetcher for each test."""

from pathlib import Path

import pytest

from fetched_sources import Fetcher
from kfp_custody.components._shared.settings import Settings
from kfp_custody.components.data_versioning import retrying


@pytest.fixture
def fetcher(tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Fetcher:
    monkeypatch.setattr(retrying, "PAUSE", 0.001)
    return Fetcher(tmp_path, settings)
