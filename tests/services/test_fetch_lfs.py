"""Git LFS from a Git server over HTTP. The Git server is dulwich's own; of LFS there is no small server, so the batch
API of the specification is answered here, with what an intruder there may do."""

import hashlib
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import pytest
from dulwich.repo import Repo
from dulwich.server import DictBackend, UploadPackHandler
from dulwich.web import GunzipFilter, HTTPGitApplication, LimitedInputFilter

from fetched_sources import Fetcher, commit_all, secret_file, write_files
from kfp_custody.components._shared import codes
from kfp_custody.components._shared.errors import CustodyError
from kfp_custody.components._shared.settings import Settings
from kfp_custody.components.data_versioning import retrying

pytestmark = pytest.mark.services
FILES = {"january.csv": b"a,b\n1,2\n" * 1000, "part/übersicht.csv": b"a,b\n3,4\n" * 500}
HEAD = "version https://git-lfs.github.com/spec/v1\n"
PASSWORD = "canary-of-the-lfs-server"


class Threads(ThreadingMixIn, WSGIServer):
    """A thread for each connection: a client may keep one open and begin another."""

    daemon_threads = True


@dataclass
class Lfs:
    """An LFS server: objects by digest, and what it does wrong."""

    url: str = ""
    objects: dict[str, bytes] = field(default_factory=dict)
    href: str = ""
    redirect: str = ""
    wrong_size: bool = False
    seen: list[tuple[str, str, str]] = field(default_factory=list)
    """Method, path and Authorization of each request."""


@pytest.fixture
def lfs() -> Iterator[Lfs]:
    server = Lfs()

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            pass

        def answer(self, status: int, body: bytes, **headers: str) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_POST(self) -> None:
            server.seen.append(("POST", self.path, self.headers.get("Authorization", "")))
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["objects"]
            found = []
            for one in asked:
                if one["oid"] not in server.objects:
                    found.append({**one, "error": {"code": 404, "message": "gone"}})
                    continue
                href = f"{server.href or server.url}/object/{one['oid']}"
                size = one["size"] + server.wrong_size
                found.append({"oid": one["oid"], "size": size, "actions": {"download": {"href": href}}})
            self.answer(200, json.dumps({"objects": found}).encode())

        def do_GET(self) -> None:
            server.seen.append(("GET", self.path, self.headers.get("Authorization", "")))
            if server.redirect:
                self.answer(302, b"", Location=server.redirect)
                return
            self.answer(200, server.objects[self.path.rpartition("/")[2]])

    listening = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.url = f"http://127.0.0.1:{listening.server_address[1]}/lfs"
    threading.Thread(target=listening.serve_forever, daemon=True).start()
    yield server
    listening.shutdown()
    listening.server_close()


@dataclass
class Project:
    uri: str
    commit: str
    oids: dict[str, str]


@pytest.fixture
def project(lfs: Lfs, tmp_path: Path) -> Iterator[Project]:
    """A repository with pointers, served over HTTP; its own configuration names another LFS server."""
    root = tmp_path / "repository"
    oids = {name: hashlib.sha256(data).hexdigest() for name, data in FILES.items()}
    lfs.objects |= {oids[name]: data for name, data in FILES.items()}
    pointers = {
        f"data/{name}": f"{HEAD}oid sha256:{oids[name]}\nsize {len(data)}\n".encode() for name, data in FILES.items()
    }
    hostile = b"[lfs]\n\turl = http://127.0.0.1:9/evil\n"
    commit = commit_all(write_files(root, {**pointers, "data/notes.txt": b"plain\n", ".lfsconfig": hostile}))

    class Quiet(WSGIRequestHandler):
        def log_message(self, *_: Any) -> None:
            pass

    class Handler(UploadPackHandler):
        """This server alone demands of clients that they take thin packs; Git's own leaves that to them."""

        @classmethod
        def required_capabilities(cls) -> list[bytes]:
            return [one for one in super().required_capabilities() if one != b"thin-pack"]

    backend = DictBackend({"/data.git": Repo(str(root))})
    application = HTTPGitApplication(backend, handlers={b"git-upload-pack": Handler})
    chain = GunzipFilter(LimitedInputFilter(application))
    listening = make_server("127.0.0.1", 0, chain, Threads, Quiet)
    threading.Thread(target=listening.serve_forever, daemon=True).start()
    yield Project(f"git+http://127.0.0.1:{listening.server_port}/data.git//data", commit, oids)
    listening.shutdown()
    listening.server_close()


