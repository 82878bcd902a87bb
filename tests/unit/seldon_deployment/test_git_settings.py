"""What the settings of a repository may be, and the files of a folder; commits: tests/services/test_gitops.py."""

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kfp_custody.components._shared import codes
from kfp_custody.components._shared.errors import Misconfigured
from kfp_custody.components._shared.settings import Gitops, Settings, load_settings
from kfp_custody.components.seldon_deployment.parameters import CLUSTERS, GIT, TARGETS
from kfp_custody.components.seldon_deployment.rollout.git_branch import Branch, require_repository
from kfp_custody.components.seldon_deployment.rollout.git_files import Files
from kfp_custody.components.seldon_deployment.rollout.open import open_repository
from kfp_custody.components.seldon_deployment.seldon_v2 import render_model
from unit.seldon_deployment.test_seldon_v2 import ADMITTED, NAME, NAMESPACE, URI

HTTPS = "https://git.example.org/team/models.git"


def test_every_system_in_a_cluster_has_its_git_target() -> None:
    assert set(GIT.values()) == set(CLUSTERS)
    assert set(GIT) < set(TARGETS)


def test_the_environment_says_where_to_commit(tmp_path: Path) -> None:
    given = {
        "CUSTODY_GITOPS_REPOSITORY": HTTPS,
        "CUSTODY_GITOPS_BRANCH": "live",
        "CUSTODY_GITOPS_PATH": "clusters/prod",
        "CUSTODY_GITOPS_TOKEN_FILE": str(tmp_path / "token"),
        "CUSTODY_GITOPS_USER": "oauth2",
    }
    assert load_settings(given).gitops == Gitops(HTTPS, "live", "clusters/prod", tmp_path / "token", "oauth2")
    assert load_settings({}).gitops == Gitops(None, "main", "models", None, "x-access-token")


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        (HTTPS, HTTPS),
        (f"{HTTPS}/", HTTPS),
        ("https://git.example.org:8443/a%20b/_git/x", "https://git.example.org:8443/a%20b/_git/x"),
        ("http://127.0.0.1:3000/models.git", "http://127.0.0.1:3000/models.git"),
        ("http://[::1]:3000/models.git", "http://[::1]:3000/models.git"),
        ("http://localhost/models.git", "http://localhost/models.git"),
        ("/srv/git/models.git", "file:///srv/git/models.git"),
        ("file:///srv/git/models.git", "file:///srv/git/models.git"),
    ],
)
def test_an_address_of_a_repository(address: str, shown: str) -> None:
    assert require_repository(address) == shown


@pytest.mark.parametrize(
    "address",
    [
        None,
        "",
        "https://canary@git.example.org/models.git",
        "https://user:canary@git.example.org/models.git",
        "https://@git.example.org/canary.git",
        "https://git.example.org/models.git?private_token=canary",
        "https://git.example.org/models.git#canary",
        "https://git.example.org/models.git?",
        "http://git.example.org/canary.git",
        "http://127.0.0.1.example.org/canary.git",
        "ssh://git@git.example.org/canary.git",
        "git@git.example.org:team/canary.git",
        "git://git.example.org/canary.git",
        "ext::sh -c canary",
        "https://git.example.org",
        "https://git.example.org/",
        "https://git.example.org//evil.example.org/canary.git",
        "https://git.example.org/a/../canary.git",
        "https://git.example.org:0/canary.git",
        "https://git.example.org:x/canary.git",
        "https:///canary.git",
        "https://git.example.org/canary models.git",
        "https://git.example.org/canary\n.git",
        "file://host/canary.git",
        "models/canary.git",
        "./canary.git",
        "https://[canary/models.git",
    ],
)
def test_an_address_that_is_none_is_refused_and_not_repeated(address: str | None) -> None:
    with pytest.raises(Misconfigured) as refusal:
        require_repository(address)
    assert refusal.value.code == codes.GIT_SETTINGS
    assert "canary" not in str(refusal.value)


