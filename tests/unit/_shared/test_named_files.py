"""Files that ship with a room and files of the platform."""

from pathlib import Path

import pytest

from kfp_custody.components._shared.documents import DocumentFault
from kfp_custody.components._shared.named_files import read_named

SHIPPED = "kfp_custody.components.drift_detection.thresholds"


def test_a_name_is_a_shipped_file_and_a_path_the_platforms(tmp_path: Path) -> None:
    assert b"version: 1" in read_named(SHIPPED, "default")
    (tmp_path / "default").write_bytes(b"ours")
    assert read_named(SHIPPED, str(tmp_path / "default")) == b"ours"


def test_a_path_may_lead_through_links_as_those_of_a_config_map_do(tmp_path: Path) -> None:
    (tmp_path / "..data").mkdir()
    (tmp_path / "..data" / "limits.yaml").write_bytes(b"ours")
    (tmp_path / "limits.yaml").symlink_to("..data/limits.yaml")
    assert read_named(SHIPPED, str(tmp_path / "limits.yaml")) == b"ours"


@pytest.mark.parametrize(
    "name", ["", "nothing", "/nowhere/limits.yaml", "de\0fault", "/tmp/de\0fault", "/", "../default"]
)
def test_what_cannot_be_read_is_said_with_what_ships(name: str) -> None:
    with pytest.raises(DocumentFault, match=r"cannot be read \(.+\); shipped are: default$"):
        read_named(SHIPPED, name)