@pytest.fixture
def fetcher(tmp_path: Path, settings: Settings, lfs: Lfs, project: Project, monkeypatch: pytest.MonkeyPatch) -> Fetcher:
    monkeypatch.setattr(retrying, "PAUSE", 0.001)
    made = Fetcher(tmp_path, settings)
    secret = secret_file(tmp_path / "lfs-secret", json.dumps({"username": "reader", "password": PASSWORD}))
    base = project.uri.partition("/data.git")[0] + "/"
    made.allow({"prefix": base, "engine": "git-lfs", "remote": lfs.url, "credentials": secret})
    return made


def refused(fetcher: Fetcher, project: Project, *code: str) -> CustodyError:
    with pytest.raises(CustodyError) as caught:
        fetcher(project.uri, project.commit)
    assert caught.value.code in code, caught.value
    assert fetcher.left() == []
    assert PASSWORD not in str(caught.value)
    return caught.value


def test_objects_and_what_is_in_git_arrive_together(fetcher: Fetcher, project: Project, lfs: Lfs) -> None:
    done = fetcher(project.uri, project.commit)
    for name, data in {**FILES, "notes.txt": b"plain\n"}.items():
        assert (fetcher.data / name).read_bytes() == data
    assert done.commit == project.commit
    record = json.loads((fetcher.evidence / "fetch-manifest.json").read_bytes())
    assert {file["path"]: file.get("oid") for file in record["files"]} == {**project.oids, "notes.txt": None}
    assert {method for method, _, _ in lfs.seen} == {"POST", "GET"}
    assert PASSWORD.encode() not in b"".join(path.read_bytes() for path in fetcher.evidence.iterdir())


def test_credentials_go_to_the_server_alone(fetcher: Fetcher, project: Project, lfs: Lfs) -> None:
    """The batch API is asked with them; an address that it hands out brings its own headers, and gets no others."""
    fetcher(project.uri, project.commit)
    assert {bool(authorization) for method, _, authorization in lfs.seen if method == "POST"} == {True}
    assert {bool(authorization) for method, _, authorization in lfs.seen if method == "GET"} == {False}


@pytest.mark.parametrize(
    ("attack", "code"),
    [
        ("tampered", codes.OBJECT_DIGEST), ("swapped", codes.OBJECT_SIZE), ("truncated", codes.OBJECT_SIZE),
        ("longer", codes.OBJECT_SIZE), ("missing", codes.OBJECT_MISSING), ("announced", codes.OBJECT_SIZE),
    ],
)  # fmt: skip
def test_an_object_that_is_not_the_committed_one_is_refused(
    fetcher: Fetcher, project: Project, lfs: Lfs, attack: str, code: str
) -> None:
    one, other = project.oids["january.csv"], project.oids["part/übersicht.csv"]
    if attack == "tampered":
        lfs.objects[one] = lfs.objects[one].replace(b"1,2", b"1,3", 1)
    elif attack == "swapped":
        lfs.objects[one], lfs.objects[other] = lfs.objects[other], lfs.objects[one]
    elif attack == "truncated":
        lfs.objects[one] = lfs.objects[one][:-1]
    elif attack == "longer":
        lfs.objects[one] += b"x"
    elif attack == "missing":
        del lfs.objects[one]
    else:
        lfs.wrong_size = True
    refused(fetcher, project, code)


def test_an_address_on_another_host_is_not_asked(fetcher: Fetcher, project: Project, lfs: Lfs) -> None:
    lfs.href = "http://127.0.0.1:9/elsewhere"
    refused(fetcher, project, codes.SENT_ELSEWHERE)


def test_a_redirect_is_not_followed(fetcher: Fetcher, project: Project, lfs: Lfs) -> None:
    lfs.redirect = "http://127.0.0.1:9/elsewhere"
    refused(fetcher, project, codes.SENT_ELSEWHERE)


def test_a_pin_of_the_whole_counts_as_well(fetcher: Fetcher, project: Project) -> None:
    with pytest.raises(CustodyError) as caught:
        fetcher(project.uri, f"{project.commit}@sha256:{'0' * 64}")
    assert caught.value.code == codes.DATA_PIN
    assert fetcher.left() == []
