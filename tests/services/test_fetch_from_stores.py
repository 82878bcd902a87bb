"""fetch_dataset from real stores: what arrives, and what an intruder in the store may do to it. Each is refused."""

import gzip
import json
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from object_stores import KMS_KEY, OTHER_KEY, S3, Folder, ObjectStore, azurite, fake_gcs, seaweedfs

from fetched_sources import Fetcher, dvc_project, write_files
from kfp_custody.components._shared import codes
from kfp_custody.components._shared.digests import list_tree
from kfp_custody.components._shared.errors import CustodyError
from kfp_custody.components._shared.settings import Settings
from kfp_custody.components.data_versioning import retrying
from kfp_custody.components.data_versioning.collecting import collect

pytestmark = pytest.mark.services
ENGINES = {"s3": "s3", "gcs": "gcs", "azure": "azure", "folder": "local"}
FILES = {
    "january.csv": b"a,b\n1,2\n",
    "part/übersicht 二.csv": b"a,b\n3,4\n",
    "part/empty": b"",
    "z.bin": b"z" * 3_000_000,
}
Place = Callable[[], str]


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3]:
    with seaweedfs(tmp_path_factory.mktemp("s3")) as store:
        yield store


@pytest.fixture(scope="module")
def gcs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectStore]:
    with fake_gcs(tmp_path_factory.mktemp("gcs")) as store:
        yield store


@pytest.fixture(scope="module")
def azure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectStore]:
    with azurite(tmp_path_factory.mktemp("azure")) as store:
        yield store


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> ObjectStore:
    return Folder(tmp_path_factory.mktemp("folder"))


@pytest.fixture(params=list(ENGINES))
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def store(kind: str, request: pytest.FixtureRequest) -> ObjectStore:
    found: ObjectStore = request.getfixturevalue(kind)
    return found


