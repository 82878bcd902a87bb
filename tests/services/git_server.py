"""A Git server for tests: the real `git http-backend` behind HTTP with a token, and bare repositories on disk.

Only what a server may do wrong is ours: to refuse, to be slow, to redirect, to let somebody else push in between.
"""

import base64
import os
import shutil
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

TOKEN = "canary-of-the-git-server"
READ_ONLY = "canary-that-only-reads"
USER = "x-access-token"
_QUIET = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull, "GIT_TERMINAL_PROMPT": "0"}
_NAMED = {
    f"GIT_{who}_{what}": value
    for who in ("AUTHOR", "COMMITTER")
    for what, value in (("NAME", "Somebody"), ("EMAIL", "somebody@example.org"))
}


def git(folder: Path, *arguments: str) -> str:
    """Run Git in a folder, without anybody's configuration."""
    done = subprocess.run(
        ["git", *arguments], cwd=folder, env={**os.environ, **_QUIET, **_NAMED}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def bare(folder: Path, branch: str = "main") -> Path:
    """Make a bare repository with a first commit, in which others have files."""
    git(folder, "init", "--quiet", "--bare", f"--initial-branch={branch}", "models.git")
    repository = folder / "models.git"
    push(repository, {"README.md": "Ours.\n", "clusters/prod/other/app.yaml": "kind: List\n"}, branch)
    return repository


def push(repository: Path, files: dict[str, str], branch: str = "main", links: dict[str, str] | None = None) -> None:
    """Commit files (and symbolic links) of somebody else on a branch."""
    work = repository.parent / f"work-{time.monotonic_ns()}"
    git(repository.parent, "clone", "--quiet", str(repository), str(work))
    git(work, "checkout", "--quiet", "-B", branch)
    for name, text in files.items():
        (work / name).parent.mkdir(parents=True, exist_ok=True)
        (work / name).write_text(text)
    for name, target in (links or {}).items():
        (work / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(work / name, ignore_errors=True)
        (work / name).symlink_to(target)
    git(work, "add", "--all")
    git(work, "commit", "--quiet", "--message", "Somebody else's")
    git(work, "push", "--quiet", "origin", f"HEAD:refs/heads/{branch}")


def tip(repository: Path, branch: str = "main") -> str:
    return git(repository, "rev-parse", f"refs/heads/{branch}").strip()


def files_at(repository: Path, revision: str = "main") -> dict[str, str]:
    """Every file of a commit with the name of its object."""
    lines = git(repository, "ls-tree", "-r", revision).splitlines()
    return {path: meta.split()[2] for meta, path in (line.split("\t") for line in lines)}


def read(repository: Path, path: str, revision: str = "main") -> str:
    return git(repository, "show", f"{revision}:{path}")


def hook(repository: Path, text: str) -> None:
    """Let the repository refuse pushes with some words."""
    path = repository / "hooks" / "pre-receive"
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"#!/bin/sh\necho {text}\nexit 1\n")
    path.chmod(0o755)


@dataclass
class GitServer:
    """Where it listens, what it was asked, and what it does wrong."""

    url: str = ""
    seen: list[str] = field(default_factory=list)
    """Method and path of each request."""
    status: dict[str, int] = field(default_factory=dict)
    """Part of a path -> the status that is answered instead."""
    redirect: str = ""
    body: tuple[str, bytes] | None = None
    """Content type and content that are answered instead."""
    rewrite: Callable[[bytes], bytes] = lambda body: body
    drip: float = 0.0
    """Seconds between two bytes of an answer."""
    before_refs: Callable[[], None] = lambda: None
    """Called when a push asks where the branches are."""
    before_push: Callable[[], None] = lambda: None
    after_push: Callable[[], bool] = lambda: False
    """Returns whether the answer is lost."""


@contextmanager
def serving(root: Path, tls: ssl.SSLContext | None = None) -> Iterator[GitServer]:
    """Serve the repositories of a folder to whoever has a token."""
    server = GitServer()
    allowed = {"Basic " + base64.b64encode(f"{USER}:{token}".encode()).decode(): token for token in (TOKEN, READ_ONLY)}

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: Any) -> None:
            pass

        def answer(self, status: int, headers: dict[str, str], body: bytes) -> None:
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            if not server.drip:
                self.wfile.write(body)
                return
            for number in range(len(body)):
                try:
                    self.wfile.write(body[number : number + 1])
                except OSError:
                    return
                time.sleep(server.drip)

        def serve(self) -> None:
            data = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            server.seen.append(f"{self.command} {self.path}")
            path, _, query = self.path.partition("?")
            token = allowed.get(self.headers.get("Authorization", ""))
            if token is None:
                self.answer(401, {"WWW-Authenticate": 'Basic realm="models"'}, b"")
                return
            if server.redirect:
                self.answer(302, {"Location": server.redirect + self.path}, b"")
                return
            if token == READ_ONLY and "git-receive-pack" in self.path:
                self.answer(403, {}, b"")
                return
            for part, status in server.status.items():
                if part in self.path:
                    self.answer(status, {}, b"")
                    return
            if server.body is not None:
                self.answer(200, {"Content-Type": server.body[0]}, server.body[1])
                return
            pushed = self.command == "POST" and path.endswith("git-receive-pack")
            if pushed:
                server.before_push()
            elif "git-receive-pack" in query:
                server.before_refs()
            environment = {
                **os.environ,
                **_QUIET,
                "GIT_PROJECT_ROOT": str(root),
                "GIT_HTTP_EXPORT_ALL": "1",
                "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
                "REMOTE_USER": "deployer",
                "REQUEST_METHOD": self.command,
                "PATH_INFO": path,
                "QUERY_STRING": query,
                "CONTENT_TYPE": self.headers.get("Content-Type", ""),
                "CONTENT_LENGTH": str(len(data)),
            }
            done = subprocess.run(["git", "http-backend"], input=data, env=environment, capture_output=True)
            head, _, body = done.stdout.partition(b"\r\n\r\n")
            headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n") if line)
            status = int(headers.pop("Status", "200").split()[0])
            if pushed and server.after_push():
                self.close_connection = True
                return
            self.answer(status, headers, server.rewrite(body))

        do_GET = do_POST = serve  # noqa: N815

    listening = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    listening.daemon_threads = True
    if tls:
        listening.socket = tls.wrap_socket(listening.socket, server_side=True, do_handshake_on_connect=False)
    server.url = f"{'https' if tls else 'http'}://127.0.0.1:{listening.server_address[1]}"
    threading.Thread(target=listening.serve_forever, daemon=True).start()
    try:
        yield server
    finally:
        listening.shutdown()
        listening.server_close()
