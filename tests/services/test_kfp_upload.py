"""kfp-custody upload, against a stand-in of the KFP API (`kfp_api.py`)."""

from pathlib import Path

import pytest
from kfp_api import Fault, KfpApi
from kfp_command import Command, FileMaker, refused

from kfp_custody.components._cli.kfp_api.package import load_package


def test_the_first_upload_makes_the_pipeline_and_one_version(api: KfpApi, custody: Command) -> None:
    done = custody("upload", "fraud_detection")
    assert done.exit_code == 0, done.stderr
    (pipeline,), (version,) = api.state.pipelines.values(), api.state.versions.values()
    assert pipeline["name"] == "fraud-detection"
    assert version["name"] == load_package("fraud_detection").version
    assert set(version["pipeline_spec"]) == {"pipeline_spec", "platform_spec"}
    assert f"{api.url}/#/pipelines/details/{pipeline['pipeline_id']}" in done.stdout


def test_the_description_is_markdown_and_explains_the_parameters(api: KfpApi, custody: Command) -> None:
    """The form for a run shows no descriptions, and the server takes none out of the YAML."""
    custody("upload", "fraud_detection")
    for entry in (*api.state.pipelines.values(), *api.state.versions.values()):
        assert entry["description"].startswith("Fetch, mask, attest, train, sign")
        assert "| `data_uri` | required | The raw training month" in entry["description"]
        assert "| `gate_policy` | baseline |" in entry["description"]


def test_the_same_bytes_again_change_nothing(api: KfpApi, custody: Command) -> None:
    custody("upload", "fraud_detection")
    api.asked.clear()
    done = custody("upload", "fraud_detection")
    assert done.exit_code == 0
    assert "is there already, with the same content" in done.stdout
    assert {method for method, *_ in api.asked} == {"GET"}


def test_other_bytes_become_another_version_of_the_same_pipeline(
    api: KfpApi, custody: Command, pipeline_file: FileMaker
) -> None:
    for image in ("python:3.11", "python:3.12"):
        assert custody("upload", pipeline_file(image=image)).exit_code == 0
    assert len(api.state.pipelines) == 1
    assert len({version["name"] for version in api.state.versions.values()}) == 2


def test_a_version_never_changes(api: KfpApi, custody: Command, pipeline_file: FileMaker) -> None:
    custody("upload", pipeline_file(), "--version", "v1")
    said = refused(custody("upload", pipeline_file(image="evil:latest"), "--version", "v1"), "CUS-E599")
    assert "Choose another --version" in said
    (version,) = api.state.versions.values()
    assert "evil" not in str(version)


def test_the_same_meaning_under_the_same_name_is_the_same(
    api: KfpApi, custody: Command, pipeline_file: FileMaker
) -> None:
    """The server keeps no comments, so they cannot tell two versions apart."""
    custody("upload", pipeline_file(), "--version", "v1")
    again = custody("upload", pipeline_file(head="# another comment\n"), "--version", "v1")
    assert again.exit_code == 0
    assert len(api.state.versions) == 1


def test_name_version_and_description_can_be_chosen(api: KfpApi, custody: Command, tmp_path: Path) -> None:
    (tmp_path / "about.md").write_text("# About\n\nRead *this*.")
    chosen = ("--name", "cards", "--version", "2026-01", "--description", tmp_path / "about.md")
    assert custody("upload", "promotion", *chosen).exit_code == 0
    (pipeline,), (version,) = api.state.pipelines.values(), api.state.versions.values()
    assert (pipeline["name"], version["name"], version["description"]) == (
        "cards",
        "2026-01",
        "# About\n\nRead *this*.",
    )
    custody("upload", "promotion", "--name", "other", "--description", "Just text.")
    assert list(api.state.versions.values())[-1]["description"] == "Just text."


def test_two_at_once_end_in_a_conflict_that_says_what_to_do(api: KfpApi, custody: Command) -> None:
    api.faults.append(Fault("POST", "/pipelines", 409, message="Already exist error"))
    assert "run the command again" in refused(custody("upload", "fraud_detection"), "CUS-E476")
    assert custody("upload", "fraud_detection").exit_code == 0


@pytest.mark.parametrize(
    "arguments",
    [("--name", "ü" * 65), ("--version", "v" * 128), ("--name", " "), ("--version", "a\nb")],
    ids=["pipeline", "version", "blank", "line-end"],
)
def test_a_name_that_does_not_fit_is_not_sent(api: KfpApi, custody: Command, arguments: tuple[str, ...]) -> None:
    refused(custody("upload", "fraud_detection", *arguments), "CUS-E148")
    assert [entry for entry in api.asked if entry[0] != "GET"] == []


def test_the_longest_names_are_taken(api: KfpApi, custody: Command) -> None:
    assert custody("upload", "fraud_detection", "--name", "ü" * 64, "--version", "v" * 127).exit_code == 0


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "no pipelineInfo"),
        ("- a list", "no pipelineInfo"),
        ("pipelineInfo: {name: x}", "no root"),
        ("kind: Workflow\napiVersion: argoproj.io/v1alpha1", "Argo workflow"),
        ("a: [", "cannot be read as YAML"),
        ("pipelineInfo: {name: x}\nroot: {}\n---\n{}\n---\n{}", "no root"),
        ("pipelineInfo: {name: x}\nroot: {}\nunknown: 1", "has no field named"),
        ("\x00", "cannot be read as YAML"),
    ],
)
def test_what_is_no_pipeline_is_not_sent(api: KfpApi, custody: Command, tmp_path: Path, text: str, why: str) -> None:
    path = tmp_path / "wrong.yaml"
    path.write_text(text)
    assert why in refused(custody("upload", path), "CUS-E141")
    assert [entry for entry in api.asked if entry[0] != "GET"] == []


@pytest.mark.parametrize("pipeline", ["nothing_like_it", "missing.yaml", "."])
def test_a_pipeline_that_is_not_there_is_named(api: KfpApi, custody: Command, pipeline: str) -> None:
    said = refused(custody("upload", pipeline), "CUS-E141")
    assert "fraud_detection, promotion" in said
    assert api.asked == []


def test_a_description_that_is_no_text(api: KfpApi, custody: Command, tmp_path: Path) -> None:
    (tmp_path / "image.png").write_bytes(b"\x89PNG\xff")
    refused(custody("upload", "fraud_detection", "--description", tmp_path / "image.png"), "CUS-E506")
