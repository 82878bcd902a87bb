"""One genuine release for all tests of the command; each test changes a copy."""

import shutil
from pathlib import Path

import pytest
from releases import Release, build

from genuine_chain import Site


@pytest.fixture(scope="session")
def genuine(tmp_path_factory: pytest.TempPathFactory) -> Release:
    site = Site(tmp_path_factory.mktemp("site"))
    return Release(build(site), site)


@pytest.fixture
def release(genuine: Release, tmp_path: Path) -> Release:
    shutil.copytree(genuine.root, tmp_path / "release", symlinks=True)
    return Release(tmp_path / "release", genuine.site)