@pytest.fixture
def fetcher(tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Fetcher:
    monkeypatch.setattr(retrying, "PAUSE", 0.001)
    return Fetcher(tmp_path, settings)


@pytest.fixture
def prefix(store: ObjectStore, tmp_path: Path) -> str:
    """A dataset of its own for each test, beside one whose name begins alike."""
    name = f"data-{tmp_path.name}"
    for file, data in FILES.items():
        store.put(f"{name}/{file}", data)
    store.put(f"{name}-other/x", b"not of it")
    return name


@pytest.fixture
def pin(tmp_path: Path) -> str:
    return f"sha256:{list_tree(write_files(tmp_path / 'expected', FILES)).sha256}"


def allow(fetcher: Fetcher, store: ObjectStore, kind: str, **more: Any) -> None:
    fetcher.allow({"prefix": store.uri(""), "engine": ENGINES[kind], **store.entry, **more})


def refused(fetcher: Fetcher, uri: str, revision: str, *code: str) -> CustodyError:
    with pytest.raises(CustodyError) as caught:
        fetcher(uri, revision)
    assert caught.value.code in code, caught.value
    assert fetcher.left() == []
    return caught.value


def test_a_dataset_arrives_whole_and_nothing_else(
    fetcher: Fetcher, store: ObjectStore, kind: str, prefix: str, pin: str, tmp_path: Path
) -> None:
    allow(fetcher, store, kind)
    done = fetcher(store.uri(prefix), pin)
    assert list_tree(fetcher.data) == list_tree(tmp_path / "expected") == done.listing
    assert done.metadata()["engine"] == ENGINES[kind]


def test_a_single_object_lies_under_its_own_name(fetcher: Fetcher, store: ObjectStore, kind: str, prefix: str) -> None:
    allow(fetcher, store, kind)
    fetcher(store.uri(f"{prefix}/january.csv"))
    assert [path.name for path in fetcher.data.iterdir()] == ["january.csv"]


def test_logs_of_a_window_are_collected_from_the_store(
    fetcher: Fetcher, store: ObjectStore, kind: str, prefix: str, tmp_path: Path
) -> None:
    lines = [b'{"time": "2026-11-0%dT10:00:00Z", "number": %d}\n' % (day, day) for day in (1, 2, 3)]
    store.put(f"{prefix}-logs/a.jsonl", b"".join(lines))
    store.put(f"{prefix}-logs/old/b.gz", gzip.compress(b"".join(lines)))
    allow(fetcher, store, kind)
    window = ("2026-11-02T00:00:00Z", "2026-11-03T00:00:00Z")
    done = collect(store.uri(f"{prefix}-logs"), *window, fetcher.data, fetcher.evidence, "run", fetcher.settings)
    assert (fetcher.data / "requests.jsonl").read_bytes() == lines[1] * 2
    assert (done.files, done.lines.kept, done.lines.left, done.lines.unreadable) == (2, 2, 4, 0)


# --- an intruder in the store, against the pin ------------------------------------------------------------------------


def tampered(store: ObjectStore, prefix: str) -> None:
    store.put(f"{prefix}/january.csv", b"a,b\n1,3\n")


def swapped(store: ObjectStore, prefix: str) -> None:
    store.put(f"{prefix}/january.csv", FILES["part/übersicht 二.csv"])
    store.put(f"{prefix}/part/übersicht 二.csv", FILES["january.csv"])


def truncated(store: ObjectStore, prefix: str) -> None:
    store.put(f"{prefix}/z.bin", b"z" * 2_999_999)


def missing(store: ObjectStore, prefix: str) -> None:
    store.delete(f"{prefix}/january.csv")


def extra(store: ObjectStore, prefix: str) -> None:
    store.put(f"{prefix}/part/more.csv", b"a,b\n9,9\n")


ATTACKS = (tampered, swapped, truncated, missing, extra)


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.__name__)
def test_a_changed_dataset_is_not_the_pinned_one(
    fetcher: Fetcher, store: ObjectStore, kind: str, prefix: str, pin: str, attack: Callable[[ObjectStore, str], None]
) -> None:
    allow(fetcher, store, kind)
    attack(store, prefix)
    error = refused(fetcher, store.uri(prefix), pin, codes.DATA_PIN)
    assert pin in error.evidence


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.__name__)
def test_a_dataset_that_changes_while_it_is_read_is_refused_without_any_pin(
    fetcher: Fetcher,
    store: ObjectStore,
    kind: str,
    prefix: str,
    attack: Callable[[ObjectStore, str], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from kfp_custody.components.data_versioning import fetching

    allow(fetcher, store, kind)
    receive = fetching.receive

    def attacked(*arguments: Any) -> Any:
        attack(store, prefix)
        return receive(*arguments)

    monkeypatch.setattr(fetching, "receive", attacked)
    refused(fetcher, store.uri(prefix), "", codes.OBJECT_CHANGED, codes.OBJECT_MISSING, codes.OBJECT_SIZE)


def test_what_is_not_there_or_may_not_be_read_is_refused(
    fetcher: Fetcher, store: ObjectStore, kind: str, prefix: str
) -> None:
    allow(fetcher, store, kind)
    refused(fetcher, store.uri(f"{prefix}/none"), "", codes.OBJECT_MISSING)


# --- DVC's objects in the store ---------------------------------------------------------------------------------------


@pytest.fixture
def project(store: ObjectStore, tmp_path: Path) -> tuple[Path, str, dict[str, str]]:
    """A repository of a real `dvc add`, whose objects `dvc push` wrote to a folder, copied to the store."""
    commit = dvc_project(
        tmp_path / "project", tmp_path / "remote", {"data/table": FILES, "one.csv": FILES["january.csv"]}
    )
    keys = {}
    for path in (tmp_path / "remote").rglob("*"):
        if path.is_file():
            key = f"dvc-{tmp_path.name}/{path.relative_to(tmp_path / 'remote')}"
            store.put(key, path.read_bytes())
            keys[path.name if path.parent.parent.name != "md5" else path.parent.name + path.name] = key
    return tmp_path / "project-git", commit, keys


def md5(data: bytes) -> str:
    import hashlib

    return hashlib.md5(data, usedforsecurity=False).hexdigest()


def test_dvc_data_arrives_from_the_store(
    fetcher: Fetcher, store: ObjectStore, kind: str, project: tuple[Path, str, dict[str, str]], pin: str, tmp_path: Path
) -> None:
    repository, commit, _ = project
    dvc(fetcher, store, repository, tmp_path)
    done = fetcher(f"git+file://{repository}//data/table", f"{commit}@{pin}")
    assert list_tree(fetcher.data) == list_tree(tmp_path / "expected") == done.listing
    assert done.commit == commit


def dvc(fetcher: Fetcher, store: ObjectStore, repository: Path, tmp_path: Path) -> None:
    remote = store.uri(f"dvc-{tmp_path.name}")
    fetcher.allow({"prefix": f"git+file://{repository.parent}/", "engine": "dvc", "remote": remote, **store.entry})


@pytest.mark.parametrize(
    ("attack", "code"),
    [
        ("tampered", codes.OBJECT_DIGEST),
        ("swapped", codes.OBJECT_DIGEST),
        ("truncated", codes.OBJECT_DIGEST),
        ("missing", codes.OBJECT_MISSING),
        ("extra", codes.OBJECT_DIGEST),
    ],
)
def test_dvc_objects_that_were_changed_in_the_store_are_refused(
    fetcher: Fetcher,
    store: ObjectStore,
    kind: str,
    project: tuple[Path, str, dict[str, str]],
    tmp_path: Path,
    attack: str,
    code: str,
) -> None:
    repository, commit, keys = project
    january, overview, z = (keys[md5(FILES[name])] for name in ("january.csv", "part/übersicht 二.csv", "z.bin"))
    (listing,) = (key for key in keys.values() if key.endswith(".dir"))
    if attack == "tampered":
        store.put(january, b"a,b\n1,3\n")
    elif attack == "swapped":
        store.put(january, FILES["part/übersicht 二.csv"])
        store.put(overview, FILES["january.csv"])
    elif attack == "truncated":
        store.put(z, b"z" * 2_999_999)
    elif attack == "missing":
        store.delete(january)
    else:  # a file more in the folder's own list
        entries = [{"md5": md5(data), "relpath": name} for name, data in FILES.items()]
        store.put(listing, json.dumps([*entries, {"md5": md5(b""), "relpath": "zz"}]).encode())
    dvc(fetcher, store, repository, tmp_path)
    refused(fetcher, f"git+file://{repository}//data/table", commit, code)


# --- encryption at rest, by the store's own word ----------------------------------------------------------------------

NONE = {"ContentType": "text/csv"}
SSE = {"ServerSideEncryption": "AES256"}
KMS = {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": KMS_KEY}
OTHER = {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": OTHER_KEY}
CMK = {"level": "cmk", "key": KMS_KEY}


@pytest.mark.parametrize(
    ("how", "demanded", "accepted"),
    [
        (NONE, {"level": "any"}, True),
        (NONE, {"level": "sse"}, False),
        (NONE, CMK, False),
        (SSE, {"level": "sse"}, True),
        (SSE, CMK, False),
        (KMS, {"level": "sse"}, True),
        (KMS, CMK, True),
        (OTHER, CMK, False),
        (OTHER, {"level": "cmk", "key": "somebody-*"}, True),
    ],
)
def test_each_object_must_be_encrypted_as_demanded(
    fetcher: Fetcher, s3: S3, tmp_path: Path, how: dict[str, str], demanded: dict[str, str], accepted: bool
) -> None:
    """SeaweedFS encrypts for real: SSE-S3, and SSE-KMS with keys that never leave OpenBao."""
    name = f"secret-{tmp_path.name}"
    s3.put(f"{name}/a.csv", b"a\n1\n", **KMS)
    s3.put(f"{name}/b.csv", b"b\n2\n", **how)
    fetcher.allow({"prefix": s3.uri(""), "engine": "s3", **s3.entry, "encryption": demanded})
    if accepted:
        fetcher(s3.uri(f"{name}/b.csv"))
        record = json.loads((fetcher.evidence / "fetch-manifest.json").read_bytes())
        assert record["files"][0]["storage"].get("encryption") == how.get("ServerSideEncryption")
        assert (fetcher.data / "b.csv").read_bytes() == b"b\n2\n"
    else:
        error = refused(fetcher, s3.uri(name), "", codes.NOT_ENCRYPTED)
        assert "'b.csv'" in error.evidence


@pytest.mark.parametrize("kind", ["gcs", "azure"])
def test_a_key_of_ones_own_is_refused_where_the_store_names_none(
    fetcher: Fetcher, store: ObjectStore, kind: str, prefix: str
) -> None:
    """Both emulators say AES256 of every object and name no key: enough for sse, and never for cmk."""
    allow(fetcher, store, kind, encryption={"level": "sse"})
    fetcher(store.uri(f"{prefix}/january.csv"))
    (fetcher.data / "january.csv").unlink()
    fetcher.data.rmdir()
    key = "projects/p/locations/l/keyRings/r/cryptoKeys/k" if kind == "gcs" else "scope:custody"
    allow(fetcher, store, kind, encryption={"level": "cmk", "key": key})
    with pytest.raises(CustodyError) as caught:
        fetcher(store.uri(f"{prefix}/january.csv"))
    assert caught.value.code == codes.NOT_ENCRYPTED


# --- no secret anywhere -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["s3", "azure"])
def test_credentials_are_in_no_evidence_message_or_log(
    fetcher: Fetcher, store: ObjectStore, kind: str, prefix: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    allow(fetcher, store, kind)
    fetcher(store.uri(prefix))
    error = refused_after(fetcher, store.uri(f"{prefix}/none"))
    written = b"".join(path.read_bytes() for path in fetcher.root.rglob("out/**/*") if path.is_file())
    assert store.secrets
    for secret in store.secrets:
        assert secret.encode() not in written
        assert secret not in error
        assert secret not in "".join(record.getMessage() for record in caplog.records if record.name.startswith("kfp"))


def refused_after(fetcher: Fetcher, uri: str) -> str:
    import traceback
    from dataclasses import replace

    other = replace(fetcher, root=fetcher.root / "other")
    with pytest.raises(CustodyError) as caught:
        other(uri)
    return "".join(traceback.format_exception(caught.value))


def test_wrong_credentials_are_refused_and_not_quoted(fetcher: Fetcher, s3: S3, tmp_path: Path) -> None:
    from fetched_sources import secret_file

    wrong = secret_file(tmp_path / "wrong", json.dumps({"access_key_id": s3.access, "secret_access_key": "w" * 40}))
    fetcher.allow({"prefix": s3.uri(""), "engine": "s3", "endpoint": s3.endpoint, "credentials": wrong})
    error = refused(fetcher, s3.uri("anything"), "", codes.STORE_DENIED)
    assert "w" * 40 not in str(error)