def test_settings_do_not_show_an_address_that_nobody_has_looked_at() -> None:
    settings = load_settings({"CUSTODY_GITOPS_REPOSITORY": "https://user:canary@git.example.org/models.git"})
    assert "canary" not in repr(settings)


@pytest.mark.parametrize(
    "path",
    [
        "",
        ".",
        "..",
        "../x",
        "a/../b",
        "a/./b",
        "/a",
        "a/",
        "a//b",
        ".git",
        "a/.git/hooks",
        "~",
        "a b",
        "a\n",
        "ä",
        "-x",
    ],
)
def test_a_path_that_leaves_the_repository_is_refused(settings: Settings, path: str) -> None:
    there = replace(settings, gitops=Gitops(HTTPS, path=path))
    with pytest.raises(Misconfigured, match="CUSTODY_GITOPS_PATH") as refusal:
        open_repository("git-kserve", NAME, there, 5, URI)
    assert refusal.value.code == codes.GIT_SETTINGS


@pytest.mark.parametrize("branch", ["", "a..b", "a b", "a.lock", "a~1", "a:b", "/a", "a/", "a\n", "ä", "@{1}", "a\\b"])
def test_a_branch_that_is_no_name_is_refused(branch: str) -> None:
    with pytest.raises(Misconfigured, match="CUSTODY_GITOPS_BRANCH"):
        Branch(Gitops(HTTPS, branch=branch), time.monotonic() + 5)


@pytest.mark.parametrize(
    ("text", "mode", "user"),
    [
        ("", 0o600, "user"),
        ("canary\nsecond", 0o600, "user"),
        ("canary\t", 0o600, "user"),
        ("canäry", 0o600, "user"),
        ("canary", 0o644, "user"),
        ("canary", 0o600, "a:b"),
        ("canary", 0o600, "a\nb"),
        ("canary", 0o600, "ä"),
    ],
)
def test_a_token_that_cannot_be_sent_or_that_others_may_read_is_refused(
    tmp_path: Path, text: str, mode: int, user: str
) -> None:
    path = tmp_path / "token"
    path.write_text(text)
    path.chmod(mode)
    with pytest.raises(Misconfigured) as refusal:
        Branch(Gitops(HTTPS, token_file=path, user=user), time.monotonic() + 5)
    assert "canary" not in str(refusal.value)


def files(found: dict[str, bytes] | None = None) -> Files:
    return Files(NAMESPACE, "models/x", found or {})


def applied(document: dict[str, Any]) -> dict[str, bytes]:
    store = files()
    store.apply(document)
    return store.written()


def test_what_was_written_is_read_again_and_stays_byte_for_byte() -> None:
    model = render_model(ADMITTED, NAME, URI, NAMESPACE)
    first = applied(model)
    again = files(first)
    assert again.get("Model", model["metadata"]["name"]) == model
    assert again.list("Model", NAME) == [model]
    assert again.list("Model", "other") == []
    again.apply(dict(reversed(model.items())))
    assert again.written() == again.ours() == first


def test_a_file_that_others_formatted_keeps_their_bytes_as_long_as_it_says_the_same() -> None:
    first = applied(render_model(ADMITTED, NAME, URI, NAMESPACE))
    (name,) = (each for each in first if each.startswith("model-"))
    theirs = first[name].replace(b"  name:", b"  'name':")
    assert theirs != first[name]
    store = files({**first, name: theirs})
    store.apply(render_model(ADMITTED, NAME, URI, NAMESPACE))
    assert store.written()[name] == theirs


def test_an_object_that_is_gone_is_not_listed() -> None:
    model = render_model(ADMITTED, NAME, URI, NAMESPACE)
    store = files(applied(model))
    store.delete("Model", model["metadata"]["name"])
    store.delete("Model", "never-there")
    assert list(store.written()) == ["kustomization.yaml"]
    assert set(store.ours()) - set(store.written())
