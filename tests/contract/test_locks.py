"""The locks: hashed, without a package index in them, and an image's libraries in the versions of the laptop's."""

import re
import sys
import tomllib
from functools import cache
from pathlib import Path

import pytest

from kfp_custody.components import CATALOG

ROOT = Path(__file__).resolve().parents[2]
LOCKS = sorted((ROOT / "images/locks").glob("*.txt"))
ROOMS = [room.replace("_", "-") for room in dict.fromkeys((*CATALOG.values(), "serving"))]
ADDITIONS = ["with-accurate", "with-aws", "with-azure", "with-dlp", "with-gcp"]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


@cache
def versions(name: str) -> dict[str, str]:
    lines = (ROOT / f"images/locks/{name}.txt").read_text().splitlines()
    pinned = [re.fullmatch(r"([a-z0-9-]+)(?:\[[^\]]*\])?==([^ ]+) .*\\", line) for line in lines if line[:1].isalnum()]
    return {found[1]: found[2] for found in pinned if found}


def named(requirement: str) -> str:
    return re.sub(r"[-_.]+", "-", re.split(r"[\[<>=!~ ;]", requirement)[0]).lower()


def test_there_is_a_lock_for_every_image_and_nothing_else() -> None:
    assert [path.stem for path in LOCKS] == sorted(
        ["build", "engines", "exports", "kfp", "local", "uv", *ROOMS, *ADDITIONS]
    )


@pytest.mark.parametrize("path", LOCKS, ids=lambda path: path.stem)
def test_a_lock_has_hashes_and_names_no_index(path: Path) -> None:
    text = path.read_text()
    packages = re.findall(r"^[a-z0-9].*", text, flags=re.MULTILINE)
    assert packages
    assert [line for line in packages if not line.endswith("\\")] == []  # each goes on with its hashes
    assert len(packages) <= len(re.findall(r"--hash=sha256:[0-9a-f]{64}", text))
    assert not re.search(r"://|index-url|find-links", text)


@pytest.mark.parametrize("name", [*ROOMS, *ADDITIONS, "kfp"])
def test_an_image_has_the_versions_that_everything_else_was_tested_with(name: str) -> None:
    tested = versions("local")
    assert {package: version for package, version in versions(name).items() if tested.get(package) != version} == {}


@pytest.mark.parametrize("name", ROOMS)
def test_a_rooms_lock_holds_its_extra_and_every_signer_and_not_kfp(name: str) -> None:
    sys.path.insert(0, str(ROOT / "scripts"))
    try:
        from lock import SIGNERS, requirements
    finally:
        sys.path.pop(0)
    own = [line for line in PROJECT["project"]["dependencies"] if not line.startswith("kfp")]
    wanted = requirements(PROJECT["project"]["optional-dependencies"], own, (name, *SIGNERS)).splitlines()
    locked = versions(name)
    assert {named(line) for line in wanted} - set(locked) == set()
    # The generated client of its server is a package by itself.
    assert not {package for package in locked if package.startswith("kfp")} - {"kfp-server-api"}


def test_another_model_server_verifies_and_loads_in_the_versions_of_the_laptop() -> None:
    names = [named(line) for line in PROJECT["project"]["optional-dependencies"]["exported"]]
    locked, tested = versions("exports"), versions("local")
    for name in (*names, "cryptography", "securesystemslib", "sigstore-models", "tuf"):
        assert locked[name] == tested[name], name
    assert not {"kfp", "mlserver"} & set(locked)
